//! What OpenSSH's own programs need to reach hosts of a lab: `ssh -F FILE a`.

use std::fmt::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use russh::keys::ssh_key::LineEnding;

use super::keys::{PrivateKey, PublicKey};

/// A host of a lab, for the user's own client.
pub struct ClientHost<'a> {
    /// What to call it: `a`.
    pub name: &'a str,
    /// Where its SSH server listens.
    pub address: &'a str,
    /// And on which port.
    pub port: u16,
    /// Who logs in.
    pub user: &'a str,
    /// The key that opens it.
    pub key: &'a PrivateKey,
    /// The key that it has.
    pub host_key: &'a PublicKey,
}

/// Writes a configuration for `hosts` with their keys into the folder `dir`, which is
/// made if need be; only its owner can look into it. Returns the configuration's path.
///
/// # Errors
/// If it cannot be written, or a path or name cannot stand in such a file.
pub fn write_client_config(dir: &Path, hosts: &[ClientHost<'_>]) -> Result<PathBuf> {
    let mut making = std::fs::DirBuilder::new();
    let made = making.recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(dir, private)
        .with_context(|| format!("cannot keep others out of the folder {}", dir.display()))?;
    let dir = dir
        .canonicalize()
        .with_context(|| format!("cannot use the folder {}", dir.display()))?;
    let (mut known, mut config) = (String::new(), String::new());
    let known_file = dir.join("known_hosts");
    for host in hosts {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        for word in [host.name, host.address, host.user] {
            if word.is_empty() || !word.chars().all(plain) {
                bail!("{word:?} cannot stand in an SSH configuration");
            }
        }
        let key_file = dir.join(format!("key-{}", host.name));
        let key = host.key.to_openssh(LineEnding::LF);
        let key = key.with_context(|| format!("cannot write the key of host {}", host.name))?;
        write_private(&key_file, &key)?;
        let host_key = host.host_key.to_openssh();
        let host_key =
            host_key.with_context(|| format!("cannot write the key of host {}", host.name))?;
        // By its name, so that the line holds whatever the port.
        let alias = format!("left-harness-{}", host.name);
        let _ = writeln!(known, "{alias} {host_key}");
        let _ = write!(
            config,
            "Host {}\n  HostName {}\n  Port {}\n  User {}\n  IdentityFile {}\n  \
             IdentitiesOnly yes\n  IdentityAgent none\n  HostKeyAlias {alias}\n  \
             UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  \
             StrictHostKeyChecking yes\n  UpdateHostKeys no\n  ControlMaster no\n  \
             ControlPath none\n  LogLevel ERROR\n\n",
            host.name,
            host.address,
            host.port,
            host.user,
            quoted(&key_file)?,
            quoted(&known_file)?,
        );
    }
    write_private(&known_file, &known)?;
    let config_file = dir.join("config");
    write_private(&config_file, &config)?;
    Ok(config_file)
}

/// Written anew, so that it never had another mode.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let about = || format!("cannot write {}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(about);
        }
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(about)?;
    file.write_all(text.as_bytes()).with_context(about)
}

/// A path as a value: blanks are good between quotes, and a percent sign twice.
fn quoted(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(['"', '$', '\\']) && !text.chars().any(char::is_control));
    let text =
        text.with_context(|| format!("the path {path:?} cannot stand in an SSH configuration"))?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}
