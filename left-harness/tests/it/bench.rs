//! A folder with scenarios and adapters of its own, and the harness run on them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Everything one test uses; gone with it.
pub struct Bench {
    dir: TempDir,
}

/// What a run of the harness left.
pub struct Ran {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it printed on standard output.
    pub stdout: String,
    /// What it said on the way.
    pub stderr: String,
    /// `result.json` of the last run, if there was one.
    pub result: Option<Value>,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::create_dir(dir.path().join("suts")).expect("a folder can be made");
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// An adapter that runs `left` under a shell script. The script finds the
    /// program with its arguments in `"$@"`, the share in `$SHARE`.
    pub fn left_under(&self, name: &str, script: &str) {
        let left = std::fs::read_to_string(scenarios().join("suts/left.toml"))
            .expect("the adapter of left is there");
        let wrapper = self.write(
            &format!("{name}.sh"),
            &format!("#!/bin/sh\nSHARE=$1; shift\n{script}\n"),
        );
        let wrapped = format!(
            "[\"/bin/sh\", {:?}, \"{{share}}\", \"{{bin}}\"",
            wrapper.display().to_string()
        );
        let adapter = left.replacen("[\"{bin}\"", &wrapped, 1);
        assert_ne!(adapter, left, "the adapter of left starts an argv");
        self.write(&format!("suts/{name}.toml"), &adapter);
    }

    /// The harness with its folders in this bench, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_left-harness"));
        command
            .current_dir(self.dir.path())
            .args(args)
            .env("NO_COLOR", "1")
            .env_remove("LEFT_HARNESS_RUN")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `left-harness run` with this bench's own lab and results.
    pub fn run_command(&self, args: &[&str]) -> Command {
        let mut all = vec!["run", "--out", "out", "--lab-dir", "lab"];
        all.extend(args);
        self.command(&all)
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.run_command(args).spawn().expect("the harness starts")
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.run_command(args).output().expect("the harness starts");
        self.ran(output)
    }

    pub fn ran(&self, output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            result: self.result(),
        }
    }

    /// `result.json` of the last run.
    pub fn result(&self) -> Option<Value> {
        let mut runs: Vec<PathBuf> = std::fs::read_dir(self.path("out"))
            .ok()?
            .map(|entry| entry.expect("the folder of runs can be listed").path())
            .collect();
        runs.sort();
        let text = std::fs::read_to_string(runs.last()?.join("result.json")).ok()?;
        Some(serde_json::from_str(&text).expect("result.json is JSON"))
    }

    /// What the last run has told so far.
    pub fn history(&self) -> String {
        let runs = std::fs::read_dir(self.path("out")).into_iter().flatten();
        let last = runs.filter_map(|entry| Some(entry.ok()?.path())).max();
        last.and_then(|run| std::fs::read_to_string(run.join("history.jsonl")).ok())
            .unwrap_or_default()
    }

    /// What is left in the hosts' folders beside the deployed programs.
    pub fn left_on_hosts(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for host in ["a", "b"] {
            let Ok(entries) = std::fs::read_dir(self.path("lab").join(host)) else {
                continue;
            };
            let paths = entries.map(|entry| entry.expect("a host's folder can be listed").path());
            left.extend(paths.filter(|path| path.file_name().is_some_and(|name| name != "bin")));
        }
        left
    }
}

impl Ran {
    /// One of the figures, as a number.
    pub fn figure(&self, name: &str) -> f64 {
        let result = self.result.as_ref().expect("a run was made");
        result["figures"]
            .as_object()
            .expect("figures are a table")
            .iter()
            .find(|(key, _)| key.starts_with(name))
            .and_then(|(_, figure)| figure["value"].as_f64())
            .unwrap_or_else(|| panic!("no figure {name}: {}", result["figures"]))
    }

    /// How one of the checks came out.
    pub fn check(&self, what: &str) -> String {
        let result = self.result.as_ref().expect("a run was made");
        let checks = result["checks"].as_array().expect("checks are a list");
        let found = checks.iter().find(|check| check["what"] == what);
        let found = found.unwrap_or_else(|| panic!("no check {what}: {}", result["checks"]));
        found["outcome"]
            .as_str()
            .expect("an outcome is a word")
            .to_owned()
    }

    /// Everything it said, for the message of a failed assertion.
    pub fn all(&self) -> String {
        format!(
            "exit {}\n--- stdout\n{}\n--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// The scenarios that come with the harness.
pub fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// Waits until a condition holds.
pub fn wait_until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "not within {seconds} s: {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Processes that carry the id of a run in their environment.
pub fn processes_of_run(run: &str) -> Vec<u32> {
    let needle = format!("LEFT_HARNESS_RUN={run}");
    let entries = std::fs::read_dir("/proc").expect("/proc is there");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == needle.as_bytes())
        })
        .collect()
}
