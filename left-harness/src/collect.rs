//! From what a user names on the command line to the list of runs.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lab::Source;
use crate::run::{Keep, Request};
use crate::scenario::{self, Scenario};
use crate::sut::adapter::Adapter;
use crate::sut::build;

/// The folder of adapters beside scenarios; nothing in it is a scenario.
const ADAPTERS: &str = "suts";

/// Everything that is wrong with what was asked, ready for the terminal.
#[derive(Debug)]
pub struct Mistaken(Vec<String>);

impl Mistaken {
    /// One mistake.
    pub fn of(mistake: impl fmt::Display) -> Self {
        Self(vec![mistake.to_string()])
    }
}

impl fmt::Display for Mistaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n\n"))
    }
}

impl std::error::Error for Mistaken {}

/// How scenarios are to be run.
#[derive(Debug, Clone)]
pub struct Asked {
    /// An adapter's name or file.
    pub sut: String,
    /// Instead of the scenario's.
    pub seed: Option<u64>,
    /// How often each; 0 counts as once.
    pub repeat: u32,
    /// Where the hosts come from.
    pub lab: Source,
    /// Programs from here.
    pub bin_dir: Option<PathBuf>,
    /// What stays on the hosts.
    pub keep: Keep,
}

/// Loads every scenario that the paths stand for: files as they are, folders with
/// all below them. The same file is taken once.
///
/// # Errors
/// All mistakes of all files.
pub fn scenarios(paths: &[PathBuf]) -> Result<Vec<Arc<Scenario>>, Mistaken> {
    let mut mistakes = Vec::new();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            find(path, &mut files, &mut mistakes);
            if files.len() == before {
                mistakes.push(format!(
                    "no scenario (*.toml) in the folder {}",
                    path.display()
                ));
            }
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    let mut scenarios = Vec::new();
    for file in files {
        match scenario::load(&file) {
            Ok(scenario) => scenarios.push(Arc::new(scenario)),
            Err(wrong) => mistakes.push(wrong.to_string()),
        }
    }
    if mistakes.is_empty() {
        Ok(scenarios)
    } else {
        Err(Mistaken(mistakes))
    }
}

fn find(dir: &Path, files: &mut Vec<PathBuf>, mistakes: &mut Vec<String>) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            return mistakes.push(format!("cannot list the folder {}: {error}", dir.display()));
        }
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    paths.sort();
    for path in paths {
        // A linked folder may lead back here.
        if path.is_dir() && !path.is_symlink() {
            if path.file_name().is_some_and(|name| name != ADAPTERS) {
                find(&path, files, mistakes);
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && !is_inventory(&path)
        {
            files.push(path);
        }
    }
}

/// `hosts.toml`, `hosts.example.toml`: the user's hosts, kept beside the scenarios.
fn is_inventory(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("hosts."))
}

/// Every run of a scenario: each cell of its matrix, so often as asked.
///
/// # Errors
/// If there is no such adapter or it has mistakes, or the lab has not these hosts.
pub fn requests(scenario: &Arc<Scenario>, asked: &Asked) -> Result<Vec<Request>, Mistaken> {
    let suits = asked.lab.suits(scenario);
    suits.map_err(|why| Mistaken::of(format!("{}: {why}", scenario.file.display())))?;
    let adapter = adapter(&scenario.file, &asked.sut)?;
    let mut requests = Vec::new();
    for repetition in 0..asked.repeat.max(1) {
        for case in &scenario.cases {
            requests.push(Request {
                scenario: scenario.clone(),
                case: case.clone(),
                seed: asked
                    .seed
                    .unwrap_or(scenario.seed)
                    .wrapping_add(u64::from(repetition)),
                adapter: adapter.clone(),
                lab: asked.lab.clone(),
                bin_dir: asked.bin_dir.clone(),
                keep: asked.keep,
            });
        }
    }
    Ok(requests)
}

/// A file is taken as it is; a name is looked for in `suts/` beside the scenario, in
/// the folders above it, and in the sources of this harness.
///
/// # Errors
/// If there is none, with the known ones, or it has mistakes.
pub fn adapter(scenario: &Path, sut: &str) -> Result<Adapter, Mistaken> {
    let wrong = |mistakes: &dyn fmt::Display| Mistaken(vec![mistakes.to_string()]);
    if sut.ends_with(".toml") {
        return Adapter::open(Path::new(sut)).map_err(|mistakes| wrong(&mistakes));
    }
    let absolute = scenario
        .canonicalize()
        .unwrap_or_else(|_| scenario.to_owned());
    let mut dirs: Vec<PathBuf> = absolute
        .ancestors()
        .skip(1)
        .map(|dir| dir.join(ADAPTERS))
        .collect();
    dirs.extend(build::workspace().map(|root| root.join("scenarios").join(ADAPTERS)));
    let file = format!("{sut}.toml");
    let dir = dirs
        .iter()
        .find(|dir| dir.join(&file).is_file())
        .or_else(|| dirs.iter().find(|dir| dir.is_dir()));
    match dir {
        Some(dir) => Adapter::load(dir, sut).map_err(|mistakes| wrong(&mistakes)),
        None => Err(wrong(&format!(
            "no adapter {sut}: there is no folder {ADAPTERS} beside {}",
            scenario.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_scenarios_but_not_for_its_adapters_and_hosts() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let good = "about = \"x\"\nseed = 1\nstep = [{ start = \"a\" }]\nexpect = { trees = \"identical\" }\n";
        for file in [
            "two.toml",
            "one.toml",
            "deep/three.toml",
            "suts/left.toml",
            "hosts.toml",
            "hosts.example.toml",
            "notes.md",
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            std::fs::write(path, good).expect("written");
        }
        let twice = [dir.path().to_owned(), dir.path().join("one.toml")];
        let names: Vec<String> = scenarios(&twice)
            .expect("no mistakes")
            .iter()
            .map(|scenario| scenario.name.clone())
            .collect();
        assert_eq!(names, ["three", "one", "two"]);
    }

    #[test]
    fn mistakes_of_all_files_come_together() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for file in ["one.toml", "two.toml"] {
            std::fs::write(dir.path().join(file), "about = \"x\"\nnonsense = 1\n")
                .expect("written");
        }
        let text = scenarios(&[dir.path().to_owned(), dir.path().join("missing.toml")])
            .expect_err("all three are wrong")
            .to_string();
        for file in ["one.toml", "two.toml", "missing.toml"] {
            assert!(text.contains(file), "{text}");
        }
    }
}
