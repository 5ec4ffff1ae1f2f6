//! What is well formed and yet wrong.

use std::time::Duration;

use super::*;

#[test]
fn without_a_key_only_a_loopback_address_listens() {
    let public = "[server]\nlisten = \"0.0.0.0:8080\"\n[signature]\n";
    check_fault(public, &["server.listen (", "signature.key", "signature.required = false"]);
    check_fault(&format!("{public}required = true"), &["server.listen"]);
    check_fault(&format!("{public}keys = []"), &["server.listen"]);
    check_fault(&format!("{public}url_token = \"x\""), &["server.listen"]);
    check_fault(
        &format!("{public}legacy_porn = {{ secret_id = \"i\", secret_key = \"k\" }}"),
        &["server.listen", "no callback key"],
    );
    for sound in ["key = \"k\"", "keys = [{ name = \"a\", key = \"k\" }]", "required = false"] {
        Bench::new(&format!("{public}{sound}")).config();
    }
    for loopback in ["127.0.0.2:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
        Bench::new(&format!("[server]\nlisten = \"{loopback}\"")).config();
    }
}

#[test]
fn a_key_that_cannot_be_read_is_not_also_a_missing_key() {
    let toml = "[server]\nlisten = \"0.0.0.0:8080\"\n[signature]\nkey = { file = \"/nowhere\" }";
    check_fault(toml, &["signature.key.file"]);
}

#[test]
fn without_a_token_only_a_loopback_address_administers() {
    check_fault("[admin]\nlisten = \"10.0.0.1:9090\"", &["admin.listen (", "admin.token"]);
    Bench::new("[admin]\nlisten = \"10.0.0.1:9090\"\ntoken = \"t\"").config();
}

#[test]
fn the_listeners_differ() {
    check_fault("[admin]\nlisten = \"127.0.0.1:8080\"", &["admin.listen", "must differ"]);
    check_fault("[admin]\nlisten = \"0.0.0.0:8080\"\ntoken = \"t\"", &["must differ"]);
    Bench::new("[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"").config();
}

#[test]
fn keys_have_names_of_their_own() {
    let config = Bench::new("[signature]\nkey = \"a\"\nkeys = [{ name = \"b\", key = \"c\" }]").config();
    let names: Vec<_> = config.signature.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["main", "b"]);
    check_fault(
        "[signature]\nkey = \"a\"\nkeys = [{ name = \"main\", key = \"c\" }]",
        &["signature.keys[0].name", "signature.key is named so"],
    );
    check_fault(
        "[signature]\nkeys = [{ name = \"b\", key = \"a\" }, { name = \"b\", key = \"c\" }]",
        &["signature.keys[1].name", "name of another key"],
    );
    check_fault("[signature]\nkeys = [{ name = 5, key = \"a\" }]", &["signature.keys[0].name", "in quotes"]);
    check_fault("[signature]\nkeys = [{ name = \"\", key = \"a\" }]", &["signature.keys[0].name", "is empty"]);
    check_fault("[signature]\nkeys = [{ key = \"a\" }]", &["signature.keys[0].name", "line 2", "is required"]);
    check_fault("[signature]\nkeys = [{ name = \"a\" }]", &["signature.keys[0].key", "is required"]);
    check_fault("[signature]\nkeys = [{ name = \"a\", key = \"\" }]", &["signature.keys[0].key", "is empty"]);
    check_fault("[signature]\nlegacy_porn = { secret_id = \"a\" }", &["signature.legacy_porn.secret_key", "required"]);
}

#[test]
fn limits_are_kept() {
    for (toml, key) in [
        ("[server]\nbody_limit = \"0B\"", "server.body_limit"),
        ("[server]\nbody_limit = \"33MiB\"", "server.body_limit"),
        ("[server]\nmax_connections = 2000000", "server.max_connections"),
        ("[server]\ndrain_delay = \"16s\"", "server.drain_delay"),
        ("[server]\nidle_timeout = \"0s\"", "server.idle_timeout"),
        ("[server]\nmax_connections = 0", "server.max_connections"),
        ("[server]\nheader_timeout = \"6s\"\nread_timeout = \"5s\"", "server.header_timeout"),
        ("[ack]\ndeadline = \"99ms\"", "ack.deadline"),
        ("[ack]\ndeadline = \"20s\"", "ack.deadline"),
        ("[ack]\nunstored = \"drop\"", "ack.unstored"),
        ("[store]\nqueue_count = 0", "store.queue_count"),
        ("[store]\nretention = \"-1d\"", "store.retention"),
        ("[log]\nformat = \"xml\"", "log.format"),
        ("[log]\nlevel = \"inof\"", "log.level"),
        ("[log]\nlevel = \"a=b=c\"", "log.level"),
    ] {
        check_fault(toml, &[key]);
    }
    let level = Bench::new("[log]\nlevel = \"info,livehook::receive=debug\"").config().log.level;
    assert_eq!(level, "info,livehook::receive=debug");
}

