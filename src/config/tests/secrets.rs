//! Secrets survive untouched and are never shown.

use proptest::prelude::*;

use super::*;

/// What other configuration formats would take for numbers and truths.
const LOOKALIKES: [&str; 8] = ["0012345", "12e34", "true", "1_000", "0x10", "null", "1.50", "2024-01-01"];

/// The key `secret` arrives as, by each way there is.
fn by_every_way(secret: &str) -> Vec<(&'static str, String)> {
    let new = |toml: &str| Bench::new(toml);
    let key_file = |content: String| {
        let bench = new("");
        let path = bench.file("key", content);
        bench.with("LIVEHOOK_SIGNATURE__KEY__FILE", path.to_str().unwrap())
    };
    let benches = [
        ("string", new(&format!("[signature]\nkey = \"{secret}\""))),
        ("value", new(&format!("[signature]\nkey = {{ value = '{secret}' }}"))),
        ("env", new("[signature]\nkey = { env = \"CSS_KEY\" }").with("CSS_KEY", secret)),
        ("file", key_file(secret.to_owned())),
        ("file, \\n", key_file(format!("{secret}\n"))),
        ("file, \\r\\n", key_file(format!("{secret}\r\n"))),
        ("variable", new("").with("LIVEHOOK_SIGNATURE__KEY", secret)),
        ("variable over file", new("[signature]\nkey = { file = \"/x\" }").with("LIVEHOOK_SIGNATURE__KEY", secret)),
        ("variable, value", new("").with("LIVEHOOK_SIGNATURE__KEY__VALUE", secret)),
        ("variable, JSON", new("").with("LIVEHOOK_SIGNATURE__KEY", &format!("{{\"value\":\"{secret}\"}}"))),
        ("list", new("").with("LIVEHOOK_SIGNATURE__KEYS", &format!("[{{\"name\":\"a\",\"key\":\"{secret}\"}}]"))),
        ("flag", new("").with_flag("signature.key", secret)),
    ];
    benches.map(|(way, bench)| (way, bench.config().signature.keys[0].key.expose().to_owned())).into()
}

