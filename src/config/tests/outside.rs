//! Handlers that speak to a server of their own.

use super::*;
#[cfg(any(feature = "kafka", feature = "nats"))]
use crate::handler::Target;

/// Faults of the keys of the only handler.
fn check_keys(keys: &str, parts: &[&str]) {
    check_fault(&format!("[[handlers]]\nname = \"x\"\n{keys}"), parts);
}

#[cfg(not(feature = "nats"))]
#[test]
fn a_type_that_is_not_built_in_says_how_to_build_it() {
    check_keys("type = \"nats\"", &["handlers[0].type", "not built into this program", "--features nats"]);
}

#[cfg(feature = "nats")]
#[test]
fn the_keys_of_nats_are_judged() {
    let begin = "type = \"nats\"\nurl = \"nats://h\"";
    check_keys("type = \"nats\"", &["handlers[0].url", "is required"]);
    check_keys("type = \"nats\"\nurl = \"redis://h\"", &["handlers[0].url", "nats:// or tls://"]);
    check_keys("type = \"nats\"\nurl = \"h:4222\"", &["handlers[0].url", "nats:// or tls://"]);
    check_keys("type = \"nats\"\nurl = \"nats:\"", &["handlers[0].url", "names no host"]);
    check_keys("type = \"nats\"\nurl = \"u:hunter22@h\"", &["handlers[0].url"]);
    check_keys("type = \"nats\"\nurl = \"nats://u@h\"\nnkey = \"SU\"", &["handlers[0].url", "one of"]);
    for (subject, part) in [
        ("", "is empty"),
        ("css.{id}", "has {id}; there are"),
        ("css.{kind", "brace"),
        ("css..{kind}", "empty part"),
        ("css.{kind}.", "empty part"),
        ("css.*", "nothing can be published"),
        ("css {kind}", "blank"),
        ("$JS.{kind}", "the server's own"),
    ] {
        check_keys(&format!("{begin}\nsubject = \"{subject}\""), &["handlers[0].subject", part]);
    }
}

#[cfg(feature = "redis")]
#[test]
fn the_keys_of_redis_are_judged() {
    let begin = "type = \"redis\"\nurl = \"redis://h\"";
    check_keys("type = \"redis\"", &["handlers[0].url", "is required"]);
    check_keys("type = \"redis\"\nurl = \"nats://h\"", &["handlers[0].url", "redis:// or rediss://"]);
    for (keys, key) in [
        ("max_length = 0", "max_length"),
        ("max_age = \"0s\"", "max_age"),
        ("max_length = 5\nmax_age = \"1d\"", "max_age"),
        ("dedup_window = \"10ms\"", "dedup_window"),
        ("key = \"{sign}\"", "key"),
        ("format = \"xml\"", "format"),
    ] {
        check_keys(&format!("{begin}\n{keys}"), &[&format!("handlers[0].{key} (")]);
    }
}

#[cfg(feature = "amqp")]
#[test]
fn the_keys_of_amqp_are_judged() {
    let begin = "type = \"amqp\"\nurl = \"amqp://h\"";
    check_keys(begin, &["handlers[0].exchange", "is required"]);
    let long = "x".repeat(256);
    check_keys(&format!("{begin}\nexchange = \"{long}\""), &["handlers[0].exchange", "longer than 255"]);
    let keys = format!("{begin}\nexchange = \"\"\nrouting_key = \"{long}\"");
    check_keys(&keys, &["handlers[0].routing_key", "longer than 255"]);
    check_keys("type = \"amqp\"\nurl = \"http://h\"\nexchange = \"e\"", &["handlers[0].url", "amqp:// or amqps://"]);
}

