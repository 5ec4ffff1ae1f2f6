//! `postgres`, against servers of the tests' own.

use livehook::handler::Target;
use livehook::handler::sql::{Field, Settings};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::certificates::Certificates;
use super::servers::{
    EVENTS, Server, assert_all_in_order, deliver_through_a_crash, event, made, permanent, ready_made_table,
    rows_at as settings, transient,
};
use crate::app::{eventually, push};

fn url(server: &Server) -> String {
    format!("postgres://postgres@127.0.0.1:{}/postgres", server.port)
}

async fn client(server: &Server) -> PgConnection {
    eventually("PostgreSQL answers", async || PgConnection::connect(&url(server)).await.ok()).await
}

async fn run(client: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(statements).execute(client).await.unwrap();
}

async fn rows(client: &mut PgConnection, query: &str) -> Vec<PgRow> {
    sqlx::query(query).fetch_all(client).await.unwrap()
}

async fn count(client: &mut PgConnection, table: &str) -> i64 {
    rows(client, &format!("SELECT count(*) FROM {table}")).await[0].get(0)
}

#[tokio::test]
async fn an_event_is_one_row_of_the_ready_made_table_however_often_it_comes() {
    let Some(server) = Server::start_postgres().await else { return };
    let mut client = client(&server).await;
    run(&mut client, ready_made_table("postgres")).await;
    let handler = made(Target::Postgres(settings(&url(&server)))).await;
    let event = event(7, &push("room 7", 1));
    handler.deliver(&event).await.unwrap();
    handler.deliver(&event).await.unwrap();
    let query =
        "SELECT id::text, kind, domain, app, stream, time::text, received_at::text, event::text FROM css_events";
    run(&mut client, "SET timezone = 'UTC'").await;
    let rows = rows(&mut client, query).await;
    assert_eq!(rows.len(), 1);
    let text = |at: usize| rows[0].get::<String, _>(at);
    let facts: Vec<_> = (0..7).map(text).collect();
    let times = ["2023-12-21 03:06:41+00", "2023-12-21 03:12:37.104+00"];
    let expected = [&*event.id.to_string(), "stream-push", "push.example.com", "live", "room 7", times[0], times[1]];
    assert_eq!(facts, expected);
    let sent: Value = serde_json::from_str(&text(7)).unwrap();
    assert_eq!((&sent["id"], &sent["data"]), (&json!(event.id.to_string()), &push("room 7", 1)));
}

#[tokio::test]
async fn columns_have_the_names_and_types_of_the_user_whatever_these_are() {
    let Some(server) = Server::start_postgres().await else { return };
    let mut client = client(&server).await;
    let table = "CREATE SCHEMA \"My Schema\"; CREATE TABLE \"My Schema\".\"the \"\"events\"\"\" \
        (key varchar(40) UNIQUE, \"order\" numeric, raw bytea DEFAULT 'x', whole text, object json, note text DEFAULT 'kept')";
    run(&mut client, table).await;
    let columns = [(Field::Id, "key"), (Field::Sequence, "order"), (Field::Body, "whole"), (Field::Event, "object")];
    let own = Settings {
        table: vec!["My Schema".to_owned(), "the \"events\"".to_owned()],
        columns: columns.map(|(field, name)| (field, name.to_owned())).into(),
        ..settings(&url(&server))
    };
    let event = event(7, &push("room", 1));
    made(Target::Postgres(own)).await.deliver(&event).await.unwrap();
    let query = "SELECT key, \"order\"::text, whole, note FROM \"My Schema\".\"the \"\"events\"\"\"";
    let row = rows(&mut client, query).await.remove(0);
    let texts: Vec<String> = (0..4).map(|at| row.get(at)).collect();
    let body = String::from_utf8(event.body.to_vec()).unwrap();
    assert_eq!(texts, [event.id.to_string(), "6000000000000000001".to_owned(), body, "kept".to_owned()]);
}

