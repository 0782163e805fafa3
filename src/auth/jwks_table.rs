//! Reader of the public keys in Better Auth's table `jwks`, if that is in the same database.

use serde_json::{Map, Value};
use tokio_postgres::error::SqlState;

use super::jwks::MAX_KEYS;
use crate::db::{Database, DbError, Statement};

/// The columns of the table; none where there is no such table.
const COLUMNS: &str = "select attname::text from pg_attribute where attrelid = to_regclass('jwks') and attnum > 0 \
                       and not attisdropped";

/// The keys as JSON Web Keys, the newest first; `None` where there is no table of Better Auth's.
///
/// # Errors
/// Why they cannot be read.
pub fn read(database: &Database) -> Result<Option<Vec<Value>>, String> {
    let rows = |sql: String| database.execute(&Statement::read(sql, Vec::new())).map_err(|error| explain(&error));
    let columns: Vec<String> = rows(COLUMNS.to_owned())?.iter().filter_map(|row| row.try_get(0).ok()).collect();
    let Some(sql) = keys_sql(&columns) else { return Ok(None) };
    let key = |row: &tokio_postgres::Row| {
        let (kid, alg): (String, Option<String>) = (row.try_get(0)?, row.try_get(2)?);
        let jwk: Option<Map<_, _>> = row.try_get::<_, Option<_>>(1)?.and_then(|jwk| serde_json::from_str(jwk).ok());
        let mut fields = jwk.unwrap_or_default(); // without a field it is rejected later, with its `kid`
        fields.insert("kid".to_owned(), kid.into());
        if let Some(alg) = alg {
            fields.entry("alg").or_insert(alg.into());
        }
        Ok(Value::Object(fields))
    };
    let keys: Result<_, tokio_postgres::Error> = rows(sql)?.iter().map(key).collect();
    keys.map(Some).map_err(|error| error.to_string())
}

fn explain(error: &DbError) -> String {
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return "this role may not read the table `jwks`: grant select on jwks to it".to_owned();
    }
    error.to_string()
}

/// The query for the keys. Better Auth's own migrations and Drizzle name columns differently; old tables lack `alg`.
/// Private keys are not read. As Better Auth does, it returns a key until 30 days after its expiry.
fn keys_sql(columns: &[String]) -> Option<String> {
    let column = |names: &[&'static str]| names.iter().copied().find(|name| columns.iter().any(|own| own == name));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::error::server_error;

    fn sql(columns: &[&str]) -> Option<String> {
        keys_sql(&columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn query_when_made_uses_the_columns_that_there_are() {
        let own = sql(&["id", "publicKey", "privateKey", "createdAt", "expiresAt", "alg"]).unwrap();
        for part in ["\"publicKey\"::text, alg::text", "\"expiresAt\" > now()", "order by \"createdAt\" desc limit "] {
            assert!(own.contains(part), "{part}: {own}");
        }
        let old = sql(&["id", "public_key", "created_at"]).unwrap();
        for part in ["\"public_key\"::text, null::text", "null::timestamptz is null", "order by \"created_at\" desc"] {
            assert!(old.contains(part), "{part}: {old}");
        }
        assert!(!own.contains("private") && sql(&["id", "createdAt"]).is_none() && sql(&[]).is_none());
    }

    #[test]
    fn table_when_the_role_may_not_read_it_names_the_privilege() {
        let refused = |code| explain(&server_error(&[('S', "ERROR"), ('C', code), ('M', "refused")]));
        assert!(refused("42501").contains("grant select on jwks"));
        assert_eq!(refused("42703"), "ERROR: refused (42703)");
    }
}
