//! `config/livehook.toml`, and what `check` prints.

use super::*;

const SAMPLE: &str = include_str!("../../../config/livehook.toml");

/// The sample with everything switched on, its secrets in files and variables of our own.
fn switched_on() -> Bench {
    let bench = Bench::new("");
    let mut text = String::new();
    for line in SAMPLE.lines() {
        text.push_str(line.strip_prefix("#: ").unwrap_or(line));
        text.push('\n');
    }
    for name in [
        "css-key",
        "css-key-shows",
        "porn-key",
        "url-token",
        "admin-token",
        "rooms-webhook",
        "nats-nkey",
        "nats-creds",
        "kafka-password",
        "robot-secret",
    ] {
        bench.file(name, format!("{name}\n"));
    }
    let text = text.replace("/run/secrets", bench.dir.path().to_str().unwrap());
    bench.file("livehook.toml", text);
    ["CSS_KEY_NEXT", "ROOMS_AUTHORIZATION", "RECORDINGS_API_KEY"]
        .into_iter()
        .fold(bench, |bench, name| bench.with(name, "from-the-environment"))
        .with("ROBOT_URL", "https://oapi.dingtalk.com/robot/send?access_token=x")
}

#[test]
fn the_sample_shows_the_defaults() {
    let config = Bench::new(SAMPLE).config();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_sample_loads_with_everything_switched_on() {
    let config = switched_on().config();
    let names: Vec<_> = config.signature.keys.iter().map(|key| (key.name.as_str(), key.key.expose())).collect();
    assert_eq!(names, [("main", "css-key"), ("shows", "css-key-shows"), ("next", "from-the-environment")]);
    let types: Vec<_> = config.handlers.iter().map(|handler| handler.target.type_name()).collect();
    let expected =
        ["http", "file", "exec", "nats", "nats", "redis", "redis", "amqp", "kafka", "postgres", "mysql", "chat", "log"];
    assert_eq!(types, expected);
    let default = handler::Policy::new("rooms");
    let policy = &config.handlers[0].policy;
    assert_eq!(
        (policy.concurrency, policy.timeout, policy.retry),
        (default.concurrency, default.timeout, default.retry)
    );
}

/// Keys the sample gives, once everything is switched on.
fn shown_keys() -> BTreeSet<String> {
    let bench = switched_on();
    let mut reports = Reports::default();
    let layers = bench.sources.layers(&known_keys(), &mut reports).unwrap();
    let mut book = Book::new(bench.sources.variables());
    walk(&mut book, layers.merged().unwrap());
    book.places.keys().map(|path| fault::without_indices(path)).collect()
}

#[test]
fn the_sample_shows_every_key() {
    let mut book = Book::default();
    walk(&mut book, one_of_each());
    let shown = shown_keys();
    let hidden: Vec<_> = book.known.iter().filter(|key| !shown.contains(*key)).collect();
    assert!(hidden.is_empty(), "config/livehook.toml lacks {hidden:?}");
}

#[test]
fn the_sample_shows_defaults_in_the_lines_left_out() {
    let bench = Bench::new("[[handlers]]\nname = \"rooms\"\ntype = \"file\"\npath = \"x\"");
    let effective = bench.load().unwrap().effective;
    for line in ["order = ", "concurrency = ", "timeout = ", "retry = ", "rotate_keep = "] {
        let line = effective.lines().find(|text| text.starts_with(line)).unwrap();
        assert!(SAMPLE.contains(&format!("#: {line}\n")), "{line}");
    }
}

#[test]
fn the_effective_configuration_loads_and_is_itself() {
    for bench in [Bench::new(""), switched_on()] {
        let first = bench.load().unwrap().effective;
        let second = Bench::new(&first).load().map_err(|faults| panic!("{first}\n{faults}")).unwrap();
        assert_eq!(second.effective, first);
        for key in &second.config.signature.keys {
            assert_eq!(key.key.expose(), "…");
        }
    }
}

#[test]
fn the_effective_configuration_has_every_key_and_its_units() {
    let effective = Bench::new("").load().unwrap().effective;
    for line in [
        "[server]",
        "listen = \"127.0.0.1:8080\"",
        "body_limit = \"1MiB\"",
        "idle_timeout = \"75s\"",
        "# token: not set",
        "unsigned_kinds = [\"relay\", \"monitor\"]",
        "retention = \"30d\"",
        "max_bytes = \"256MiB\"",
        "[[handlers]]",
        "retry = { max_attempts = 300, min_delay = \"1s\", max_delay = \"10m\" }",
    ] {
        assert!(effective.lines().any(|shown| shown == line), "{effective}\nlacks {line}");
    }
    toml::from_str::<toml::Table>(&effective).unwrap();
}
