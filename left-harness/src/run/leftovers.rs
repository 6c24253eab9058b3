//! What earlier runs have left on a host, because the power went out or their guard
//! was killed: found by its marker, and removed before the next run begins or by
//! `lab down`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::host::probe::{GuardSpec, Guarded, Probe, ProbeError};
use crate::lab::Host;
use crate::lab::run_folder::{self, KEPT_MARKER, MARKER, MARKER_BYTES_MAX};

/// A run that is just beginning has no guard for a moment.
const AGE_MIN: Duration = Duration::from_secs(60);

/// The folder of a run on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `20261122-140512-k3f9`
    pub run: String,
    /// Where it is.
    pub dir: PathBuf,
    /// What becomes of it.
    pub state: State,
}

/// What becomes of the folder of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its run goes on, or ended a few seconds ago: the guard takes it away.
    InUse,
    /// Nobody takes it away any more.
    Left,
    /// The user wanted to keep it.
    Kept,
}

/// Removes the folders of runs that nobody guards. What has no marker of its own run
/// is none of ours, and what has a guard is in use.
///
/// # Errors
/// If the host cannot be looked at, or one of them cannot be removed.
pub async fn remove(host: &Host, probe: &Probe) -> Result<()> {
    for found in find(probe, &host.home).await? {
        if found.state == State::Left {
            remove_one(probe, &found).await?;
        }
    }
    Ok(())
}

/// Every folder of a run below the harness's folder `home`.
///
/// # Errors
/// If the host cannot be looked at.
pub async fn find(probe: &Probe, home: &Path) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for name in probe.remote.list(home).await? {
        let Some(run) = name.strip_prefix("run-") else {
            continue;
        };
        let dir = home.join(&name);
        let state = if bears(probe, &dir, MARKER, run).await? {
            state(probe, &dir, run).await?
        } else if bears(probe, &dir, KEPT_MARKER, run).await? {
            State::Kept
        } else {
            continue;
        };
        all.push(Found {
            run: run.to_owned(),
            dir,
            state,
        });
    }
    Ok(all)
}

/// Removes a folder that was left; a guard does it, which there is none of yet.
///
/// # Errors
/// If it stays.
pub async fn remove_one(probe: &Probe, found: &Found) -> Result<()> {
    match guard(probe, &found.dir, &found.run).await? {
        Some(guard) => Ok(guard.heal().await?),
        // Another guard came in between: it takes the folder away.
        None => Ok(()),
    }
}

async fn state(probe: &Probe, dir: &Path, run: &str) -> Result<State> {
    if !is_old(run, SystemTime::now()) {
        return Ok(State::InUse);
    }
    match guard(probe, dir, run).await? {
        Some(guard) => {
            guard.dismiss().await?;
            Ok(State::Left)
        }
        None => Ok(State::InUse),
    }
}

/// Becomes the guard of a folder, if it has none.
async fn guard(probe: &Probe, dir: &Path, run: &str) -> Result<Option<Guarded>> {
    let spec = GuardSpec {
        dir: dir.to_owned(),
        id: run.to_owned(),
        lease: run_folder::LEASE,
    };
    match probe.guard(&spec).await {
        Ok(guard) => Ok(Some(guard)),
        // Another guard is there already: that run goes on.
        Err(ProbeError::Failed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a folder holds this marker of this run.
async fn bears(probe: &Probe, dir: &Path, marker: &str, run: &str) -> Result<bool> {
    let marker = dir.join(marker);
    if probe.remote.stat(&marker).await?.is_none() {
        return Ok(false);
    }
    let id = probe.remote.read(&marker, 0, MARKER_BYTES_MAX).await?;
    Ok(id.trim_ascii() == run.as_bytes())
}

/// Whether a run began long enough ago, by its name: `20261122-140512-k3f9`.
fn is_old(run: &str, now: SystemTime) -> bool {
    let digits: String = run.chars().filter(char::is_ascii_digit).take(14).collect();
    if digits.len() < 14 || !digits.is_ascii() {
        return false;
    }
    let (date, time) = digits.split_at(8);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    );
    let began = humantime::parse_rfc3339(&text).ok();
    let age = began.and_then(|began| now.duration_since(began).ok());
    age.is_some_and(|age| age >= AGE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_run_is_in_its_name() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_356_312);
        for (run, old) in [
            ("20261122-140412-k3f9", true),
            ("20261122-140413-k3f9", false),
            ("20261122-150000-k3f9", false),
            ("20200101-000000-aaaa", true),
            ("20209999-000000-aaaa", false),
            ("mine", false),
        ] {
            assert_eq!(is_old(run, now), old, "{run}");
        }
    }
}
