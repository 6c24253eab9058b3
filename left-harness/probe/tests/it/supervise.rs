//! `supervise` under `hold`, as the harness uses it, and `find`.

use std::fs;
use std::path::Path;

use crate::talk::{Talk, complaint, lives, number, said, wait_until};

/// A held `supervise` with a companion and rounds that are shell scripts; `$D` is the folder.
fn supervised(dir: &Path, options: &[&str], round: &str, companion: Option<&str>) -> Talk {
    let folder = dir.to_str().unwrap();
    let env = format!("D={folder}");
    let mut args = vec!["hold", "--dir", folder, "--lease-ms", "60000", "--env"];
    args.extend([env.as_str(), "--cwd", folder, "--"]);
    args.extend([env!("CARGO_BIN_EXE_left-harness-probe"), "supervise"]);
    args.extend(options);
    for word in ["sh", "-c", round] {
        args.extend(["--round", word]);
    }
    args.push("--");
    args.extend(
        companion
            .into_iter()
            .flat_map(|script| ["sh", "-c", script]),
    );
    Talk::start(&args)
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

fn pid_in(dir: &Path, name: &str) -> i64 {
    wait_until(name, || text(dir, name).ends_with('\n'));
    text(dir, name).trim().parse().unwrap()
}

const STAYS: &str = "echo $$ >$D/companion; exec sleep 600";

#[test]
fn rounds_follow_one_another_and_a_code_that_is_allowed_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let round = "echo x >>$D/rounds; exit 23";
    let options = ["--every-ms", "20", "--code", "0", "--code", "23"];
    let mut talk = supervised(dir.path(), &options, round, Some(STAYS));
    talk.hears(&["\"started\":true"]);
    wait_until("five rounds", || {
        text(dir.path(), "rounds").lines().count() >= 5
    });
    talk.order("signal TERM");
    // It ends as its companion does, which dies of the signal.
    talk.hears(&[
        "\"exited\":true",
        "\"signal\":\"TERM\"",
        "\"left_behind\":0",
    ]);
}

#[test]
fn a_round_that_takes_longer_than_its_interval_is_not_joined_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let round = "mkdir $D/busy || exit 9; sleep 0.1; rmdir $D/busy; echo x >>$D/rounds";
    let mut talk = supervised(dir.path(), &["--every-ms", "1"], round, None);
    talk.hears(&["\"started\":true"]);
    wait_until("three rounds", || {
        text(dir.path(), "rounds").lines().count() >= 3
    });
    talk.order("signal TERM");
    talk.hears(&["\"code\":0", "\"left_behind\":0"]);
}

#[test]
fn whoever_asks_it_to_end_asks_all_of_them_and_waits_for_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let slow = |name: &str| {
        format!(
            "trap 'echo {name} >>$D/ended; exit 20' TERM; echo $$ >$D/{name}; while :; do sleep 0.01; done"
        )
    };
    let (round, companion) = (slow("round"), slow("companion"));
    let mut talk = supervised(dir.path(), &["--every-ms", "10"], &round, Some(&companion));
    talk.hears(&["\"started\":true"]);
    let pids = [pid_in(dir.path(), "round"), pid_in(dir.path(), "companion")];
    talk.order("signal TERM");
    talk.hears(&["\"code\":20", "\"left_behind\":0"]);
    assert!(!pids.into_iter().any(lives));
    let mut ended: Vec<_> = text(dir.path(), "ended")
        .lines()
        .map(str::to_owned)
        .collect();
    ended.sort();
    assert_eq!(ended, ["companion", "round"]);
}

#[test]
fn a_round_that_fails_ends_it_with_the_same_code_and_takes_the_companion_along() {
    let dir = tempfile::tempdir().unwrap();
    let talk = supervised(dir.path(), &["--every-ms", "10"], "exit 7", Some(STAYS));
    talk.hears(&["\"started\":true"]);
    talk.hears(&["\"exited\":true", "\"code\":7", "\"left_behind\":0"]);
    let log = text(dir.path(), "log");
    assert!(
        log.contains("a round ended with exit code 7, which is none of [0]"),
        "{log}"
    );
}

