//! A lab that stands, and a run that goes on, entered by the user's own `ssh`, `sftp` and
//! `scp`: they get in, and nothing stays, however the harness ends.

mod standing;
mod started;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use left_harness::lab::netns;
use serde_json::Value;

pub use self::standing::Standing;
use self::standing::{perform, signal, succeeds};
use self::started::{guards, here, runs, start_two};
use crate::bench::{Bench, Ran, wait_until};
use crate::ledger::run_of;
use crate::sshd::has;

/// A bench whose labs nobody else sees.
struct Place {
    bench: Bench,
}

impl Place {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bench.command(args);
        command
            .env("XDG_CACHE_HOME", self.bench.path("my cache"))
            .env_remove("SSH_AUTH_SOCK");
        command
    }

    fn says(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output();
        self.bench.ran(output.expect("the harness starts"))
    }

    fn up(&self, lab: &str) -> Standing {
        Standing::up(self.command(&["lab", "up", "--json", "--lab", lab]))
    }

    /// All that is there of labs: entries, and folders with keys.
    fn traces(&self) -> Vec<PathBuf> {
        let labs = self.bench.path("my cache/left-harness/labs");
        let entries = std::fs::read_dir(labs).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    fn folder(&self, standing: &Standing) -> PathBuf {
        let labs = self.bench.path("my cache/left-harness/labs");
        labs.join(standing.id())
    }
}

/// The labs of this machine that can stand here.
fn labs() -> Vec<&'static str> {
    if !(has("ssh") && has("sftp") && has("scp")) {
        return Vec::new();
    }
    match netns::needs::missing() {
        None => vec!["local", "netns"],
        Some(why) => {
            eprintln!("skipped: no network namespaces here: {why}");
            vec!["local"]
        }
    }
}

