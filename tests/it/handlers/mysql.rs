//! `mysql`, against MariaDB servers of the tests' own. One that starts takes seconds, so tests that do not stop it share
//! one, each with a database of its own.

use std::sync::{Arc, Weak};

use livehook::handler::Target;
use livehook::handler::sql::{Field, Settings};
use serde_json::{Value, json};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Connection as _, Row as _};
use tokio::sync::Mutex;

use super::certificates::Certificates;
use super::servers::{
    EVENTS, Server, assert_all_in_order, deliver_through_a_crash, event, made, permanent, ready_made_table,
    rows_at as settings, transient,
};
use crate::app::{eventually, push};

/// The server that tests share while there are any.
async fn shared() -> Option<Arc<Server>> {
    static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(Server::start_mariadb().await?);
    *shared = Arc::downgrade(&server);
    Some(server)
}

fn url(server: &Server, database: &str) -> String {
    format!("mysql://root@127.0.0.1:{}/{database}", server.port)
}

/// A client of a database, which is made unless it is there.
async fn client(server: &Server, database: &str) -> MySqlConnection {
    let url = url(server, "mysql");
    let mut client = eventually("MariaDB answers", async || MySqlConnection::connect(&url).await.ok()).await;
    run(&mut client, &format!("CREATE DATABASE IF NOT EXISTS {database}; USE {database}")).await;
    client
}

async fn run(client: &mut MySqlConnection, statements: &str) {
    sqlx::raw_sql(statements).execute(client).await.unwrap();
}

async fn rows(client: &mut MySqlConnection, query: &str) -> Vec<MySqlRow> {
    sqlx::query(query).fetch_all(client).await.unwrap()
}

#[tokio::test]
async fn an_event_is_one_row_of_the_ready_made_table_however_often_it_comes() {
    let Some(server) = shared().await else { return };
    let mut client = client(&server, "once").await;
    run(&mut client, ready_made_table("mysql")).await;
    let handler = made(Target::Mysql(settings(&url(&server, "once")))).await;
    let event = event(7, &push("room 7", 1));
    handler.deliver(&event).await.unwrap();
    handler.deliver(&event).await.unwrap();
    let query = "SELECT CAST(id AS char), kind, domain, app, stream, CAST(time AS char), CAST(received_at AS char), \
        CAST(event AS char) FROM css_events";
    let rows = rows(&mut client, query).await;
    assert_eq!(rows.len(), 1);
    let text = |at: usize| rows[0].get::<String, _>(at);
    let facts: Vec<_> = (0..7).map(text).collect();
    let times = ["2023-12-21 03:06:41.000", "2023-12-21 03:12:37.104"];
    let expected = [&*event.id.to_string(), "stream-push", "push.example.com", "live", "room 7", times[0], times[1]];
    assert_eq!(facts, expected);
    let sent: Value = serde_json::from_str(&text(7)).unwrap();
    assert_eq!((&sent["id"], &sent["data"]), (&json!(event.id.to_string()), &push("room 7", 1)));
}

#[tokio::test]
async fn hostile_names_and_bodies_are_values_and_nothing_else() {
    let Some(server) = shared().await else { return };
    let mut client = client(&server, "hostile").await;
    run(
        &mut client,
        "CREATE TABLE `the ``events``` (`key` varchar(40) UNIQUE, name text, `select` json, raw longtext) CHARACTER SET utf8mb4",
    )
    .await;
    let columns = [(Field::Id, "key"), (Field::Stream, "name"), (Field::Event, "select"), (Field::Body, "raw")];
    let own = Settings {
        table: vec!["hostile".to_owned(), "the `events`".to_owned()],
        columns: columns.map(|(field, name)| (field, name.to_owned())).into(),
        ..settings(&url(&server, "hostile"))
    };
    let handler = made(Target::Mysql(own)).await;
    let hostile = ["'; DROP TABLE `the ``events```; --", "\"", "\\", "?", "\u{0}x", "\u{1F600}", "NULL", ""];
    for (number, name) in hostile.iter().enumerate() {
        handler.deliver(&event(number as u128, &push(name, 1))).await.unwrap();
    }
    let lone = r#"{"event_type":1,"stream_id":"a","x":"\ud800 \u0000"}"#;
    let mut odd = event(99, &push("a", 1));
    odd.facts = livehook::event::Incoming::read(lone.as_bytes()).unwrap().facts();
    odd.body = lone.into();
    handler.deliver(&odd).await.unwrap();
    let rows = rows(&mut client, "SELECT name, raw FROM `the ``events``` ORDER BY `key`").await;
    assert_eq!(rows.len(), hostile.len() + 1);
    assert_eq!(rows[0].get::<String, _>(0), hostile[0]);
    assert_eq!(rows[hostile.len()].get::<String, _>(1), lone);
}

