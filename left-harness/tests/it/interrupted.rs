//! Ctrl-C, and a harness that is killed: nothing stays.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::bench::{Bench, processes_of_run, wait_until};

/// Long enough that it is always in the middle.
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

/// Starts the long scenario and waits until both programs run.
fn in_the_middle(bench: &Bench) -> (std::process::Child, String) {
    bench.write("long.toml", LONG);
    let child = bench.start(&["long.toml"]);
    let mut run = String::new();
    wait_until("both programs run", 400, || {
        let folders = bench.left_on_hosts();
        let name = folders
            .first()
            .and_then(|path| path.file_name()?.to_str()?.strip_prefix("run-"));
        run = name.unwrap_or_default().to_owned();
        !run.is_empty() && processes_of_run(&run).len() >= 2 && bench.path("out").exists()
    });
    (child, run)
}

fn signal(child: &std::process::Child, name: &str) {
    let killed = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(killed.expect("kill is there").success());
}

#[test]
fn ctrl_c_cleans_up_and_exits_130() {
    let bench = Bench::new();
    let (child, run) = in_the_middle(&bench);
    signal(&child, "INT");
    let ran = bench.ran(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, 130, "{}", ran.all());
    assert_eq!(processes_of_run(&run), Vec::<u32>::new(), "{}", ran.all());
    assert_eq!(
        bench.left_on_hosts(),
        Vec::<std::path::PathBuf>::new(),
        "{}",
        ran.all()
    );
    assert!(ran.stdout.contains("INTERRUPTED"), "{}", ran.all());
}

#[test]
fn a_killed_harness_leaves_nothing_once_the_lease_is_over() {
    let bench = Bench::new();
    let (mut child, run) = in_the_middle(&bench);
    child.kill().expect("it can be killed");
    let status = child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(9));
    wait_until("processes and folders are gone", 10, || {
        processes_of_run(&run).is_empty() && bench.left_on_hosts().is_empty()
    });
}
