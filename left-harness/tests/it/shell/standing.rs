//! A lab that stands while a test needs it, and the programs that get into it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// `left-harness lab up`, and what it said.
pub struct Standing {
    child: Child,
    pub said: Value,
}

impl Standing {
    /// Starts it and waits until it is up.
    pub fn up(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the harness starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        if read.is_ok_and(|length| length > 0) {
            let said = serde_json::from_str(&line).expect("it is JSON");
            return Self { child, said };
        }
        let output = child.wait_with_output().expect("it ends");
        panic!("no lab: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `local-1a2b3c4d`
    pub fn id(&self) -> &str {
        self.said["id"].as_str().expect("a lab has a name")
    }

    /// The line that it prints for a program: `ssh -F … a`.
    pub fn line(&self, program: &str, host: usize) -> Vec<String> {
        let words = self.said["hosts"][host][program].as_array();
        let words = words.unwrap_or_else(|| panic!("no {program}: {}", self.said));
        let text = |word: &Value| word.as_str().expect("a word").to_owned();
        words.iter().map(text).collect()
    }

    /// What `ssh` says when it runs this on a host.
    pub fn ssh(&self, host: usize, line: &str) -> (String, Option<i32>) {
        let mut argv = self.line("ssh", host);
        argv.push(line.to_owned());
        let output = perform(&argv, "");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (said, output.status.code())
    }

    /// Ends it as Ctrl-C does; how it went.
    pub fn interrupt(mut self) -> Output {
        signal(self.child.id(), "INT");
        let status = self.child.wait().expect("it ends");
        let mut stderr = Vec::new();
        if let Some(mut said) = self.child.stderr.take() {
            std::io::Read::read_to_end(&mut said, &mut stderr).expect("it is read");
        }
        let stdout = Vec::new();
        Output {
            status,
            stdout,
            stderr,
        }
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // A test that fails must leave nothing either.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.child.id(), "INT");
            let _ = self.child.wait();
        }
    }
}

pub fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &pid.to_string()]);
    assert!(kill.status().expect("kill is there").success());
}

/// Runs a program with its words, as they were printed, and some input.
pub fn perform(argv: &[String], input: &str) -> Output {
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        // Whoever runs the tests may have an agent with many keys.
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{argv:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    // A program that does not read it has ended.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

pub fn succeeds(argv: &[String], input: &str) -> String {
    let output = perform(argv, input);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{argv:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
