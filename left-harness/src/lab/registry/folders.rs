//! The folders that runs have left in hosts' homes on this machine.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::run_folder::{MARKER, is_marked};

/// A guard marks its folder within milliseconds before it stands in it, on a machine
/// that is busy with other things.
const GUARD_START_MAX: Duration = Duration::from_secs(2);

/// Every folder in these homes that bears the mark of a run.
pub(super) fn of_runs<'a>(homes: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for home in homes {
        let entries = std::fs::read_dir(home).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        found.extend(paths.filter(|path| is_marked(path)));
    }
    found.sort();
    found
}

/// Whether something in a home will be taken away by its guard: a guard stands in a
/// folder, or the run of one is so young that its guard may just be coming.
pub fn awaits_guard(home: &Path) -> bool {
    let folders = of_runs(std::iter::once(home));
    if folders.is_empty() {
        return false;
    }
    let guarded = folders_with_processes();
    folders.iter().any(|folder| {
        let stat = std::fs::symlink_metadata(folder);
        let is_guarded = stat.is_ok_and(|stat| guarded.contains(&(stat.dev(), stat.ino())));
        let made = std::fs::symlink_metadata(folder.join(MARKER)).and_then(|stat| stat.modified());
        let age = made.map(|made| made.elapsed().unwrap_or_default());
        is_guarded || age.is_ok_and(|age| age < GUARD_START_MAX)
    })
}

/// Removes the folders of runs in a home that no process has to itself: a guard
/// stands in the folder that it guards. Says which.
///
/// # Errors
/// If one of them cannot be removed.
pub(super) fn remove_unguarded(home: &Path) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    let guarded = folders_with_processes();
    for folder in of_runs(std::iter::once(home)) {
        let stat = std::fs::symlink_metadata(&folder)
            .with_context(|| format!("cannot look at {}", folder.display()))?;
        if guarded.contains(&(stat.dev(), stat.ino())) {
            continue;
        }
        // Follows no link on its way, also if one is put there meanwhile.
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
            _ => removed.push(folder),
        }
    }
    Ok(removed)
}

/// By device and inode: a host may see the same folder under another name.
fn folders_with_processes() -> HashSet<(u64, u64)> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten();
    processes
        .filter_map(|process| {
            let process = process.ok()?;
            process.file_name().to_str()?.parse::<u32>().ok()?;
            // One that has ended, or is another user's, is no guard of ours.
            let stat = std::fs::metadata(process.path().join("cwd")).ok()?;
            Some((stat.dev(), stat.ino()))
        })
        .collect()
}
