//! The folders that runs have left in hosts' homes on this machine.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::leases::MARKER;

/// A marker is an id, which has a few dozen bytes.
const MARKER_BYTES_MAX: u64 = 256;

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

/// `run-ID` with a marker that says ID, and a folder itself.
fn is_marked(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let Some(run) = name.and_then(|name| name.strip_prefix("run-")) else {
        return false;
    };
    let is_folder = std::fs::symlink_metadata(folder).is_ok_and(|stat| stat.is_dir());
    let marker = folder.join(MARKER);
    let is_small = std::fs::symlink_metadata(&marker)
        .is_ok_and(|stat| stat.is_file() && stat.len() <= MARKER_BYTES_MAX);
    is_folder && is_small && std::fs::read(&marker).is_ok_and(|id| id.trim_ascii() == run.as_bytes())
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
