//! The tasks in PostgreSQL: every SQL text, and nothing else that knows one.
//!
//! The issuer's public keys are read here, too, where Better Auth keeps them in the same database.
//!
//! [`Store`] itself cannot query tasks. [`Store::tasks`] gives the only handle that can, for one verified user, and in
//! every statement `$1` is that user. One statement, one round trip a request; `returning` tells what happened, and
//! nothing is checked first and acted upon later.

use std::sync::Arc;

use postgres::types::{FromSql, Type, accepts};
use serde_json::Value;

use crate::auth::{MAX_KEYS, UserId};
use crate::db::{Database, Fault, Param, Question, Row, Rows, Statement, judge};
use crate::http::error::Error;
use crate::http::preconditions::{Conditions, Tagged};
use crate::ops::timing::Timer;
use crate::tasks::seal::Tag;
use crate::tasks::task::{Completion, Description, NewTask, Task, TaskChange, TaskId, Title};
pub use list::{LONGEST_PAGE_BYTES, Page, Rest};

macro_rules! columns {
    () => {
        "id, user_id, title, description, completed, created_at, updated_at"
    };
}

mod list; // behind the macro that it uses

/// The columns of a single task: those of each, and what its tag is made of.
macro_rules! tagged_columns {
    () => {
        concat!(columns!(), ", xmin")
    };
}

/// [`Tag::text`] of a row: the transaction that wrote the row, which no other state of the row in this database
/// has, and the moment, since a database that was set back to an earlier one uses the numbers of transactions again.
macro_rules! tag {
    () => {
        "concat(xmin, '-', (extract(epoch from updated_at) * 1000000)::bigint)"
    };
}

/// A statement that changes one task, as such and under conditions: `$wanted` and `$unwanted` are the numbers of the two
/// lists of tags. The row is locked before it is compared, so that nobody can be faster in between. No row: no such task;
/// one that is all null: it is not as demanded.
macro_rules! change {
    ($change:literal, $wanted:literal, $unwanted:literal, returning $columns:expr) => {
        Change {
            plain: concat!($change, " where user_id = $1 and id = $2 returning ", $columns),
            conditional: concat!(
                "with found as (select coalesce(",
                tag!(),
                " = any(",
                $wanted,
                "), true) and coalesce(",
                tag!(),
                " <> all(",
                $unwanted,
                "), true) as holds from tasks where user_id = $1 and id = $2 for update), changed as (",
                $change,
                " where user_id = $1 and id = $2 and (select holds from found) returning ",
                $columns,
                ") select changed.* from found left join changed on true"
            ),
        }
    };
}

/// The two texts of a statement that changes one task.
struct Change {
    plain: &'static str,
    conditional: &'static str,
}

const GET: &str = concat!("select ", tagged_columns!(), " from tasks where user_id = $1 and id = $2");

// Everything is written out, for a table made by SQLModel has no defaults.
const INSERT: &str = concat!(
    "insert into tasks (user_id, title, description, completed, created_at, updated_at) ",
    "values ($1, $2, $3, $4, now(), now()) returning ",
    tagged_columns!()
);

const UPDATE: Change = change!(
    "update tasks set title = coalesce($3, title), description = case when $4::boolean then $5 else description end, \
     completed = coalesce($6, completed), updated_at = now()",
    "$7",
    "$8",
    returning tagged_columns!()
);

const SET_COMPLETED: Change =
    change!("update tasks set completed = $3, updated_at = now()", "$4", "$5", returning tagged_columns!());

const TOGGLE_COMPLETED: Change = change!(
    "update tasks set completed = not completed, updated_at = now()",
    "$3",
    "$4",
    returning tagged_columns!()
);

const DELETE: Change = change!("delete from tasks", "$3", "$4", returning "id");

/// The columns of Better Auth's table of keys. None where there is no such table.
const KEY_COLUMNS: &str = "select attname::text from pg_attribute where attrelid = to_regclass('jwks') and attnum > 0 \
                           and not attisdropped";

/// The public keys in that table, the newest first; `None` when it is no table of Better Auth's. Its columns are named as
/// Better Auth's own migrations have it, or as Drizzle does; `alg` came later. The private keys are not asked for. Better Auth
/// itself shows a key for 30 days after it signs no more.
fn keys_sql(columns: &[String]) -> Option<String> {
    let column =
        |names: &[&'static str]| names.iter().copied().find(|name| columns.iter().any(|own| own == name));
    let public_key = column(&["publicKey", "public_key"])?;
    let created_at = column(&["createdAt", "created_at"])?;
    let expires_at = column(&["expiresAt", "expires_at"])
        .map_or_else(|| "null::timestamptz".to_owned(), |name| format!("\"{name}\""));
    let alg = column(&["alg"]).unwrap_or("null");
    Some(format!(
        "select id::text, \"{public_key}\"::text, {alg}::text from jwks \
         where {expires_at} is null or {expires_at} > now() - interval '30 days' \
         order by \"{created_at}\" desc limit {MAX_KEYS}"
    ))
}

fn text(value: Option<&str>) -> Param {
    Param::Text(value.map(str::to_owned))
}

/// The task in a row, which must be this user's. What requests ask together is told apart by nothing but the order of the answers:
/// whatever may go wrong there, nobody is shown another's task.
fn read_task<'r, S>(row: &Row<'r>, user: &UserId) -> Result<Task<S>, Fault>
where
    S: FromSql<'r> + AsRef<str>,
{
    let task: Task<S> = Task {
        id: row.try_get(0)?,
        user_id: row.try_get(1)?,
        title: row.try_get(2)?,
        description: row.try_get(3)?,
        completed: row.try_get(4)?,
        created_at: row.try_get(5)?,
        updated_at: row.try_get(6)?,
    };
    if task.user_id.as_ref() != user.as_str() {
        return Err(Fault::value("user_id", "the answer has another user's task"));
    }
    Ok(task)
}

