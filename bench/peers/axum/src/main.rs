//! The same service on axum, tokio and deadpool-postgres, written as well as we can: ours is measured against it.
//!
//! It has the routes that the bench asks for and what belongs to them: an HS256 token, verified; our SQL, bound to the token's
//! user, prepared once a connection and run in one round trip; the same bodies, `ETag`, `Location` and `X-Total-Count`. It
//! has no log, no request id, no timing, no CORS and no deadlines.

mod answer;
mod auth;
mod task;

use std::env;
use std::error::Error as StdError;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderName, LOCATION};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::serve::ListenerExt;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use mimalloc::MiMalloc;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row};

use answer::{Error, tagged};
use auth::{User, Verifier};
use task::{Completion, NewTask, Task};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const GET: &str = include_str!("../../../sql/get.sql");
const PAGE: &str = include_str!("../../../sql/page.sql");
// Without a task it is one row, which tells the length of the list all the same.
const PAGE_AFTER: &str = "with matching as not materialized (
select id, user_id, title, description, completed, created_at, updated_at from tasks where user_id = $1),
page as (select * from matching order by created_at desc, id desc limit $4 offset $5)
select page.*, total from (select count(*) as total from matching) as counted left join page on true
order by created_at desc, id desc";
const INSERT: &str = include_str!("../../../sql/insert.sql");
const SET_COMPLETED: &str = include_str!("../../../sql/set_completed.sql");

/// What every request needs.
struct App {
    pool: Pool,
    verifier: Verifier,
}

impl App {
    /// Runs one statement in one round trip, in two when it is new to the connection.
    async fn query(&self, sql: &str, types: &[Type], values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_typed_cached(sql, types).await?;
        Ok(client.query(&statement, values).await?)
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve())
}

async fn serve() -> Result<(), Box<dyn StdError>> {
    let config: tokio_postgres::Config = env::var("NEON_DATABASE_URL")?.parse()?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let pool = Pool::builder(Manager::from_config(config, NoTls, recycling))
        .max_size(env::var("DB_POOL_SIZE")?.parse()?)
        .runtime(Runtime::Tokio1)
        .build()?;
    let app = Arc::new(App { pool, verifier: Verifier::new(env::var("BETTER_AUTH_SECRET")?.as_bytes()) });
    let router = Router::new()
        .route("/health", get(async || "ok"))
        .route("/api/tasks", get(list).post(create))
        .route("/api/tasks/{id}", get(read))
        .route("/api/tasks/{id}/complete", patch(complete))
        .with_state(app);
    let port: u16 = env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|socket| {
        let _ = socket.set_nodelay(true); // fails where the client has gone
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn read(State(app): State<Arc<App>>, user: User, Path(id): Path<i32>) -> Result<Response, Error> {
    let rows = app.query(GET, &[Type::TEXT, Type::INT4], &[&user.id, &id]).await?;
    tagged(StatusCode::OK, rows.first().ok_or(Error::NotFound)?)
}

#[derive(Deserialize)]
struct Page {
    #[serde(default = "whole_page")]
    limit: i64,
    #[serde(default)]
    offset: i64,
}

fn whole_page() -> i64 {
    1_000
}

async fn list(State(app): State<Arc<App>>, user: User, Query(page): Query<Page>) -> Result<Response, Error> {
    if !(1..=1_000).contains(&page.limit) || page.offset < 0 {
        return Err(Error::Invalid("limit"));
    }
    let types = [Type::TEXT, Type::BOOL, Type::TEXT, Type::INT8, Type::INT8];
    let values: [&(dyn ToSql + Sync); 5] = [&user.id, &None::<bool>, &None::<&str>, &page.limit, &page.offset];
    let (sql, count) = if page.offset == 0 { (PAGE, 4) } else { (PAGE_AFTER, 5) };
    let rows = app.query(sql, &types[..count], &values[..count]).await?;
    let total: i64 = rows.first().map_or(Ok(0), |row| row.try_get(7))?;
    let mut tasks = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<_, Option<i32>>(0)?.is_some() {
            tasks.push(Task::read(row)?);
        }
    }
    let total = [(HeaderName::from_static("x-total-count"), total.to_string())];
    Ok((total, answer::json(StatusCode::OK, &tasks)).into_response())
}

async fn create(State(app): State<Arc<App>>, user: User, body: Bytes) -> Result<Response, Error> {
    let new = NewTask::parse(&body)?;
    let types = [Type::TEXT, Type::TEXT, Type::TEXT, Type::BOOL];
    let rows = app.query(INSERT, &types, &[&user.id, &new.title, &new.description, &new.completed]).await?;
    let row = rows.first().ok_or(Error::Internal)?;
    let location = format!("/api/tasks/{}", row.try_get::<_, i32>(0)?);
    Ok(([(LOCATION, location)], tagged(StatusCode::CREATED, row)?).into_response())
}

async fn complete(
    State(app): State<Arc<App>>,
    user: User,
    Path(id): Path<i32>,
    body: Bytes,
) -> Result<Response, Error> {
    let completion = Completion::parse(&body)?;
    let types = [Type::TEXT, Type::INT4, Type::BOOL];
    let rows = app.query(SET_COMPLETED, &types, &[&user.id, &id, &completion.completed]).await?;
    tagged(StatusCode::OK, rows.first().ok_or(Error::NotFound)?)
}
