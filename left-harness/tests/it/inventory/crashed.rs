//! What a harness that died leaves on the hosts, and who takes it away.

use std::process::{Command, Stdio};

use super::Inventory;
use crate::bench::{processes_of_run, wait_until};

const LONG: &str = r#"
about = "A file that takes long."
seed  = 7
step = [
  { start = ["a", "b"] },
  { write = { on = "a", path = "big.bin", size = "64MiB" } },
  { settle = { within = "60s" } },
]
[link]
rate = "2MiB/s"
[expect]
trees = "identical"
"#;

#[test]
fn a_killed_harness_leaves_nothing_once_the_leases_are_over() {
    let Some(inventory) = Inventory::new() else {
        return;
    };
    inventory.adopt();
    inventory.bench.write("long.toml", LONG);
    for moment in [
        r#""phase":"lab up""#,
        r#""phase":"deploy","outcome":"ok""#,
        r#""step":"3""#,
    ] {
        let out = inventory.bench.path("out");
        let _ = std::fs::remove_dir_all(out);
        let mut harness = inventory
            .command(&["run", "long.toml", "--out", "out"])
            .spawn()
            .expect("the harness starts");
        let mut history = String::new();
        wait_until(moment, 400, || {
            history = inventory.bench.history();
            history.contains(moment)
        });
        harness.kill().expect("it can be killed");
        harness.wait().expect("it ends");
        let (_, rest) = history.split_once("\"run\":\"").expect("a run has a name");
        let run = rest.split('"').next().unwrap_or_default();
        wait_until(moment, 12, || {
            processes_of_run(run).is_empty()
                && inventory.left_on_hosts().is_empty()
                && relays_of(&inventory) == 0
        });
    }
}

/// Probes that still run from the hosts' folders.
pub(super) fn relays_of(inventory: &Inventory) -> usize {
    let folders = [&inventory.a, &inventory.b].map(Inventory::folder);
    let entries = std::fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten();
    let programs = entries.filter_map(|entry| std::fs::read_link(entry.path().join("exe")).ok());
    programs
        .filter(|exe| folders.iter().any(|folder| exe.starts_with(folder)))
        .count()
}

#[test]
fn what_nobody_guards_any_more_is_shown_and_taken_down() {
    const RUN: &str = "20200101-000000-aaaa";
    let Some(inventory) = Inventory::new() else {
        return;
    };
    inventory.adopt();
    let ran = inventory.says(&["lab", "deploy"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(ran.stdout.contains("host b: 2 programs"), "{}", ran.all());
    let again = inventory.says(&["lab", "deploy"]);
    assert!(
        again.stdout.contains("host a: all programs are there"),
        "{}",
        again.all()
    );

    let folder = Inventory::folder(&inventory.a).join(format!("run-{RUN}"));
    std::fs::create_dir_all(folder.join("share")).expect("a folder can be made");
    std::fs::write(folder.join(".left-harness-run"), RUN).expect("written");
    let mine = Inventory::folder(&inventory.a).join("run-mine");
    std::fs::create_dir(&mine).expect("a folder can be made");
    let mut stray = Command::new("sleep")
        .arg("600")
        .env("LEFT_HARNESS_RUN", RUN)
        .current_dir(folder.join("share"))
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep starts");

    let seen = inventory.says(&["lab", "status", "--json"]);
    assert_eq!(seen.code, 0, "{}", seen.all());
    let seen: serde_json::Value = serde_json::from_str(&seen.stdout).expect("it is JSON");
    let a = &seen["hosts"][0];
    assert_eq!(a["folders"][0]["state"], "left behind", "{seen}");
    assert_eq!(a["processes_left"][0]["pid"], stray.id(), "{seen}");
    assert_eq!(seen["hosts"][1]["folders"], serde_json::json!([]), "{seen}");

    let down = inventory.says(&["lab", "down"]);
    assert_eq!(down.code, 0, "{}", down.all());
    assert!(
        down.stdout.contains("host a: 2 leftovers removed"),
        "{}",
        down.all()
    );
    assert!(!stray.wait().expect("a child").success(), "it was killed");
    assert!(!folder.exists(), "it is gone");
    assert!(
        mine.exists(),
        "without a marker it is nobody's but the user's"
    );
    let status = inventory.says(&["lab", "status"]);
    assert!(
        status.stdout.contains("nothing of any run"),
        "{}",
        status.all()
    );
}