/// A row of Better Auth's table of keys as a JSON Web Key; null when its text is none.
fn read_key(row: &Row) -> Result<Value, Fault> {
    let (kid, text, alg): (String, String, Option<String>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let mut jwk: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(members) = jwk.as_object_mut() {
        members.insert("kid".to_owned(), kid.into());
        if let Some(alg) = alg {
            members.entry("alg").or_insert(alg.into());
        }
    }
    Ok(jwk)
}

/// The number of a transaction.
struct TransactionId(u32);

impl<'a> FromSql<'a> for TransactionId {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(u32::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID);
}

fn read_tagged(row: &Row, user: &UserId) -> Result<Tagged, Fault> {
    let task = read_task(row, user)?;
    let TransactionId(writer) = row.try_get(7)?;
    let tag = Tag { writer, updated_at: task.updated_at.as_microseconds() };
    Ok(Tagged { task, tag })
}

/// What each row of a lookup holds.
fn all<T>(lookup: Statement, read: fn(&Row) -> Result<T, Fault>) -> Question<'static, Vec<T>>
where
    T: 'static,
{
    Question::new(lookup, move |rows| {
        rows.iter().map(|row| read(&row?)).collect::<Result<_, _>>().map_err(judge)
    })
}

/// All tasks of all users.
pub struct Store {
    database: Database,
}

impl Store {
    /// The store in this database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// The tasks of one user: the only way to any. The time that the database takes is added to `stopwatch`.
    pub fn tasks<'s>(self: &'s Arc<Self>, user: &'s UserId, stopwatch: &'s Timer) -> Tasks<'s> {
        Tasks { store: self, user, user_id: user.as_str(), stopwatch }
    }

    /// The public keys of the Better Auth that lives in this database, as JSON Web Keys; `None` where none does.
    ///
    /// # Errors
    /// As for [`Database::fold`].
    pub fn keys(&self) -> Result<Option<Vec<Value>>, Error> {
        let columns =
            all(Statement::lookup(KEY_COLUMNS, Vec::new()), |row| row.try_get(0)).ask(&self.database)?;
        let Some(sql) = keys_sql(&columns) else { return Ok(None) };
        all(Statement::lookup(sql, Vec::new()), read_key).ask(&self.database).map(Some)
    }

    /// The database itself, for what concerns nobody's tasks.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

/// The tasks of one user.
pub struct Tasks<'s> {
    store: &'s Arc<Store>,
    user: &'s UserId,
    user_id: &'s str,
    stopwatch: &'s Timer,
}

/// The tasks of one user, for what outlives the request. Only [`Tasks`] gives it.
pub struct LastingTasks {
    store: Arc<Store>,
    user: UserId,
}

impl LastingTasks {
    /// A handle that can query.
    pub fn tasks<'s>(&'s self, stopwatch: &'s Timer) -> Tasks<'s> {
        self.store.tasks(&self.user, stopwatch)
    }
}