#[test]
fn a_bound_that_is_left_out_follows_the_other() {
    let server = Bench::new("[server]\nread_timeout = \"1s\"").config().server;
    assert_eq!(server.header_timeout, Duration::from_secs(1));
    let loaded =
        Bench::new("[[handlers]]\nname = \"a\"\ntype = \"log\"\nretry = { min_delay = \"20m\" }").load().unwrap();
    assert_eq!(loaded.config.handlers[0].policy.retry.max_delay, Duration::from_mins(20));
    assert!(loaded.effective.contains("min_delay = \"20m\", max_delay = \"20m\""), "{}", loaded.effective);
}

#[test]
fn the_store_is_a_file_or_a_server() {
    for url in [
        "sqlite:",
        "sqlite::memory:",
        "sqlite:file::memory:?cache=shared",
        "data/x.db",
        "mysql://h/d",
        "sqlite://x.db",
        "postgres:",
        "postgres://h:port/d",
        "postgres://u@h/d?schema=\'",
        "postgres://u@h/d?sslmode=perhaps",
        "",
    ] {
        check_fault(&format!("[store]\nurl = \"{url}\""), &["store.url"]);
    }
    for url in ["sqlite:/a/b.db", "postgres://u:p@h/d", "postgresql://h:5433/d?schema=hooks&sslmode=verify-full"] {
        assert_eq!(Bench::new(&format!("[store]\nurl = \"{url}\"")).config().store.url, url);
    }
}

fn check_handler(keys: &str, parts: &[&str]) {
    check_fault(&format!("[[handlers]]\nname = \"ok\"\ntype = \"log\"\n[[handlers]]\n{keys}"), parts);
}

#[test]
fn handlers_have_names_and_types() {
    check_handler("type = \"log\"", &["handlers[1].name (", "line 4", "is required"]);
    check_handler("name = \"x\"", &["handlers[1].type", "is required"]);
    check_handler("name = \"ok\"\ntype = \"log\"", &["handlers[1].name", "another handler"]);
    for name in ["", "A", "a b", "ä", ".", "..", "...", &"a".repeat(65)] {
        check_handler(&format!("name = \"{name}\"\ntype = \"log\""), &["handlers[1].name", "1 to 64"]);
    }
    check_handler("name = \"x\"\ntype = \"webhook\"\nurl = \"x\"", &["handlers[1].type", "unknown", "http"]);
}

#[test]
fn handlers_have_sound_policies() {
    for (key, part) in [
        ("concurrency = 0", "handlers[1].concurrency"),
        ("timeout = \"0s\"", "handlers[1].timeout"),
        ("order = \"strict\"", "handlers[1].order"),
        ("kinds = []", "handlers[1].kinds"),
        ("kinds = [\"relay\", \"mixing\"]", "handlers[1].kinds[1]"),
        ("streams = []", "handlers[1].streams"),
        ("when = true", "handlers[1].when"),
        ("when = \"\"", "handlers[1].when"),
        ("when = 'event.kind =='", "line 7): at 1:14: "),
        ("when = 'evnt.kind == data.x'", "at 1:1: there is no variable `evnt`"),
        ("when = 'event.knd == 1'", "the nearest is `kind`"),
        ("retry = { max_attempts = 0 }", "handlers[1].retry.max_attempts"),
        ("retry = { max_attempts = 4294967296 }", "handlers[1].retry.max_attempts"),
        ("retry = { min_delay = \"2s\", max_delay = \"1s\" }", "handlers[1].retry.min_delay"),
        ("retry = 3", "handlers[1].retry"),
        ("level = \"loud\"", "handlers[1].level"),
    ] {
        check_handler(&format!("name = \"x\"\ntype = \"log\"\n{key}"), &[part]);
    }
}

