//! `hold` and `ctl`.

use std::fs;
use std::path::Path;

use crate::talk::{Talk, complaint, lives, number, said, wait_until};

fn hold(dir: &Path, options: &[&str], argv: &[&str]) -> Talk {
    let mut args = vec!["hold", "--dir", dir.to_str().unwrap()];
    args.extend(options);
    if !options.contains(&"--lease-ms") {
        args.extend(["--lease-ms", "60000"]);
    }
    args.push("--");
    args.extend(argv);
    Talk::start(&args)
}

fn wait_for_log(dir: &Path, wanted: &str) -> String {
    let read = || fs::read_to_string(dir.join("log")).unwrap_or_default();
    wait_until("the log", || read().contains(wanted));
    read()
}

#[test]
fn it_is_started_told_killed_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut talk = hold(dir.path(), &[], &["sleep", "600"]);
    let started = talk.hears(&["\"started\":true"]);
    let pid = number(&started, "pid");
    assert!(lives(pid));
    let pid_file = fs::read_to_string(dir.path().join("pid")).unwrap();
    assert_eq!(
        pid_file,
        format!("{pid} {}\n", number(&started, "start_time"))
    );
    talk.order("kill");
    let exited = talk.hears(&[
        "\"exited\":true",
        "\"code\":null",
        "\"signal\":\"KILL\"",
        "\"left_behind\":0",
    ]);
    assert!(!lives(pid));
    assert_eq!(
        fs::read_to_string(dir.path().join("status.json"))
            .unwrap()
            .trim_end(),
        exited
    );
    talk.is_over();
    assert_eq!(
        said(&["ctl", "--dir", dir.path().to_str().unwrap()]),
        [exited]
    );
}

#[test]
fn a_process_that_ends_at_once_is_told_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let talk = hold(
        dir.path(),
        &[],
        &["sh", "-c", "echo out; echo err >&2; exit 3"],
    );
    talk.hears(&["\"started\":true"]);
    talk.hears(&["\"exited\":true", "\"code\":3", "\"signal\":null"]);
    assert_eq!(
        fs::read_to_string(dir.path().join("log")).unwrap(),
        "out\nerr\n"
    );
}

#[test]
fn a_program_that_cannot_run_is_told_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::write(&text, "x").unwrap();
    for (argv, why) in [
        ("/no/such", "no such file or directory"),
        (text.to_str().unwrap(), "permission denied"),
    ] {
        let talk = hold(&dir.path().join("h"), &[], &[argv]);
        assert_eq!(
            talk.line(),
            format!("{{\"failed\":\"cannot execute {argv}: {why}\"}}")
        );
        talk.is_over();
    }
    let talk = hold(&dir.path().join("h"), &["--cwd", "/no/such"], &["true"]);
    assert_eq!(
        talk.line(),
        "{\"failed\":\"cannot enter /no/such: no such file or directory\"}"
    );
}

#[test]
fn surroundings_are_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let cwd = dir.path().to_str().unwrap();
    let script = "echo $K; pwd; ulimit -n; ulimit -Hn; cat; ls -l /proc/self/fd | grep -cE 'socket|/h/[^l]|lock'";
    let options = ["--cwd", cwd, "--env", "K=a=b c", "--nofile", "77"];
    let talk = hold(&dir.path().join("h"), &options, &["sh", "-c", script]);
    talk.hears(&["\"started\":true"]);
    talk.hears(&["\"exited\":true"]);
    let log = fs::read_to_string(dir.path().join("h/log")).unwrap();
    assert_eq!(
        log,
        format!("a=b c\n{cwd}\n77\n77\n0\n"),
        "environment, folder, limits, no input, no descriptors of ours"
    );
}

#[test]
fn the_process_alone_gets_the_signal() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo got it; exit 5' TERM; echo up; while :; do sleep 0.01; done";
    let mut talk = hold(dir.path(), &[], &["sh", "-c", script]);
    talk.hears(&["\"started\":true"]);
    wait_for_log(dir.path(), "up\n");
    talk.order("signal NONE");
    talk.hears(&["\"refused\":\"no signal is called NONE\""]);
    talk.order("dance");
    talk.hears(&["\"refused\":\"no such order: dance\""]);
    talk.order("signal TERM");
    talk.hears(&["\"code\":5"]);
    assert_eq!(
        fs::read_to_string(dir.path().join("log")).unwrap(),
        "up\ngot it\n"
    );
}

#[test]
fn it_is_ready_when_it_listens() {
    let dir = tempfile::tempdir().unwrap();
    let Ok(python) = which("python3") else {
        eprintln!("skipped: no python3 to listen with");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let script = "import socket,sys,time; s=socket.socket(); s.bind(('127.0.0.1',int(sys.argv[1]))); s.listen(); time.sleep(600)";
    // Not the process itself but one that it started listens.
    let shell = format!("'{python}' -c \"$0\" {port} & wait");
    let mut talk = hold(
        dir.path(),
        &["--listen", &port.to_string()],
        &["sh", "-c", &shell, script],
    );
    talk.hears(&["\"started\":true"]);
    talk.hears(&["\"ready\":true", "\"after_ms\":"]);
    talk.order("kill");
    talk.hears(&["\"exited\":true", "\"left_behind\":1"]);
}

fn which(program: &str) -> Result<String, ()> {
    let paths = std::env::var("PATH").unwrap_or_default();
    let found = paths
        .split(':')
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| Path::new(path).exists());
    found.ok_or(())
}

