use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::handler::cloudevent::tests::event;

const AUDIT: &str = r#"{"event_type":317,"streamId":"room-7","app":"push.example.com","appname":"live",
    "suggestion":"Block","confidence":96,"label":"Porn","screenshotTime":1703128356,"t":1,"sign":"ab",
    "polityScore":0.5,"big":12345678901234567890123,"list":[{"name":"a","n":1},{"name":"b","n":2}],"none":null}"#;

fn holds(when: &str, event: &Event) -> Result<bool, WhenError> {
    When::compile(when).unwrap_or_else(|faults| panic!("{when}: {faults:?}")).holds(&Scope::of(event)?)
}

fn why(when: &str, event: &Event) -> Why {
    holds(when, event).unwrap_err().why
}

fn faults(when: &str) -> Vec<String> {
    When::compile(when).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn expressions_see_the_event_and_its_data() {
    let audit = event(AUDIT);
    for when in [
        r#"event.kind == "image-audit" && data.suggestion == "Block""#,
        r#"event.event_type == 317 && event.domain == "push.example.com" && event.app == "live""#,
        r#"event.stream == "room-7" && event.subject == event.stream && event.stream.startsWith("room-")"#,
        r#"event.verification == "verified" && event.type == "com.tencentcloud.css.image-audit""#,
        r#"event.source == "/css/push.example.com/live""#,
        r#"event.id == "0198c700-0000-7000-8000-000000000001""#,
        r#"event.time == timestamp("2023-12-21T03:12:36Z") && event.time < event.receivedat"#,
        r#"event.receivedat - event.time < duration("2s") && event.time.getHours("Asia/Shanghai") == 11"#,
        "data.confidence >= 90 && data.confidence + 1 == 97 && data.polityScore < 1.0",
        r#"data.list.exists(item, item.name == "b" && item.n == 2) && data.list.size() == 2"#,
        "data.list.map(item, item.n) == [1, 2] && data.list.filter(i, i.n > 1).size() == 1",
        r#"data.label in ["Porn", "Sexy"] && data.label.matches("^P.rn$")"#,
        r#"data["label"] == "Porn" && data.none == null"#,
        r#"data.?missing.orValue("x") == "x" && data.?label.orValue("x") == "Porn""#,
    ] {
        assert_eq!(holds(when, &audit), Ok(true), "{when}");
    }
    assert_eq!(holds(r#"event.kind == "recording""#, &audit), Ok(false));
}

#[test]
fn what_does_not_apply_is_absent() {
    let bare = event(r#"{"event_type":999,"stream_id":" "}"#);
    for name in ["domain", "app", "stream", "sequence", "subject"] {
        assert_eq!(holds(&format!("has(event.{name})"), &bare), Ok(false), "{name}");
        assert_eq!(why(&format!(r#"event.{name} == "x""#), &bare), Why::Missing, "{name}");
    }
    assert_eq!(holds("has(event.event_type) && event.time == event.receivedat", &bare), Ok(true));
    let fraction = event(r#"{"event_type":1.5}"#);
    assert_eq!(holds("has(event.event_type)", &fraction), Ok(false));
    assert_eq!(holds("has(data.t) || has(data.sign)", &event(AUDIT)), Ok(false), "they would sign any body");
}

#[test]
fn whole_numbers_stay_what_they_are() {
    for (number, when) in [
        ("9223372036854775807", "data.n == 9223372036854775807"),
        ("-9223372036854775808", "data.n < -9223372036854775807"),
        ("9223372036854775808", r#"data.n == "9223372036854775808""#),
        ("674892109876543210987", r#"data.n == "674892109876543210987""#),
        ("1.0", "data.n == 1.0 && type(data.n) == double"),
        ("1e2", "data.n == 100.0"),
        ("1e999", r#"data.n == "1e999""#),
        ("7", "type(data.n) == int"),
        (r#""7""#, "int(data.n) == 7"),
    ] {
        let event = event(&format!(r#"{{"event_type":1,"n":0,"n":{number}}}"#));
        assert_eq!(holds(when, &event), Ok(true), "{number}: {when}");
    }
}

#[test]
fn what_comes_to_no_result_says_why_without_the_payload() {
    let audit = event(&AUDIT.replace("room-7", "hunter22"));
    for (when, expected) in [
        ("data.confidnce > 90", "the event has no such member: confidnce"),
        ("data[data.streamId] == 1", "the event has no such member"),
        ("data.list[7].n == 1", "the event has no such member"),
        ("data.label > 3", "an operator or function does not take values of these types"),
        ("data.streamId + 1 == 2", "an operator or function does not take values of these types"),
        ("data.confidence && true", "an operator or function does not take values of these types"),
        ("data.label", "the result is neither true nor false"),
        ("1 / 0 == data.confidence", "it cannot be evaluated"),
        ("int(data.streamId) == 1", "it cannot be evaluated"),
    ] {
        let error = holds(when, &audit).unwrap_err();
        assert_eq!(error.to_string(), expected, "{when}");
    }
}

#[test]
fn faults_are_told_with_their_place() {
    for (when, expected) in [
        (r#"evnt.kind == "relay""#, "at 1:1: there is no variable `evnt`; there are `event` and `data`"),
        ("true &&\n  event.knd == 1", "at 2:9: `event` has no member `knd`; the nearest is `kind`"),
        (r#"event["knd"] == 1"#, "at 1:8: `event` has no member `knd`; the nearest is `kind`"),
        ("has(event.strem)", "at 1:11: `event` has no member `strem`; the nearest is `stream`"),
        (r#"event.stream.startWith("x")"#, "at 1:14: there is no function `startWith`; the nearest is `startsWith`"),
        (r#"event.kind == "porn-detection""#, r#"at 1:16: `event.kind` is never "porn-detection" but `image-audit`"#),
        (
            r#""checked" != event.verification"#,
            r#"at 1:2: `event.verification` is never "checked"; it is one of verified, unsigned, forced"#,
        ),
        ("data.list.exists(x, y.n == 1)", "at 1:21: there is no variable `y`; there are `event` and `data`"),
        ("event.kind", "its result is neither true nor false; compare it with something"),
        ("data.a + 1", "its result is neither true nor false; compare it with something"),
    ] {
        assert_eq!(faults(when), [expected], "{when}");
    }
    let kinds = faults(r#"event.kind in ["relay", "images"]"#);
    assert!(kinds[0].starts_with("at 1:26: `images` is no kind of event; the kinds are stream-push"), "{kinds:?}");
    let lines = faults(r#"event.kind == "a\n\tb""#);
    assert!(lines[0].starts_with("`a b` is no kind of event"), "on one line: {lines:?}");
    for when in ["event.kind ==", "", "data.x = 1", "(", "'open"] {
        assert!(faults(when)[0].starts_with("at 1:"), "{when}: {:?}", faults(when));
    }
    assert_eq!(faults("a == b && evnt").len(), 3, "all are told");
}

#[test]
fn no_expression_exhausts_the_stack() {
    let deep = |times: usize, open: &str, inside: &str, close: &str| {
        format!("{}{inside}{}", open.repeat(times), close.repeat(times))
    };
    for when in [
        deep(2000, "(", "true", ")"),
        deep(4000, "(", "", ""),
        deep(2000, "[", "1", "]"),
        deep(2000, "", "true", "+1"),
        deep(1000, "", "data", ".a"),
        deep(1000, "", "data", "[0]"),
        deep(500, "true?1:", "1", ""),
        deep(1000, "", "1", "==1"),
        deep(100, "data.a.all(x,", "true", ")"),
        deep(2000, "{1:", "1", "}"),
        "x".repeat(5000),
    ] {
        match When::compile(&when) {
            Ok(_) => {}
            Err(faults) => assert!(!faults.is_empty()),
        }
    }
    let long = vec!["true"; 400].join(" && ");
    assert_eq!(holds(&long, &event(AUDIT)), Ok(true), "long conditions are balanced");
}

#[test]
fn every_function_that_is_known_exists() {
    let audit = event(AUDIT);
    let scope = Scope::of(&audit).unwrap();
    let exists = |name: &str| {
        [format!("{name}(1)"), format!("{name}()"), format!("(1).{name}()")].iter().any(|call| {
            let parsed = PrattParser::new().parse(call).unwrap();
            !matches!(Value::resolve(&parsed, scope.context()), Err(ExecutionError::UndeclaredReference(_)))
        })
    };
    for name in check::FUNCTIONS {
        assert!(exists(name), "{name}");
    }
    assert!(!exists("nothing"));
}

#[test]
fn loops_are_bounded_whatever_a_stranger_sends() {
    let numbers = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let of = |count: usize| event(&format!(r#"{{"event_type":1,"l":[{}]}}"#, numbers(count)));
    let small = of(100);
    for when in
        ["data.l.all(x, data.l.exists(y, y == 99))", "data.l.all(x, x in data.l)", "data.l.map(x, x + 1).size() == 100"]
    {
        assert_eq!(holds(when, &small), Ok(true), "{when}");
    }
    let large = of(15_000);
    assert_eq!(holds("data.l.exists(x, x == 14999)", &large), Ok(true), "one round each is granted");
    for when in [
        "data.l.all(x, data.l.exists(y, y == 14999))",
        "data.l.all(x, x in data.l)",
        "data.l.map(x, data.l).size() == 1",
        "data.l.all(x, data.l.all(y, data.l.all(z, true)))",
    ] {
        assert_eq!(why(when, &large), Why::TooMuchWork, "{when}");
    }
    let scope = Scope::of(&large).unwrap();
    let [dear, cheap] = ["data.l.all(x, x in data.l)", "data.l.exists(x, x == 3)"].map(|w| When::compile(w).unwrap());
    assert!(dear.holds(&scope).is_err());
    assert_eq!(cheap.holds(&scope), Ok(true), "each evaluation has its own allowance");
}

#[test]
fn bodies_beyond_measure_are_not_looked_at() {
    let deep = format!(r#"{{"event_type":1,"d":{}{}}}"#, "[".repeat(300_000), "]".repeat(300_000));
    let wide = format!(r#"{{"event_type":1,"d":[{}0]}}"#, "0,".repeat(400_000));
    for body in [deep, wide] {
        assert_eq!(Scope::of(&event(&body)).err().map(|error| error.why), Some(Why::TooLarge));
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        Just("2023-12-21T03:12:36Z".into()),
        Just("9999999999999999999999".into()),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::hash_map("[a-e]", inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Expressions that meet whatever is there with whatever there is to do with it.
const CURIOUS: [&str; 16] = [
    "data.a == data.b || data.c < data.d",
    "data.a + data.b == data.c",
    "data.a.all(x, x == data.b) || data.c.exists_one(x, x > 1)",
    "data.a.map(x, [x, data]).exists(y, y[0] == y[1])",
    "data.b.filter(x, x in data.a).size() > 1",
    "size(data.a) > 1 || data.b.size() == 2",
    "timestamp(data.a) + duration(data.b) < event.time",
    "int(data.a) % int(data.b) == uint(data.c)",
    "string(data.a).contains(string(data.b))",
    "data.a.matches(data.b)",
    "event.time - timestamp(data.a) > duration('1h')",
    "-data.a == double(data.b) * data.c / data.d",
    "data.?a.?b.orValue(data).c == data",
    "event.time.getHours(data.a) == 1",
    "data.exists(k, data[k] == data.a)",
    "bool(data.a) ? bytes(data.b) == bytes(data.c) : type(data.d) == int",
];

proptest! {
    #[test]
    fn hostile_bodies_neither_panic_nor_escape(members in prop::collection::hash_map("[a-e]", json(), 0..6)) {
        let mut body: serde_json::Map<_, _> = members.into_iter().collect();
        body.insert("event_type".to_owned(), 1.into());
        let event = event(&serde_json::Value::Object(body).to_string());
        let scope = Scope::of(&event).unwrap();
        for source in CURIOUS {
            let outcome = When::compile(source).unwrap().holds(&scope);
            prop_assert_ne!(outcome.map_err(|error| error.why), Err(Why::Panicked), "{}", source);
        }
    }

    #[test]
    fn no_text_breaks_the_compiler(source in "[a-z0-9.()\\[\\]{}'\"+=&|!?:, \\-\\\\<>%\u{e9}]{0,60}") {
        if let Ok(when) = When::compile(&source) {
            let audit = event(AUDIT);
            let _ = when.holds(&Scope::of(&audit).unwrap());
        }
    }
}
