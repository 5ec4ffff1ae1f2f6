//! Layers, names, unknown keys, syntax.

use std::time::Duration;

use super::*;
use crate::event::Kind;

#[test]
fn a_file_without_a_key_is_blank_and_good_for_a_start() {
    for (text, blank) in [("", true), (" \n", true), ("# nothing\n", true), ("[server]\n", false)] {
        assert_eq!(Bench::new(text).load().unwrap().file_is_blank, blank, "{text:?}");
    }
    assert!(!load(&Sources::default()).unwrap().file_is_blank, "no file is none that was emptied");
}

#[test]
fn without_sources_the_defaults_hold() {
    let config = load(&Sources::default()).unwrap().config;
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(config.handlers.len(), 1);
    assert_eq!((config.handlers[0].policy.name.as_str(), config.handlers[0].target.type_name()), ("log", "log"));
    assert_eq!(config.server.body_limit, 1 << 20);
    assert_eq!(config.store.max_bytes, None);
}

#[test]
fn later_sources_win() {
    let file = || Bench::new("[server]\nlisten = \"127.0.0.1:1\"\ndrain_delay = \"3s\"");
    assert_eq!(file().config().server.listen.port(), 1);
    let variable = || file().with("LIVEHOOK_SERVER__LISTEN", "127.0.0.1:2");
    assert_eq!(variable().config().server.listen.port(), 2);
    let flag = variable().with_flag("server.listen", "127.0.0.1:3").config();
    assert_eq!(flag.server.listen.port(), 3);
    assert_eq!(flag.server.drain_delay, Duration::from_secs(3));
}