/// A shell that leaves a child, a grandchild and one in a session of its own.
const FAMILY: &str =
    "sleep 601 & echo $!; (sleep 602 & echo $!; wait) & setsid sh -c 'echo $$; exec sleep 603' &
while :; do sleep 0.01; done";

fn family(dir: &Path) -> Vec<i64> {
    let three = || -> Vec<i64> {
        let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
        log.lines().filter_map(|line| line.parse().ok()).collect()
    };
    wait_until("three descendants", || three().len() == 3);
    three()
}

#[test]
fn everything_it_started_is_killed_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut talk = hold(dir.path(), &[], &["sh", "-c", FAMILY]);
    talk.hears(&["\"started\":true"]);
    let pids = family(dir.path());
    assert!(pids.iter().all(|pid| lives(*pid)));
    talk.order("kill");
    let exited = talk.hears(&["\"exited\":true"]);
    assert!(number(&exited, "left_behind") >= 4, "{exited}");
    assert_eq!(pids.iter().filter(|pid| lives(**pid)).count(), 0);
}

#[test]
fn what_it_leaves_when_it_ends_is_counted_and_killed() {
    let dir = tempfile::tempdir().unwrap();
    let talk = hold(
        dir.path(),
        &[],
        &["sh", "-c", "setsid sleep 600 & echo $!; exit 0"],
    );
    talk.hears(&["\"started\":true"]);
    talk.hears(&["\"code\":0", "\"left_behind\":1"]);
    let pid = fs::read_to_string(dir.path().join("log"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(!lives(pid));
}

#[test]
fn without_renewal_everything_is_killed_and_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let talk = hold(dir.path(), &["--lease-ms", "300"], &["sh", "-c", FAMILY]);
    let pid = number(&talk.hears(&["\"started\":true"]), "pid");
    talk.hears(&[
        "\"exited\":true",
        "\"signal\":\"KILL\"",
        "\"lease_lapsed\":true",
    ]);
    assert!(!lives(pid));
    talk.is_over();
}

#[test]
fn renewal_lengthens_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let mut talk = hold(dir.path(), &["--lease-ms", "1500"], &["sleep", "600"]);
    talk.hears(&["\"started\":true"]);
    let began = std::time::Instant::now();
    wait_until("three leases pass", || {
        talk.order("renew");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
        began.elapsed().as_millis() > 4500
    });
    talk.order("kill");
    let exited = talk.hears(&["\"exited\":true"]);
    assert!(!exited.contains("lease_lapsed"), "{exited}");
}

#[test]
fn it_outlives_its_channel_and_is_talked_to_again() {
    let dir = tempfile::tempdir().unwrap();
    let talk = hold(dir.path(), &[], &["sleep", "600"]);
    let started = talk.hears(&["\"started\":true"]);
    talk.close();
    assert!(lives(number(&started, "pid")));
    let mut again = Talk::start(&["ctl", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!(again.line(), started);
    // Two may talk to it, and both hear of the end.
    let other = Talk::start(&["ctl", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!(other.line(), started);
    again.order("kill");
    let exited = again.hears(&["\"exited\":true"]);
    assert_eq!(other.line(), exited);
}

#[test]
fn a_holder_that_is_killed_takes_the_process_along() {
    let dir = tempfile::tempdir().unwrap();
    let mut talk = hold(dir.path(), &[], &["sleep", "600"]);
    let pid = number(&talk.hears(&["\"started\":true"]), "pid");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let holder: i32 = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(holder as u32, talk.child.id());
    let holder = rustix::process::Pid::from_raw(holder).unwrap();
    rustix::process::kill_process(holder, rustix::process::Signal::KILL).unwrap();
    wait_until("its end", || !lives(pid));
    assert_eq!(talk.child.wait().unwrap().code(), Some(1));
    let text = complaint(1, &["ctl", "--dir", dir.path().to_str().unwrap()]);
    assert!(text.contains("nothing says how it ended"), "{text}");
}

#[test]
fn one_folder_holds_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = hold(dir.path(), &[], &["sleep", "600"]);
    first.hears(&["\"started\":true"]);
    let second = hold(dir.path(), &[], &["sleep", "600"]);
    assert_eq!(
        second.line(),
        "{\"failed\":\"another daemon lives in this folder\"}"
    );
    first.order("kill");
    first.hears(&["\"exited\":true"]);
    // And another one after it, appending to the same log.
    let third = hold(dir.path(), &[], &["echo", "again"]);
    third.hears(&["\"started\":true"]);
    third.hears(&["\"code\":0"]);
}

#[test]
fn a_folder_with_a_long_path_is_no_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(200)).join("y".repeat(200));
    let talk = hold(&long, &[], &["sleep", "600"]);
    let started = talk.hears(&["\"started\":true"]);
    talk.close();
    let mut again = Talk::start(&["ctl", "--dir", long.to_str().unwrap()]);
    assert_eq!(again.line(), started);
    again.order("kill");
    again.hears(&["\"exited\":true"]);
}
