//! The way to the server: passwords, certificates, and servers that are not fit.

use std::fs;
use std::path::Path;

use crate::certificates::Certificates;
use crate::load::event;
use crate::program::{FILE_HANDLER, Place, Program};
use crate::replicas::{Replica, with_variables};
use crate::server::{PASSWORD, Server};

/// What is said by a replica that cannot start.
async fn refused(url: &str) -> String {
    refused_with(&[("LIVEHOOK_STORE__URL", url)]).await
}

/// The same, with variables of its environment.
async fn refused_with(variables: &[(&str, &str)]) -> String {
    let place = Place::with(FILE_HANDLER);
    let mut program = Program::spawn_as(with_variables(&place, variables));
    assert!(!program.is_ready().await, "it starts");
    let ended = program.ended();
    let said = String::from_utf8(ended.said).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(!said.contains(PASSWORD) && !said.contains("wrong-secret"), "{said}");
    said
}

fn other_database(server: &Server, name: &str) -> String {
    format!("{}/{name}", server.url().strip_suffix("/postgres").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_so_and_not_shown() {
    let Some(server) = Server::start().await else { return };
    let said = refused(&server.url().replace(PASSWORD, "wrong-secret")).await;
    assert!(said.contains("password authentication failed for user"), "{said}");
    let said = refused(&other_database(&server, "nowhere")).await;
    assert!(said.contains("database \"nowhere\" does not exist"), "{said}");
}

/// Whether a replica that has a password from these variables stores what comes in.
async fn is_let_in(server: &Server, variables: &[(&str, &str)]) {
    let url = server.url().replace(&format!(":{PASSWORD}@"), "@");
    let variables = [&[("LIVEHOOK_STORE__URL", url.as_str())], variables].concat();
    let mut replica = Replica::start_with(&variables, FILE_HANDLER).await;
    let before = server.ask("SELECT count(*) FROM livehook.events");
    assert_eq!(before, "0");
    assert_eq!(replica.running().post(event(0, 0)).await, Some(200));
    assert_eq!(server.ask("SELECT count(*) FROM livehook.events"), "1", "and not in the file of the configuration");
    assert!(replica.stop().await.status.success());
    server.ask("DROP SCHEMA livehook CASCADE");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_and_its_password_may_stand_in_the_environment_or_in_a_file() {
    let Some(server) = Server::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (file, wrong) = (folder.path().join("pgpass"), folder.path().join("wrong"));
    fs::write(&file, format!("elsewhere:*:*:*:nothing\n127.0.0.1:{}:*:postgres:{PASSWORD}\n", server.port)).unwrap();
    fs::write(&wrong, "*:*:*:*:wrong-secret\n").unwrap();
    for file in [&file, &wrong] {
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let (file, wrong) = (file.to_str().unwrap(), wrong.to_str().unwrap());
    is_let_in(&server, &[("PGPASSWORD", PASSWORD)]).await;
    is_let_in(&server, &[("PGPASSFILE", file)]).await;
    is_let_in(&server, &[("PGPASSWORD", PASSWORD), ("PGPASSFILE", wrong)]).await;
    let url = server.url().replace(&format!(":{PASSWORD}@"), "@");
    for variables in [&[][..], &[("PGPASSWORD", "wrong-secret")], &[("PGPASSFILE", wrong)]] {
        let said = refused_with(&[&[("LIVEHOOK_STORE__URL", url.as_str())], variables].concat()).await;
        assert!(said.contains("password"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_said_so() {
    let Some(server) = Server::start().await else { return };
    let said = refused(&server.url().replace(&server.port.to_string(), "1")).await;
    assert!(said.contains("PostgreSQL cannot be reached"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_encoding_or_with_tables_of_others_is_refused() {
    let Some(server) = Server::start().await else { return };
    server.ask("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    let said = refused(&other_database(&server, "latin")).await;
    assert!(said.contains("LATIN1"), "{said}");
    server.ask("CREATE TABLE theirs (x int); CREATE SCHEMA livehook; CREATE TABLE livehook.theirs (x int)");
    let said = refused(&server.url()).await;
    assert!(said.contains("not a livehook store"), "{said}");
    let mut beside = Replica::start(&format!("{}?schema=hooks", server.url()), "", FILE_HANDLER).await;
    assert!(beside.stop().await.status.success(), "a schema of its own is as good as a database");
    server.ask("UPDATE hooks.meta SET value = 99 WHERE key = 'version'");
    let said = refused(&format!("{}?schema=hooks", server.url())).await;
    assert!(said.contains("format 99"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_known_by_its_certificate() {
    let mut written = None;
    let server = Server::start_with(|folder| {
        let Certificates { server, key, .. } = written.insert(Certificates::write(folder));
        let file = |name: &str, path: &Path| format!("{name}={}", path.display());
        vec!["ssl=on".to_owned(), file("ssl_cert_file", server), file("ssl_key_file", key)]
    });
    let (Some(server), Some(Certificates { right, wrong, .. })) = (server.await, written) else { return };
    let (named, numbered) = (server.url().replace("127.0.0.1", "localhost"), server.url());
    let with = |url: &str, mode: &str, root: &Path| format!("{url}?sslmode={mode}&sslrootcert={}", root.display());
    let mut replica = Replica::start(&with(&named, "verify-full", &right), "", FILE_HANDLER).await;
    assert_eq!(server.ask("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'livehook'"), "t");
    assert!(replica.stop().await.status.success());
    for url in [with(&named, "verify-full", &wrong), with(&numbered, "verify-full", &right)] {
        let said = refused(&url).await;
        assert!(said.contains("invalid peer certificate"), "{said}");
    }
}
