//! Whose fault it is. Before a run says that the program failed, it looks whether the
//! ground was taken from under the program's feet.

use anyhow::{Context, Result};

use super::halt::{Halt, NO_SPACE, REMEDY};
use super::site::Site;
use super::world::World;
use crate::event::Outcome;
use crate::host::remote::{Command, RemoteError, path_text};

/// With less space than this a host's disk counts as full.
const FREE_KIB_MIN: u64 = 1024;

/// The verdict that stands, after a second look at the hosts.
///
/// # Errors
/// The halt itself, or a better explanation of it.
pub async fn judged(world: &World, verdict: Result<(), Halt>) -> Result<(), Halt> {
    if let Some(why) = world.leases.lost() {
        // Whatever was seen since then was seen on a folder that may be gone.
        let reason = match &verdict {
            Ok(()) => why,
            Err(halt) => format!("{why} ({})", halt.reason),
        };
        return Err(anyhow::anyhow!(reason).into());
    }
    let Err(mut halt) = verdict else {
        return Ok(());
    };
    if halt.outcome != Outcome::Fail {
        return Err(halt);
    }
    for site in &world.sites {
        if let Some(how) = full(site).await {
            halt.outcome = Outcome::Inconclusive;
            halt.reason = format!(
                "the disk of host {} is full ({how}), so that nobody can tell: {}; {REMEDY}",
                site.name, halt.reason
            );
            break;
        }
    }
    Err(halt)
}

/// How full the disk is on which the share lies, if it is too full; one that cannot be
/// asked is not.
async fn full(site: &Site) -> Option<String> {
    let free_kib = free_kib(site).await;
    if let Ok(free_kib @ ..FREE_KIB_MIN) = free_kib {
        return Some(format!("{free_kib} KiB are left"));
    }
    // There may be space, but for no further file.
    let remote = &site.probe.remote;
    let tried = remote.write(&site.temp().join("room"), b"x", 0o600).await;
    let no_room = |error: &RemoteError| error.to_string().contains(NO_SPACE);
    let refused = tried.is_err_and(|error| no_room(&error));
    refused.then(|| "it takes no further file".into())
}

/// What a program without privileges may still write where the share lies.
async fn free_kib(site: &Site) -> Result<u64> {
    let root = path_text(&site.ground)?;
    let asked = Command::new(["df".to_owned(), "-Pk".into(), "--".into(), root]);
    let output = site.probe.remote.exec(asked).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_free(&text).with_context(|| format!("no free space in the answer of df: {text:?}"))
}

/// The fourth word of the second line, by POSIX.
fn parse_free(text: &str) -> Option<u64> {
    let line = text.lines().nth(1)?;
    // The name of the file system may have spaces; the percentage tells where we are.
    let words: Vec<&str> = line.split_whitespace().collect();
    let percent = words.iter().position(|word| word.ends_with('%'))?;
    words.get(percent.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_read_from_what_df_says() {
        let head = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n";
        for (line, free) in [
            ("/dev/vda1  51290592  8 40000000  1% /\n", Some(40_000_000)),
            ("tmp fs on x  4096  4096 0 100% /mnt/a b\n", Some(0)),
            ("nonsense\n", None),
        ] {
            assert_eq!(parse_free(&format!("{head}{line}")), free, "{line}");
        }
        assert_eq!(parse_free(""), None);
    }
}
