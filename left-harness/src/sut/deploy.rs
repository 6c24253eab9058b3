//! Programs on a host: sent by SFTP only when they are not there already, and
//! verified by digest on the host before they are used.
//!
//! A program's name carries its digest (`bin/left-3f2a…`), so that two runs, or
//! two versions, never disturb one another and nothing is ever overwritten while
//! it runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::probe::Probe;
use crate::lab::Host;

/// A program of this machine that hosts need.
#[derive(Debug, Clone)]
pub struct Program {
    /// `left`
    pub name: String,
    /// Where it is here.
    pub path: PathBuf,
    digest: blake3::Hash,
}

impl Program {
    /// Reads a program's digest.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn at(name: &str, path: &Path) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let file =
            std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        hasher
            .update_reader(file)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            name: name.into(),
            path: path.into(),
            digest: hasher.finalize(),
        })
    }

    /// Where it is on a host.
    pub fn on(&self, host: &Host) -> PathBuf {
        let digest = self.digest.to_hex();
        host.home
            .join("bin")
            .join(format!("{}-{}", self.name, &digest[..16]))
    }
}

/// What a deployment did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deployed {
    /// Programs sent.
    pub sent: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Programs that were there already and are what they must be.
    pub kept: usize,
}

/// Brings the probe and other programs to a host.
///
/// # Errors
/// If a program cannot be sent, or is not itself after it was sent.
pub async fn deploy(
    host: &Host,
    probe: &Program,
    others: &[&Program],
    on_bytes: &(dyn Fn(&str, u64, u64) + Sync),
) -> Result<(Probe, Deployed)> {
    host.remote.make_dir(&host.home.join("bin")).await?;
    let mut deployed = Deployed::default();
    let remote_probe = Probe::new(host.remote.clone(), probe.on(host));
    // The probe tells its own digest: nothing else on the host can.
    if host.remote.stat(&probe.on(host)).await?.is_some()
        && remote_probe
            .self_digest()
            .await
            .is_ok_and(|own| own.hash == probe.digest)
    {
        deployed.kept += 1;
    } else {
        send(host, probe, on_bytes, &mut deployed).await?;
        let own = remote_probe
            .self_digest()
            .await
            .with_context(|| format!("the probe does not run on host {}", host.name))?;
        if own.hash != probe.digest {
            bail!(
                "the probe on host {} is not the one that was sent",
                host.name
            );
        }
    }
    for program in others {
        let there = program.on(host);
        if host.remote.stat(&there).await?.is_some()
            && digest(&remote_probe, &there).await? == program.digest
        {
            deployed.kept += 1;
            continue;
        }
        send(host, program, on_bytes, &mut deployed).await?;
        let sent = digest(&remote_probe, &there).await?;
        if sent != program.digest {
            bail!(
                "{} on host {} is not what was sent: digest {sent} instead of {}",
                program.name,
                host.name,
                program.digest
            );
        }
    }
    Ok((remote_probe, deployed))
}

/// What a file on a host is.
///
/// # Errors
/// If it cannot be read there.
pub async fn digest(probe: &Probe, file: &Path) -> Result<blake3::Hash> {
    let digests = probe.digest(&[file.to_owned()]).await?;
    let content = digests.into_iter().next().map(|digest| digest.content);
    match content {
        Some(Ok((_, hash))) => Ok(hash),
        Some(Err(why)) => bail!(
            "cannot read {} on host {}: {why}",
            file.display(),
            probe.remote.name()
        ),
        None => bail!("the probe on host {} told no digest", probe.remote.name()),
    }
}

async fn send(
    host: &Host,
    program: &Program,
    on_bytes: &(dyn Fn(&str, u64, u64) + Sync),
    deployed: &mut Deployed,
) -> Result<()> {
    let total = std::fs::metadata(&program.path)
        .with_context(|| format!("cannot read {}", program.path.display()))?
        .len();
    host.remote
        .upload(&program.path, &program.on(host), 0o755, &|done| {
            on_bytes(&program.name, done, total)
        })
        .await?;
    deployed.sent += 1;
    deployed.bytes += total;
    Ok(())
}
