//! Where the programs that are deployed come from, and building what is missing.
//!
//! In this order: the folder the user named (`--bin-dir`); the workspace this
//! harness was built from, while it exists, so that what is tested is what is in
//! the editor; else the folder the harness itself lies in (an installed copy).
//! A program is built at most once a process, and never by a build script.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::Mutex;

use super::machine;

/// The cargo package and binary of the probe.
pub const PROBE: &str = "left-harness-probe";

/// It only looks where its own files are.
const RUSTC_DEADLINE: Duration = Duration::from_secs(20);

/// What cargo has done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildProgress {
    /// Units done, by cargo's own count.
    pub done: u64,
    /// Units in all.
    pub total: u64,
    /// The crates being compiled: `redb, clap`.
    pub crates: String,
}

/// A program for hosts.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The cargo package it is in.
    pub package: &'a str,
    /// Its own name.
    pub binary: &'a str,
    /// What the host is: `uname -m`.
    pub machine: &'a str,
}

/// Finds or builds a program.
///
/// # Errors
/// If it is neither found nor can be built; the message says how to get it.
pub async fn program(
    wanted: &Wanted<'_>,
    bin_dir: Option<&Path>,
    on_progress: &(dyn Fn(BuildProgress) + Sync),
) -> Result<PathBuf> {
    let Wanted {
        package,
        binary: name,
        machine: of_host,
    } = *wanted;
    if let Some(dir) = bin_dir {
        match machine::find(dir, name, of_host)? {
            Some(path) => return Ok(path),
            // The probe is ours: whoever brings a program of their own need not bring it.
            None if name == PROBE => {}
            None => bail!("no file {name} in --bin-dir {}", dir.display()),
        }
    }
    if let Some(workspace) = workspace() {
        let is_native = of_host == std::env::consts::ARCH;
        if !is_native && !can_build_for(&machine::target(of_host)).await {
            bail!(
                "the host is {of_host}, this machine is {}, and there is no {name} for it: {}",
                std::env::consts::ARCH,
                machine::how_to_build(package, name, of_host)
            );
        }
        let built = build_once(workspace, wanted, on_progress).await;
        return match is_native {
            true => built,
            false => built.with_context(|| machine::how_to_build(package, name, of_host)),
        };
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let beside = beside.map(|dir| machine::find(&dir, name, of_host));
    match beside.transpose()?.flatten() {
        Some(path) => Ok(path),
        None => bail!(
            "no program {name} for {of_host}: neither the sources of this harness nor a copy beside it are here; name a folder with --bin-dir"
        ),
    }
}

/// The toolchain has what programs for this target are made of.
async fn can_build_for(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(RUSTC_DEADLINE, asked).await {
        Ok(Ok(output)) if output.status.success() => {
            let place = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Path::new(&place).is_dir()
        }
        _ => false,
    }
}

/// The workspace this program was built from, while it is still there.
pub fn workspace() -> Option<&'static Path> {
    static WORKSPACE: OnceLock<Option<PathBuf>> = OnceLock::new();
    WORKSPACE
        .get_or_init(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
            let here =
                root.join("Cargo.toml").is_file() && root.join("left-harness/Cargo.toml").is_file();
            here.then(|| root.to_path_buf())
        })
        .as_deref()
}

/// What this process has built. It is not built again: all runs of one command test
/// the same program, also when somebody edits the sources meanwhile.
static BUILT: Mutex<BTreeMap<[String; 3], PathBuf>> = Mutex::const_new(BTreeMap::new());

async fn build_once(
    workspace: &Path,
    wanted: &Wanted<'_>,
    on_progress: &(dyn Fn(BuildProgress) + Sync),
) -> Result<PathBuf> {
    let mut built = BUILT.lock().await;
    let key = [wanted.package, wanted.binary, wanted.machine].map(str::to_owned);
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let path = build(workspace, wanted, on_progress).await?;
    built.insert(key, path.clone());
    Ok(path)
}

