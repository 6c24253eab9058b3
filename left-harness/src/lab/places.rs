//! Where the harness keeps what outlives a run on this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The harness's own folder in the user's cache folder.
///
/// # Errors
/// If the user has neither a cache folder nor a home.
pub fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache =
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    match cache {
        Some(cache) => Ok(cache.join("left-harness")),
        None => bail!(
            "neither XDG_CACHE_HOME nor HOME is set: name a folder for the lab with --lab-dir"
        ),
    }
}

/// Makes the folder that stands for a host, and says its full path.
///
/// # Errors
/// If it cannot be made, or SFTP cannot carry its name.
pub fn home(dir: &Path, host: &str) -> Result<PathBuf> {
    let home = dir.join(host);
    std::fs::create_dir_all(&home).with_context(|| {
        format!(
            "cannot make the folder of host {host}, {}: choose another place with --lab-dir",
            home.display()
        )
    })?;
    let home = home
        .canonicalize()
        .with_context(|| format!("cannot use the folder {}", home.display()))?;
    if home.to_str().is_none() {
        bail!(
            "the folder of host {host}, {}, is not UTF-8, which SFTP cannot carry: choose another place with --lab-dir",
            home.display()
        );
    }
    Ok(home)
}
