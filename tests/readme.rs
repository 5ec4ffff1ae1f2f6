//! Holds both READMEs to what they are about: the table of kinds, the configuration, the metrics, the set-up.
//!
//! Their examples in Rust are compiled as doctests, see the end of `src/lib.rs`.

#[path = "bench/numbers.rs"]
#[expect(dead_code, reason = "the benchmark makes what is only read here")]
mod numbers;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use livehook::config::{self, Sources};
use livehook::event::{KINDS, Kind, KindFacts, Reason, Retries, SetIn};
use livehook::telemetry::{KnownLabels, Metrics};

use self::numbers::{Language, MARKS, Numbers};

const ENGLISH: &str = include_str!("../README.md");
const CHINESE: &str = include_str!("../README.zh-CN.md");
const BOTH: [(&str, &str); 2] = [("README.md", ENGLISH), ("README.zh-CN.md", CHINESE)];
const DOCKERFILE: &str = include_str!("../Dockerfile");

#[test]
fn the_table_of_kinds_is_that_of_the_code() {
    for (name, text, row) in
        [("README.md", ENGLISH, english_row as fn(&_) -> _), ("README.zh-CN.md", CHINESE, chinese_row)]
    {
        let rows = KINDS.iter().filter(|facts| facts.kind != Kind::Unknown).map(row);
        let missing: Vec<String> = rows.filter(|row| !text.lines().any(|line| line == row)).collect();
        assert!(missing.is_empty(), "{name} lacks\n{}", missing.join("\n"));
        let shown = text.lines().filter(|line| line.contains("| `/callbacks/")).count();
        assert_eq!(shown, KINDS.len() - 1, "{name} has rows of no kind");
    }
}

#[test]
fn every_toml_block_loads() {
    for (name, text) in BOTH {
        let blocks = blocks(text, "toml");
        assert!(blocks.len() > 5, "{name} has {} blocks", blocks.len());
        for block in blocks {
            if let Err(faults) = load(&block) {
                panic!("{name}:\n{block}\n{faults}");
            }
        }
    }
}

#[test]
fn every_type_of_handler_has_an_example() {
    for (name, text) in BOTH {
        let all = blocks(text, "toml").concat();
        for kind in ["http", "file", "exec", "nats", "redis", "amqp", "kafka", "postgres", "mysql", "chat", "log"] {
            assert!(all.contains(&format!("type = \"{kind}\"\n")), "{name} shows no handler of type {kind}");
        }
    }
}

#[test]
fn every_promise_names_tests_that_there_are() {
    let mut tests = BTreeSet::new();
    functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut tests);
    let named = |text: &str| -> BTreeSet<String> {
        let rows = text.lines().filter(|line| line.starts_with('|'));
        let in_last = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
        let quoted = in_last.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        quoted.filter(|name| name.matches('_').count() > 4).map(str::to_owned).collect()
    };
    assert!(named(ENGLISH).len() > 30, "{:?}", named(ENGLISH));
    assert_eq!(named(ENGLISH), named(CHINESE));
    let missing: Vec<_> = named(ENGLISH).difference(&tests).cloned().collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

