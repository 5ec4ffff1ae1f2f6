//! The unit for systemd.

use crate::folder::{check, good, path, program, read};

/// The unit as a file of that name, with the program of this build and no manual page, which is not installed.
fn unit() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = read("systemd/livehook.service");
    assert!(text.contains("ExecStart=/usr/local/bin/livehook serve "));
    let text = text.replace("/usr/local/bin/livehook", env!("CARGO_BIN_EXE_livehook"));
    std::fs::write(dir.path().join("livehook.service"), text.replace("Documentation=man:livehook(1)\n", "")).unwrap();
    dir
}

#[test]
fn systemd_finds_no_fault_in_the_unit_and_little_exposed() {
    let Some(mut analyze) = program("systemd-analyze", "Debian's systemd") else { return };
    let dir = unit();
    let file = dir.path().join("livehook.service");
    let said = good(analyze.args(["verify", "--recursive-errors=no"]).arg(&file));
    assert_eq!(said, "", "unknown keys are only warned of");
    let mut analyze = program("systemd-analyze", "").unwrap();
    good(analyze.args(["security", "--offline=yes", "--threshold=20"]).arg(&file));
}

#[test]
fn the_unit_gives_the_credentials_and_the_folder_that_its_configuration_names() {
    let unit = read("systemd/livehook.service");
    let config = read("systemd/livehook.toml");
    let (effective, secrets) = check(&config, "/run/credentials/livehook.service/", &[]);
    let mut loaded: Vec<_> =
        unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")?.split(':').next()).collect();
    let mut named: Vec<_> = secrets.iter().map(String::as_str).collect();
    loaded.sort_unstable();
    named.sort_unstable();
    assert_eq!(loaded, named);
    let state = unit.lines().find_map(|line| line.strip_prefix("StateDirectory=")).unwrap();
    let store = effective["store"]["url"].as_str().unwrap();
    assert!(store.starts_with(&format!("sqlite:/var/lib/{state}/")), "{store}");
}

#[test]
fn a_faulty_configuration_is_not_tried_again_and_a_stop_has_its_time() {
    let unit = read("systemd/livehook.service");
    for line in
        ["Type=notify", "RestartPreventExitStatus=78", "TimeoutStopSec=30s", "ExecReload=/bin/kill -HUP $MAINPID"]
    {
        assert!(unit.lines().any(|there| there == line), "{line}");
    }
    assert!(path("systemd/journald.conf").exists());
}