async fn build(
    workspace: &Path,
    wanted: &Wanted<'_>,
    on_progress: &(dyn Fn(BuildProgress) + Sync),
) -> Result<PathBuf> {
    let Wanted {
        package, binary, ..
    } = *wanted;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = start(&cargo, workspace, wanted)?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let stderr = child.stderr.take().context("cargo has no standard error")?;
    let (executable, complaints) =
        tokio::join!(find_executable(stdout, binary), follow(stderr, on_progress));
    let status = child.wait().await?;
    group.has_ended();
    if !status.success() {
        bail!(
            "cannot build {package} (cargo: {status}):\n{}",
            complaints?.join("\n")
        );
    }
    executable?.with_context(|| format!("cargo built {package} but named no program {binary}"))
}

fn start(cargo: &OsStr, workspace: &Path, wanted: &Wanted<'_>) -> Result<Child> {
    let Wanted {
        package,
        binary,
        machine: of_host,
    } = *wanted;
    // Another machine's linker is hardly ever here; this one comes with the toolchain
    // and is enough for what has no C in it.
    let flags = match of_host == std::env::consts::ARCH {
        true => "-C target-feature=+crt-static",
        false => "-C target-feature=+crt-static -C linker=rust-lld",
    };
    let target = machine::target(of_host);
    Command::new(cargo)
        .current_dir(workspace)
        .args(["build", "--locked", "--profile", "deploy"])
        .args(["--target", &target, "-p", package, "--bin", binary])
        .arg("--message-format=json-render-diagnostics")
        // Only for this child: in .cargo/config.toml a static runtime would break
        // procedural macros and build scripts.
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // cargo alone knows how much there is to do; its bar tells it.
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "100")
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C of a terminal goes to the whole group; the harness decides.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            format!(
                "cannot run cargo ({}) to build {package}",
                cargo.to_string_lossy()
            )
        })
}

/// Cargo with all the compilers it has started. When nobody waits for the build any
/// more they are killed; without that they would go on for minutes.
struct Group(Option<Pid>);

impl Group {
    /// Its number may soon be somebody else's.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // There may be nobody left, which is as good.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// The program that cargo says it made.
async fn find_executable(stdout: ChildStdout, binary: &str) -> Result<Option<PathBuf>> {
    let mut executable = None;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        let Ok(message) = serde_json::from_str::<Message>(&line) else {
            continue;
        };
        if message.target.is_some_and(|target| target.name == binary) {
            executable = message.executable.or(executable);
        }
    }
    Ok(executable)
}

/// Follows cargo's bar; returns the last lines of what else it said.
async fn follow(
    stderr: ChildStderr,
    on_progress: &(dyn Fn(BuildProgress) + Sync),
) -> Result<Vec<String>> {
    const LINES_MAX: usize = 40;
    const LINE_BYTES_MAX: u64 = 64 * 1024;
    let mut kept = VecDeque::new();
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A bar ends in a carriage return, so one line may hold several of them.
        let mut bounded = (&mut reader).take(LINE_BYTES_MAX);
        if bounded.read_until(b'\r', &mut line).await? == 0 {
            return Ok(kept.into());
        }
        for text in String::from_utf8_lossy(&line).lines() {
            if let Some(progress) = bar(text) {
                on_progress(progress);
            } else if !text.trim().is_empty() {
                if kept.len() == LINES_MAX {
                    kept.pop_front();
                }
                kept.push_back(text.trim_end().to_owned());
            }
        }
    }
}

/// `    Building [=====>   ] 15/16: redb, clap`
fn bar(line: &str) -> Option<BuildProgress> {
    let (_, counts) = line
        .trim_start()
        .strip_prefix("Building [")?
        .split_once("] ")?;
    let (counts, crates) = counts.split_once(':').unwrap_or((counts, ""));
    let (done, total) = counts.trim().split_once('/')?;
    Some(BuildProgress {
        done: done.parse().ok()?,
        total: total.parse().ok()?,
        crates: crates.trim().to_owned(),
    })
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_of_cargo_is_read_and_nothing_else_is_taken_for_one() {
        let read = bar("    Building [========>    ] 15/16: redb, left(bin)     ").expect("a bar");
        assert_eq!(
            (read.done, read.total, read.crates.as_str()),
            (15, 16, "redb, left(bin)")
        );
        assert_eq!(
            bar("    Building [=>  ] 3/43").map(|read| read.total),
            Some(43)
        );
        for other in [
            "   Compiling redb v4.6.0",
            "error: x",
            "Building [",
            "Building [] a/b: c",
        ] {
            assert_eq!(bar(other), None, "{other}");
        }
    }
}
