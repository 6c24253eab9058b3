//! What the user's SSH configuration says of a host.
//!
//! Where there is an `ssh` client it is asked (`ssh -G`), so that `Include`,
//! `Match`, wildcards and defaults are what the user knows; [`flat`] reads simple
//! files where there is none. What would weaken the check of the host's key is not
//! taken over, and said in [`Resolved::notes`].

mod flat;
mod settings;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use settings::Settings;

/// `Match exec` may run programs of the user's.
const ASK_DEADLINE: Duration = Duration::from_secs(20);

/// Hosts to jump from, all together. More is a circle.
const JUMPS_MAX: usize = 8;

/// A host as the user names it, and what is asked for instead of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// As in `ssh HOST`.
    pub name: String,
    /// Who logs in.
    pub user: Option<String>,
    /// Where the SSH server listens.
    pub port: Option<u16>,
    /// A private key to try first.
    pub identity: Option<PathBuf>,
    /// A configuration file instead of the user's.
    pub config: Option<PathBuf>,
    /// The file with the keys of hosts, instead of those of the configuration. For hosts
    /// to jump from it comes before those of the configuration.
    pub known_hosts: Option<PathBuf>,
    /// Hosts to jump from, as in `ssh -J`: `a,user@b:2222`.
    pub jump: Option<String>,
    /// It may be a password, from the environment or the terminal.
    pub password: bool,
}

/// All that is needed to get into a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// As it was asked for.
    pub name: String,
    /// Name or address to connect to.
    pub address: String,
    /// Port of the SSH server.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// Private keys, in the order in which they are tried; some may not be there.
    pub identities: Vec<PathBuf>,
    /// Keys of the agent are only tried if they are among these.
    pub identities_only: bool,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// A password may be asked for.
    pub password: bool,
    /// What `known_hosts` calls the host instead of its address.
    pub key_alias: Option<String>,
    /// The `known_hosts` files.
    pub known_hosts: Vec<PathBuf>,
    /// Any key is taken the first time, and must stay the same for the run.
    pub first_use: bool,
    /// Hosts to jump from, the nearest first.
    pub jumps: Vec<Resolved>,
    /// What the configuration says and is not followed, for the user to know.
    pub notes: Vec<String>,
}

impl Resolved {
    /// Takes whatever key the host shows first, and holds it to that for as long as the
    /// door lives. Only for machines that the user has made and that nobody knows yet,
    /// such as Vagrant's; never for a host on somebody's network.
    pub fn trusting_first_use(mut self) -> Self {
        self.first_use = true;
        self
    }
}

/// Asks the configuration about a host and the hosts on the way to it.
///
/// # Errors
/// If it cannot be read, or wants what cannot be done here.
pub async fn resolve(target: &Target) -> Result<Resolved> {
    resolve_with(target, client().as_deref()).await
}

async fn resolve_with(target: &Target, client: Option<&Path>) -> Result<Resolved> {
    let name = &target.name;
    let about = || format!("cannot find out how to reach host {name}");
    let settings = ask(client, target).await.with_context(about)?;
    let mut resolved = settings.resolve(target).with_context(about)?;
    let jumps = settings.jumps(target).with_context(about)?;
    let jumps = way(client, target, jumps, 0).await.with_context(about)?;
    for jump in &jumps {
        let note = |note: &String| format!("of the jump host {}: {note}", jump.name);
        resolved.notes.extend(jump.notes.iter().map(note));
    }
    resolved.jumps = jumps;
    Ok(resolved)
}

/// Finds out about each host of a list to jump from. As with `ssh`, only the first
/// may itself be behind others: the list says how the rest are reached.
async fn way(
    client: Option<&Path>,
    target: &Target,
    list: Vec<Target>,
    depth: usize,
) -> Result<Vec<Resolved>> {
    let mut all = Vec::new();
    for (index, hop) in list.into_iter().enumerate() {
        let hop = Target {
            config: target.config.clone(),
            ..hop
        };
        let settings = ask(client, &hop).await?;
        let mut resolved = settings.resolve(&hop)?;
        if let Some(file) = &target.known_hosts {
            resolved.known_hosts.insert(0, file.clone());
        }
        if index == 0 {
            let before = settings.jumps(&hop)?;
            if depth + before.len() > JUMPS_MAX {
                bail!("more than {JUMPS_MAX} hosts to jump from: does ProxyJump go in a circle?");
            }
            all = Box::pin(way(client, target, before, depth + 1)).await?;
        }
        all.push(resolved);
        if all.len() > JUMPS_MAX {
            bail!("more than {JUMPS_MAX} hosts to jump from");
        }
    }
    Ok(all)
}

/// The user's `ssh`, if there is one.
fn client() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("ssh"));
    places.find(|place| place.is_file())
}

async fn ask(client: Option<&Path>, target: &Target) -> Result<Settings> {
    let name = &target.name;
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if name.is_empty() || name.starts_with('-') || name.contains(odd) {
        bail!("{name:?} cannot be the name of a host");
    }
    match client {
        Some(client) => {
            let text = ask_client(client, target).await?;
            Ok(Settings::printed(&text))
        }
        None => {
            let own = settings::home().map(|home| home.join(".ssh/config"));
            let file = match (&target.config, own) {
                (Some(file), _) => file.clone(),
                (None, Some(own)) if own.exists() => own,
                (None, _) => return Ok(Settings::default()),
            };
            flat::read(&file, name)
        }
    }
}

/// What `ssh -G` prints.
async fn ask_client(client: &Path, target: &Target) -> Result<String> {
    let mut command = tokio::process::Command::new(client);
    command.arg("-G");
    if let Some(config) = &target.config {
        // ssh takes a file that is not there for an empty one of the system's.
        std::fs::metadata(config)
            .with_context(|| format!("cannot read the SSH configuration {}", config.display()))?;
        command.arg("-F").arg(config);
    }
    // `Match user` and the like depend on these.
    if let Some(user) = &target.user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = target.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(&target.name);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let asked = tokio::time::timeout(ASK_DEADLINE, command.output()).await;
    let Ok(asked) = asked else {
        let seconds = ASK_DEADLINE.as_secs();
        bail!(
            "`ssh -G {}` does not end within {seconds} s: does a `Match exec` of the SSH configuration hang?",
            target.name
        );
    };
    let asked = asked.with_context(|| format!("cannot start {}", client.display()))?;
    if !asked.status.success() {
        let why = String::from_utf8_lossy(&asked.stderr);
        bail!("`ssh -G {}`: {}", target.name, why.trim().escape_debug());
    }
    Ok(String::from_utf8_lossy(&asked.stdout).into_owned())
}

#[cfg(test)]
mod tests;
