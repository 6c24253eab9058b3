//! Programs on a host: sent by SFTP only when they are not there already, and
//! verified by digest on the host before they are used.
//!
//! A program's name carries its digest (`bin/left-3f2a…`), so that two runs, or
//! two versions, never disturb one another and nothing is ever overwritten while
//! it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use super::machine;
use crate::check::text::escaped;
use crate::host::probe::Probe;
use crate::host::remote::{Command, Exit, Remote, path_text};
use crate::lab::Host;

/// A program that no run has used for so long is removed from a host.
const UNUSED_DAYS_MAX: u32 = 7;

/// A transfer that has not gone on for so long never will: its harness is gone, or has
/// given the host up.
const STILL_MINUTES_MAX: u32 = 1;

/// As much of its digest is in a program's name.
const DIGEST_DIGITS: usize = 16;

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
        self.below(&host.home)
    }

    /// Where it is below the harness's folder on a host.
    fn below(&self, home: &Path) -> PathBuf {
        let digest = self.digest.to_hex();
        home.join("bin")
            .join(format!("{}-{}", self.name, &digest[..DIGEST_DIGITS]))
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

/// Brings the probe, unless its lab has, and other programs to a host.
///
/// # Errors
/// If a program cannot be sent, or is not itself after it was sent.
pub async fn deploy(
    host: &Host,
    probe: &Program,
    others: &[&Program],
    on_bytes: &(dyn Fn(&str, u64, u64) + Sync),
) -> Result<(Probe, Deployed)> {
    let (remote, home) = (&host.remote, host.home.as_path());
    let (remote_probe, mut deployed) = match &host.probe {
        Some(there) => (there.clone(), Deployed::default()),
        None => deploy_probe(remote, home, probe, on_bytes).await?,
    };
    deploy_others(&remote_probe, home, others, on_bytes, &mut deployed).await?;
    Ok((remote_probe, deployed))
}

/// Brings the probe alone to a host, below the harness's folder `home` there.
///
/// # Errors
/// If it cannot be sent, or does not run there.
pub async fn deploy_probe(
    remote: &Arc<dyn Remote>,
    home: &Path,
    probe: &Program,
    on_bytes: &(dyn Fn(&str, u64, u64) + Sync),
) -> Result<(Probe, Deployed)> {
    let mut deployed = Deployed::default();
    let there = probe.below(home);
    let remote_probe = Probe::new(remote.clone(), there.clone());
    // The probe tells its own digest: nothing else on the host can.
    let (is_program, own) = tokio::join!(is_program(&**remote, &there), remote_probe.self_digest());
    if is_program? && own.is_ok_and(|own| own.hash == probe.digest) {
        deployed.kept += 1;
        return Ok((remote_probe, deployed));
    }
    remote.make_dir(&home.join("bin")).await?;
    send(&**remote, &there, probe, on_bytes, &mut deployed).await?;
    let own = match remote_probe.self_digest().await {
        Ok(own) => own,
        Err(error) => return Err(does_not_run(&**remote, home, &error.to_string()).await),
    };
    if own.hash != probe.digest {
        bail!(
            "the probe on host {} is not the one that was sent",
            remote.name()
        );
    }
    Ok((remote_probe, deployed))
}

/// Brings programs to a host whose probe is there, below the harness's folder `home`.
///
/// # Errors
/// If one of them cannot be sent, or is not itself after it was sent.
pub async fn deploy_others(
    probe: &Probe,
    home: &Path,
    others: &[&Program],
    on_bytes: &(dyn Fn(&str, u64, u64) + Sync),
    deployed: &mut Deployed,
) -> Result<()> {
    let remote = &probe.remote;
    for program in others {
        let there = program.below(home);
        // One that cannot be read is sent again.
        let (is_program, found) =
            tokio::join!(is_program(&**remote, &there), digest(probe, &there));
        if is_program? && found.is_ok_and(|(_, hash)| hash == program.digest) {
            deployed.kept += 1;
            continue;
        }
        send(&**remote, &there, program, on_bytes, deployed).await?;
        let (_, sent) = digest(probe, &there).await?;
        if sent != program.digest {
            bail!(
                "{} on host {} is not what was sent: digest {sent} instead of {}",
                program.name,
                remote.name(),
                program.digest
            );
        }
    }
    Ok(())
}

/// The probe was sent and is whole, but says nothing.
async fn does_not_run(remote: &dyn Remote, home: &Path, error: &str) -> anyhow::Error {
    let host = remote.name();
    match machine::why_not_executed(remote, &home.join("bin")).await {
        Some(why) => anyhow!("the probe does not run on host {host}: {why}"),
        None => anyhow!(
            "the probe does not run on host {host}: {error}; if it is not made for that host, bring one that is with --bin-dir"
        ),
    }
}

/// Size and digest of a file on a host.
///
/// # Errors
/// If it cannot be read there.
pub async fn digest(probe: &Probe, file: &Path) -> Result<(u64, blake3::Hash)> {
    let digests = probe.digest(&[file.to_owned()]).await?;
    let content = digests.into_iter().next().map(|digest| digest.content);
    match content {
        Some(Ok(content)) => Ok(content),
        Some(Err(why)) => bail!(
            "cannot read {} on host {}: {why}",
            file.display(),
            probe.remote.name()
        ),
        None => bail!("the probe on host {} told no digest", probe.remote.name()),
    }
}

/// There is something under its name that can be executed; marks it as used.
async fn is_program(remote: &dyn Remote, there: &Path) -> Result<bool> {
    // Best effort: one that is not marked is removed in a week and sent again. Where
    // there is none, none is made.
    let touch = Command::new([
        "touch".to_owned(),
        "-c".into(),
        "--".into(),
        path_text(there)?,
    ]);
    let (stat, touched) = tokio::join!(remote.stat(there), remote.exec(touch));
    touched?;
    Ok(stat?.is_some_and(|stat| !stat.is_dir && stat.mode & 0o111 != 0))
}

/// Removes the programs of old runs and what interrupted transfers left of them, below
/// the harness's folder `home`; tells how much that was. Each use of a program marks it
/// by its mtime, and a program that runs is not disturbed when its name goes.
///
/// # Errors
/// If the host cannot look for them or one of them stays.
pub async fn remove_unused(remote: &dyn Remote, home: &Path) -> Result<usize> {
    // find counts whole days and drops the rest: more than six are seven.
    let unused_days = format!("+{}", UNUSED_DAYS_MAX - 1);
    let still_minutes = format!("+{STILL_MINUTES_MAX}");
    let bin = path_text(&home.join("bin"))?;
    let digest = "[0-9a-f]".repeat(DIGEST_DIGITS);
    let (program, part) = (format!("*-{digest}"), format!(".*-{digest}.tmp-*"));
    let mut argv = vec!["find", &bin, "-type", "f", "("];
    argv.extend(["-name", &program, "-mtime", &unused_days, "-o"]);
    argv.extend(["-name", &part, "-mmin", &still_minutes, ")"]);
    argv.extend(["-print", "-exec", "rm", "-f", "--", "{}", "+"]);
    let output = remote.exec(Command::new(argv)).await?;
    if output.exit != Exit::Code(0) {
        bail!(
            "looking in {bin} on host {}: {}",
            remote.name(),
            escaped(output.stderr.trim_ascii())
        );
    }
    Ok(output.stdout.split(|byte| *byte == b'\n').count() - 1)
}

async fn send(
    remote: &dyn Remote,
    there: &Path,
    program: &Program,
    on_bytes: &(dyn Fn(&str, u64, u64) + Sync),
    deployed: &mut Deployed,
) -> Result<()> {
    let total = std::fs::metadata(&program.path)
        .with_context(|| format!("cannot read {}", program.path.display()))?
        .len();
    remote
        .upload(&program.path, there, 0o755, &|done| {
            on_bytes(&program.name, done, total)
        })
        .await?;
    deployed.sent += 1;
    deployed.bytes += total;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::host::local_remote::LocalRemote;

    #[tokio::test]
    async fn what_nobody_uses_and_what_no_transfer_goes_on_with_is_removed() {
        const MINUTE: Duration = Duration::from_secs(60);
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let home = tempfile::tempdir().expect("a temporary folder");
        let bin = home.path().join("bin");
        std::fs::create_dir(&bin).expect("made");
        let digest = "0123456789abcdef";
        let files = [
            (format!("left-{digest}"), 8 * DAY, false),
            (format!("probe-{digest}"), 6 * DAY, true),
            (format!(".left-{digest}.tmp-0a1b2c3d"), 3 * MINUTE, false),
            (format!(".left-{digest}.tmp-3d2c1b0a"), MINUTE / 2, true),
            ("mine".to_owned(), 800 * DAY, true),
        ];
        for (name, age, _) in &files {
            let file = std::fs::File::create(bin.join(name)).expect("made");
            file.set_modified(SystemTime::now() - *age).expect("set");
        }
        let removed = remove_unused(&LocalRemote, home.path()).await;
        assert_eq!(removed.expect("there is a find"), 2);
        for (name, _, stays) in &files {
            assert_eq!(bin.join(name).exists(), *stays, "{name}");
        }
    }
}
