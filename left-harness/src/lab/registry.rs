//! Which labs are up on this machine, and what crashed runs have left of theirs.
//!
//! Each lab that is up has a small file in the user's cache folder, made before the
//! lab and taken away after it. A harness that is killed leaves the file; from it
//! `lab status` knows what there was and `lab down` what to take away. The folder is
//! always the same one, also in another session of the same user: a process is named
//! by pid, start time and boot, so that a file that has outlived its lab tells so.
//!
//! Beside the file is a folder of the lab's with what the user's own `ssh` needs to get
//! into its hosts. A process of its own guards it, see [`guard`].

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::places;
use registered::Place;

mod entrance;
mod folders;
mod guard;
mod marked;
mod process;
mod registered;

pub use entrance::Entrance;
pub use folders::awaits_guard;
pub use process::Process;
pub use registered::{Entrances, Registered};

/// A lab has a few hosts: a file that is larger is none of ours.
const ENTRY_BYTES_MAX: u64 = 64 * 1024;

/// A lab that is or was up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Names it among all labs ever.
    pub id: String,
    /// `netns`
    pub kind: String,
    /// The run that it is up for; none for one that merely stands.
    #[serde(default)]
    pub run: Option<String>,
    /// The harness that it is up for.
    pub harness: Process,
    /// The process that the whole lab lives in, where there is one of its own.
    pub init: Option<Process>,
    /// The folders on this machine that stand for hosts; none where they are elsewhere.
    pub homes: Vec<Home>,
    /// `2026-11-22T14:05:12Z`
    pub since: String,
}

/// A folder of this machine that stands for a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// `a`
    pub host: String,
    /// As this machine sees it.
    pub dir: PathBuf,
}

/// What has become of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Its harness lives.
    Alive,
    /// The harness is gone, but the lab's own process is still there.
    Orphaned,
    /// All its processes are gone; folders may be left.
    Dead,
}

impl Entry {
    /// What has become of it, by now.
    pub fn life(&self) -> Life {
        if self.harness.is_alive() {
            Life::Alive
        } else if self.init.as_ref().is_some_and(Process::is_alive) {
            Life::Orphaned
        } else {
            Life::Dead
        }
    }

    /// How the user's own client gets into its hosts; none where there is no way for it,
    /// or not yet.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn entrances(&self) -> Result<Vec<Entrance>> {
        entrance::read(&dir()?.join(&self.id))
    }

    /// Why it does not stand any more though its harness lives, if so.
    pub fn fallen(&self) -> Option<String> {
        let init = self.init.as_ref()?;
        (!init.is_alive()).then(|| format!("its process {} is gone", init.pid))
    }

    /// The folders of its runs that are still there.
    pub fn run_folders(&self) -> Vec<PathBuf> {
        folders::of_runs(self.homes.iter().map(|home| home.dir.as_path()))
    }
}

/// What is registered: a lab that is about to come up.
#[derive(Debug, Default)]
pub struct Coming<'a> {
    /// `netns`
    pub kind: &'a str,
    /// The run that it is for, if it is for one.
    pub run: Option<&'a str>,
    /// The process that it lives in, where it has one of its own.
    pub init: Option<u32>,
    /// The folders of this machine that are its hosts'.
    pub homes: Vec<Home>,
}

/// Registers a lab of this process. A user without a home has no place for the entry,
/// and a lab all the same.
///
/// # Errors
/// If the entry cannot be written.
pub fn register(lab: Coming<'_>) -> Result<Registered> {
    let Ok(dir) = dir() else {
        return Ok(Registered {
            place: None,
            guard: None,
        });
    };
    let mut registered = register_in(&dir, lab)?;
    // Before there is anything to guard.
    match registered
        .place
        .as_ref()
        .map(|place| guard::Guard::start(place.id()))
    {
        Some(Err(error)) => {
            registered.remove()?;
            return Err(error);
        }
        Some(Ok(guard)) => registered.guard = Some(guard),
        None => {}
    }
    Ok(registered)
}

/// What the user should know of a lab that nobody can enter; a run is none the worse.
pub fn closed(opened: Result<()>) -> Option<String> {
    let error = opened.err()?;
    Some(format!("`lab shell` cannot enter this lab: {error:#}"))
}

/// Guards the lab `id` of the process at the other end of standard input.
///
/// # Errors
/// If something of it cannot be taken away.
pub fn guard(id: &str) -> Result<()> {
    let dir = dir()?;
    guard::run(id, || Place::new(&dir, id).take_away())
}

/// Every lab that is up on this machine for this user, or was and left its entry;
/// the oldest first.
///
/// # Errors
/// If the folder of entries cannot be read.
pub fn list() -> Result<Vec<Entry>> {
    list_in(&dir()?)
}

