//! The ledger: what is attributable to a run on its hosts, and must be gone after it.
//!
//! Left by the program under test is a failure of the program; it is looked for when
//! every program has been stopped. Left by the harness is trouble of the
//! infrastructure; it is looked for when all has been taken away. Both times the host
//! is asked anew, whatever the harness believes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::world::World;
use crate::at_once;
use crate::check::Finding;
use crate::event::Outcome;
use crate::host::probe::{Probe, RunProcess};

/// A probe that has said its last words ends a moment later.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Shown of what was left.
const SHOWN_MAX: usize = 20;

/// A page of the ledger: one host.
#[derive(Clone)]
pub struct Page {
    /// The run.
    pub run: String,
    /// On this host.
    pub probe: Probe,
    /// Its folder there.
    pub dir: PathBuf,
}

/// Processes of the program that are there though all of it was stopped, and those
/// that were there when it ended.
///
/// # Errors
/// If a host cannot look.
pub async fn processes(world: &World) -> Result<Option<Finding>> {
    let mut details = Vec::new();
    let asking = world.sites.iter();
    let asking = asking.map(|site| site.probe.run_processes(&world.run));
    let seen = at_once::all_good(asking).await?;
    for (site, mut escaped) in world.sites.iter().zip(seen) {
        let name = &site.name;
        for exited in site.exits() {
            let how = exited.how();
            if exited.left_behind > 0 && !exited.was_killed() {
                let left = exited.left_behind;
                details.push(format!(
                    "- {name}: {left} processes lived on when it ended ({how})"
                ));
            }
            if exited.stuck > 0 {
                let stuck = exited.stuck;
                details.push(format!(
                    "- {name}: {stuck} processes cannot be killed ({how})"
                ));
            }
        }
        escaped.retain(|process| !process.is_ours);
        let shown = escaped.iter().take(SHOWN_MAX);
        details.extend(shown.map(|process| format!("- {name}: {process} has escaped")));
        if let Some(more @ 1..) = escaped.len().checked_sub(SHOWN_MAX) {
            details.push(format!("- {name}: {more} more have escaped"));
        }
    }
    let text = format!("{} left processes behind", world.adapter.name);
    Ok((!details.is_empty())
        .then(|| Finding::new("processes", Outcome::Fail, text).with_details(details)))
}

impl Page {
    /// Kills what the program has left, each process exactly.
    ///
    /// # Errors
    /// If one of them cannot be killed, or the host cannot look.
    pub async fn end_processes(&self) -> Result<()> {
        self.probe.end_run(&self.run).await?;
        Ok(())
    }

    /// Nothing of the run may be here any more.
    ///
    /// # Errors
    /// What is left, or that the host cannot look.
    pub async fn check(&self, folder_stays: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let (left, folder) = tokio::join!(
            self.probe.run_processes(&self.run),
            self.probe.remote.stat(&self.dir)
        );
        let mut left = left?;
        while !left.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
            left = self.probe.run_processes(&self.run).await?;
        }
        let mut left: Vec<_> = left
            .iter()
            .take(SHOWN_MAX)
            .map(RunProcess::to_string)
            .collect();
        if !folder_stays && folder?.is_some() {
            left.push(format!("folder {}", self.dir.display()));
        }
        if left.is_empty() {
            return Ok(());
        }
        let host = self.probe.remote.name();
        bail!("left on host {host}: {}", left.join("; "))
    }
}