/// Each method fails with [`Error::Unavailable`] when the database is away or too slow, and with [`Error::Internal`] when it
/// refuses a statement of ours.
/// Those with conditions also fail with [`Error::PreconditionFailed`], having changed nothing.
#[allow(clippy::missing_errors_doc)]
impl Tasks<'_> {
    /// The same for what outlives the request.
    pub fn lasting(&self) -> LastingTasks {
        LastingTasks { store: Arc::clone(self.store), user: self.user.clone() }
    }

    /// Creates a task.
    pub fn create(&self, new: &NewTask) -> Question<'static, Tagged> {
        let description = new.description.as_ref().map(Description::as_str);
        let values = [text(Some(new.title.as_str())), text(description), Param::Flag(Some(new.completed))];
        Question::new(Statement::insert(INSERT, self.bind(values)), self.one())
    }

    /// The task with this id. [`Error::UnknownTask`] also when it is somebody else's, as in all that follow.
    pub fn get(&self, id: TaskId) -> Question<'static, Tagged> {
        Question::new(Statement::lookup(GET, self.bind([Param::Id(id.get())])), self.one())
    }

    /// Changes what the change names. When it names nothing, nothing happens, and `updated_at` stays as it is.
    pub fn update(
        &self,
        id: TaskId,
        change: &TaskChange,
        conditions: Conditions,
    ) -> Question<'static, Tagged> {
        if change.is_empty() {
            return self.get(id).and_then(move |found| {
                let holds = !conditions.refuse(found.tag) && !conditions.know(found.tag);
                if holds { Ok(found) } else { Err(Error::PreconditionFailed) }
            });
        }
        let title = change.title.as_ref().map(Title::as_str);
        let description = change.description.as_ref().and_then(Option::as_ref).map(Description::as_str);
        let has_description = change.description.is_some();
        let values = [
            text(title),
            Param::Flag(Some(has_description)),
            text(description),
            Param::Flag(change.completed),
        ];
        self.change(&UPDATE, id, values, &conditions).and_then(self.one())
    }

    /// Sets or toggles whether a task is completed.
    pub fn complete(
        &self,
        id: TaskId,
        completion: Completion,
        conditions: &Conditions,
    ) -> Question<'static, Tagged> {
        let changed = match completion {
            Completion::Set(value) => self.change(&SET_COMPLETED, id, [Param::Flag(Some(value))], conditions),
            Completion::Toggle => self.change(&TOGGLE_COMPLETED, id, [], conditions),
        };
        changed.and_then(self.one())
    }

    /// Deletes a task.
    pub fn delete(&self, id: TaskId, conditions: &Conditions) -> Question<'static, ()> {
        self.change(&DELETE, id, [], conditions).and_then(|_| Ok(()))
    }

    /// A change of one task; the row that it returns. Without conditions the statement knows nothing of them.
    fn change(
        &self,
        change: &Change,
        id: TaskId,
        values: impl IntoIterator<Item = Param>,
        conditions: &Conditions,
    ) -> Question<'static, Rows> {
        let mut params = self.bind([Param::Id(id.get())]);
        params.extend(values);
        let sql = match conditions.for_write() {
            None => change.plain,
            Some((wanted, unwanted)) => {
                params.extend([
                    Param::Texts(wanted.map(<[String]>::to_vec)),
                    Param::Texts(unwanted.map(<[String]>::to_vec)),
                ]);
                change.conditional
            }
        };
        Question::new(Statement::change(sql, params, id.get()), |rows| {
            match rows.first().map_err(judge)?.map(|row| row.try_get::<Option<i32>>(0)) {
                None => Err(Error::UnknownTask),
                Some(Ok(None)) => Err(Error::PreconditionFailed),
                Some(_) => Ok(rows),
            }
        })
    }

    /// What is made of the row of a single task.
    fn one(&self) -> impl Fn(Rows) -> Result<Tagged, Error> + 'static {
        let user = self.user.clone();
        move |rows| {
            let row = rows.first().map_err(judge)?.ok_or(Error::UnknownTask)?;
            read_tagged(&row, &user).map_err(judge)
        }
    }

    fn fold<T>(
        &self,
        sql: &str,
        params: &[Param],
        start: impl Fn() -> T,
        add: impl Fn(&mut T, &Row) -> Result<(), Fault>,
    ) -> Result<T, Error> {
        self.stopwatch.measure(|| self.store.database.fold(sql, params, start, add))
    }

    /// The parameters of a statement: the user is always `$1`.
    fn bind(&self, others: impl IntoIterator<Item = Param>) -> Vec<Param> {
        std::iter::once(text(Some(self.user_id))).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_is_bound_to_the_user() {
        let source = include_str!("mod.rs");
        let code = source.split("#[cfg(test)]").next().unwrap();
        let named = [
            ("GET", GET),
            ("INSERT", INSERT),
            ("UPDATE", UPDATE.plain),
            ("SET_COMPLETED", SET_COMPLETED.plain),
            ("TOGGLE_COMPLETED", TOGGLE_COMPLETED.plain),
            ("DELETE", DELETE.plain),
            ("UPDATE under conditions", UPDATE.conditional),
            ("SET_COMPLETED under conditions", SET_COMPLETED.conditional),
            ("TOGGLE_COMPLETED under conditions", TOGGLE_COMPLETED.conditional),
            ("DELETE under conditions", DELETE.conditional),
        ];
        let uses = |sql: &str| -> usize {
            ["from tasks", "update tasks", "into tasks"].map(|table| sql.matches(table).count()).iter().sum()
        };
        for (name, sql) in named {
            let bound = sql.matches("user_id = $1").count()
                + usize::from(
                    sql.starts_with("insert into tasks (user_id, ") && sql.contains("values ($1, "),
                );
            assert!(bound > 0 && bound == uses(sql), "{name} is not bound to the user: {sql}");
            assert!(!sql.contains(" or user_id") && !sql.contains("user_id = $1 or "), "{name}");
        }
        // Each text stands once; what puts conditions around a change stands once for all of them.
        assert_eq!(uses(code), 6 + 1, "a statement that this test does not know");
    }
}
