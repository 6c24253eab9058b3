//! Hosts in network namespaces, for whoever runs the tests: root or not.

use left_harness::lab::netns;

use crate::bench::{Bench, scenarios};
use crate::killed::{LabUnderTest, kills, leaves_nothing_when_killed};

/// What no lab of streams and folders can carry: loss, and a disk for the share alone.
const LOSSY: &str = r#"
about = "A file over a slow wire that loses packets, into a share on a small disk."
seed  = 5
step = [
  { start = ["a", "b"] },
  { write = { on = "a", path = "big.bin", size = "4MiB" } },
  { settle = { within = "60s", quiet = "1s" } },
]
[host.a]
[host.b]
share = { size = "24MiB" }
[link]
delay = "5ms"
loss  = "1%"
[expect]
trees = "identical"
parts = "none"
"#;

/// Says why not where this machine does not let it.
fn is_possible() -> bool {
    let missing = netns::needs::missing();
    if let Some(why) = &missing {
        eprintln!("skipped: no network namespaces here: {why}");
    }
    missing.is_none()
}

#[test]
fn a_killed_receiver_resumes_at_the_very_byte() {
    if !is_possible() {
        return;
    }
    let bench = Bench::new();
    let quick = scenarios()
        .join("../left-harness/tests/scenarios/quick.toml")
        .display()
        .to_string();
    let ran = bench.run(&[&quick, "--lab", "netns"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let size = 16.0 * 1024.0 * 1024.0;
    assert_eq!(
        ran.figure("kill offset"),
        (size * 0.4_f64).floor(),
        "hold hits the very byte: {}",
        ran.all()
    );
    assert_eq!(bench.left_on_hosts(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn packets_are_lost_and_the_share_has_a_disk_of_its_own() {
    if !is_possible() {
        return;
    }
    let bench = Bench::new();
    bench.write("lossy.toml", LOSSY);
    let ran = bench.run(&["lossy.toml", "--lab", "netns"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    // What was lost was sent again by the kernel, which is not counted as resent.
    let resent = ran.figure("resent a → b");
    assert!(resent < 1024.0 * 1024.0, "{resent}: {}", ran.all());
    bench.write("full.toml", &LOSSY.replace("24MiB", "3MiB"));
    let ran = bench.run(&["full.toml", "--lab", "netns"]);
    assert_ne!(ran.code, 0, "4 MiB do not fit on 3: {}", ran.all());
    assert!(ran.all().contains("is full"), "{}", ran.all());
}

#[test]
fn a_killed_harness_leaves_nothing() {
    if !is_possible() {
        return;
    }
    leaves_nothing_when_killed(kills(3), |bench| LabUnderTest {
        args: ["--lab", "netns", "--lab-dir", "lab"]
            .map(str::to_owned)
            .into(),
        folders: ["lab/a", "lab/b"].map(|name| bench.path(name)).into(),
        down: ["lab", "down", "--lab", "netns", "--lab-dir", "lab"]
            .map(str::to_owned)
            .into(),
        servers: Vec::new(),
    });
}