#[test]
fn a_companion_that_does_not_want_to_end_cannot_hide_that_a_round_failed() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = "trap '' TERM; echo $$ >$D/companion; while :; do sleep 0.05; done";
    let round = "while ! [ -s $D/companion ]; do sleep 0.01; done; exit 7";
    let talk = supervised(dir.path(), &["--every-ms", "10"], round, Some(deaf));
    talk.hears(&["\"started\":true"]);
    talk.hears(&["\"exited\":true", "\"code\":7", "\"left_behind\":0"]);
    assert!(!lives(pid_in(dir.path(), "companion")));
}

#[test]
fn a_crash_of_the_companion_is_seen_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let companion = "sleep 0.1; kill -SEGV $$";
    let talk = supervised(
        dir.path(),
        &["--every-ms", "10"],
        "sleep 600",
        Some(companion),
    );
    talk.hears(&["\"started\":true"]);
    talk.hears(&[
        "\"exited\":true",
        "\"signal\":\"SEGV\"",
        "\"left_behind\":0",
    ]);
}

#[test]
fn a_kill_leaves_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let round = "echo $$ >$D/round; sleep 600 & echo $! >$D/grandchild; wait";
    let mut talk = supervised(dir.path(), &["--every-ms", "10"], round, Some(STAYS));
    talk.hears(&["\"started\":true"]);
    let pids = ["round", "grandchild", "companion"].map(|name| pid_in(dir.path(), name));
    assert!(pids.into_iter().all(lives));
    talk.order("kill");
    talk.hears(&["\"exited\":true", "\"signal\":\"KILL\""]);
    assert!(!pids.into_iter().any(lives));
}

#[test]
fn a_program_that_is_not_there_ends_it_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let mut args = vec!["hold", "--dir", folder, "--lease-ms", "60000", "--"];
    args.extend([env!("CARGO_BIN_EXE_left-harness-probe"), "supervise"]);
    args.extend(["--every-ms", "10", "--round", "/no/such"]);
    let talk = Talk::start(&args);
    talk.hears(&["\"started\":true"]);
    talk.hears(&["\"code\":1"]);
    let log = text(dir.path(), "log");
    assert!(
        log.contains("cannot execute /no/such: no such file or directory"),
        "{log}"
    );
}

#[test]
fn time_and_memory_of_all_its_processes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    // A round of a shell that counts, and one that holds 40 MB for a while.
    let round = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; \
                 x=$(head -c 40000000 /dev/zero | tr '\\0' x); sleep 0.3; echo x >>$D/rounds; sleep 600";
    let mut talk = supervised(dir.path(), &["--every-ms", "10"], round, None);
    talk.hears(&["\"started\":true"]);
    wait_until("a round", || !text(dir.path(), "rounds").is_empty());
    talk.order("signal TERM");
    let exited = talk.hears(&["\"exited\":true"]);
    let used = number(&exited, "user_ms") + number(&exited, "system_ms");
    assert!(used >= 50, "{exited}");
    assert!(number(&exited, "max_rss_kib") >= 40_000, "{exited}");
}

#[test]
fn mistakes_of_its_command_line_are_told() {
    for (args, why) in [
        (&["supervise", "--round", "x"][..], "--every-ms is missing"),
        (
            &["supervise", "--every-ms", "0", "--round", "x"],
            "--every-ms is at least 1",
        ),
        (&["supervise", "--every-ms", "5"], "a --round is needed"),
        (
            &[
                "supervise",
                "--every-ms",
                "5",
                "--code",
                "y",
                "--round",
                "x",
            ],
            "--code y is no exit code",
        ),
        (&["find"], "NAME is missing"),
    ] {
        let told = complaint(2, args);
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn find_tells_the_first_name_that_is_a_program() {
    let lines = said(&["find", "no-such-program", "sh", "cat"]);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("{\"found\":\"/") && lines[0].contains("/sh\""),
        "{lines:?}"
    );
    assert_eq!(
        said(&["find", "no-such-program"]),
        ["{\"found\":null,\"end\":true}"]
    );
}
