//! What an earlier run had to leave on a host, because the power went out or its
//! guard was killed: found by its marker and removed before the next run begins.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::leases::{FOLDER_LEASE, MARKER};
use crate::host::probe::{GuardSpec, Probe, ProbeError};
use crate::lab::Host;

/// A run that is just beginning has no guard for a moment.
const AGE_MIN: Duration = Duration::from_secs(60);

/// A marker is an id, which has a few dozen bytes.
const ID_BYTES_MAX: usize = 256;

/// Removes the folders of runs that nobody guards. What has no marker of its own run
/// is none of ours, and what has a guard is in use.
///
/// # Errors
/// If the host cannot be looked at, or one of them cannot be removed.
pub async fn remove(host: &Host, probe: &Probe) -> Result<()> {
    for name in host.remote.list(&host.home).await? {
        let Some(run) = name.strip_prefix("run-") else {
            continue;
        };
        if is_old(run, SystemTime::now()) {
            remove_one(probe, &host.home.join(&name), run).await?;
        }
    }
    Ok(())
}

async fn remove_one(probe: &Probe, dir: &Path, run: &str) -> Result<()> {
    let marker = dir.join(MARKER);
    if probe.remote.stat(&marker).await?.is_none() {
        return Ok(());
    }
    let id = probe.remote.read(&marker, 0, ID_BYTES_MAX).await?;
    if id.trim_ascii() != run.as_bytes() {
        return Ok(());
    }
    let spec = GuardSpec {
        dir: dir.to_owned(),
        id: run.to_owned(),
        lease: FOLDER_LEASE,
    };
    match probe.guard(&spec).await {
        Ok(guard) => Ok(guard.heal().await?),
        // Another guard is there already: that run goes on.
        Err(ProbeError::Failed { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
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
