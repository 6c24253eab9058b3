//! What a run leaves on its hosts, by the harness's own ledger and by a script that
//! knows nothing of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bench::{Bench, wait_until};

const SHORT: &str = r#"
about = "One file, and time for something to go wrong."
seed  = 3
step = [
  { start = ["a", "b"] },
  { write = { on = "a", path = "f", size = "1KiB" } },
  { settle = { within = "30s", quiet = "1s" } },
]
[expect]
trees = "identical"
"#;

/// What an independent script finds of a run; `None`, and a word about it, where there
/// is no Python to run it with.
pub fn independent(run: &str, folders: &[PathBuf]) -> Option<String> {
    assert!(!run.is_empty(), "a run has a name");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ledger.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(run)
        .args(folders)
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: the independent ledger, for there is no python3");
        return None;
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => assert_eq!(told, ""),
        Some(1) => assert!(!told.is_empty(), "ledger.py: {complaint}"),
        other => panic!("ledger.py: {other:?}: {complaint}"),
    }
    Some(told)
}

/// The name of the last run.
pub fn run_of(bench: &Bench) -> String {
    let history = bench.history();
    let (_, rest) = history.split_once("\"run\":\"").unwrap_or_default();
    rest.split('"').next().unwrap_or_default().to_owned()
}

fn assert_clean(bench: &Bench) {
    if let Some(left) = independent(&run_of(bench), &[bench.path("lab")]) {
        assert_eq!(left, "");
    }
}

#[test]
fn a_clean_run_leaves_nothing_by_either_ledger() {
    let bench = Bench::new();
    bench.write("short.toml", SHORT);
    let ran = bench.run(&["short.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_clean(&bench);
}

#[test]
fn a_program_that_leaves_a_daemon_behind_has_failed_and_the_daemon_is_killed() {
    let bench = Bench::new();
    bench.write("short.toml", SHORT);
    bench.left_under("daemon", "setsid sleep 600 </dev/null & exec \"$@\"");
    let ran = bench.run(&["short.toml", "--sut", "daemon"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert_eq!(ran.check("processes"), "fail", "{}", ran.all());
    assert_clean(&bench);
}

#[test]
fn what_outlives_its_killed_holder_is_killed_at_tear_down() {
    let bench = Bench::new();
    bench.write("short.toml", SHORT);
    // Its parent is the holder; without one nobody is left who knows of the sleeper.
    bench.left_under(
        "rebel",
        "setsid sleep 600 </dev/null & sleep 1; kill -KILL $PPID; sleep 9",
    );
    let ran = bench.run(&["short.toml", "--sut", "rebel"]);
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert_clean(&bench);
}

#[test]
fn a_process_that_has_escaped_its_holder_is_found_by_both_ledgers_and_killed_exactly() {
    let bench = Bench::new();
    bench.write("short.toml", SHORT);
    let harness = bench.start(&["short.toml"]);
    let mut run = String::new();
    wait_until("the run has begun", 400, || {
        run = run_of(&bench);
        bench.history().contains(r#""step":"1""#)
    });
    // As if a service had started it on the program's behalf: it has the run's id, but
    // no holder. Its neighbour has another one.
    let start = |run: &str| {
        Command::new("sleep")
            .arg("600")
            .env("LEFT_HARNESS_RUN", run)
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep is there")
    };
    let mut escaped = start(&run);
    let mut neighbour = start(&format!("{run}x"));
    let found = independent(&run, &[]);
    let ran = bench.ran(harness.wait_with_output().expect("it ends"));
    let ended = escaped.try_wait().expect("it can be asked");
    let lives = neighbour.try_wait().expect("it can be asked").is_none();
    // Whatever comes out, they must not stay.
    let _ = escaped.kill();
    let _ = escaped.wait();
    neighbour.kill().expect("it can be killed");
    neighbour.wait().expect("it ends");

    assert_eq!(ran.code, 1, "{}", ran.all());
    assert_eq!(ran.check("processes"), "fail", "{}", ran.all());
    let pid = escaped.id();
    let words = format!("sleep 600 (pid {pid}) has escaped");
    assert!(ran.stdout.contains(&words), "{}", ran.all());
    if let Some(found) = found {
        assert!(
            found.contains(&format!("process {pid}: 'sleep 600 '")),
            "{found}"
        );
    }
    assert!(ended.is_some(), "the escaped process lives on");
    assert!(lives, "a process of another run was killed");
    assert_clean(&bench);
}