#[tokio::test]
async fn nothing_is_lost_and_order_stays_when_the_server_is_killed_in_the_middle() {
    let Some(mut server) = Server::start_mariadb().await else { return };
    run(&mut client(&server, "crash").await, ready_made_table("mysql")).await;
    let ids = deliver_through_a_crash(Target::Mysql(settings(&url(&server, "crash"))), &mut server).await;
    let mut client = client(&server, "crash").await;
    let rows = rows(&mut client, "SELECT CAST(event AS char) FROM css_events ORDER BY position").await;
    let arrived: Vec<Value> = rows.iter().map(|row| serde_json::from_str(&row.get::<String, _>(0)).unwrap()).collect();
    assert_eq!(arrived.len() as u64, EVENTS);
    assert_all_in_order(ids, &arrived, true);
}

#[tokio::test]
async fn what_may_be_put_right_is_tried_again_and_what_never_fits_is_dead() {
    let Some(server) = shared().await else { return };
    let mut client = client(&server, "wrong").await;
    let handler = made(Target::Mysql(settings(&url(&server, "wrong")))).await;
    let first = event(1, &push("room", 1));
    let reason = transient(handler.deliver(&first).await);
    assert!(reason.contains("css_events' doesn't exist"), "{reason}");
    run(&mut client, "CREATE TABLE css_events (id char(36) PRIMARY KEY)").await;
    let reason = transient(handler.deliver(&first).await);
    assert!(reason.contains("Unknown column 'kind'"), "{reason}");
    run(&mut client, "DROP TABLE css_events").await;
    run(&mut client, ready_made_table("mysql")).await;
    run(&mut client, "ALTER TABLE css_events MODIFY stream varchar(8)").await;
    handler.deliver(&first).await.unwrap();
    let reason = permanent(handler.deliver(&event(2, &push("longer than eight", 1))).await);
    assert!(reason.contains("Data too long for column 'stream'"), "{reason}");
    assert_eq!(rows(&mut client, "SELECT 1 FROM css_events").await.len(), 1);
}

#[tokio::test]
async fn wrong_credentials_are_tried_again_and_never_said() {
    let Some(server) = shared().await else { return };
    let mut client = client(&server, "door").await;
    run(&mut client, ready_made_table("mysql")).await;
    run(&mut client, "CREATE USER livehook@'127.0.0.1' IDENTIFIED BY 'right-hunter22'").await;
    run(&mut client, "GRANT SELECT, INSERT, UPDATE ON door.* TO livehook@'127.0.0.1'").await;
    let url = |password: &str| format!("mysql://livehook:{password}@127.0.0.1:{}/door", server.port);
    let event = event(1, &push("room", 1));
    let reason = transient(made(Target::Mysql(settings(&url("wrong-hunter22")))).await.deliver(&event).await);
    assert!(reason.contains("refuses the credentials") && !reason.contains("hunter22"), "{reason}");
    made(Target::Mysql(settings(&url("right-hunter22")))).await.deliver(&event).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let port = super::process::free_port();
    let handler = made(Target::Mysql(settings(&format!("mysql://u:hunter22@127.0.0.1:{port}/d")))).await;
    let reason = transient(handler.deliver(&event(1, &push("room", 1))).await);
    assert!(reason.starts_with(&format!("cannot connect to mysql://127.0.0.1:{port}: ")), "{reason}");
    assert!(reason.contains("refused") && !reason.contains("hunter22"), "{reason}");
}

