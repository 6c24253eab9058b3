//! Processes that a run has left on a host though nobody holds them any more.
//!
//! Whatever a run starts bears the run's name in its environment, and has its program
//! or its folder below the harness's own: both must be so, and a process is killed only
//! if it started at the very moment that was seen.

use std::path::Path;

use anyhow::{Result, bail};

use crate::host::remote::{Command, Exit, Remote, path_text};

/// The variable of the environment in which whatever a run or a standing lab starts
/// bears its name.
pub const MARK: &str = "LEFT_HARNESS_RUN";

/// Looks and kills; its text says how.
const SCRIPT: &str = include_str!("find.sh");

/// A machine with more of them than this has other troubles.
const STRAYS_MAX: usize = 1000;

/// A process of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks since the machine did.
    start: u64,
    /// The run it belongs to.
    pub run: String,
}

impl Stray {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let stray = Self {
            pid: words.next()?.parse().ok()?,
            start: words.next()?.parse().ok()?,
            run: words.next()?.to_owned(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_run = !stray.run.is_empty() && stray.run.chars().all(plain);
        (is_run && words.next().is_none()).then_some(stray)
    }
}

/// Every process of a run of the harness's folder `home`, whether its run goes on or not.
///
/// # Errors
/// If the host cannot be asked.
pub async fn find(remote: &dyn Remote, home: &Path) -> Result<Vec<Stray>> {
    let output = ask(remote, home, &[]).await?;
    let text = String::from_utf8_lossy(&output);
    Ok(text
        .lines()
        .filter_map(Stray::parse)
        .take(STRAYS_MAX)
        .collect())
}

/// Kills one of them, if it is still the same.
///
/// # Errors
/// If the host cannot be asked.
pub async fn kill(remote: &dyn Remote, home: &Path, stray: &Stray) -> Result<()> {
    let words = [
        stray.pid.to_string(),
        stray.start.to_string(),
        stray.run.clone(),
    ];
    ask(remote, home, &words).await.map(drop)
}

async fn ask(remote: &dyn Remote, home: &Path, words: &[String]) -> Result<Vec<u8>> {
    let mut argv = vec!["sh".into(), "-c".into(), SCRIPT.into(), "sh".into()];
    argv.push(path_text(home)?);
    argv.extend(words.iter().cloned());
    let output = remote.exec(Command::new(argv)).await?;
    if output.exit != Exit::Code(0) {
        bail!(
            "cannot look for processes on host {}: {}",
            remote.name(),
            crate::check::text::escaped(output.stderr.trim_ascii())
        );
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};

    use super::*;
    use crate::host::local_remote::LocalRemote;

    fn sleeper(folder: &Path, run: &str) -> Child {
        std::process::Command::new("sleep")
            .arg("600")
            .env("LEFT_HARNESS_RUN", run)
            .current_dir(folder)
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep starts")
    }

    #[tokio::test]
    async fn only_a_process_of_a_run_of_this_folder_is_found_and_killed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let home = dir.path().canonicalize().expect("it is there").join("home");
        let run = home.join("run-x (1)");
        std::fs::create_dir_all(&run).expect("made");
        let mut ours = sleeper(&run, "20261122-140512-k3f9");
        let mut foreign = sleeper(dir.path(), "20261122-140512-k3f9");
        let strays = find(&LocalRemote, &home).await.expect("sh is there");
        let [stray] = &strays[..] else {
            panic!("one of them: {strays:?}")
        };
        assert_eq!(
            (stray.pid, stray.run.as_str()),
            (ours.id(), "20261122-140512-k3f9")
        );

        let reused = Stray {
            start: stray.start + 1,
            ..stray.clone()
        };
        kill(&LocalRemote, &home, &reused)
            .await
            .expect("sh is there");
        assert!(
            ours.try_wait().expect("a child").is_none(),
            "another process by then"
        );
        kill(&LocalRemote, &home, stray).await.expect("sh is there");
        assert!(!ours.wait().expect("a child").success());
        assert!(foreign.try_wait().expect("a child").is_none());
        foreign.kill().expect("a child");
        foreign.wait().expect("a child");
    }

    #[test]
    fn nonsense_is_no_process() {
        for line in ["", "1 2", "x 2 r", "1 2 ../x", "1 2 r r", "1 2 \u{1b}[2J"] {
            assert_eq!(Stray::parse(line), None, "{line:?}");
        }
    }
}
