//! Ctrl-C, and a harness that is killed, in every phase: nothing stays.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};

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

/// A harness on its way through the long scenario.
struct Midway {
    bench: Bench,
    child: Child,
    run: String,
}

impl Midway {
    /// Starts it and waits until its history says this.
    fn until(said: &str) -> Self {
        let bench = Bench::new();
        bench.write("long.toml", LONG);
        let child = bench.start(&["long.toml"]);
        let mut history = String::new();
        wait_until(said, 400, || {
            history = bench.history();
            history.contains(said)
        });
        let (_, rest) = history.split_once("\"run\":\"").expect("a run has a name");
        let run = rest.split('"').next().unwrap_or_default().to_owned();
        Self { bench, child, run }
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(killed.expect("kill is there").success());
    }

    fn is_clean(&self) -> bool {
        processes_of_run(&self.run).is_empty() && self.bench.left_on_hosts().is_empty()
    }
}

/// A moment in each phase, by what the history says then.
const MOMENTS: [&str; 5] = [
    r#""phase":"lab up""#,
    r#""phase":"deploy""#,
    r#""phase":"deploy","outcome":"ok""#,
    r#""step":"1""#,
    r#""step":"3""#,
];

/// Does it at every moment, all at once: most of the time is spent waiting.
fn at_every_moment(check: impl Fn(&str, Midway) + Sync) {
    std::thread::scope(|scope| {
        for moment in MOMENTS {
            let check = &check;
            scope.spawn(move || check(moment, Midway::until(moment)));
        }
    });
}

#[test]
fn ctrl_c_cleans_up_and_exits_130_in_every_phase() {
    at_every_moment(|moment, midway| {
        midway.signal("INT");
        let Midway { bench, child, run } = midway;
        let ran = bench.ran(child.wait_with_output().expect("it ends"));
        assert_eq!(ran.code, 130, "{moment}: {}", ran.all());
        assert_eq!(processes_of_run(&run), Vec::<u32>::new(), "{moment}");
        assert_eq!(bench.left_on_hosts(), Vec::<PathBuf>::new(), "{moment}");
        assert!(ran.stdout.contains("INTERRUPTED"), "{}", ran.all());
    });
}

#[test]
fn a_killed_harness_leaves_nothing_once_the_lease_is_over() {
    at_every_moment(|moment, mut midway| {
        midway.child.kill().expect("it can be killed");
        let status = midway.child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9));
        wait_until(moment, 10, || midway.is_clean());
    });
}

#[test]
fn a_harness_that_was_asleep_for_too_long_blames_itself() {
    let midway = Midway::until(r#""step":"3""#);
    midway.signal("STOP");
    wait_until("the leases have lapsed", 12, || midway.is_clean());
    midway.signal("CONT");
    let ran = midway
        .bench
        .ran(midway.child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(ran.all().contains("lease"), "{}", ran.all());
}

#[test]
fn a_second_ctrl_c_leaves_at_once_and_what_is_left_goes_by_itself() {
    let mut midway = Midway::until(r#""step":"3""#);
    midway.signal("INT");
    midway.signal("TERM");
    let status = midway.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    wait_until("all is gone", 10, || midway.is_clean());
}

#[test]
fn ctrl_c_ends_a_build_with_all_its_compilers() {
    let bench = Bench::new();
    bench.write("long.toml", LONG);
    let cargo = bench.write(
        "cargo",
        "#!/bin/sh\n[ \"$1\" = build ] || exit 0\nsleep 1000 & echo $! >\"$PIDS\"\nwait\n",
    );
    std::fs::set_permissions(&cargo, PermissionsExt::from_mode(0o755)).expect("allowed");
    let pids = bench.path("pids");
    let child = bench
        .run_command(&["long.toml"])
        .env("CARGO", &cargo)
        .env("PIDS", &pids)
        .spawn()
        .expect("the harness starts");
    let mut compiler = String::new();
    wait_until("the build is under way", 20, || {
        compiler = std::fs::read_to_string(&pids).unwrap_or_default();
        compiler.ends_with('\n')
    });
    let midway = Midway {
        bench,
        child,
        run: String::new(),
    };
    midway.signal("INT");
    let output = midway.child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    let stat = format!("/proc/{}/stat", compiler.trim());
    wait_until("the compiler is gone", 5, || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    });
}