/// Takes away what a lab has left whose harness is gone: its process with all hosts,
/// then the folders of runs that nobody guards, then its entry. Says what it did.
///
/// # Errors
/// If the lab is in use, or something cannot be taken away.
pub fn remove(entry: &Entry) -> Result<Vec<String>> {
    remove_in(&dir()?, entry)
}

fn dir() -> Result<PathBuf> {
    Ok(places::cache_dir()?.join("labs"))
}

fn register_in(dir: &Path, lab: Coming<'_>) -> Result<Registered> {
    let Coming {
        kind,
        run,
        init,
        homes,
    } = lab;
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the folder {}", dir.display()))?;
    forget_finished(dir);
    let id = format!("{kind}-{:08x}", rand::rng().random::<u32>());
    let entry = Entry {
        id: id.clone(),
        kind: kind.into(),
        run: run.map(str::to_owned),
        harness: Process::of(std::process::id()).context("cannot see this process in /proc")?,
        init: init.and_then(Process::of),
        homes,
        since: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
    };
    let place = Place::new(dir, &id);
    let file = place.file();
    // Renamed in, so that nobody ever reads half of it.
    let part = dir.join(format!(".{id}.part"));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .and_then(|out| Ok(serde_json::to_writer(out, &entry)?))
        .and_then(|()| std::fs::rename(&part, &file));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&part);
        return Err(error).with_context(|| format!("cannot write {}", file.display()));
    }
    Ok(Registered {
        place: Some(place),
        guard: None,
    })
}

/// A crashed run whose folders went by themselves needs nobody to say `lab down`.
fn forget_finished(dir: &Path) {
    // Only a courtesy: what cannot be read or removed is told by `lab status`.
    for entry in list_in(dir).unwrap_or_default() {
        if entry.life() == Life::Dead && entry.run_folders().is_empty() {
            let _ = Place::new(dir, &entry.id).remove();
        }
    }
}

fn list_in(dir: &Path) -> Result<Vec<Entry>> {
    let files = match std::fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot list {}", dir.display()));
        }
    };
    let mut entries = Vec::new();
    for file in files {
        let path = file
            .with_context(|| format!("cannot list {}", dir.display()))?
            .path();
        if path.extension().is_some_and(|end| end == "json") {
            entries.extend(read(&path)?);
        }
    }
    entries.sort_by(|a: &Entry, b| (&a.since, &a.id).cmp(&(&b.since, &b.id)));
    Ok(entries)
}

/// `None` for one that was taken away meanwhile.
fn read(path: &Path) -> Result<Option<Entry>> {
    let unusable = || {
        let path = path.display();
        format!("{path} is no entry of a lab: remove it")
    };
    match std::fs::metadata(path) {
        Ok(stat) if stat.len() > ENTRY_BYTES_MAX => anyhow::bail!(unusable()),
        _ => {}
    }
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let entry: Entry = serde_json::from_slice(&text).with_context(unusable)?;
    // The id becomes the name of a file and of a folder again.
    let named = path.file_stem().is_some_and(|stem| *stem == *entry.id);
    if !named || !is_id(&entry.id) {
        anyhow::bail!(unusable());
    }
    Ok(Some(entry))
}

/// `netns-1a2b3c4d`: nothing that leads out of a folder.
fn is_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !text.is_empty() && text.chars().all(plain)
}

fn remove_in(dir: &Path, entry: &Entry) -> Result<Vec<String>> {
    let mut done = Vec::new();
    if entry.life() == Life::Alive {
        anyhow::bail!(
            "lab {} is in use by process {}: end that first",
            entry.id,
            entry.harness.pid
        );
    }
    if let Some(init) = &entry.init
        && init.kill()?
    {
        done.push(format!(
            "ended process {} with all hosts of lab {}",
            init.pid, entry.id
        ));
    }
    Place::new(dir, &entry.id).take_away()?;
    let used: Vec<PathBuf> = list_in(dir)?
        .iter()
        .filter(|other| other.id != entry.id && other.life() != Life::Dead)
        .flat_map(|other| other.homes.iter().map(|home| home.dir.clone()))
        .collect();
    for home in &entry.homes {
        // A run of another lab that is just beginning may not be guarded yet; it
        // removes what is left here itself.
        if !used.contains(&home.dir) {
            for folder in folders::remove_unguarded(&home.dir)? {
                done.push(format!("removed {}", folder.display()));
            }
        }
    }
    unlink(&dir.join(format!("{}.json", entry.id)))?;
    Ok(done)
}

fn unlink(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
