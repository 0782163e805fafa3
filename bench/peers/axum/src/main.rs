//! The same service on axum, tokio and deadpool-postgres, written as well as we can: our server is compared with it.
//!
//! It has the routes that the bench uses: HS256 tokens, verified; our server's SQL, bound to the token's user, prepared
//! once on each connection and run in one round trip; the same bodies, `ETag`, `Location` and `X-Total-Count`. It has
//! no filters, no log, no request id, no timing, no CORS and no deadlines.

mod auth;
mod response;
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
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row};

use auth::{User, Verifier};
use response::{Error, tagged};
use task::{Completion, NewTask, TASK_COLUMNS, Task};

/// Our server's statements, which the bench reads from PostgreSQL's log (`bench/workloads.py`).
struct Statements {
    read: String,
    /// The first tasks of a list.
    list: String,
    /// How many rows `list` returns at most.
    list_rows: usize,
    /// The same without the limit.
    whole_list: String,
    /// The first tasks of a list up to `$4`, each with the length of the whole list.
    limit: String,
    create: String,
    complete: String,
}

impl Statements {
    fn from_environment() -> Result<Self, Box<dyn StdError>> {
        let list = env::var("SQL_LIST")?;
        let (whole_list, rows) = list.rsplit_once(" limit ").ok_or("SQL_LIST has no limit")?;
        Ok(Self {
            read: env::var("SQL_READ")?,
            list_rows: rows.parse()?,
            whole_list: whole_list.to_owned(),
            limit: env::var("SQL_LIMIT")?,
            create: env::var("SQL_CREATE")?,
            complete: env::var("SQL_COMPLETE")?,
            list,
        })
    }
}

/// What every request needs.
struct Service {
    pool: Pool,
    verifier: Verifier,
    sql: Statements,
}

impl Service {
    /// Runs a statement in one round trip; in two if it is new to the connection.
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
    let verifier = Verifier::new(env::var("BETTER_AUTH_SECRET")?.as_bytes());
    let service = Arc::new(Service { pool, verifier, sql: Statements::from_environment()? });
    let router = Router::new()
        .route("/health", get(async || "ok"))
        .route("/api/tasks", get(list).post(create))
        .route("/api/tasks/{id}", get(read))
        .route("/api/tasks/{id}/complete", patch(complete))
        .with_state(service);
    let port: u16 = env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|socket| {
        let _ = socket.set_nodelay(true); // fails if the client has disconnected
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn read(State(service): State<Arc<Service>>, user: User, Path(id): Path<i64>) -> Result<Response, Error> {
    let rows = service.query(&service.sql.read, &[Type::TEXT, Type::INT8], &[&user.id, &id]).await?;
    tagged(StatusCode::OK, rows.first().ok_or(Error::NotFound)?)
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<i64>,
}

async fn list(
    State(service): State<Arc<Service>>,
    user: User,
    Query(query): Query<ListQuery>,
) -> Result<Response, Error> {
    let Some(limit) = query.limit else { return plain_list(&service, &user).await };
    if !(1..=1_000).contains(&limit) {
        return Err(Error::Invalid("limit"));
    }
    let types = [Type::TEXT, Type::BOOL, Type::TEXT, Type::INT8];
    let rows = service.query(&service.sql.limit, &types, &[&user.id, &None::<bool>, &None::<&str>, &limit]).await?;
    // The sort key is between the task and the length of the whole list.
    let total: i64 = rows.first().map_or(Ok(0), |row| row.try_get(TASK_COLUMNS + 1))?;
    let total = [(HeaderName::from_static("x-total-count"), total.to_string())];
    Ok((total, tasks(&rows)?).into_response())
}

async fn plain_list(service: &Service, user: &User) -> Result<Response, Error> {
    let rows = service.query(&service.sql.list, &[Type::TEXT], &[&user.id]).await?;
    if rows.len() < service.sql.list_rows {
        return tasks(&rows);
    }
    tasks(&service.query(&service.sql.whole_list, &[Type::TEXT], &[&user.id]).await?)
}

fn tasks(rows: &[Row]) -> Result<Response, Error> {
    let tasks = rows.iter().map(Task::read).collect::<Result<Vec<_>, _>>()?;
    Ok(response::json(StatusCode::OK, &tasks))
}

async fn create(State(service): State<Arc<Service>>, user: User, body: Bytes) -> Result<Response, Error> {
    let new = NewTask::parse(&body)?;
    let rows = service.query(&service.sql.create, &NewTask::TYPES, &new.values(&user.id)).await?;
    let row = rows.first().ok_or(Error::Internal)?;
    let location = format!("/api/tasks/{}", Task::read(row)?.id);
    Ok(([(LOCATION, location)], tagged(StatusCode::CREATED, row)?).into_response())
}

async fn complete(
    State(service): State<Arc<Service>>,
    user: User,
    Path(id): Path<i64>,
    body: Bytes,
) -> Result<Response, Error> {
    let completion = Completion::parse(&body)?;
    let types = [Type::TEXT, Type::INT8, Type::BOOL];
    let rows = service.query(&service.sql.complete, &types, &[&user.id, &id, &completion.completed]).await?;
    tagged(StatusCode::OK, rows.first().ok_or(Error::NotFound)?)
}
