//! A program under test as data: `scenarios/suts/NAME.toml` says where it comes from,
//! how it is started and stopped, which names in the share are its own, and what it
//! promises. Nothing else in the harness knows one program from another.
//!
//! [`template`] is text with placeholders, [`promise`] what may be asked of the program,
//! [`quiet`] what it does while nothing happens; `read` makes all of it from the file.

pub mod promise;

pub mod quiet;

pub mod template;

mod read;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

pub use self::promise::{After, Conflicts, Promise, Ways};
pub use self::quiet::Quiet;
pub use self::template::Places;

use self::template::{Place, Template};
use crate::scenario::error::{Mistakes, known, tame};
use crate::scenario::raw;

/// A program under test.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// `left`, from the file's name.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// Where `{bin}` comes from.
    pub source: Source,
    /// When a started program counts as ready.
    pub ready: Ready,
    /// How it is asked to end.
    pub stop: Stop,
    /// Names directly in the share that are the program's own and never compared.
    pub private: Vec<String>,
    /// Globs, from the share on, of the partial files it leaves while it works.
    pub parts: Vec<String>,
    /// What it does on the wire while nothing happens.
    pub quiet: Quiet,
    /// Texts in its log that mean that it broke, whatever else is right.
    pub panics: Vec<String>,
    /// It cannot be told at which address to listen and from which to call.
    pub needs_own_network: bool,
    /// What may be asked of it.
    pub promise: Promise,
    start: Option<Start>,
    round: Option<Round>,
    files: Vec<(String, Template)>,
    logs: Vec<Template>,
}

/// Where a program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `argv` names it.
    Named,
    /// A binary of this workspace.
    Built(Build),
    /// It is on the hosts already.
    Found(Find),
}

/// A binary of this workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The cargo package.
    pub package: String,
    /// Its binary.
    pub binary: String,
}

/// A program that somebody else has installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Find {
    /// Names to look for in the usual places, and full paths; the first that is there.
    pub names: Vec<String>,
    /// The command that brings it to a host.
    pub install: Option<String>,
}

/// The process that stays.
#[derive(Debug, Clone, PartialEq)]
struct Start {
    argv: Vec<Template>,
    on: Seats,
}

/// What is run again and again.
#[derive(Debug, Clone, PartialEq)]
struct Round {
    argv: Vec<Template>,
    on: Seats,
    every: Duration,
    codes: Vec<u8>,
}

/// One of the two hosts, by their order in the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// The one that is named first.
    First,
    /// The other one.
    Second,
}

/// On which hosts something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seats {
    Both,
    Only(Seat),
}

impl Seats {
    fn has(self, seat: Seat) -> bool {
        self == Self::Both || self == Self::Only(seat)
    }
}

/// When a started program counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// As soon as it runs.
    Running,
    /// When it listens on `{listen}`.
    Listening,
}

/// How a program is asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// `TERM`
    pub signal: &'static str,
    /// How long it may take.
    pub within: Duration,
    /// Exit codes that mean that it ended as it was asked to.
    pub codes: Vec<u8>,
}

impl Adapter {
    /// Reads `dir/NAME.toml`.
    pub fn load(dir: &Path, name: &str) -> Result<Self, Mistakes> {
        let file = dir.join(format!("{name}.toml"));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) || !file.exists() {
            let names = names(dir);
            let help = match names.is_empty() {
                true => format!("there is no adapter in {}", dir.display()),
                false => known(name, names.iter().map(String::as_str)),
            };
            return Err(
                Mistakes::unread(dir, format!("no adapter named `{}`", tame(name))).with_help(help),
            );
        }
        Self::open(&file)
    }

    /// Reads an adapter's file.
    pub fn open(file: &Path) -> Result<Self, Mistakes> {
        Self::parse(file, &raw::read_text(file)?)
    }

    /// Checks the text of an adapter; `file` names it in messages and gives it its name.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        raw::read(file, text, |reader, root| read::adapter(file, reader, root))
    }

    /// The command that runs the program at a seat; `probe` is the probe's place there,
    /// which makes one process of a program that works by rounds.
    pub fn argv(&self, seat: Seat, places: &Places, probe: &str) -> Vec<String> {
        let fill = |argv: &[Template]| argv.iter().map(|word| word.fill(places)).collect();
        let start = self.start.as_ref().filter(|start| start.on.has(seat));
        let stays: Vec<String> = start.map_or_else(Vec::new, |start| fill(&start.argv));
        let Some(round) = self.round.as_ref().filter(|round| round.on.has(seat)) else {
            return stays;
        };
        let mut argv = vec![probe.to_owned(), "supervise".into(), "--every-ms".into()];
        argv.push(round.every.as_millis().to_string());
        for code in &round.codes {
            argv.extend(["--code".into(), code.to_string()]);
        }
        let words: Vec<String> = fill(&round.argv);
        argv.extend(words.into_iter().flat_map(|word| ["--round".into(), word]));
        argv.push("--".into());
        argv.extend(stays);
        argv
    }

    /// Whether the program listens at a seat when it is ready.
    pub fn listens(&self, seat: Seat) -> bool {
        let stays = self.start.as_ref().is_some_and(|start| start.on.has(seat));
        stays && self.ready == Ready::Listening
    }

    /// Whether what counts as the program is more than one process.
    pub fn works_by_rounds(&self) -> bool {
        self.round.is_some()
    }

    /// The files that are made in `{state}` before the first start: name and text.
    ///
    /// # Errors
    /// If something that must be filled in cannot stand in a file.
    pub fn files(&self, places: &Places) -> Result<Vec<(&str, String)>, String> {
        let filled = self.files.iter().map(|(name, text)| {
            let text = text.fill_lines(places);
            Ok((name.as_str(), text.map_err(|why| format!("{name}: {why}"))?))
        });
        filled.collect()
    }

    /// The files that are fetched from a host when the program has ended.
    pub fn logs(&self, places: &Places) -> Vec<String> {
        self.logs
            .iter()
            .map(|template| template.fill(places))
            .collect()
    }

    /// Whether it must be known as whom the program runs.
    pub fn asks_for_uid(&self) -> bool {
        self.templates().any(|template| template.names(Place::Uid))
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let start = self.start.iter().flat_map(|start| &start.argv);
        let round = self.round.iter().flat_map(|round| &round.argv);
        let files = self.files.iter().map(|(_, text)| text);
        start.chain(round).chain(files).chain(&self.logs)
    }
}

/// The adapters of a folder, sorted; a folder that cannot be read has none.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}
