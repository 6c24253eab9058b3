//! The folder of a run: everything that is known of it, kept on the dev box.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use rand::RngExt;
use serde_json::json;

use crate::check::manifest::Manifest;

/// Where history, result, logs and manifests of one run are kept.
#[derive(Debug, Clone)]
pub struct RunFolder {
    /// `20261122-140512-k3f9`
    pub run: String,
    /// `runs/20261122-140512-k3f9-resume`
    pub path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run below `out`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make(out: &Path, title: &str) -> Result<Self> {
        let run = new_run_id(SystemTime::now());
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.=".contains(c) {
                c
            } else {
                '-'
            }
        };
        let title: String = title.chars().map(safe).take(80).collect();
        let path = out.join(format!("{run}-{title}"));
        for dir in ["logs", "manifests"] {
            let dir = path.join(dir);
            std::fs::create_dir_all(&dir)
                .with_context(|| format!("cannot make the folder {}", dir.display()))?;
        }
        Ok(Self { run, path })
    }

    /// Where logs are put.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Keeps what a share looked like at the end.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_manifest(&self, host: &str, manifest: &Manifest) -> Result<()> {
        let path = self.path.join("manifests").join(format!("{host}.jsonl"));
        std::fs::write(&path, json_lines(manifest))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A line an entry, in order; names that are not UTF-8 as hex.
fn json_lines(manifest: &Manifest) -> String {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    };
    let entries = manifest.entries.iter().map(|(name, entry)| {
        json!({
            "path": text(name.as_bytes()),
            "kind": entry.kind.to_string(),
            "mode": format!("{:04o}", entry.mode),
            "mtime": entry.mtime.to_string(),
            "size": entry.size,
            "blake3": entry.content.map(|hash| hash.to_hex().to_string()),
            "target": entry.target.as_deref().map(text),
        })
    });
    let problems = manifest
        .problems
        .iter()
        .map(|(name, why)| json!({ "path": text(name.as_bytes()), "problem": why }));
    entries
        .chain(problems)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The second it began, in UTC, and enough chance that two never meet.
fn new_run_id(now: SystemTime) -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let second = humantime::format_rfc3339_seconds(now).to_string();
    let second: String = second.chars().filter(char::is_ascii_digit).collect();
    let mut random = rand::rng();
    let chance: String = (0..4)
        .map(|_| LETTERS[random.random_range(0..LETTERS.len())] as char)
        .collect();
    format!("{}-{}-{chance}", &second[..8], &second[8..])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_run_is_named_after_its_second() {
        let id = new_run_id(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_356_312));
        assert!(id.starts_with("20261122-140512-"), "{id}");
        assert_eq!(id.len(), "20261122-140512-k3f9".len());
    }

    #[test]
    fn a_title_never_leaves_the_folder() {
        let out = tempfile::tempdir().expect("a temporary folder");
        let folder = RunFolder::make(out.path(), "../../etc/x y").expect("it can be made");
        assert_eq!(folder.path.parent(), Some(out.path()));
        assert!(folder.logs().is_dir());
    }
}
