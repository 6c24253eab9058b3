//! The ways into the hosts of a lab that is up, for the user's own OpenSSH client. They
//! lie in a folder beside the lab's entry, with the keys and the configuration that they
//! speak of.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::ENTRY_BYTES_MAX;
use crate::host::client_config::{ClientHost, write_client_config};

/// In the folder of a lab.
const FILE: &str = "entrances.json";

/// How OpenSSH's programs get into a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entrance {
    /// What the lab calls it: `a`.
    pub host: String,
    /// What `ssh`, `sftp` and `scp` alike must be told: `-F`, a configuration.
    pub options: Vec<String>,
    /// Where they go: `a`, or `alice@vm1`.
    pub destination: String,
}

impl Entrance {
    /// `ssh -F CONFIG a`
    pub fn ssh(&self) -> Vec<String> {
        self.words("ssh", &[&self.destination])
    }

    /// `sftp -F CONFIG a`
    pub fn sftp(&self) -> Vec<String> {
        self.words("sftp", &[&self.destination])
    }

    /// `scp -F CONFIG FILE a:`
    pub fn scp(&self) -> Vec<String> {
        self.words("scp", &["FILE", &format!("{}:", self.destination)])
    }

    fn words(&self, program: &str, last: &[&str]) -> Vec<String> {
        let mut words = vec![program.to_owned()];
        words.extend(self.options.iter().cloned());
        words.extend(last.iter().map(|word| (*word).to_owned()));
        words
    }
}

/// Writes keys and a configuration for `hosts` into the folder, and the ways in last.
pub(super) fn open(folder: &Path, hosts: &[ClientHost<'_>]) -> Result<()> {
    let config = write_client_config(folder, hosts)?;
    let config = config.to_str().with_context(|| {
        let folder = folder.display();
        format!("the folder {folder} is not UTF-8: choose another XDG_CACHE_HOME")
    })?;
    let entrances = hosts.iter().map(|host| Entrance {
        host: host.name.to_owned(),
        options: vec!["-F".into(), config.to_owned()],
        destination: host.name.to_owned(),
    });
    write(folder, &Vec::from_iter(entrances))
}

/// Writes the ways in. Who sees the file finds everything that it speaks of.
pub(super) fn write(folder: &Path, entrances: &[Entrance]) -> Result<()> {
    let file = folder.join(FILE);
    let about = || format!("cannot write {}", file.display());
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.with_context(about)?;
    let part = folder.join(format!(".{FILE}.part"));
    let mut options = std::fs::OpenOptions::new();
    let out = options.write(true).create_new(true).mode(0o600).open(&part);
    serde_json::to_writer(out.with_context(about)?, entrances).with_context(about)?;
    std::fs::rename(&part, &file).with_context(about)
}

/// The ways in; none where the lab has none, or not yet.
pub(super) fn read(folder: &Path) -> Result<Vec<Entrance>> {
    let file = folder.join(FILE);
    let about = || format!("cannot read {}", file.display());
    match std::fs::metadata(&file) {
        Ok(stat) if stat.len() <= ENTRY_BYTES_MAX => {}
        Ok(_) => anyhow::bail!("{} is too large to be the harness's", file.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(about),
    }
    match std::fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).with_context(about),
        // The lab has gone down meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(about),
    }
}
