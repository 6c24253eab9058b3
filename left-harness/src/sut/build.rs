//! Where the programs that are deployed come from, and building what is missing.
//!
//! In this order: the folder the user named (`--bin-dir`); the workspace this
//! harness was built from, while it exists, so that what is tested is what is in
//! the editor; else the folder the harness itself lies in (an installed copy).
//! A program is built at most once a process, and never by a build script.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// The cargo package and binary of the probe.
pub const PROBE: &str = "left-harness-probe";

/// What cargo has done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildProgress {
    /// Crates done, fresh ones included.
    pub done: u64,
    /// Crates in all; 0 when cargo could not say.
    pub total: u64,
    /// The crate that was done last.
    pub crate_name: String,
}

/// A program for hosts.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The cargo package it is in.
    pub package: &'a str,
    /// Its own name.
    pub binary: &'a str,
    /// What the hosts are: `uname -m`.
    pub arch: &'a str,
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
        arch,
    } = *wanted;
    if let Some(dir) = bin_dir {
        let path = dir.join(name);
        if !path.is_file() {
            bail!("no file {name} in --bin-dir {}", dir.display());
        }
        return Ok(path);
    }
    if let Some(workspace) = workspace() {
        if arch != std::env::consts::ARCH {
            bail!(
                "the host is {arch}, this machine is {}: build {name} for it (`cargo build --profile deploy \
                 --target {arch}-unknown-linux-gnu -p {package}`) and name the folder with --bin-dir",
                std::env::consts::ARCH
            );
        }
        return build_once(workspace, package, name, on_progress).await;
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(|dir| dir.join(name)))
        .filter(|path| path.is_file());
    match beside {
        Some(path) => Ok(path),
        None => bail!(
            "no program {name}: neither the sources of this harness nor a copy beside it are here; name a folder with --bin-dir"
        ),
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
static BUILT: Mutex<BTreeMap<(String, String), PathBuf>> = Mutex::const_new(BTreeMap::new());

async fn build_once(
    workspace: &Path,
    package: &str,
    binary: &str,
    on_progress: &(dyn Fn(BuildProgress) + Sync),
) -> Result<PathBuf> {
    let mut built = BUILT.lock().await;
    let key = (package.to_owned(), binary.to_owned());
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let path = build(workspace, package, binary, on_progress).await?;
    built.insert(key, path.clone());
    Ok(path)
}

async fn build(
    workspace: &Path,
    package: &str,
    binary: &str,
    on_progress: &(dyn Fn(BuildProgress) + Sync),
) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let total = count_crates(&cargo, workspace, package, &target)
        .await
        .unwrap_or(0);

    let mut child = start(&cargo, workspace, package, &target)?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let stderr = child.stderr.take().context("cargo has no standard error")?;
    let complaints = tokio::spawn(last_lines(stderr));

    let mut executable = None;
    let mut done = 0;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        let Ok(message) = serde_json::from_str::<Message>(&line) else {
            continue;
        };
        if message.reason != "compiler-artifact" {
            continue;
        }
        done += 1;
        let crate_name = message.target.map(|target| target.name).unwrap_or_default();
        if crate_name == binary {
            executable = message.executable.or(executable);
        }
        on_progress(BuildProgress {
            done: done.min(total.max(1)),
            total,
            crate_name,
        });
    }
    let status = child.wait().await?;
    group.has_ended();
    let complaints = complaints.await.unwrap_or_default();
    if !status.success() {
        bail!(
            "cannot build {package} (cargo: {status}):\n{}",
            complaints.join("\n")
        );
    }
    executable.with_context(|| format!("cargo built {package} but named no program"))
}

fn start(cargo: &OsStr, workspace: &Path, package: &str, target: &str) -> Result<Child> {
    Command::new(cargo)
        .current_dir(workspace)
        .args([
            "build",
            "--locked",
            "--profile",
            "deploy",
            "--target",
            target,
            "-p",
            package,
        ])
        .arg("--message-format=json-render-diagnostics")
        // Only for this child: in .cargo/config.toml a static runtime would break
        // procedural macros and build scripts.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
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

#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// About how many crates a build goes through: build scripts count apart, so this
/// is a lower bound that is good enough for a bar.
async fn count_crates(cargo: &OsStr, workspace: &Path, package: &str, target: &str) -> Option<u64> {
    let output = Command::new(cargo)
        .current_dir(workspace)
        .args(["tree", "--locked", "--target", target, "-p", package])
        .args(["-e", "normal,build", "--prefix", "none", "--no-dedupe"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let crates: std::collections::BTreeSet<&str> =
        text.lines().filter(|line| !line.is_empty()).collect();
    Some(crates.len() as u64)
}

/// The last lines of a program's complaints: enough to see why it failed.
async fn last_lines(stderr: tokio::process::ChildStderr) -> Vec<String> {
    const LINES_MAX: usize = 40;
    let mut kept = std::collections::VecDeque::new();
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if kept.len() == LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    kept.into()
}
