//! The programs that hosts need for a run, for each kind of host once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::provide;
use crate::lab::Probes;
use crate::sut::adapter::{Adapter, Source};
use crate::sut::build::{self, BuildProgress, PROBE};
use crate::sut::deploy::Program;

/// What is deployed to hosts of one kind.
pub struct Programs {
    /// The harness's own helper.
    pub probe: Program,
    /// The program under test, where it is built, or the user brought it.
    pub sut: Option<Program>,
}

/// All programs of a run, found or built when they are first asked for.
pub struct Stock<'a> {
    adapter: &'a Adapter,
    bin_dir: Option<&'a Path>,
    on_progress: &'a (dyn Fn(&str, BuildProgress) + Sync),
    found: Mutex<BTreeMap<String, Arc<Programs>>>,
}

impl<'a> Stock<'a> {
    /// Nothing yet. Who waits for a build is told its progress by name.
    pub fn new(
        adapter: &'a Adapter,
        bin_dir: Option<&'a Path>,
        on_progress: &'a (dyn Fn(&str, BuildProgress) + Sync),
    ) -> Self {
        Self {
            adapter,
            bin_dir,
            on_progress,
            found: Mutex::default(),
        }
    }

    /// Whether asking for them takes no time.
    pub async fn has(&self, machine: &str) -> bool {
        self.found.lock().await.contains_key(machine)
    }

    /// What hosts of this kind need, by `uname -m`.
    ///
    /// # Errors
    /// If one of them is neither found nor can be built.
    pub async fn programs(&self, machine: &str) -> Result<Arc<Programs>> {
        let mut found = self.found.lock().await;
        if let Some(programs) = found.get(machine) {
            return Ok(programs.clone());
        }
        let programs = Arc::new(self.find(machine).await?);
        found.insert(machine.to_owned(), programs.clone());
        Ok(programs)
    }

    async fn find(&self, machine: &str) -> Result<Programs> {
        let mut found = Vec::new();
        let sut = match &self.adapter.source {
            Source::Built(build) => Some((build.package.as_str(), build.binary.as_str())),
            Source::Named | Source::Found(_) => None,
        };
        for (package, name) in std::iter::once((PROBE, PROBE)).chain(sut) {
            let wanted = build::Wanted {
                package,
                binary: name,
                machine,
            };
            let progress = |progress| (self.on_progress)(name, progress);
            let path = build::program(&wanted, self.bin_dir, &progress).await?;
            found.push(Program::at(name, &path)?);
        }
        if let (Source::Found(find), Some(dir)) = (&self.adapter.source, self.bin_dir)
            && let Some((name, path)) = provide::brought(find, dir)
        {
            found.push(Program::at(name, &path)?);
        }
        let mut found = found.into_iter();
        Ok(Programs {
            probe: found.next().context("no probe was built")?,
            sut: found.next(),
        })
    }
}

#[async_trait]
impl Probes for Stock<'_> {
    async fn probe(&self, machine: &str) -> Result<Program> {
        Ok(self.programs(machine).await?.probe.clone())
    }
}