#[cfg(feature = "kafka")]
#[test]
fn the_keys_of_kafka_are_judged() {
    check_keys("type = \"kafka\"", &["handlers[0].brokers", "is required"]);
    for broker in ["", "b", ":9092", "b:", "b:0", "b:70000", "kafka://b:9092", "b:1,c:1", "b c:1", "[x]:1", "::1:9092"]
    {
        let keys = format!("type = \"kafka\"\nbrokers = [\"{broker}\"]");
        check_keys(&keys, &["handlers[0].brokers", "is not host:port"]);
    }
    let begin = "type = \"kafka\"\nbrokers = [\"b:9092\", \"[::1]:9092\"]";
    for (keys, key, part) in [
        ("ca_file = \"x\"", "ca_file", "tls = true"),
        ("verify_host = false", "verify_host", "tls = true"),
        ("user = \"u\"", "password", "required with user"),
        ("password = { env = \"BUS\" }", "user", "required with password"),
        ("topic = \"css.{id}\"", "topic", "has {id}; there are"),
        ("topic = \"css/{kind}\"", "topic", "letters and digits"),
        ("topic = \".\"", "topic", "may be called"),
        ("format = \"json\"", "format", "binary"),
        ("sasl = \"gssapi\"", "sasl", "scram-sha-512"),
    ] {
        let bench = Bench::new(&format!("[[handlers]]\nname = \"x\"\n{begin}\n{keys}")).with("BUS", "hunter22");
        let faults = bench.faults();
        assert!(faults.contains(&format!("handlers[0].{key}")) && faults.contains(part), "{keys}: {faults}");
        assert!(!faults.contains("hunter22"), "{faults}");
    }
    check_keys("type = \"kafka\"\nbrokers = []", &["handlers[0].brokers", "names no broker"]);
    let long = "x".repeat(250);
    check_keys(&format!("{begin}\ntopic = \"{long}\""), &["handlers[0].topic", "longer than 249"]);
}

#[cfg(feature = "kafka")]
#[test]
fn an_attempt_at_kafka_knows_how_long_it_may_take() {
    let bench = Bench::new(
        "[[handlers]]\nname = \"x\"\ntype = \"kafka\"\nbrokers = [\"b:9092\"]\ntimeout = \"3s\"\nuser = \"u\"\npassword = { env = \"BUS\" }",
    );
    let loaded = bench.with("BUS", "hunter22").load().unwrap();
    assert!(!loaded.effective.contains("hunter22") && !format!("{:?}", loaded.config).contains("hunter22"));
    let Target::Kafka(settings) = &loaded.config.handlers[0].target else { panic!("another type") };
    assert_eq!(settings.timeout, std::time::Duration::from_secs(3));
    assert_eq!(settings.login.as_ref().unwrap().password.expose(), "hunter22");
}

#[cfg(all(feature = "mysql", feature = "postgres"))]
#[test]
fn the_keys_of_databases_are_judged() {
    for (word, other) in [("postgres", "mysql"), ("mysql", "postgres")] {
        check_keys(&format!("type = \"{word}\""), &["handlers[0].url", "is required"]);
        check_keys(&format!("type = \"{word}\"\nurl = \"{other}://h/d\""), &["handlers[0].url", "must begin with"]);
        for (keys, key) in [
            ("table = \"\"", "table"),
            ("table = \"a.b.c\"", "table"),
            ("table = \"a.\"", "table"),
            ("connections = 0", "connections"),
            ("connections = 101", "connections"),
            ("columns = { kind = \"kind\" }", "columns"),
            ("columns = { id = \"a\", kind = \"a\" }", "columns"),
            ("columns = { id = \"\" }", "columns.id"),
            ("columns = { id = \"a\", colour = \"b\" }", "columns.colour"),
        ] {
            let toml = format!("type = \"{word}\"\nurl = \"{word}://h/d\"\n{keys}");
            check_keys(&toml, &[&format!("handlers[0].{key} (")]);
        }
    }
}

#[cfg(feature = "nats")]
#[test]
fn a_url_may_be_a_secret_and_its_password_is_never_shown() {
    let bench = Bench::new("[[handlers]]\nname = \"x\"\ntype = \"nats\"\nurl = { env = \"BUS\" }");
    let bench = bench.with("BUS", "nats://livehook:hunter22@broker:4222");
    let loaded = bench.load().unwrap();
    assert!(!format!("{:?}", loaded.config).contains("hunter22"));
    assert!(!loaded.effective.contains("hunter22") && !loaded.effective.contains("livehook:"), "{}", loaded.effective);
    assert!(loaded.effective.contains("url = \"nats://…@broker:4222\""), "{}", loaded.effective);
    let Target::Nats(settings) = &loaded.config.handlers[0].target else { panic!("another type") };
    assert_eq!(settings.server.expose().password(), Some("hunter22"));
    let faulty = Bench::new("[[handlers]]\nname = \"x\"\ntype = \"nats\"\nurl = \"nats://u:hunter22@[\"").faults();
    assert!(!faulty.contains("hunter22"), "{faulty}");
}
