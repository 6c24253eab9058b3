//! Which labs are up on this machine, and what crashed runs have left of theirs.
//!
//! Each lab that is up has a small file in the user's cache folder, made before the
//! lab and taken away after it. A harness that is killed leaves the file; from it
//! `lab status` knows what there was and `lab down` what to take away. The folder is
//! always the same one, also in another session of the same user: a process is named
//! by pid, start time and boot, so that a file that has outlived its lab tells so.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::places;

mod folders;
mod process;

pub use process::Process;

/// A lab has a few hosts: a file that is larger is none of ours.
const ENTRY_BYTES_MAX: u64 = 64 * 1024;

/// A lab that is or was up. A newer build may have more to say of it, which must not keep
/// an older one from anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Names it among all labs ever.
    pub id: String,
    /// `netns`
    pub kind: String,
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

    /// The folders of its runs that are still there.
    pub fn run_folders(&self) -> Vec<PathBuf> {
        folders::of_runs(self.homes.iter().map(|home| home.dir.as_path()))
    }
}

/// A lab's entry, to be taken away with the lab.
#[derive(Debug)]
#[must_use = "the lab stays registered"]
pub struct Registered {
    file: Option<PathBuf>,
}

impl Registered {
    /// Where the entry is; nothing where there is no place for one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The lab is down.
    ///
    /// # Errors
    /// If the entry cannot be removed.
    pub fn remove(self) -> Result<()> {
        match self.file {
            Some(file) => unlink(&file),
            None => Ok(()),
        }
    }
}

/// Registers a lab of this process that is about to come up. A user without a home
/// has no place for the entry, and a lab all the same.
///
/// # Errors
/// If the entry cannot be written.
pub fn register(kind: &str, init: Option<u32>, homes: Vec<Home>) -> Result<Registered> {
    match dir() {
        Ok(dir) => register_in(&dir, kind, init, homes),
        Err(_) => Ok(Registered { file: None }),
    }
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

fn register_in(dir: &Path, kind: &str, init: Option<u32>, homes: Vec<Home>) -> Result<Registered> {
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
        harness: Process::of(std::process::id()).context("cannot see this process in /proc")?,
        init: init.and_then(Process::of),
        homes,
        since: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
    };
    let file = dir.join(format!("{id}.json"));
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
    Ok(Registered { file: Some(file) })
}

/// A crashed run whose folders went by themselves needs nobody to say `lab down`.
fn forget_finished(dir: &Path) {
    // Only a courtesy: what cannot be read or removed is told by `lab status`.
    for entry in list_in(dir).unwrap_or_default() {
        if entry.life() == Life::Dead && entry.run_folders().is_empty() {
            let _ = unlink(&dir.join(format!("{}.json", entry.id)));
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
    // The id becomes a file's name again.
    let named = path.file_stem().is_some_and(|stem| *stem == *entry.id);
    if !named {
        anyhow::bail!(unusable());
    }
    Ok(Some(entry))
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
