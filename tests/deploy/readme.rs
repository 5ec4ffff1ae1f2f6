//! What the folder says about itself, in both languages.

use crate::folder::{assert_commands_exist, path, read};

const BOTH: [&str; 2] = ["README.md", "README.zh-CN.md"];

#[test]
fn both_languages_show_the_same_code_and_sections() {
    let code = |name: &str| read(name).split("```").skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    assert!(code(BOTH[0]).len() > 4);
    assert_eq!(code(BOTH[0]), code(BOTH[1]));
    let levels = |name: &str| {
        let text = read(name);
        let outside = text.split("```").step_by(2).flat_map(str::lines);
        outside
            .filter(|line| line.starts_with('#'))
            .map(|line| line.split(' ').next().unwrap().len())
            .collect::<Vec<_>>()
    };
    assert_eq!(levels(BOTH[0]), levels(BOTH[1]));
}

#[test]
fn what_is_linked_is_there_and_what_is_called_exists() {
    for name in BOTH {
        let text = read(name);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://")) {
            assert!(path(target).exists(), "{name}: {target} is not there");
        }
        assert_commands_exist(name, &text, 3);
    }
}

#[test]
fn every_file_of_the_folder_is_spoken_of() {
    for name in BOTH {
        let text = read(name);
        for folder in
            ["compose.yaml", "kubernetes", "systemd/livehook.service", "systemd/journald.conf", "grafana/livehook.json"]
        {
            assert!(text.contains(folder), "{name} does not speak of {folder}");
        }
        assert!(text.contains("prometheus/livehook.rules.yaml") && text.contains("prometheus/scrape.yaml"), "{name}");
    }
}