#[test]
fn openssh_programs_get_into_a_standing_lab_by_the_lines_that_it_prints() {
    for lab in labs() {
        let place = Place::new();
        let standing = place.up(lab);
        assert_eq!(standing.said["lab"], lab);
        let home = standing.said["hosts"][0]["home"].as_str().expect("a home");
        assert_eq!(
            standing.ssh(0, "pwd; exit 7"),
            (format!("{home}\n"), Some(7))
        );
        // A signal on the host is no success here.
        assert_ne!(standing.ssh(1, "kill -9 $$").1, Some(0));
        let mut terminal = standing.line("ssh", 0);
        terminal.insert(1, "-tt".into());
        terminal.push("test -t 0 && test -t 1 && stty size".into());
        assert!(!succeeds(&terminal, "").is_empty());

        // There by scp, seen by sftp, taken to the other host's folder, back by scp.
        let content = "a line of the dev box\n".repeat(100_000);
        let here = place.bench.write("here", &content);
        let mut scp = standing.line("scp", 0);
        let at = scp.iter().position(|word| word == "FILE").expect("a place");
        scp[at] = here.display().to_string();
        succeeds(&scp, "");
        let back = place.bench.path("back");
        let mut sftp = standing.line("sftp", 0);
        sftp.splice(1..1, ["-b".into(), "-".into()]);
        let batch = format!(
            "rename here there\nget there \"{}\"\nls -l\n",
            back.display()
        );
        let listed = succeeds(&sftp, &batch);
        assert!(listed.contains("there"), "{listed}");
        assert!(std::fs::read_to_string(&back).is_ok_and(|text| text == content));
        let (_, gone) = standing.ssh(1, "test -e there");
        assert_eq!(gone, Some(1), "the hosts have one folder");
        let mut scp = standing.line("scp", 0);
        let from = scp.pop().expect("a host") + "there";
        scp[at] = from;
        scp.push(back.with_extension("2").display().to_string());
        succeeds(&scp, "");
        assert!(
            std::fs::read_to_string(back.with_extension("2")).is_ok_and(|text| text == content)
        );

        let ended = standing.interrupt();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(place.traces(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_shell_needs_nothing_but_the_name_of_the_host() {
    for lab in labs() {
        let place = Place::new();
        let standing = place.up(lab);
        let ran = place.says(&["lab", "shell", "b", "--", "echo", "$HOME;", "exit", "3"]);
        let home = standing.said["hosts"][1]["home"].as_str().expect("a home");
        assert_eq!((ran.code, ran.stdout.trim()), (3, home), "{}", ran.all());
        // A shell proper, fed by a pipe.
        let mut shell = place.command(&["lab", "shell", "a"]);
        let mut child = shell.stdin(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(b"cd /; pwd; exit 5\n").expect("it reads");
        drop(stdin);
        let ran = place.bench.ran(child.wait_with_output().expect("it ends"));
        assert_eq!((ran.code, ran.stdout.as_str()), (5, "/\n"), "{}", ran.all());

        let status = place.says(&["lab", "status", "--json", "--lab", lab]);
        let seen: Value = serde_json::from_str(&status.stdout).expect("it is JSON");
        let seen = &seen["labs"][0];
        assert_eq!(seen["id"], standing.id());
        assert_eq!(seen["run"], Value::Null);
        assert_eq!(seen["hosts"][0]["ssh"], standing.said["hosts"][0]["ssh"]);
    }
}

#[test]
fn keys_are_for_nobody_else() {
    for lab in labs() {
        let place = Place::new();
        let standing = place.up(lab);
        let folder = place.folder(&standing);
        let mode = |path: &Path| {
            let stat = std::fs::metadata(path).expect("it is there");
            stat.permissions().mode() & 0o777
        };
        assert_eq!(mode(&folder), 0o700);
        let files = std::fs::read_dir(&folder).expect("it is there").flatten();
        let files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
        assert!(files.contains(&folder.join("key-a")), "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        // Neither with another key nor to a host that shows another one.
        let stranger = place.bench.path("stranger");
        crate::sshd::keygen(&stranger, &["-t", "ed25519", "-N", ""]);
        let config = std::fs::read_to_string(folder.join("config")).expect("text");
        let own = folder.join("key-a").display().to_string();
        let other = config.replace(&own, &stranger.display().to_string());
        let wrong_key = place.bench.write("wrong-key", &other);
        assert_ne!(other, config);
        let swapped = config.replace("HostKeyAlias left-harness-a", "HostKeyAlias left-harness-b");
        let wrong_host = place.bench.write("wrong-host", &swapped);
        for (config, shown) in [
            (wrong_key, "Permission denied"),
            (wrong_host, "Host key verification failed"),
        ] {
            let words = ["ssh", "-F", &config.display().to_string(), "a", "true"];
            let output = perform(&words.map(str::to_owned), "");
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(255), "{complaint}");
            assert!(complaint.contains(shown), "{shown}: {complaint}");
        }
    }
}

#[test]
fn what_was_started_in_a_lab_goes_with_it() {
    for lab in labs() {
        let place = Place::new();
        let standing = place.up(lab);
        let (pids, _) = standing.ssh(0, &start_two());
        let pids = here(&pids, lab);
        assert_eq!(pids.len(), 2, "{pids:?}");
        // `lab down` is for what is left, and nothing is.
        let down = place.says(&["lab", "down", "--lab", lab]);
        assert_eq!(down.code, 0, "{}", down.all());
        assert!(pids.iter().all(|pid| runs(*pid)), "{}", down.all());
        let status = place.says(&["lab", "status", "--lab", lab]);
        assert!(!status.stdout.contains("left "), "{}", status.all());
        // Somebody is still in there.
        let mut visitor = Command::new("ssh");
        visitor
            .args(&standing.line("ssh", 1)[1..])
            .arg("echo in; cat");
        visitor
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut visitor = visitor.spawn().expect("ssh starts");
        let mut said = [0; 3];
        let stdout = visitor.stdout.as_mut().expect("it is piped");
        stdout.read_exact(&mut said).expect("it is in");
        let ended = standing.interrupt();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        wait_until("the visitor is out", 5, || {
            visitor
                .try_wait()
                .expect("a child")
                .is_some_and(|ended| !ended.success())
        });
        assert!(!pids.iter().any(|pid| runs(*pid)), "{pids:?}");
    }
}

#[test]
fn a_killed_lab_leaves_neither_keys_nor_processes() {
    for lab in labs() {
        let place = Place::new();
        let standing = place.up(lab);
        let (pids, _) = standing.ssh(0, &start_two());
        let pids = here(&pids, lab);
        let folder = place.folder(&standing);
        standing.kill();
        wait_until("its processes and keys are gone", 12, || {
            !folder.exists() && !pids.iter().any(|pid| runs(*pid))
        });
        let ran = place.says(&["lab", "shell", "a"]);
        assert_eq!(ran.code, 2, "{}", ran.all());
        let down = place.says(&["lab", "down", "--lab", lab]);
        assert_eq!(down.code, 0, "{}", down.all());
        assert_eq!(place.traces(), Vec::<PathBuf>::new());
    }
}

#[test]
fn lab_down_takes_away_what_even_the_guard_could_not() {
    for lab in labs() {
        let place = Place::new();
        let standing = place.up(lab);
        let (pids, _) = standing.ssh(0, &start_two());
        let pids = here(&pids, lab);
        let folder = place.folder(&standing);
        for guard in guards(standing.id()) {
            signal(guard, "KILL");
        }
        standing.kill();
        assert!(folder.join("key-a").exists(), "there was another guard");
        let down = place.says(&["lab", "down", "--lab", lab]);
        assert_eq!(down.code, 0, "{}", down.all());
        assert_eq!(place.traces(), Vec::<PathBuf>::new());
        assert!(!pids.iter().any(|pid| runs(*pid)), "{pids:?}");
    }
}

#[test]
fn mistakes_say_what_to_do() {
    if !has("ssh") {
        return;
    }
    let place = Place::new();
    let check = |args: &[&str], code: i32, shown: &[&str]| {
        let ran = place.says(args);
        assert_eq!(ran.code, code, "{}", ran.all());
        for shown in shown {
            assert!(ran.stderr.contains(shown), "{shown}: {}", ran.all());
        }
    };
    check(
        &["lab", "shell", "a"],
        2,
        &["no lab is up", "left-harness lab up", "--hosts"],
    );
    let one = place.up("local");
    check(
        &["lab", "shell", "c"],
        2,
        &["no host named `c`", "(known: a, b)"],
    );
    check(
        &["lab", "shell", "a", "--lab", "netns"],
        2,
        &["no lab is up of the kind"],
    );
    check(
        &["lab", "shell", "a", "--lab-dir", "elsewhere"],
        2,
        &["no lab is up of the kind"],
    );
    check(
        &["lab", "shell", "a", "--run", "x"],
        2,
        &["no lab or run `x`", one.id()],
    );
    let two = place.up("local");
    check(
        &["lab", "shell", "a"],
        2,
        &["several labs are up", one.id(), two.id(), "--run"],
    );
    let ran = place.says(&["lab", "shell", "a", "--run", two.id(), "--", "true"]);
    assert_eq!(ran.code, 0, "{}", ran.all());

    let mut no_ssh = place.command(&["lab", "shell", "a", "--run", two.id()]);
    let ran = no_ssh
        .env("PATH", "/nonexistent")
        .output()
        .expect("it starts");
    let ran = place.bench.ran(ran);
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(
        ran.stderr.contains("no `ssh` in PATH: install"),
        "{}",
        ran.all()
    );

    let mut homeless = place.bench.command(&["lab", "up", "--lab-dir", "lab"]);
    homeless.env_remove("HOME").env_remove("XDG_CACHE_HOME");
    let ran = place.bench.ran(homeless.output().expect("it starts"));
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(ran.stderr.contains("a place for its keys"), "{}", ran.all());
}

#[test]
fn programs_are_brought_into_a_standing_lab_and_run_there() {
    for lab in labs() {
        let place = Place::new();
        let early = place.says(&["lab", "deploy", "--lab", lab]);
        assert_eq!(early.code, 2, "{}", early.all());
        assert!(early.stderr.contains("lab up"), "{}", early.all());
        let standing = place.up(lab);
        let ran = place.says(&["lab", "deploy", "--lab", lab]);
        assert_eq!(ran.code, 0, "{}", ran.all());
        let (said, code) = standing.ssh(0, "exec bin/left-[0-9a-f]* --version");
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with("left "), "{said}");
        // A run deploys to the same folder, as the account of the hosts.
        drop(standing);
        let smoke = crate::bench::scenarios()
            .join("smoke.toml")
            .display()
            .to_string();
        let ran = place.says(&["run", "--out", "out", "--lab", lab, &smoke]);
        assert_eq!(ran.code, 0, "{}", ran.all());
    }
}

#[test]
fn a_place_that_cannot_stand_in_a_configuration_spoils_no_run() {
    let place = Place::new();
    let scenario = crate::bench::scenarios()
        .join("smoke.toml")
        .display()
        .to_string();
    let odd = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("XDG_CACHE_HOME", place.bench.path("a \"cache\""));
        place.bench.ran(command.output().expect("it starts"))
    };
    let ran = odd(&["run", "--out", "out", &scenario]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(
        ran.all().contains("`lab shell` cannot enter this lab"),
        "{}",
        ran.all()
    );
    let ran = odd(&["lab", "up"]);
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(
        ran.stderr.contains("cannot stand in an SSH configuration"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_run_that_goes_on_is_entered_and_ends_as_if_nobody_had_been_there() {
    const LONG: &str = r#"
about = "A file that takes a few seconds."
seed  = 7
step = [
  { start = ["a", "b"] },
  { write = { on = "a", path = "big.bin", size = "16MiB" } },
  { settle = { within = "60s", quiet = "1s" } },
]
[link]
rate = "4MiB/s"
[expect]
trees = "identical"
"#;
    for lab in labs() {
        let place = Place::new();
        place.bench.write("long.toml", LONG);
        let mut run = place.command(&["run", "--out", "out", "long.toml", "--lab", lab]);
        let run = run.spawn().expect("the harness starts");
        wait_until("the run has begun", 400, || {
            place.bench.history().contains(r#""step":"2""#)
        });
        let name = run_of(&place.bench);
        for more in [&[][..], &["--run", &name]] {
            let mut args = vec!["lab", "shell", "a"];
            args.extend(more);
            args.extend(["--", "ls"]);
            let ran = place.says(&args);
            let folder = format!("run-{name}\n");
            assert!(ran.stdout.contains(&folder), "{lab}: {}", ran.all());
        }
        let status = place.says(&["lab", "status", "--lab", lab]);
        let shown = format!("run {name} in the {lab} lab");
        assert!(status.stdout.contains(&shown), "{}", status.all());
        let ran = place.bench.ran(run.wait_with_output().expect("it ends"));
        assert_eq!(ran.code, 0, "{}", ran.all());
        assert_eq!(place.traces(), Vec::<PathBuf>::new());
    }
}