/// The names of all test functions below a directory.
fn functions(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("a directory of ours") {
        let path = entry.expect("a directory of ours").path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let source = fs::read_to_string(&path).expect("a source of ours");
            let tests = source.split("test]\n").skip(1).chain(source.split("test(").skip(1));
            let names = tests.filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
            found.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn both_languages_have_the_same_examples() {
    for language in ["toml", "sh", "json", "sql", "rust,no_run"] {
        assert_eq!(blocks(ENGLISH, language), blocks(CHINESE, language), "{language}");
    }
    let headings = |text: &str| {
        let outside = |line: &&str| line.starts_with('#');
        text.split("```").step_by(2).flat_map(str::lines).filter(outside).map(level).collect::<Vec<_>>()
    };
    assert_eq!(headings(ENGLISH), headings(CHINESE), "the two have different sections");
}

#[test]
fn every_variable_that_is_named_is_known() {
    for (name, text) in BOTH.into_iter().chain([("Dockerfile", DOCKERFILE)]) {
        let variables = words(text).filter(|word| word.starts_with("LIVEHOOK_") && word.contains("__"));
        let environment: Vec<_> = variables.map(|variable| (variable.to_owned(), String::new())).collect();
        assert!(!environment.is_empty(), "{name} names no variable");
        // Their values do not matter here: what is unknown is said in these words.
        let faults = config::load(&Sources { environment, ..Sources::default() }).map_err(|faults| faults.to_string());
        let text = faults.err().unwrap_or_default();
        assert!(!text.contains("no such key"), "{name}:\n{text}");
    }
}

#[test]
fn all_metrics_are_listed_and_no_others() {
    let there: BTreeSet<_> = metrics().into_iter().collect();
    for (name, text) in BOTH {
        let listed: BTreeSet<_> = words(text).filter(|word| word.starts_with("livehook_")).map(str::to_owned).collect();
        let difference: Vec<_> = listed.symmetric_difference(&there).collect();
        assert!(difference.is_empty(), "{name} and the metrics differ in {difference:?}");
    }
}

/// A line that is no row ends a table, and what follows it is no longer shown as one.
#[test]
fn the_metrics_are_rows_of_one_table() {
    for (name, text) in BOTH {
        let rows: Vec<_> = text.lines().enumerate().filter(|(_, line)| line.starts_with("| `livehook_")).collect();
        assert_eq!(rows.len(), metrics().len(), "{name}");
        for pair in rows.windows(2) {
            assert_eq!(pair[0].0 + 1, pair[1].0, "{name}: something stands before\n{}", pair[1].1);
        }
    }
}

#[test]
fn all_reasons_of_the_quarantine_are_listed_in_their_order() {
    let reasons = Reason::ALL.map(Reason::slug);
    for (name, text) in BOTH {
        let code: Vec<_> = text.split('`').skip(1).step_by(2).collect();
        let listed = code.windows(reasons.len()).any(|window| window == reasons);
        assert!(listed, "{name} does not list {reasons:?}");
    }
}

#[test]
fn every_command_exists_with_its_flags() {
    for (name, text) in BOTH {
        let commands = commands(text);
        assert!(commands.len() > 15, "{name} shows {} commands", commands.len());
        for command in commands {
            let flags = command.iter().filter(|word| word.starts_with("--"));
            // Capitals stand for something to be filled in.
            let words = command.iter().take_while(|word| !word.starts_with('-')).filter(|word| is_lower(word));
            let asked = std::process::Command::new(env!("CARGO_BIN_EXE_livehook")).args(words).arg("--help").output();
            let answer = asked.expect("the program has been built");
            let help = String::from_utf8_lossy(&answer.stdout);
            assert!(answer.status.success(), "{name}: there is no {command:?}");
            for flag in flags {
                assert!(words_of_help(&help).any(|word| word == *flag), "{name}: {command:?} knows no {flag}");
            }
        }
    }
}

#[test]
fn what_is_linked_in_the_repository_is_there() {
    for (name, text) in BOTH {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://")) {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(target).exists(), "{name}: {target} is not there");
        }
    }
}

#[test]
fn the_numbers_are_those_of_the_report_beside_the_benchmark() {
    let numbers: Numbers = serde_json::from_str(include_str!("bench/numbers.json")).expect("a report");
    for ((name, text), language) in BOTH.into_iter().zip([Language::English, Language::Chinese]) {
        let section = [MARKS[0], &numbers.section(language), MARKS[1]].concat();
        assert!(text.contains(&section), "{name} does not have\n{section}");
    }
}

#[test]
fn the_set_up_is_two_commands_and_ci_runs_the_test_command() {
    let shown = blocks(ENGLISH, "sh");
    assert_eq!(shown[0].lines().count(), 2, "{}", shown[0]);
    assert_eq!(shown[1].trim(), "cargo run --release");
    let ci = include_str!("../.ci/run");
    let first = ci.lines().find_map(|line| line.strip_prefix("step "));
    assert_eq!(first, Some(shown[2].trim()), "the test command of README.md is not the first step of .ci/run");
}

fn english_row(facts: &KindFacts) -> String {
    let entered = match facts.set_in {
        SetIn::Template(field) => format!("template, `{field}`"),
        SetIn::ConsoleTemplate => "template, in the console only".to_owned(),
        SetIn::Task(field) => format!("task, `{field}`"),
        SetIn::Nowhere => "nowhere".to_owned(),
    };
    let repeats = match facts.retries {
        Retries::Every { times, minutes } => format!("{times} times, {minutes} min apart"),
        Retries::Attempts(attempts) => format!("{attempts} attempts in all"),
        Retries::NotStated => "not stated".to_owned(),
    };
    row(facts, facts.title[0], &entered, &repeats)
}

fn chinese_row(facts: &KindFacts) -> String {
    let entered = match facts.set_in {
        SetIn::Template(field) => format!("回调模板 `{field}`"),
        SetIn::ConsoleTemplate => "回调模板，仅控制台".to_owned(),
        SetIn::Task(field) => format!("任务参数 `{field}`"),
        SetIn::Nowhere => "无".to_owned(),
    };
    let repeats = match facts.retries {
        Retries::Every { times, minutes } => format!("{times} 次，间隔 {minutes} 分钟"),
        Retries::Attempts(attempts) => format!("共尝试 {attempts} 次"),
        Retries::NotStated => "文档未说明".to_owned(),
    };
    row(facts, facts.title[1], &entered, &repeats)
}

fn row(facts: &KindFacts, title: &str, entered: &str, repeats: &str) -> String {
    let number = facts.event_type.map(|number| number.to_string()).unwrap_or_default();
    let mut row = format!("| {title} | {number} | `/callbacks/{}` | {entered} | {repeats} |", facts.slug);
    for (site, page) in ["www.tencentcloud.com", "cloud.tencent.com"].iter().zip(facts.pages) {
        if let Some(page) = page {
            let _ = write!(row, " [{page}](https://{site}/document/product/267/{page})");
        }
    }
    row + " |"
}

/// What stands between a fence with this language and the next fence.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("\n```{language}\n");
    let parts = text.split(&opening).skip(1);
    parts.filter_map(|part| part.split_once("```")).map(|(block, _)| block.to_owned()).collect()
}

