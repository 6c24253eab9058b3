//! What `left status` says, and what a terminal shows.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::pair::{Pair, Side, noise};
use crate::storage::{start_with_limit, told};

fn status(side: &Side, arguments: &[&str]) -> String {
    let output = crate::pair::left()
        .arg("status")
        .args(arguments)
        .arg("--share")
        .arg(&side.share)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Starts a side in a terminal of its own. What that shows is in `side.log`.
fn start_in_terminal(side: &mut Side, variables: &[(&str, &str)]) -> bool {
    let tried = Command::new("script")
        .args(["-qec", "true", "/dev/null"])
        .stdout(Stdio::null())
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no `script`, which makes a terminal");
        return false;
    }
    let left = side.command();
    let words = std::iter::once(left.get_program()).chain(left.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
    File::create(&side.log).unwrap();
    let mut command = Command::new("script");
    command
        .args(["-qefc"])
        .arg(format!("stty cols 60; exec {}", line.join(" ")))
        .arg(&side.log)
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .stdout(Stdio::null());
    side.start_by(command);
    true
}

/// What was shown so far.
fn screen(side: &Side) -> String {
    let bytes = std::fs::read(&side.log).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_status_says_what_is_on_its_way_and_what_is_in_sync() {
    let mut pair = Pair::new();
    pair.a.start();
    // What is too large stays on its way until it may arrive.
    if !start_with_limit(&mut pair.b, "--fsize=6000000:unlimited") {
        return;
    }
    let size = 8_000_000;
    for n in 0..20 {
        pair.a.write(format!("small{n}"), b"content");
    }
    pair.a.write("large", &noise("large", size));
    pair.wait("both say that one path is left", || {
        let left = [&told(&pair.a)["sending"], &told(&pair.b)["receiving"]].map(Clone::clone);
        let bytes = left[1]["bytes"].as_u64().unwrap_or(0);
        (1..=size as u64).contains(&bytes) && left.iter().all(|way| way["paths"] == 1)
    });
    let text = status(&pair.b, &[]);
    assert!(text.contains("receiving:  1 path left, "), "{text}");
    assert!(
        text.contains("problem:    cannot put large in place"),
        "{text}"
    );
    let raised = Command::new("prlimit")
        .arg(format!("--pid={}", pair.b.pid()))
        .arg("--fsize=unlimited:unlimited")
        .status();
    assert!(raised.unwrap().success());
    pair.settle();
    pair.wait("nothing is left", || {
        let nothing = |way: &Value| way["paths"] == 0 && way["bytes"] == 0;
        [&pair.a, &pair.b].iter().all(|side| {
            let status = told(side);
            nothing(&status["sending"]) && nothing(&status["receiving"])
        })
    });
    let told = told(&pair.b);
    assert_eq!(told["paths"], 21);
    assert_eq!(told["bytes"], size as u64 + 140);
    let text = status(&pair.b, &[]);
    assert!(text.contains("in sync:    21 paths, 7.6 MiB\n"), "{text}");
}

#[test]
fn conflicts_are_counted_with_the_command_that_lists_them() {
    let mut pair = Pair::started();
    pair.a.terminate();
    pair.a.write("both", b"of a");
    pair.b.write("both", b"of b");
    pair.a.start();
    pair.wait("both have the copy", || {
        [&pair.a, &pair.b]
            .iter()
            .all(|side| told(side)["conflicts"] == 1)
    });
    let text = status(&pair.b, &[]);
    let share = pair.b.share.display();
    let line = format!("conflicts:  1 conflict copy: left conflicts --share {share}\n");
    assert!(text.contains(&line), "{text}");
    let copy = std::fs::read_dir(&pair.a.share)
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().contains("conflict"))
        .unwrap();
    std::fs::remove_file(copy.path()).unwrap();
    pair.wait("it is counted no more", || {
        [&pair.a, &pair.b]
            .iter()
            .all(|side| told(side)["conflicts"] == 0)
    });
}

#[test]
fn a_terminal_shows_one_line_that_is_drawn_anew_and_is_clean_in_the_end() {
    let mut pair = Pair::new();
    if !start_in_terminal(&mut pair.b, &[]) {
        return;
    }
    pair.a.start();
    pair.a.write("file", &noise("file", 30_000_000));
    pair.wait("it is in sync", || {
        screen(&pair.b).contains("\rsynchronization: 1 path, 28 MiB\x1b[K")
    });
    // Ctrl-C reaches all in the terminal; here the daemon alone is told.
    let daemon = told(&pair.b)["pid"].as_i64().unwrap();
    let daemon = rustix::process::Pid::from_raw(daemon as i32).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::INT).unwrap();
    assert!(pair.b.ended().success());
    let shown = screen(&pair.b);
    let lines: Vec<_> = shown.split('\n').collect();
    // `script` itself says when it began and ended.
    for line in lines.iter().filter(|line| !line.starts_with("Script ")) {
        for drawn in line.split('\r') {
            let drawn = drawn.trim_end_matches("\x1b[K");
            let is_logged = drawn.trim_start_matches("\x1b[K").starts_with("20");
            assert!(is_logged || drawn.len() < 60, "{drawn:?}");
        }
    }
    let last = lines.iter().rfind(|line| line.contains('\x1b')).unwrap();
    assert!(
        last.trim_end_matches('\r').ends_with("\r\x1b[K"),
        "{last:?}"
    );
}

#[test]
fn what_is_no_terminal_or_a_dumb_one_gets_plain_lines() {
    let mut pair = Pair::new();
    if !start_in_terminal(&mut pair.b, &[("TERM", "dumb")]) {
        return;
    }
    pair.a.start();
    pair.a.write("file", b"content");
    pair.wait("it arrived", || pair.b.read("file").is_some());
    pair.wait("it is in sync", || {
        screen(&pair.b).contains("state: synchronization")
    });
    let logged = std::fs::read_to_string(&pair.a.log).unwrap();
    for shown in [screen(&pair.b), logged] {
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
}

#[test]
fn the_log_has_time_level_and_text_and_as_much_as_was_asked_for() {
    let mut pair = Pair::new();
    let mut command = pair.a.command();
    command.arg("--quiet");
    pair.a.start_by(command);
    let mut command = pair.b.command();
    command.arg("-v");
    pair.b.start_by(command);
    pair.a.write("name\x1b[2Jwith\nlines", b"content");
    pair.settle();
    let log = |side: &Side| std::fs::read_to_string(&side.log).unwrap();
    pair.wait("each path is told of", || log(&pair.b).contains(" debug "));
    assert!(!log(&pair.a).contains(" info "), "{}", log(&pair.a));
    for line in log(&pair.b).lines() {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let (time, level) = (words.next().unwrap(), words.next().unwrap());
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert!(["warn", "info", "debug"].contains(&level), "{line}");
    }
    assert!(log(&pair.b).contains("name\\u{1b}[2Jwith\\nlines is as the peer has it"));
}
