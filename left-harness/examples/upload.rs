//! Sends one file to a host as the harness sends its programs, and prints how long
//! the upload took, without connecting: `upload ADDRESS PORT USER KEY HOST_KEY FROM TO`.
//! KEY is a private key's file, HOST_KEY the file with the host's public key.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use left_harness::host::keys::{PrivateKey, PublicKey};
use left_harness::host::remote::Remote;
use left_harness::host::ssh::{Credential, Door, HostKey, Ssh, Way};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, port, user, key, host_key, from, to] = &arguments[..] else {
        bail!("usage: upload ADDRESS PORT USER KEY HOST_KEY FROM TO");
    };
    let key = PrivateKey::read_openssh_file(key).with_context(|| format!("cannot read {key}"))?;
    let host_key = PublicKey::read_openssh_file(host_key)
        .with_context(|| format!("cannot read {host_key}"))?;
    let way = Way::Tcp {
        address: address.clone(),
        port: port.parse().context("the port is no number")?,
    };
    let credential = Credential::Key(Arc::new(key));
    let door = Door::new("host", way, user, credential, HostKey::Pinned(host_key));
    let ssh = Ssh::connect(door).await?;
    let start = Instant::now();
    ssh.upload(Path::new(from), Path::new(to), 0o600, &|_| {})
        .await?;
    println!("{:.4}", start.elapsed().as_secs_f64());
    ssh.close().await;
    Ok(())
}