#[test]
fn what_looks_like_something_else_survives_every_way() {
    for secret in LOOKALIKES {
        for (way, arrived) in by_every_way(secret) {
            assert_eq!(arrived, secret, "{way}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_key_survives_every_way(secret in "[A-Za-z0-9]{1,32}") {
        for (way, arrived) in by_every_way(&secret) {
            prop_assert_eq!(&arrived, &secret, "{}", way);
        }
    }
}

#[test]
fn a_secret_without_quotes_is_a_fault() {
    for value in ["12345", "12e34", "true", "1_000", "0x10", "99999999999999999999999", "1979-05-27", "[\"a\"]"] {
        check_fault(&format!("[signature]\nkey = {value}"), &["signature.key (", "put it in quotes"]);
    }
    check_fault("[signature]\nkey = { value = 12345 }", &["signature.key.value", "put it in quotes"]);
    let faults = Bench::new("").with("LIVEHOOK_SIGNATURE__KEYS", r#"[{"name":"a","key":12345}]"#).faults();
    assert!(faults.starts_with("signature.keys[0].key (LIVEHOOK_SIGNATURE__KEYS): "), "{faults}");
    assert!(!faults.contains("12345"), "{faults}");
}

#[test]
fn exactly_one_form_is_wanted() {
    for table in ["{}", "{ value = \"a\", env = \"B\" }", "{ file = \"/a\", env = \"B\" }"] {
        check_fault(&format!("[signature]\nkey = {table}"), &["signature.key", "exactly one of"]);
    }
}

#[test]
fn secrets_that_are_not_there_are_faults() {
    check_fault("[signature]\nkey = \"\"", &["signature.key", "is empty"]);
    check_fault("[signature]\nkey = { value = \"\" }", &["signature.key.value", "is empty"]);
    check_fault("[admin]\ntoken = { file = \"/nowhere/token\" }", &["admin.token.file", "/nowhere/token"]);
    check_fault("[admin]\ntoken = { env = \"NO_SUCH\" }", &["admin.token.env", "NO_SUCH", "not set"]);
    let bench = Bench::new("");
    let path = bench.file("empty", "\n");
    let faults = bench.with("LIVEHOOK_ADMIN__TOKEN__FILE", path.to_str().unwrap()).faults();
    assert!(faults.contains("is empty") && faults.contains("admin.token.file"), "{faults}");
    let faults = Bench::new("").with("LIVEHOOK_ADMIN__TOKEN", "").faults();
    assert!(faults.contains("admin.token (LIVEHOOK_ADMIN__TOKEN): is empty"), "{faults}");
}

#[test]
fn only_one_line_break_is_dropped() {
    let bench = Bench::new("");
    let path = bench.file("key", " a \n\n");
    let config = bench.with("LIVEHOOK_SIGNATURE__URL_TOKEN__FILE", path.to_str().unwrap()).config();
    assert_eq!(config.signature.url_token.unwrap().expose(), " a \n");
}

/// What is wrong with a secret in a file, by the variable that names the file.
fn fault_of_file(variable: &str, content: &str) -> String {
    let bench = Bench::new("");
    let path = bench.file("secret", content);
    bench.with(variable, path.to_str().unwrap()).faults()
}

#[test]
fn a_callback_key_with_what_nobody_sees_is_a_fault_that_does_not_show_it() {
    for content in ["hush1 ", "hush1\n\n", "\u{feff}hush1\n", "hu sh1", "hush1\u{200b}", "hush1\t\n", "hush1\0"] {
        let faults = fault_of_file("LIVEHOOK_SIGNATURE__KEY__FILE", content);
        assert!(faults.starts_with("signature.key") && faults.contains("not printed"), "{faults}");
        assert!(!faults.contains("hush") && faults.lines().count() == 1, "{faults}");
    }
    let listed = "[signature]\nkeys = [{ name = \"a\", key = \"k\" }, { name = \"b\", key = \"hush1 \" }]";
    check_fault(listed, &["signature.keys[1].key (", "not printed"]);
}

#[test]
fn an_admin_token_that_no_header_can_carry_is_a_fault_that_does_not_show_it() {
    for content in ["hush1 ", " hush1", "hush1\n\n", "\u{feff}hush1", "hu\nsh1", "hush1\0"] {
        let faults = fault_of_file("LIVEHOOK_ADMIN__TOKEN__FILE", content);
        assert!(faults.starts_with("admin.token") && faults.contains("cannot be sent"), "{faults}");
        assert!(!faults.contains("hush") && faults.lines().count() == 1, "{faults}");
    }
    for token in ["hush1", "open sesame", "sésame"] {
        assert_eq!(Bench::new("").with("LIVEHOOK_ADMIN__TOKEN", token).config().admin.token.unwrap().expose(), token);
    }
}

#[test]
fn a_variable_replaces_the_form_that_the_file_uses() {
    let config = Bench::new("[signature]\nkey = { file = \"/nowhere\" }")
        .with("LIVEHOOK_SIGNATURE__KEY__ENV", "CSS_KEY")
        .with("CSS_KEY", "k")
        .config();
    assert_eq!(config.signature.keys[0].key.expose(), "k");
}

#[test]
fn names_of_headers_and_variables_keep_their_case() {
    let toml = r#"
        [[handlers]]
        name = "h"
        type = "http"
        url = "https://example.com/"
        headers = { X-Room-ID = "0012345", "authorization" = { env = "AUTH" } }
        [[handlers]]
        name = "e"
        type = "exec"
        command = ["prog"]
        env = { Mode = "true", API_KEY = "a b" }
    "#;
    let handlers = Bench::new(toml).with("AUTH", "Bearer x").config().handlers;
    let (handler::Target::Http(http), handler::Target::Exec(exec)) = (&handlers[0].target, &handlers[1].target) else {
        panic!("{handlers:?}")
    };
    let shown = |pairs: &[(String, crate::secret::Secret)]| {
        pairs.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect::<Vec<_>>()
    };
    assert_eq!(shown(&http.headers), ["X-Room-ID=0012345", "authorization=Bearer x"]);
    assert_eq!(shown(&exec.env), ["API_KEY=a b", "Mode=true"]);
}

#[test]
fn no_secret_is_ever_shown() {
    let toml = r#"
        [server]
        listen = "nowhere"
        [admin]
        token = "hush-1"
        [signature]
        key = "hush-2"
        legacy_porn = { secret_id = "id", secret_key = "hush-3" }
        [store]
        url = "postgres://user:hush-4@db:port/x"
        [[handlers]]
        name = "h"
        type = "http"
        url = "hush-5.example.com"
        secret = "whsec_hush-6!"
        headers = { A = "hush-7\n" }
    "#;
    let bench = Bench::new(toml).with("LIVEHOOK_SIGNATURE__URL_TOKEN__FILE", "/nowhere").with("X", "hush-8");
    let faults = bench.faults();
    assert!(!faults.contains("hush") && !format!("{:?}{:?}", bench.load(), bench.sources).contains("hush"), "{faults}");
    for key in ["store.url", "handlers[0].url", "handlers[0].secret", "handlers[0].headers.A", "url_token.file"] {
        assert!(faults.contains(key), "{faults}\nlacks {key}");
    }
    let sound = toml
        .replace("nowhere", "127.0.0.1:0")
        .replace("db:port", "db")
        .replace("hush-5.", "https://user:hush-5@")
        .replace("whsec_hush-6!", "hush-6")
        .replace("hush-7\\n", "hush-7");
    let loaded = Bench::new(&sound).load().unwrap();
    assert!(!loaded.effective.contains("hush"), "{}", loaded.effective);
}

#[test]
fn all_files_are_noted_be_there_faults_or_not() {
    let bench = Bench::new("");
    let (key, token) = (bench.file("key", "k\n"), bench.dir.path().join("not-there"));
    let text = format!(
        "signature.key = {{ file = {key:?} }}\nadmin.token = {{ file = {token:?} }}\n\
         [[handlers]]\nname = \"a\"\ntype = \"http\"\nurl = \"https://a.b\"\nca_file = \"/certificates\"\n\
         [[handlers]]\nname = \"b\"\ntype = \"chat\"\nservice = \"slack\"\nurl = \"https://a.b/c\"\n\
         ca_file = \"/more-certificates\"\n"
    );
    bench.file("livehook.toml", text);
    let (loaded, files) = load_noting(&bench.sources);
    assert!(loaded.is_err());
    let shown = format!("{files:?}");
    for path in
        [bench.sources.file.clone().unwrap(), key, token.clone(), "/certificates".into(), "/more-certificates".into()]
    {
        assert!(shown.contains(&format!("{path:?}")), "{path:?}: {shown}");
    }
    assert_eq!(files.looked_at_again(), files);
    std::fs::write(token, "t\n").unwrap();
    assert_ne!(files.looked_at_again(), files, "one that was missing is there now");
}
