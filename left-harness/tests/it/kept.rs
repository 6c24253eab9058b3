//! What stays on the hosts on purpose, and what an earlier run had to leave there.

use std::path::Path;
use std::process::Command;

use crate::bench::{Bench, scenarios};

fn smoke() -> String {
    scenarios().join("smoke.toml").display().to_string()
}

fn ages(path: &Path) {
    let touched = Command::new("touch")
        .args(["-d", "2001-02-03"])
        .arg(path)
        .status();
    assert!(touched.expect("touch is there").success());
}

#[test]
fn folders_stay_when_asked_to_and_later_runs_leave_them_alone() {
    let bench = Bench::new();
    let ran = bench.run(&[&smoke(), "--keep"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let kept = bench.left_on_hosts();
    assert_eq!(kept.len(), 2, "{}", ran.all());
    for folder in &kept {
        assert!(
            ran.all().contains(&folder.display().to_string()),
            "{}",
            ran.all()
        );
        assert!(folder.join("share").is_dir());
        // As old as it would have to be to count as left over.
        let old = folder.with_file_name("run-20200101-000000-aaaa");
        std::fs::rename(folder, old).expect("it can be renamed");
    }
    let ran = bench.run(&[&smoke(), "--keep=on-failure"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(bench.left_on_hosts().len(), 2, "only the old ones");
}

#[test]
fn what_an_earlier_run_left_is_removed_and_nothing_else() {
    let bench = Bench::new();
    let host = bench.path("lab").join("a");
    std::fs::create_dir_all(host.join("bin")).expect("made");
    for (folder, marker) in [
        ("run-20200101-000000-aaaa", Some("20200101-000000-aaaa")),
        ("run-20200101-000000-bbbb", Some("20200101-000000-cccc")),
        ("run-20200101-000000-dddd", None),
        ("run-29990101-000000-eeee", Some("29990101-000000-eeee")),
    ] {
        std::fs::create_dir_all(host.join(folder).join("share")).expect("made");
        if let Some(marker) = marker {
            let path = host.join(folder).join(".left-harness-run");
            std::fs::write(path, marker).expect("written");
        }
    }
    for name in [
        "left-0123456789abcdef",
        ".left-0123456789abcdef.tmp-01234567",
        "my-own-program",
    ] {
        std::fs::write(host.join("bin").join(name), "x").expect("written");
        ages(&host.join("bin").join(name));
    }
    std::fs::write(host.join("bin/left-fedcba9876543210"), "x").expect("written");
    let ran = bench.run(&[&smoke()]);
    assert_eq!(ran.code, 0, "{}", ran.all());

    let mut left: Vec<String> = bench
        .left_on_hosts()
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "run-20200101-000000-bbbb",
            "run-20200101-000000-dddd",
            "run-29990101-000000-eeee"
        ]
    );
    let bin = host.join("bin");
    assert!(bin.join("my-own-program").exists());
    assert!(bin.join("left-fedcba9876543210").exists(), "used this week");
    assert!(!bin.join("left-0123456789abcdef").exists());
    assert!(!bin.join(".left-0123456789abcdef.tmp-01234567").exists());
}

#[test]
fn programs_and_folders_outlive_their_lease_for_as_long_as_the_run_goes_on() {
    let bench = Bench::new();
    // Ending takes longer than the folder's lease of seven seconds.
    bench.left_under(
        "slow",
        "\"$@\" & pid=$!\ntrap 'kill -TERM $pid; wait $pid; case $SHARE in */b/*) sleep 9;; esac; exit 0' TERM\nwait $pid",
    );
    let adapter = std::fs::read_to_string(bench.path("suts/slow.toml")).expect("readable");
    let patient = adapter.replace("within = \"5s\"", "within = \"30s\"");
    assert_ne!(adapter, patient);
    bench.write("suts/slow.toml", &patient);
    std::fs::copy(smoke(), bench.path("smoke.toml")).expect("copied");
    let ran = bench.run(&["smoke.toml", "--sut", "slow"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(bench.history().contains("ended: exit code 0"));
    assert!(!bench.history().contains("SIGKILL"), "{}", bench.history());
    assert!(bench.left_on_hosts().is_empty());
}
