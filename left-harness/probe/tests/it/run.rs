//! `look run` and `end`: what is attributable to a run.

use std::process::{Child, Command, Stdio};

use crate::talk::{Talk, complaint, lives, number, said, wait_until};

/// A process that carries the id of a run.
fn start(run: &str) -> Child {
    Command::new("sleep")
        .arg("600")
        .env("LEFT_HARNESS_RUN", run)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn id(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

#[test]
fn who_carries_the_id_is_found_and_killed_and_nobody_else() {
    let (run, other) = (id("carried"), format!("{}x", id("carried")));
    let (mut ours, mut theirs) = (start(&run), start(&other));
    let found = said(&["look", "run", &run]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(number(&found[0], "pid"), i64::from(ours.id()));
    assert!(
        found[0].contains("\"command\":\"sleep 600\",\"ours\":false"),
        "{found:?}"
    );
    assert_eq!(found[1], "{\"end\":true,\"entries\":1}");

    let ended = said(&["end", &run]);
    assert_eq!(number(&ended[0], "pid"), i64::from(ours.id()));
    assert_eq!(ended[1], "{\"end\":true,\"stuck\":0}");
    ours.wait().unwrap();
    assert!(theirs.try_wait().unwrap().is_none(), "another run's");
    theirs.kill().unwrap();
    theirs.wait().unwrap();
    assert_eq!(
        said(&["look", "run", &run]),
        ["{\"end\":true,\"entries\":0}"]
    );
}

#[test]
fn who_has_cleared_its_environment_is_still_below_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let run = id("cleared");
    let held = dir.path().join(format!("run-{run}/hold-1"));
    let script = "env -i setsid sleep 601 & wait";
    let talk = Talk::start(&[
        "hold",
        "--dir",
        held.to_str().unwrap(),
        "--lease-ms",
        "60000",
        "--",
        "sh",
        "-c",
        script,
    ]);
    talk.hears(&["\"started\":true"]);
    let mut found = Vec::new();
    wait_until("all of them are found", || {
        found = said(&["look", "run", &run]);
        found
            .iter()
            .any(|line| line.contains("\"command\":\"sleep 601\",\"ours\":false"))
    });
    let is_holder = |line: &&String| line.contains(" holder ") && line.contains("\"ours\":true");
    assert!(found.iter().any(|line| is_holder(&line)), "{found:?}");
    let sleeper = found
        .iter()
        .find(|line| line.contains("sleep 601"))
        .unwrap();
    let sleeper = number(sleeper, "pid");
    // What is the program's goes; its holder tells that, and ends by itself.
    said(&["end", &run]);
    talk.hears(&["\"exited\":true", "\"signal\":\"KILL\""]);
    assert!(!lives(sleeper));
    talk.close();
    wait_until("the holder has gone", || {
        said(&["look", "run", &run]) == ["{\"end\":true,\"entries\":0}"]
    });
}

#[test]
fn ports_are_told() {
    let run = id("ports");
    let python = "import socket,time; s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(); \
                  print(s.getsockname()[1],flush=True); time.sleep(600)";
    let listening = Command::new("python3")
        .args(["-c", python])
        .env("LEFT_HARNESS_RUN", &run)
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut listening) = listening else {
        eprintln!("skipped: there is no python3 that could listen");
        return;
    };
    let mut port = String::new();
    let mut stdout = std::io::BufReader::new(listening.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut port).unwrap();
    let found = said(&["look", "run", &run]);
    said(&["end", &run]);
    listening.wait().unwrap();
    assert!(
        found[0].contains(&format!("\"ports\":\"{}\"", port.trim())),
        "{found:?}"
    );
}

#[test]
fn an_id_must_be_given() {
    assert!(complaint(2, &["look", "run", ""]).contains("ID"));
    assert!(complaint(2, &["end"]).contains("ID is missing"));
}
