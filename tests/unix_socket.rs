//! A database behind a Unix socket, as Cloud SQL and local installations offer it: both spellings of its URL.

mod support;

use support::{Cluster, Server, token};

#[test]
fn url_when_it_names_a_socket_folder_is_served() {
    let cluster = Cluster::start_with(&["listen_addresses=127.0.0.1"], |_| {});
    let (folder, port) = (cluster.socket_folder().to_str().unwrap(), cluster.port);
    let encoded = folder.replace('/', "%2F");
    for url in [
        format!("postgresql:///postgres?host={folder}&port={port}&user=todo"),
        format!("postgresql:///postgres?host={encoded}&port={port}&user=todo"),
        format!("postgresql://todo@{encoded}:{port}/postgres"),
    ] {
        let server = Server::start(&url);
        let id = server.create("ada", "of ada");
        let response = server.request("GET", &format!("/api/tasks/{id}"), Some(&token("ada")), None);
        assert_eq!((response.status, &response.json()["title"]), (200, &"of ada".into()), "{url}");
        // No TCP connection was made: PostgreSQL knows no address of the client.
        let tcp = "select count(*), count(client_addr) from pg_stat_activity where application_name = 'todo-backend'";
        let row = cluster.client().query_one(tcp, &[]).unwrap();
        let (connections, with_address): (i64, i64) = (row.get(0), row.get(1));
        assert!(connections > 0 && with_address == 0, "{url}: {with_address} of {connections}");
    }
}
