//! Runs the probe and reads its lines.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Far more than anything takes, and still an end for a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

fn command(args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_left-harness-probe"));
    command.args(args);
    command
}

/// Runs a verb to its end.
pub fn run(args: &[impl AsRef<OsStr>]) -> Output {
    command(args).stdin(Stdio::null()).output().unwrap()
}

/// What a verb that must succeed says.
pub fn said(args: &[impl AsRef<OsStr>]) -> Vec<String> {
    let output = run(args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The complaint of a verb that must fail with this code.
pub fn complaint(code: i32, args: &[impl AsRef<OsStr>]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(code));
    String::from_utf8(output.stderr).unwrap()
}

/// A verb that is talked to.
pub struct Talk {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    pub fn start(args: &[impl AsRef<OsStr>]) -> Self {
        let mut child = command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        // Ends with the process's output.
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| tell.send(line))
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }

    pub fn order(&mut self, line: &str) {
        self.stdin
            .as_mut()
            .unwrap()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    /// The next line.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// The next line, which must hold all of these.
    pub fn hears(&self, wanted: &[&str]) -> String {
        let line = self.line();
        assert!(
            wanted.iter().all(|wanted| line.contains(wanted)),
            "{line} has {wanted:?}"
        );
        line
    }

    /// Nothing more is said.
    pub fn is_over(&self) {
        assert_eq!(
            self.lines.recv_timeout(PATIENCE),
            Err(RecvTimeoutError::Disconnected)
        );
    }

    /// Closes the channel and waits for the process at our end of it.
    pub fn close(mut self) {
        drop(self.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Waits for a condition; says what was waited for when it never comes.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// The number after `"key":`.
pub fn number(line: &str, key: &str) -> i64 {
    let (_, rest) = line.split_once(&format!("\"{key}\":")).unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

/// The process runs; one that has ended and waits for its parent does not.
pub fn lives(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
