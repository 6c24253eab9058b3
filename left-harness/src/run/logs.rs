//! What the program wrote about itself: brought home, and searched for signs that it broke.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::folder::RunFolder;
use super::site::Site;
use super::world::World;
use crate::at_once;
use crate::check::Finding;
use crate::check::text::escaped;
use crate::event::Outcome;

/// A longer log is not brought home whole, only its end: it must not fill this machine.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Lines shown.
const LINES_MAX: usize = 10;

/// A longer line is searched and shown in pieces of this length.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// A log on a host.
struct Log {
    there: PathBuf,
    /// Its name here.
    name: String,
    /// The holder makes it before the program begins.
    is_always_there: bool,
}

/// Brings all logs home; says which ones that must be there could not be had. That is
/// a warning at first: it must never hide why a run failed.
pub async fn fetch(world: &World, folder: &RunFolder) -> Vec<String> {
    let to = folder.logs();
    let sites = world.sites.iter();
    let all = sites.flat_map(|site| logs(world, site).into_iter().map(move |log| (site, log)));
    let fetching = all.map(async |(site, log)| {
        let fetched = fetch_one(site, &log, &to).await;
        (log, fetched)
    });
    let mut missing = Vec::new();
    for (log, fetched) in at_once::all(fetching).await {
        match fetched {
            Ok(None) => {}
            Ok(Some(note)) => world.sink.warn(note),
            Err(error) => {
                world.sink.warn(format!("cannot fetch a log: {error:#}"));
                if log.is_always_there {
                    missing.push(log.name);
                }
            }
        }
    }
    missing
}

/// All logs of a host. Two that have the same name there have different ones here.
fn logs(world: &World, site: &Site) -> Vec<Log> {
    let mut logs = Vec::new();
    for start in 1..=site.starts() {
        logs.push(Log {
            there: site.hold_dir(start).join("log"),
            name: format!("{}-{start}.log", site.name),
            is_always_there: true,
        });
    }
    let mut taken: BTreeSet<String> = logs.iter().map(|log| log.name.clone()).collect();
    for there in world.adapter.logs(&site.places()) {
        let there = PathBuf::from(there);
        let own = there.file_name().unwrap_or_default().to_string_lossy();
        let mut name = format!("{}-{own}", site.name);
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{}-{number}-{own}", site.name);
            number += 1;
        }
        logs.push(Log {
            there,
            name,
            is_always_there: false,
        });
    }
    logs
}

async fn fetch_one(site: &Site, log: &Log, to: &Path) -> Result<Option<String>> {
    let remote = &site.probe.remote;
    let to = to.join(&log.name);
    let size = remote.stat(&log.there).await?.map_or(0, |stat| stat.size);
    if size <= LOG_BYTES_MAX {
        remote.download(&log.there, &to).await?;
        return Ok(None);
    }
    let end = remote
        .read(&log.there, size - LOG_BYTES_MAX, LOG_BYTES_MAX as usize)
        .await?;
    tokio::fs::write(&to, end)
        .await
        .with_context(|| format!("cannot write {}", to.display()))?;
    Ok(Some(format!(
        "only the last {} MiB of {} were fetched: it has {} MiB",
        LOG_BYTES_MAX >> 20,
        log.name,
        size >> 20
    )))
}

/// A program that panicked has failed, whatever its files look like; one whose log
/// nobody has seen may have.
///
/// # Errors
/// If a log that was fetched cannot be read.
pub fn findings(world: &World, folder: &RunFolder, missing: &[String]) -> Result<Vec<Finding>> {
    let mut details = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder.logs())
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("cannot list {}", folder.logs().display()))?;
    entries.sort();
    for path in entries {
        let lines = search(&path, &world.adapter.panics)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        details.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
    }
    if !details.is_empty() {
        details.truncate(LINES_MAX);
        let text = format!("{} panicked", world.adapter.name);
        return Ok(vec![
            Finding::new("log", Outcome::Fail, text).with_details(details),
        ]);
    }
    if missing.is_empty() || world.adapter.panics.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "nobody can tell whether {} panicked: {} could not be fetched",
        world.adapter.name,
        missing.join(", ")
    );
    Ok(vec![Finding::new("log", Outcome::Inconclusive, text)])
}

/// The first lines that hold one of the words.
fn search(path: &Path, words: &[String]) -> std::io::Result<Vec<String>> {
    let mut log = BufReader::new(File::open(path)?);
    let mut found = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = log
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 || found.len() == LINES_MAX {
            return Ok(found);
        }
        let text = String::from_utf8_lossy(&line);
        if words.iter().any(|word| text.contains(word.as_str())) {
            found.push(escaped(text.trim_end().as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_among_bytes_that_are_no_text() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("log");
        std::fs::write(&path, b"fine\n\xff\xfe thread 'x' panicked at y.rs\nrest")
            .expect("written");
        let words = ["panicked at".to_owned()];
        let found = search(&path, &words).expect("readable");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("panicked at y.rs"), "{found:?}");
        assert_eq!(search(&path, &[]).expect("readable"), Vec::<String>::new());
    }
}