#[test]
fn variables_take_the_type_their_key_asks_for() {
    let config = Bench::new("")
        .with("LIVEHOOK_SERVER__MAX_CONNECTIONS", "12")
        .with("LIVEHOOK_SERVER__BODY_LIMIT", "2KiB")
        .with("LIVEHOOK_SIGNATURE__REQUIRED", "false")
        .with("LIVEHOOK_SIGNATURE__UNSIGNED_KINDS", r#"["relay", "porn-detection"]"#)
        .with("LIVEHOOK_STORE__RETENTION", "2h")
        .with("LIVEHOOK_LOG__FORMAT", "json")
        .config();
    assert_eq!((config.server.max_connections, config.server.body_limit), (12, 2048));
    assert!(!config.signature.required);
    assert_eq!(config.signature.unsigned_kinds, [Kind::Relay, Kind::ImageAudit]);
    assert_eq!(config.store.retention, Duration::from_hours(2));
    assert_eq!(config.log.format, telemetry::Format::Json);
}

#[test]
fn tables_and_lists_come_from_the_environment_as_json() {
    let config = Bench::new("")
        .with(
            "LIVEHOOK_SIGNATURE__KEYS",
            r#"[{"name":"a","key":"0012345"},{"name":"b","key":{"value":"x"},"domains":["d"]}]"#,
        )
        .with("LIVEHOOK_SIGNATURE__LEGACY_PORN", r#"{"secret_id":"i","secret_key":"k"}"#)
        .config();
    assert_eq!(config.signature.keys[0].key.expose(), "0012345");
    assert_eq!(config.signature.keys[1].domains, ["d"]);
    assert_eq!(config.signature.legacy_porn.unwrap().secret_id, "i");
}

#[test]
fn variables_without_levels_are_left_alone() {
    let bench = [
        "LIVEHOOK_PORT",
        "LIVEHOOK_SERVICE_HOST",
        "LIVEHOOK_PORT_9090_TCP",
        "LIVEHOOK_HANDLERS",
        "OTHER__X",
        "livehook_a__b",
    ]
    .into_iter()
    .fold(Bench::new(""), |bench, name| bench.with(name, "tcp://10.0.0.1:9090"));
    bench.config();
}

#[test]
fn an_unknown_table_is_found_by_its_line() {
    check_fault(
        "[ack]\ndeadline = \"1s\"\n\n[signatur]\nkey = \"k\"",
        &["signatur (", "livehook.toml, line 4)", "nearest"],
    );
    check_fault("[signature]\n\n[signature.legacy_pron]", &["signature.legacy_pron (", "livehook.toml, line 3)"]);
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_key() {
    let faults = Bench::new("").with("LIVEHOOK_SERVER__LISEN", "hush").faults();
    assert!(faults.contains("LIVEHOOK_SERVER__LISEN") && faults.contains("`server.listen`"), "{faults}");
    assert!(faults.contains("LIVEHOOK_SERVER__LISTEN") && !faults.contains("hush"), "{faults}");
    for name in ["LIVEHOOK__SERVER__LISTEN", "LIVEHOOK_Server__Listen", "LIVEHOOK_SERVER__", "LIVEHOOK___"] {
        let faults = Bench::new("").with(name, "hush").faults();
        assert!(faults.contains(name) && faults.contains("no such key"), "{faults}");
    }
    let faults = Bench::new("").with("LIVEHOOK_SIGNATURE__KEYS__0__KEY", "hush").faults();
    assert!(faults.contains("as JSON, in LIVEHOOK_SIGNATURE__KEYS"), "{faults}");
    let faults = Bench::new("").with("LIVEHOOK_HANDLERS__0__URL", "hush").faults();
    assert!(faults.contains("configured in the file"), "{faults}");
}

#[test]
fn faults_of_variables_name_key_and_variable() {
    let faults = Bench::new("")
        .with("LIVEHOOK_SERVER__MAX_CONNECTIONS", "many")
        .with("LIVEHOOK_SIGNATURE__UNSIGNED_KINDS", r#"["relay","mixing"]"#)
        .with("LIVEHOOK_SIGNATURE__KEYS", "hush-hush")
        .faults();
    assert!(faults.contains("server.max_connections (LIVEHOOK_SERVER__MAX_CONNECTIONS): \"many\""), "{faults}");
    assert!(faults.contains("signature.unsigned_kinds[1] (LIVEHOOK_SIGNATURE__UNSIGNED_KINDS): `mixing`"), "{faults}");
    assert!(faults.contains("signature.keys (LIVEHOOK_SIGNATURE__KEYS): is not JSON"), "{faults}");
    assert!(!faults.contains("hush"), "{faults}");
}

#[test]
fn a_variable_and_one_of_its_parts_exclude_each_other() {
    let bench = Bench::new("").with("LIVEHOOK_ADMIN__TOKEN", "hush").with("LIVEHOOK_ADMIN__TOKEN__FILE", "/x");
    assert!(bench.faults().contains("cannot be set together with LIVEHOOK_ADMIN__TOKEN"), "{}", bench.faults());
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    check_fault("[server]\nlisen = \"hush\"", &["server.lisen (", "line 2", "`server.listen`"]);
    check_fault("[servr]\nlisten = \"127.0.0.1:1\"", &["servr", "`server`"]);
    check_fault("\"server.listen\" = \"127.0.0.1:1\"", &["server.listen", "leave the quotes out"]);
    check_fault("[server]\ndeadline = \"3s\"", &["`ack.deadline`"]);
    check_fault("[signature]\nkey = { flie = \"/x\" }", &["signature.key.flie", "`signature.key.file`"]);
    check_fault(
        "[[handlers]]\nname = \"a\"\ntype = \"log\"\n[[handlers]]\nname = \"b\"\ntype = \"log\"\nretry = { max_dely = \"1s\" }",
        &["handlers[1].retry.max_dely (", "line 7", "`handlers[].retry.max_delay`"],
    );
    let faults = Bench::new("").with_flag("server.lisen", "x").faults();
    assert!(faults.starts_with("server.lisen (command line): "), "{faults}");
}

#[test]
fn all_faults_are_said_at_once() {
    let toml = r#"
        [server]
        listen = "localhost:8080"
        body_limit = 1048576
        colour = "red"
        [ack]
        deadline = "20s"
        [[handlers]]
        name = "a"
        type = "log"
        [[handlers]]
        name = "a"
        type = "pigeon"
        retry = { max_delay = 3 }
    "#;
    let faults = Bench::new(toml).with("LIVEHOOK_STORE__RETENTION", "30").with("LIVEHOOK_STORE__URI", "x").faults();
    for part in [
        "server.listen (",
        "\"localhost:8080\" is not IP:port",
        "body_limit",
        "\"1MiB\"",
        "server.colour",
        "ack.deadline",
        "handlers[1].name",
        "handlers[1].type",
        "handlers[1].retry.max_delay",
        "store.retention (LIVEHOOK_STORE__RETENTION): \"30\" has no unit",
        "LIVEHOOK_STORE__URI",
    ] {
        assert!(faults.contains(part), "{faults}\nlacks {part}");
    }
    assert_eq!(faults.lines().count(), 9, "{faults}");
}

#[test]
fn types_are_not_guessed_in_the_file() {
    check_fault("[server]\nmax_connections = \"12\"", &["server.max_connections", "without quotes"]);
    check_fault("[server]\nmax_connections = -1", &["-1 is no whole number"]);
    check_fault("[server]\nmax_connections = 99999999999999999999", &["server.max_connections", "line 2"]);
    check_fault("[signature]\nrequired = \"false\"", &["signature.required", "without quotes"]);
    check_fault("[signature]\nunsigned_kinds = \"relay\"", &["signature.unsigned_kinds", "a list is wanted"]);
    check_fault("[log]\nlevel = 2024-01-01", &["log.level", "a date"]);
    check_fault("server = 5", &["server (", "a table is wanted"]);
    check_fault("handlers = 5", &["handlers (", "a list of tables is wanted"]);
}

#[test]
fn syntax_faults_have_line_and_column_but_not_the_line() {
    let bench = Bench::new("[signature]\nkey = hush-hush\n");
    let faults = bench.faults();
    assert!(faults.contains("livehook.toml (line 2, column 7): is not TOML"), "{faults}");
    assert!(!faults.contains("hush"), "{faults}");
    let faults = bench.with("LIVEHOOK_A__B", "").faults();
    assert!(faults.contains("LIVEHOOK_A__B") && faults.contains("line 2"), "{faults}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let sources = Sources { file: Some("/nowhere/livehook.toml".into()), ..Sources::default() };
    let faults = load(&sources).unwrap_err().to_string();
    assert!(faults.starts_with("/nowhere/livehook.toml: cannot be read: "), "{faults}");
}

#[test]
fn rust_log_wins_over_every_level() {
    let bench = Bench::new("[log]\nlevel = \"warn\"").with_flag("log.level", "error").with("RUST_LOG", "livehook");
    assert_eq!(bench.config().log.level, "livehook");
    assert_eq!(Bench::new("[log]\nlevel = \"warn\"").with("RUST_LOG", "").config().log.level, "warn");
}
