//! Where things lie: the share, and the logs that must not lie in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{DaemonError, Settings};
use crate::path::shown;
use crate::share::ShareError;

/// The share's path; the default one is made on the very first start.
pub(super) fn share_path(settings: &Settings) -> Result<PathBuf, DaemonError> {
    if let Some(share) = &settings.share {
        return Ok(share.clone());
    }
    let share = PathBuf::from("share");
    match std::fs::create_dir(&share) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => {
            return Err(ShareError::Open {
                path: "./share".into(),
                source,
            }
            .into());
        }
    }
    Ok(share)
}

/// A log inside the share would be a change with every line.
pub(super) fn refuse_log_inside(share: &Path) -> Result<(), DaemonError> {
    let Ok(share) = share.canonicalize() else {
        return Ok(());
    };
    for output in ["/proc/self/fd/1", "/proc/self/fd/2"] {
        if std::fs::read_link(output).is_ok_and(|target| target.starts_with(&share)) {
            return Err(DaemonError::Events(
                "the log lies inside the share; send it to a file outside".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Opens the events file, which must not lie in the share: each event would
/// be a change to tell events about.
pub(super) fn open_events(path: &Path, share: &Path) -> Result<File, DaemonError> {
    let named = shown(path.as_os_str().as_encoded_bytes());
    let failed =
        |error: io::Error| DaemonError::Events(format!("cannot open events file {named}: {error}"));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(failed)?;
    // A link could lead into the share as well.
    let lies_in = path.canonicalize().unwrap_or(folder);
    if share
        .canonicalize()
        .is_ok_and(|share| lies_in.starts_with(share))
    {
        return Err(DaemonError::Events(format!(
            "events file {named} lies inside the share; give a place outside"
        )));
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(failed)
}
