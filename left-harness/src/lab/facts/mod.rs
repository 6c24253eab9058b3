//! What a machine is and has, found out by one POSIX shell script in one round trip:
//! before anything of the harness is there, and on hosts that have nothing but `sh`.
//!
//! [`ask`] runs it on a host, [`here`] on this machine; [`Facts::judge`] turns what it
//! said into what a user can act on.

mod judge;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::host::remote::{Command, Remote};

pub use judge::{Judged, Limits};

/// The script; its answers end with `end=yes`.
const SCRIPT: &str = include_str!("ask.sh");

/// It asks the machine a few dozen things; on a slow one, over a slow line.
const ASK_DEADLINE: Duration = Duration::from_secs(30);

/// An honest answer has a page.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// No value is longer than a path.
const VALUE_CHARS_MAX: usize = 4096;

/// What a machine said of itself. Foreign text: escape it before it is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    values: BTreeMap<String, Vec<String>>,
    /// How far its clock is ahead of ours, in seconds, give or take `clock_doubt`.
    pub clock_ahead: Option<f64>,
    /// Half the round trip, and what the clock's reading was rounded by.
    pub clock_doubt: f64,
    /// This machine itself: its clock is ours.
    pub is_here: bool,
}

impl Facts {
    /// Reads the script's answer; lines that are not its own, such as a greeting of the
    /// login shell, are passed over.
    fn parse(answer: &[u8]) -> Option<Self> {
        let answer = &answer[..answer.len().min(ANSWER_BYTES_MAX)];
        let text = String::from_utf8_lossy(answer);
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim().chars().take(VALUE_CHARS_MAX).collect();
            values.entry(key.to_owned()).or_default().push(value);
        }
        values.contains_key("end").then_some(Self {
            values,
            ..Self::default()
        })
    }

    /// The last answer of this name; an empty one is none.
    pub fn get(&self, key: &str) -> Option<&str> {
        let last = self.values.get(key)?.last()?;
        (!last.is_empty()).then_some(last.as_str())
    }

    /// The harness's folder with the home put in.
    pub fn folder(&self) -> Option<PathBuf> {
        self.get("folder").map(PathBuf::from)
    }

    /// Whether the folder bears the harness's marker.
    pub fn is_adopted(&self) -> bool {
        self.get("marker").is_some()
    }

    /// Whoever logs in there is root.
    pub fn is_root(&self) -> bool {
        self.get("uid") == Some("0")
    }

    /// Compares its clock with ours, which read `before` and `after` the question.
    fn compare_clocks(&mut self, before: SystemTime, after: SystemTime) {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_secs_f64()
        };
        // Where `date` knows no fractions, it says `1795356312.` or `1795356312.%N`.
        let Some((whole, fraction)) = self.get("now").and_then(|now| now.split_once('.')) else {
            return;
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (text, rounded) = match is_number(fraction) {
            true => (format!("{whole}.{fraction}"), 0.0),
            false => (format!("{whole}.5"), 0.5),
        };
        let Ok(theirs) = text.parse::<f64>() else {
            return;
        };
        let (before, after) = (seconds(before), seconds(after));
        self.clock_ahead = Some(theirs - (before + after) / 2.0);
        self.clock_doubt = (after - before).max(0.0) / 2.0 + rounded;
    }
}

/// Asks a host.
///
/// # Errors
/// If it does not answer, or has no `sh` that does what it is told.
pub async fn ask(remote: &dyn Remote, folder: &str) -> Result<Facts> {
    let host = remote.name();
    let command = Command::new(["sh", "-c", SCRIPT, "sh", folder]).deadline(ASK_DEADLINE);
    let before = SystemTime::now();
    let output = remote.exec(command).await?;
    let after = SystemTime::now();
    let Some(mut facts) = Facts::parse(&output.stdout) else {
        let complaint = crate::check::text::escaped(output.stderr.trim_ascii());
        let complaint: String = complaint.chars().take(400).collect();
        bail!(
            "host {host} does not say what it is: it needs a POSIX `sh` for whoever logs in \
             (it said: {complaint:?})"
        );
    };
    facts.compare_clocks(before, after);
    Ok(facts)
}

/// Asks this machine.
///
/// # Errors
/// If it has no `sh`.
pub async fn here(folder: &str) -> Result<Facts> {
    let mut command = tokio::process::Command::new("sh");
    command
        .args(["-c", SCRIPT, "sh", folder])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let asked = tokio::time::timeout(ASK_DEADLINE, command.output()).await;
    let output = asked
        .context("this machine does not say what it is in time")?
        .context("cannot run sh on this machine")?;
    let facts = Facts::parse(&output.stdout);
    let mut facts = facts.context("the sh of this machine does not do what it is told")?;
    facts.is_here = true;
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_machine_says_what_it_is() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path().join("not/yet").display().to_string();
        let facts = here(&folder).await.expect("there is a sh");
        assert_eq!(facts.get("arch"), Some(std::env::consts::ARCH));
        assert_eq!(facts.get("folder"), Some(folder.as_str()));
        assert_eq!(facts.get("folder_is"), None);
        assert!(
            facts
                .get("free_kib")
                .is_some_and(|kib| kib.parse::<u64>().is_ok())
        );
        assert!(facts.get("mount_options").is_some(), "{facts:?}");
        assert!(!facts.is_adopted());
        let home = here("~/x").await.expect("there is a sh");
        let wanted = std::env::var("HOME").map(|home| format!("{home}/x"));
        assert_eq!(home.get("folder"), wanted.ok().as_deref());
    }

    #[test]
    fn a_greeting_and_an_answer_that_breaks_off_are_told_apart() {
        let said = b"Welcome!\nDISPLAY=1\narch=x86_64\nuid=0\nend=yes\n";
        let facts = Facts::parse(said).expect("complete");
        assert_eq!(facts.get("arch"), Some("x86_64"));
        assert!(facts.is_root());
        assert_eq!(Facts::parse(b"arch=x86_64\nuid=0\n"), None);
        assert_eq!(Facts::parse(b"This account is not available.\n"), None);
    }

    #[test]
    fn the_clock_is_compared_with_the_middle_of_the_round_trip() {
        let at = |seconds: f64| UNIX_EPOCH + Duration::from_secs_f64(seconds);
        let ahead = |now: &str| {
            let said = format!("now={now}\nend=yes\n");
            let mut facts = Facts::parse(said.as_bytes()).expect("complete");
            facts.compare_clocks(at(100.0), at(104.0));
            (facts.clock_ahead, facts.clock_doubt)
        };
        assert_eq!(ahead("105.5"), (Some(3.5), 2.0));
        assert_eq!(ahead("101."), (Some(-0.5), 2.5));
        assert_eq!(ahead("101.%N"), (Some(-0.5), 2.5));
        assert_eq!(ahead("soon"), (None, 0.0));
    }
}
