//! The entry of a lab of this process, with the folder beside it, until both are taken
//! away.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::entrance::{self, Entrance};
use super::{guard, marked, unlink};
use crate::host::client_config::ClientHost;

/// A lab's entry, to be taken away with the lab.
#[derive(Debug)]
#[must_use = "the lab stays registered"]
pub struct Registered {
    /// Nothing where there is no place for an entry.
    pub(super) place: Option<Place>,
    pub(super) guard: Option<guard::Guard>,
}

impl Registered {
    /// What the lab is called; nothing where there is no place for an entry.
    pub fn id(&self) -> Option<String> {
        self.place.as_ref().map(|place| place.id.clone())
    }

    /// The lab's doors, which are still closed.
    pub fn entrances(&self) -> Entrances {
        let folder = self.place.as_ref().map(Place::folder);
        Entrances { folder }
    }

    /// The lab is down: takes away its keys, what was started in it, and its entry.
    ///
    /// # Errors
    /// If one of them stays.
    pub fn remove(self) -> Result<()> {
        let removed = match &self.place {
            Some(place) => place.remove(),
            None => Ok(()),
        };
        if let Some(guard) = self.guard {
            guard.end();
        }
        removed
    }
}

/// Opens the doors of a lab to the user's own client.
#[derive(Debug, Clone)]
pub struct Entrances {
    folder: Option<PathBuf>,
}

impl Entrances {
    /// Hosts with keys that were made for them.
    ///
    /// # Errors
    /// If keys and configuration cannot be written.
    pub fn open(&self, hosts: &[ClientHost<'_>]) -> Result<()> {
        match &self.folder {
            Some(folder) => entrance::open(folder, hosts),
            None => Ok(()),
        }
    }

    /// Hosts that are the user's own.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn tell(&self, entrances: &[Entrance]) -> Result<()> {
        match &self.folder {
            Some(folder) => entrance::write(folder, entrances),
            None => Ok(()),
        }
    }
}

/// Where a lab's entry and its folder are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
    id: String,
}

impl Place {
    pub(super) fn new(dir: &Path, id: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            id: id.to_owned(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn file(&self) -> PathBuf {
        self.dir.join(format!("{}.json", self.id))
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.dir.join(&self.id)
    }

    /// What was started in the lab, and before it the keys: without them nothing new
    /// is started.
    pub(super) fn take_away(&self) -> Result<()> {
        let folder = self.folder();
        let removed = match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", folder.display()))
            }
            _ => Ok(()),
        };
        marked::kill(&self.id).and(removed)
    }

    pub(super) fn remove(&self) -> Result<()> {
        self.take_away()?;
        unlink(&self.file())
    }
}
