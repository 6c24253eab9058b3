//! The way into a user's host: as `ssh` would go, its key known beforehand.

use std::sync::Arc;

use anyhow::Result;

use super::file::Entered;
use crate::host::config::{Target, resolve};
use crate::host::remote::Remote;
use crate::host::ssh::{Door, Ssh};

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
    let (user, host) = match entered.ssh.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, entered.ssh.as_str()),
    };
    let target = Target {
        name: host.to_owned(),
        user,
        port: entered.port,
        identity: entered.identity.clone(),
        config: entered.config.clone(),
        known_hosts: entered.known_hosts.clone(),
        jump: entered.jump.clone(),
        password: entered.password,
    };
    let resolved = resolve(&target).await?;
    let door = Door::from_resolved(name, &resolved)?;
    Ok(Connected {
        remote: Arc::new(Ssh::connect(door).await?),
        address: resolved.address,
        port: resolved.port,
        notes: resolved.notes,
    })
}
