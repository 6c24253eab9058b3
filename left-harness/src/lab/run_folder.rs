//! The folder `run-ID` that a run has on a host: how it is known for what it is, and how
//! long it outlives its run.

use std::path::Path;
use std::time::Duration;

/// The file that says whose folder it is; nothing without it is ever removed.
pub const MARKER: &str = ".left-harness-run";

/// What the marker is called in a folder that the user wants to keep.
pub const KEPT_MARKER: &str = ".left-harness-kept";

/// A run's folder goes after this when the harness is gone: after the processes in
/// it, which have a shorter lease.
pub const LEASE: Duration = Duration::from_secs(7);

/// A marker is an id, which has a few dozen bytes.
pub const MARKER_BYTES_MAX: usize = 256;

/// Whether a folder of this machine is `run-ID` with a marker that says ID. One that is
/// kept is not: it is the user's.
pub fn is_marked(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let Some(run) = name.and_then(|name| name.strip_prefix("run-")) else {
        return false;
    };
    let is_folder = std::fs::symlink_metadata(folder).is_ok_and(|stat| stat.is_dir());
    let marker = folder.join(MARKER);
    let is_small = std::fs::symlink_metadata(&marker)
        .is_ok_and(|stat| stat.is_file() && stat.len() <= MARKER_BYTES_MAX as u64);
    is_folder
        && is_small
        && std::fs::read(&marker).is_ok_and(|id| id.trim_ascii() == run.as_bytes())
}
