//! What one user may take from the others: whatever they ask for, and however often, everybody else is still served.

mod support;

use support::{Cluster, Server, token};

#[test]
fn a_search_is_cheap_whatever_is_searched_for() {
    let cluster = Cluster::start();
    // Enough for a plain list ten times over.
    let server = Server::start_with(&cluster.url(), &[("DB_STATEMENT_TIMEOUT_MS", "1000")]);
    let token = token("ada");
    let list = |query: &str| server.request("GET", &format!("/api/tasks?{query}"), Some(&token), None);
    assert_eq!(list("").status, 200);
    let long = "insert into tasks (user_id, title, description) \
                select 'ada', 'x', repeat('a', 10000) from generate_series(1, 400)";
    cluster.client().batch_execute(long).unwrap();
    let many = "a".repeat(4_000);
    for (text, found) in [
        (format!("b{many}"), "0"),
        (format!("{many}b"), "0"),
        (format!("{0}b{0}", &many[2_000..]), "0"),
        (many.clone(), "400"),
    ] {
        let answer = list(&format!("search={text}&limit=1"));
        assert_eq!((answer.status, answer.header("x-total-count")), (200, Some(found)), "{answer:?}");
    }
}
