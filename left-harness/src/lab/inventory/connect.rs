//! The way into a user's host: as `ssh` would go, its key known beforehand.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::file::Entered;
use crate::host::remote::Remote;
use crate::host::ssh::{Credential, Door, HostKey, Ssh, Way};

/// A host that has let us in.
pub struct Connected {
    /// The connection.
    pub remote: Arc<dyn Remote>,
    /// Where it went: a name or an address.
    pub address: String,
    /// And to which port.
    pub port: u16,
    /// What the configuration says and is not followed.
    pub notes: Vec<String>,
}

/// Connects to a host, which a scenario calls `name`.
///
/// # Errors
/// If it cannot be reached, does not show the key it must have, or does not let us in.
pub async fn connect(name: &str, entered: &Entered) -> Result<Connected> {
    let mut command = tokio::process::Command::new("ssh");
    command.arg("-G");
    if let Some(config) = &entered.config {
        command.arg("-F").arg(config);
    }
    if let Some(port) = entered.port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(identity) = &entered.identity {
        command.arg("-i").arg(identity);
    }
    let output = command.arg("--").arg(&entered.ssh).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let get = |key: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
            .map(str::to_owned)
    };
    let address = get("hostname").context("no hostname")?;
    let port: u16 = get("port").context("no port")?.parse()?;
    let user = get("user").context("no user")?;
    let identity = match &entered.identity {
        Some(identity) => identity.clone(),
        None => PathBuf::from(get("identityfile").context("no identity")?),
    };
    let known = match &entered.known_hosts {
        Some(known) => known.clone(),
        None => PathBuf::from(
            get("userknownhostsfile")
                .context("no known_hosts")?
                .split(' ')
                .next()
                .unwrap_or_default(),
        ),
    };
    let keys = russh::keys::known_hosts::known_host_keys_path(&address, port, &known)?;
    let Some((_, key)) = keys.into_iter().next() else {
        bail!("host {name} is not in {}", known.display());
    };
    let private = russh::keys::load_secret_key(&identity, None)
        .with_context(|| format!("cannot read {}", identity.display()))?;
    let door = Door::new(
        name,
        Way::Tcp {
            address: address.clone(),
            port,
        },
        user,
        Credential::Key(Arc::new(private)),
        HostKey::Pinned(key),
    );
    Ok(Connected {
        remote: Arc::new(Ssh::connect(door).await?),
        address,
        port,
        notes: Vec::new(),
    })
}
