//! The seeds of the fuzz targets that need the inside of the listeners, against their ports.

use std::fs;
use std::path::PathBuf;

use crate::http::{Connection, ask, request};
use crate::program::{ANSWER, Limits, Program, post, push};

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folders =
        ["seeds", "regressions"].map(|name| format!("{}/tests/fuzz/{name}/{target}", env!("CARGO_MANIFEST_DIR")));
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let seeds: Vec<_> =
        files.map(|file| file.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds
}

#[tokio::test]
async fn every_seed_of_the_door_is_answered_or_cut_off() {
    let timeouts =
        "server.header_timeout = \"200ms\"\nserver.read_timeout = \"200ms\"\nserver.idle_timeout = \"200ms\"";
    let program = Program::start(Limits::default(), timeouts);
    for (path, seed) in seeds("door") {
        let mut connection = Connection::open(program.callbacks).await;
        let _ = connection.try_send(&seed).await;
        while let Some(answer) = connection.response().await {
            assert!(
                [200, 400, 404, 405, 408, 414, 431, 505].contains(&answer.status),
                "{}: {answer:?}",
                path.display()
            );
        }
        assert_eq!(ask(program.callbacks, &post(push("next", 1))).await.text(), ANSWER, "{}", path.display());
    }
}

#[tokio::test]
async fn every_seed_of_the_admin_api_is_answered() {
    let program = Program::start(Limits::default(), "");
    for (path, seed) in seeds("admin") {
        let text = String::from_utf8(seed).unwrap();
        let (line, body) = text.split_once('\n').unwrap_or((&text, ""));
        let (method, target) = line.split_once(' ').unwrap();
        let headers = [("Content-Type", "application/json")];
        let answer = ask(program.admin, &request(method, target, &headers, body.as_bytes())).await;
        assert!([200, 400, 404, 405, 409, 413].contains(&answer.status), "{}: {answer:?}", path.display());
    }
}