#[test]
fn everything_that_is_wrong_with_an_expression_is_told() {
    let faults = Bench::new("[[handlers]]\nname = \"x\"\ntype = \"log\"\nwhen = 'a == b'").faults();
    assert!(
        faults.lines().count() == 2 && faults.contains("variable `a`") && faults.contains("variable `b`"),
        "{faults}"
    );
    let toml = "[[handlers]]\nname = \"x\"\ntype = \"log\"\nwhen = \"\"\"event.kind == 'relay'\n&& data.x > 1\"\"\"";
    let config = Bench::new(toml).config();
    let when = config.handlers[0].policy.filter.when.as_ref().map(handler::when::When::source);
    assert_eq!(when, Some("event.kind == 'relay'\n&& data.x > 1"));
}

#[test]
fn each_type_has_its_own_keys() {
    for (keys, part) in [
        ("type = \"file\"", "handlers[1].path"),
        ("type = \"file\"\npath = \"\"", "handlers[1].path"),
        ("type = \"file\"\npath = \"x\"\nrotate_bytes = 5", "handlers[1].rotate_bytes"),
        ("type = \"file\"\npath = \"x\"\nurl = \"y\"", "only handlers of another type"),
        ("type = \"http\"", "handlers[1].url"),
        ("type = \"http\"\nurl = \"ftp://x/\"", "handlers[1].url"),
        ("type = \"http\"\nurl = \"x\"", "handlers[1].url"),
        ("type = \"http\"\nurl = \"http://x\"\nformat = \"xml\"", "handlers[1].format"),
        ("type = \"http\"\nurl = \"http://x\"\nsecret = \"whsec_?\"", "handlers[1].secret"),
        ("type = \"http\"\nurl = \"http://x\"\nheaders = { \"a b\" = \"c\" }", "handlers[1].headers.a b"),
        ("type = \"http\"\nurl = \"http://x\"\nheaders = { a = \"b\\nc\" }", "handlers[1].headers.a"),
        ("type = \"http\"\nurl = \"http://x\"\nheaders = { a = \"b\", A = \"c\" }", "handlers[1].headers."),
        ("type = \"http\"\nurl = \"http://x\"\nheaders = { a = 5 }", "handlers[1].headers.a"),
        ("type = \"exec\"", "handlers[1].command"),
        ("type = \"exec\"\ncommand = []", "handlers[1].command"),
        ("type = \"exec\"\ncommand = [\"\"]", "handlers[1].command"),
        ("type = \"exec\"\ncommand = \"rm -rf\"", "handlers[1].command"),
        ("type = \"exec\"\ncommand = [\"a\"]\nenv = { \"A=B\" = \"c\" }", "handlers[1].env.A=B"),
    ] {
        check_handler(&format!("name = \"x\"\n{keys}"), &[part]);
    }
    check_handler(
        "name = \"x\"\ntype = \"http\"\nurl = \"http://x\"\nsecret = \"whsec_MfKQ9r8G\"\ncolour = 1",
        &["colour"],
    );
}

#[test]
fn handlers_that_write_one_file_are_a_fault_that_names_both() {
    let two = |one: &str, other: &str| {
        let block = |name: &str, keys: &str| format!("[[handlers]]\nname = \"{name}\"\ntype = \"file\"\n{keys}\n");
        block("first", one) + &block("second", other)
    };
    let same = ["handlers[1].path (", "is the file of handler `first`, too"];
    check_fault(&two("path = \"/a/b\"", "path = \"/a/b\""), &same);
    check_fault(&two("path = \"/a/b\"\nrotate_bytes = \"1KiB\"", "path = \"/a/../a/./b\""), &same);
    check_fault(&two("path = \"a/b\"", "path = \"c/../a//b\""), &same);
    let aside = ["handlers[1].path (", "collides with the files that are set aside of handler `first`"];
    check_fault(&two("path = \"/a/b\"\nrotate_bytes = \"1KiB\"", "path = \"/a/b.3\""), &aside);
    check_fault(&two("path = \"/a/b.3\"", "path = \"/a/b\"\nrotate_bytes = \"1KiB\""), &aside);
    Bench::new(&two("path = \"/a/b\"", "path = \"/a/b.3\"")).config();
    Bench::new(&two("path = \"/a/b\"\nrotate_bytes = \"1KiB\"", "path = \"/a/b.log\"")).config();
}