/// The words behind the name of our program, of commands in blocks and in lines of text.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let fenced =
        text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n")).flat_map(str::lines);
    let inline = text.split("```").step_by(2).flat_map(|part| part.split('`').skip(1).step_by(2));
    let ours = |line| ["livehook ", "cargo run --release -- "].iter().find_map(|start| str::strip_prefix(line, start));
    let commands = fenced.chain(inline).filter_map(ours).map(|rest| rest.split_whitespace().collect::<Vec<_>>());
    commands.filter(|words| words.first().is_some_and(|word| is_lower(word))).collect()
}

fn is_lower(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
}

fn words_of_help(help: &str) -> impl Iterator<Item = &str> {
    help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '=' | '`'))
}

/// Loads a configuration as a file, with the secrets it names in files and variables of our own.
fn load(block: &str) -> Result<(), String> {
    const SECRETS: &str = "/run/secrets/";
    // A secret may be a URL, and any text may be a key.
    const SECRET: &str = "https://example.com/secret";
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = dir.path().display().to_string();
    for named in block.split(SECRETS).skip(1).filter_map(|rest| rest.split('"').next()) {
        std::fs::write(dir.path().join(named), SECRET).map_err(|error| error.to_string())?;
    }
    let named = block.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
    // Without its key, the address of the example would be refused; each block stands for itself.
    let environment = named.map(|name| (name.to_owned(), SECRET.to_owned())).collect();
    let file = dir.path().join("livehook.toml");
    std::fs::write(&file, block.replace(SECRETS, &format!("{path}/"))).map_err(|error| error.to_string())?;
    let sources = Sources { file: Some(file), environment, ..Sources::default() };
    config::load(&sources).map(drop).map_err(|faults| faults.to_string())
}

/// The names of all metrics, with some value for each so that none stays hidden.
fn metrics() -> Vec<String> {
    let metrics =
        Metrics::new(KnownLabels { kinds: &["x"], reasons: &["x"], keys: &["x"], handlers: &["x"], routes: &[] });
    metrics.http_requests_total.with_label_values(&["x", "200"]);
    metrics.http_request_duration_seconds.with_label_values(&["x"]);
    let text = metrics.render();
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
    helps.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

fn level(heading: &str) -> usize {
    heading.len() - heading.trim_start_matches('#').len()
}