fn only_id(url: &str) -> Target {
    Target::Mysql(Settings { columns: vec![(Field::Id, "id".to_owned())], ..settings(url) })
}

#[tokio::test]
async fn tls_is_as_strict_as_the_url_says() {
    let mut written = None;
    let server = Server::start_mariadb_with(|folder| {
        let Certificates { server, key, .. } = written.insert(Certificates::write(folder));
        vec![format!("--ssl-cert={}", server.display()), format!("--ssl-key={}", key.display())]
    });
    let (Some(server), Some(Certificates { right, wrong, .. })) = (server.await, written) else { return };
    let mut client = client(&server, "tls").await;
    run(&mut client, "CREATE TABLE css_events (id char(36) PRIMARY KEY)").await;
    // Whoever comes over TLS may be this one, and nobody else.
    run(&mut client, "CREATE USER secured REQUIRE SSL; GRANT ALL ON tls.* TO secured").await;
    let at = |host: &str, query: String| format!("mysql://secured@{host}:{}/tls?{query}", server.port);
    let with = |mode: &str, root: &std::path::Path| format!("ssl-mode={mode}&ssl-ca={}", root.display());
    let arriving = [
        ("localhost", with("VERIFY_IDENTITY", &right)),
        ("localhost", with("VERIFY_CA", &right)),
        ("127.0.0.1", "ssl-mode=REQUIRED".to_owned()),
        ("127.0.0.1", "ssl-mode=PREFERRED".to_owned()),
    ];
    for (number, (host, query)) in arriving.iter().enumerate() {
        let event = event(number as u128, &push("room", 1));
        let delivered = made(only_id(&at(host, query.clone()))).await.deliver(&event).await;
        assert!(delivered.is_ok(), "{query}: {delivered:?}");
    }
    let event = event(99, &push("room", 1));
    for (host, query, why) in [
        ("localhost", with("VERIFY_IDENTITY", &wrong), "invalid peer certificate: UnknownIssuer"),
        ("localhost", with("VERIFY_CA", &wrong), "invalid peer certificate: UnknownIssuer"),
        ("127.0.0.1", with("VERIFY_IDENTITY", &right), "certificate not valid for name \"127.0.0.1\""),
        // Stricter than the name of the mode: this client looks at the name of the server all the same.
        ("127.0.0.1", with("VERIFY_CA", &right), "certificate not valid for name \"127.0.0.1\""),
        ("127.0.0.1", "ssl-mode=DISABLED".to_owned(), "Access denied"),
    ] {
        let reason = transient(made(only_id(&at(host, query.clone()))).await.deliver(&event).await);
        assert!(
            reason.contains(&format!("mysql://{host}:{}", server.port)) && reason.contains(why),
            "{query}: {reason}"
        );
    }
    let stored = rows(&mut client, "SELECT id FROM css_events").await;
    assert_eq!(stored.len(), arriving.len());
}

#[tokio::test]
async fn a_server_without_tls_gets_nothing_where_tls_is_required() {
    let Some(server) = shared().await else { return };
    let mut client = client(&server, "plain").await;
    run(&mut client, "CREATE TABLE css_events (id char(36) PRIMARY KEY)").await;
    let event = event(1, &push("room", 1));
    let with = |mode: &str| only_id(&format!("{}?ssl-mode={mode}", url(&server, "plain")));
    let reason = transient(made(with("REQUIRED")).await.deliver(&event).await);
    assert!(reason.contains("server does not support TLS"), "{reason}");
    assert_eq!(rows(&mut client, "SELECT id FROM css_events").await.len(), 0);
    made(with("PREFERRED")).await.deliver(&event).await.unwrap();
    assert_eq!(rows(&mut client, "SELECT id FROM css_events").await.len(), 1);
}
