//! What the program finds on a host before it is started: itself, where it is not
//! deployed, and the files that its adapter writes for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::site::Site;
use crate::check::text::escaped;
use crate::host::probe::Probe;
use crate::host::remote::{Command, Exit};
use crate::sut::adapter::{Adapter, Find, Source};

/// May hold a password: nobody else's business.
const FILE_MODE: u32 = 0o600;

/// What a host has for the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provided {
    /// Where the program is; `None` for one that `argv` names.
    pub program: Option<PathBuf>,
    /// As whom it runs; empty unless the adapter asks for it.
    pub uid: String,
}

/// Finds out what the adapter wants to know of a host.
///
/// # Errors
/// If the program is not there; the message says how to bring it.
pub async fn provided(
    adapter: &Adapter,
    probe: &Probe,
    deployed: Option<PathBuf>,
) -> Result<Provided> {
    let program = match (&adapter.source, deployed) {
        (Source::Found(find), None) => Some(on_host(find, probe).await?),
        (_, deployed) => deployed,
    };
    let uid = match adapter.asks_for_uid() {
        true => uid(probe).await?,
        false => String::new(),
    };
    Ok(Provided { program, uid })
}

/// A program that the user brought in a folder, though it could be found on the hosts.
pub fn brought<'f>(find: &'f Find, dir: &Path) -> Option<(&'f str, PathBuf)> {
    let names = find.names.iter().filter(|name| !name.contains('/'));
    names
        .map(|name| (name.as_str(), dir.join(name)))
        .find(|(_, path)| path.is_file())
}

/// Makes the adapter's files in the program's state folder.
///
/// # Errors
/// If one of them cannot be filled in or written.
pub async fn files(adapter: &Adapter, site: &Site) -> Result<()> {
    let files = adapter.files(&site.places()).map_err(|why| {
        anyhow!(
            "cannot make a file of the adapter {} on host {}: {why}; choose another place with --lab-dir",
            adapter.name,
            site.name
        )
    })?;
    for (name, text) in files {
        let to = site.state().join(name);
        let remote = &site.probe.remote;
        remote.write(&to, text.as_bytes(), FILE_MODE).await?;
    }
    Ok(())
}

async fn on_host(find: &Find, probe: &Probe) -> Result<PathBuf> {
    if let Some(place) = probe.find(&find.names).await? {
        return Ok(place);
    }
    let names = find.names.join(" or ");
    let host = probe.remote.name();
    let install = match &find.install {
        Some(install) => format!("`{install}` there"),
        None => "install it there".into(),
    };
    bail!("no program {names} on host {host}: {install}, or name a folder with it by --bin-dir")
}

async fn uid(probe: &Probe) -> Result<String> {
    let output = probe.remote.exec(Command::new(["id", "-u"])).await?;
    let host = probe.remote.name();
    if output.exit != Exit::Code(0) {
        let why = escaped(output.stderr.trim_ascii());
        bail!("`id -u` failed on host {host}: {why}");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let number: u32 = text.trim().parse().with_context(|| {
        let told = escaped(output.stdout.trim_ascii());
        format!("`id -u` on host {host} told no number: {told}")
    })?;
    Ok(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_can_be_brought() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("tool"), "").expect("written");
        let find = |names: &[&str]| Find {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            install: None,
        };
        let path = dir.path().join("tool");
        let full = path.to_str().expect("UTF-8");
        assert_eq!(brought(&find(&[full, "other"]), dir.path()), None);
        assert_eq!(
            brought(&find(&["other", "tool"]), dir.path()),
            Some(("tool", path.clone()))
        );
    }
}