#[tokio::test]
async fn hostile_names_and_bodies_are_values_and_nothing_else() {
    let Some(server) = Server::start_postgres().await else { return };
    let mut client = client(&server).await;
    run(&mut client, ready_made_table("postgres")).await;
    let handler = made(Target::Postgres(settings(&url(&server)))).await;
    let hostile = ["'; DROP TABLE css_events; --", "\"", "\\", "$1", "\u{0}x", "\u{1F600}", "null", ""];
    for (number, name) in hostile.iter().enumerate() {
        handler.deliver(&event(number as u128, &push(name, 1))).await.unwrap();
    }
    let lone = format!(r#"{{"event_type":1,"stream_id":"a","x":"\ud800 \u0000 {}"}}"#, r"\\u0000");
    let mut odd = event(99, &push("a", 1));
    odd.facts = livehook::event::Incoming::read(lone.as_bytes()).unwrap().facts();
    odd.body = lone.into();
    handler.deliver(&odd).await.unwrap();
    assert_eq!(count(&mut client, "css_events").await, i64::try_from(hostile.len()).unwrap() + 1);
    let stored = rows(&mut client, "SELECT stream FROM css_events WHERE position = 1").await;
    assert_eq!(stored[0].get::<String, _>(0), hostile[0]);
    let stored = rows(&mut client, "SELECT event->'data'->>'x' FROM css_events ORDER BY position DESC").await;
    assert_eq!(stored[0].get::<String, _>(0), "\u{FFFD} \u{FFFD} \\u0000");
}

#[tokio::test]
async fn nothing_is_lost_and_order_stays_when_the_server_is_killed_in_the_middle() {
    let Some(mut server) = Server::start_postgres().await else { return };
    run(&mut client(&server).await, ready_made_table("postgres")).await;
    let ids = deliver_through_a_crash(Target::Postgres(settings(&url(&server))), &mut server).await;
    let mut client = client(&server).await;
    let rows = rows(&mut client, "SELECT event::text FROM css_events ORDER BY position").await;
    let arrived: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect();
    assert_eq!(arrived.len() as u64, EVENTS);
    assert_all_in_order(ids, &arrived, true);
}

#[tokio::test]
async fn what_may_be_put_right_is_tried_again_and_what_never_fits_is_dead() {
    let Some(mut server) = Server::start_postgres().await else { return };
    server.kill();
    let handler = made(Target::Postgres(settings(&url(&server)))).await;
    let event = event(1, &push("room", 1));
    let reason = transient(handler.deliver(&event).await);
    let address = format!("cannot connect to postgres://127.0.0.1:{}: ", server.port);
    assert!(reason.starts_with(&address) && reason.contains("refused"), "{reason}");
    server.restart().await;
    let mut client = client(&server).await;
    let reason = transient(handler.deliver(&event).await);
    assert!(reason.contains("relation \"css_events\" does not exist"), "{reason}");
    run(&mut client, "CREATE TABLE css_events (id uuid PRIMARY KEY)").await;
    let reason = transient(handler.deliver(&event).await);
    assert!(reason.contains("column \"kind\"") && reason.contains("does not exist"), "{reason}");
    run(&mut client, "DROP TABLE css_events").await;
    run(&mut client, ready_made_table("postgres")).await;
    run(&mut client, "ALTER TABLE css_events ADD CHECK (stream <> 'never')").await;
    handler.deliver(&event).await.unwrap();
    let reason = permanent(handler.deliver(&super::servers::event(2, &push("never", 1))).await);
    assert!(reason.contains("violates check constraint"), "{reason}");
    assert_eq!(count(&mut client, "css_events").await, 1);
}

#[tokio::test]
async fn wrong_credentials_are_tried_again_and_never_said() {
    let Some(server) = Server::start_postgres().await else { return };
    let mut client = client(&server).await;
    run(&mut client, ready_made_table("postgres")).await;
    let user = "CREATE ROLE livehook LOGIN PASSWORD 'right-hunter22'";
    run(&mut client, user).await;
    let url = |password: &str| format!("postgres://livehook:{password}@127.0.0.1:{}/postgres", server.port);
    let event = event(1, &push("room", 1));
    let wrong = settings(&url("wrong-hunter22"));
    assert!(!format!("{wrong:?}").contains("hunter22"), "{wrong:?}");
    let reason = transient(made(Target::Postgres(wrong)).await.deliver(&event).await);
    assert!(reason.contains("refuses the credentials") && !reason.contains("hunter22"), "{reason}");
    let right = made(Target::Postgres(settings(&url("right-hunter22")))).await;
    let reason = transient(right.deliver(&event).await);
    assert!(reason.contains("permission denied"), "{reason}");
    run(&mut client, "GRANT SELECT, INSERT ON css_events TO livehook").await;
    right.deliver(&event).await.unwrap();
}

#[tokio::test]
async fn a_commit_is_synced_also_where_the_database_says_otherwise() {
    let Some(server) = Server::start_postgres().await else { return };
    let mut client = client(&server).await;
    run(&mut client, "ALTER DATABASE postgres SET synchronous_commit = off").await;
    run(
        &mut client,
        "CREATE TABLE css_events (id uuid PRIMARY KEY, how text DEFAULT current_setting('synchronous_commit'))",
    )
    .await;
    let only_id = Settings { columns: vec![(Field::Id, "id".to_owned())], ..settings(&url(&server)) };
    made(Target::Postgres(only_id)).await.deliver(&event(1, &push("room", 1))).await.unwrap();
    assert_eq!(rows(&mut client, "SELECT how FROM css_events").await[0].get::<String, _>(0), "on");
}

/// A table that notes whether its rows came over TLS.
const NOTING: &str = "CREATE FUNCTION over_tls() RETURNS bool LANGUAGE sql \
    AS 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'; \
    CREATE TABLE css_events (id uuid PRIMARY KEY, tls bool DEFAULT over_tls())";

fn only_id(url: &str) -> Target {
    Target::Postgres(Settings { columns: vec![(Field::Id, "id".to_owned())], ..settings(url) })
}

#[tokio::test]
async fn tls_is_as_strict_as_the_url_says() {
    let mut written = None;
    let server = Server::start_postgres_with(|folder| {
        let Certificates { server, key, .. } = written.insert(Certificates::write(folder));
        let file = |name: &str, path: &std::path::Path| format!("{name}={}", path.display());
        vec!["ssl=on".to_owned(), file("ssl_cert_file", server), file("ssl_key_file", key)]
    });
    let (Some(server), Some(Certificates { right, wrong, .. })) = (server.await, written) else { return };
    let mut client = client(&server).await;
    run(&mut client, NOTING).await;
    let at = |host: &str, query: String| format!("postgres://postgres@{host}:{}/postgres?{query}", server.port);
    let with = |mode: &str, root: &std::path::Path| format!("sslmode={mode}&sslrootcert={}", root.display());
    let arriving = [
        ("localhost", with("verify-full", &right), true),
        ("localhost", with("verify-ca", &right), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
    ];
    for (number, (host, query, tls)) in arriving.into_iter().enumerate() {
        let event = event(number as u128, &push("room", 1));
        made(only_id(&at(host, query.clone()))).await.deliver(&event).await.unwrap();
        let noted = rows(&mut client, &format!("SELECT tls FROM css_events WHERE id = '{}'", event.id)).await;
        assert_eq!(noted[0].get::<bool, _>(0), tls, "{query}");
    }
    let event = event(99, &push("room", 1));
    for (host, query, why) in [
        ("localhost", with("verify-full", &wrong), "invalid peer certificate: UnknownIssuer"),
        ("localhost", with("verify-ca", &wrong), "invalid peer certificate: UnknownIssuer"),
        ("127.0.0.1", with("verify-full", &right), "certificate not valid for name \"127.0.0.1\""),
        // Stricter than the name of the mode: this client looks at the name of the server all the same.
        ("127.0.0.1", with("verify-ca", &right), "certificate not valid for name \"127.0.0.1\""),
    ] {
        let reason = transient(made(only_id(&at(host, query.clone()))).await.deliver(&event).await);
        let address = format!("cannot connect to postgres://{host}:{}: ", server.port);
        assert!(reason.starts_with(&address) && reason.contains(why), "{query}: {reason}");
    }
}

#[tokio::test]
async fn a_server_without_tls_gets_nothing_where_tls_is_required() {
    let Some(server) = Server::start_postgres().await else { return };
    let mut client = client(&server).await;
    run(&mut client, NOTING).await;
    let event = event(1, &push("room", 1));
    let with = |mode: &str| only_id(&format!("{}?sslmode={mode}", url(&server)));
    let reason = transient(made(with("require")).await.deliver(&event).await);
    assert!(reason.contains("server does not support TLS"), "{reason}");
    assert_eq!(count(&mut client, "css_events").await, 0);
    made(with("prefer")).await.deliver(&event).await.unwrap();
    assert_eq!(count(&mut client, "css_events").await, 1);
}
