//! Locks in the database, and statements that wait for them.

use postgres::{Client, Transaction};

use super::wait_until;

/// Locks the table of tasks, also against reads, until the transaction ends.
pub fn lock_tasks(client: &mut Client) -> Transaction<'_> {
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("lock table tasks").unwrap();
    lock
}

/// How many statements wait for a lock.
pub fn blocked_statements(watcher: &mut Client) -> i64 {
    let blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    watcher.query_one(blocked, &[]).unwrap().get(0)
}

/// Waits until so many statements wait for a lock.
pub fn wait_until_blocked(watcher: &mut Client, what: &str, count: i64) {
    wait_until(what, || blocked_statements(watcher) == count);
}
