//! A scenario: what is started, written, broken and expected, as data.
//!
//! The way in is [`load`]: text → spanned values (`raw`, after `mend` where brackets
//! are missing) → steps (`step`, against what is known of the `world` by then) → the
//! tables and the cells of the matrix (`resolve`). Every mistake of a file is
//! collected (`error`), so that a user mends them all in one go. Nothing here knows
//! a lab, a host or the network.

use std::path::{Path, PathBuf};
use std::time::Duration;

mod resolve;

mod step;

mod world;

pub(crate) mod raw;

mod mend;

mod balance;

pub mod units;

pub(crate) mod path;

mod text;

pub mod error;

use error::Mistakes;

/// Reads and checks a scenario's file.
pub fn load(file: &Path) -> Result<Scenario, Mistakes> {
    parse(file, &raw::read_text(file)?)
}

/// Checks the text of a scenario; `file` names it in messages, gives the scenario its
/// name, and is where the files that `put` sends are looked for.
pub fn parse(file: &Path, text: &str) -> Result<Scenario, Mistakes> {
    raw::read(file, text, |reader, root| {
        resolve::scenario(file, text, reader, root)
    })
}

/// A scenario whose names and quantities are all known to be good.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The file it was read from, as the user named it.
    pub file: PathBuf,
    /// The file's stem: `resume` for `scenarios/resume.toml`.
    pub name: String,
    /// One sentence that says what a pass proves.
    pub about: String,
    /// Seed of all generated content.
    pub seed: u64,
    /// The hosts, in order; `a` and `b` unless `[host.X]` tables say otherwise.
    pub hosts: Vec<HostSpec>,
    /// What the wire between the hosts is like.
    pub link: LinkSpec,
    /// One entry for each cell of `[matrix]`; a single one without a matrix.
    pub cases: Vec<Case>,
}

/// One cell of the matrix: the steps with its values put in.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// `size=1MiB,mode=race`; empty where there is no matrix.
    pub label: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The closing `[expect]`, checked after everything has settled.
    pub expect: Expect,
}

/// A host that a scenario names.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSpec {
    /// `a`
    pub name: String,
    /// A share of this many bytes of file system, where the scenario needs one.
    pub share_bytes: Option<u64>,
}

/// The wire between the hosts; the lab's own speed unless something is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinkSpec {
    /// Bytes a second, each direction.
    pub rate: Option<u64>,
    /// One way.
    pub delay: Option<Duration>,
    /// Share of packets lost, 0 to 1.
    pub loss: Option<f64>,
}

/// One step with its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Line of the file, from 1.
    pub line: usize,
}

/// What a step does. Host names in it are known, paths are relative and safe.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start the SUT; ends when it is ready.
    Start {
        /// The hosts.
        on: Vec<String>,
    },
    /// Stop the SUT as its adapter says (SIGTERM for most); ends when it has ended.
    Stop {
        /// The hosts.
        on: Vec<String>,
    },
    /// SIGKILL of the SUT; ends when the death is confirmed.
    Kill {
        /// The hosts.
        on: Vec<String>,
        /// The trigger; at once where there is none.
        when: Option<When>,
        /// The link stands still from the byte of the trigger until the death is confirmed.
        hold: bool,
    },
    /// A file with seeded content.
    Write {
        /// The host.
        on: String,
        /// The file.
        path: String,
        /// In bytes.
        size: u64,
        /// What it is filled with.
        content: Content,
        /// How it comes into the share.
        how: How,
    },
    /// A file of the dev box, sent by SFTP and renamed in.
    Put {
        /// The host.
        on: String,
        /// The file in the share.
        path: String,
        /// The file on the dev box; it existed when the scenario was read.
        from: PathBuf,
    },
    /// A folder of seeded files.
    Tree {
        /// The host.
        on: String,
        /// The folder.
        path: String,
        /// How many.
        files: u64,
        /// Of each, in bytes.
        size: u64,
    },
    /// New seeded bytes over a part of an existing file, in place.
    Overwrite {
        /// The host.
        on: String,
        /// The file.
        path: String,
        /// How much of it.
        amount: Amount,
        /// From which byte on; the runner chooses where nothing is said.
        at: Option<u64>,
    },
    /// All at once, after every trigger inside is armed.
    Together(
        /// None of them a `together`, a `settle`, an `expect` or a `wait`.
        Vec<Step>,
    ),
    /// Wait until a path holds on `on` what was last written anywhere.
    Arrives {
        /// The host.
        on: String,
        /// A file, or a folder that `tree` made.
        path: String,
        /// How long.
        within: Duration,
        /// From `as`: the figures are `MD5_<name>` and `TC_<name>`.
        name: Option<String>,
    },
    /// Wait until both sides are equal and quiet.
    Settle {
        /// How long.
        within: Duration,
        /// How long nothing may happen; shorter than `within`.
        quiet: Duration,
    },
    /// Expectations checked here and now.
    Expect(
        /// At least one of them is asked.
        Expect,
    ),
    /// A word of the language that this build checks but cannot carry out yet.
    Later {
        /// `cut`
        word: &'static str,
        /// The hosts it is about; none where it is about all of them.
        on: Vec<String>,
        /// The step in one line, as `Display` shows it.
        text: String,
    },
}

impl Action {
    /// The word that this build cannot carry out yet, here or inside a `together`.
    pub fn needs_unbuilt(&self) -> Option<&'static str> {
        match self {
            Action::Later { word, .. } => Some(word),
            Action::Together(steps) => steps.iter().find_map(|step| step.action.needs_unbuilt()),
            _ => None,
        }
    }
}

impl Amount {
    /// In bytes, of something of `size` bytes: rounded down, but never to nothing.
    pub fn of(self, size: u64) -> u64 {
        match self {
            Amount::Bytes(bytes) => bytes,
            Amount::Share(share) => ((size as f64 * share) as u64).clamp(size.min(1), size),
        }
    }
}

impl Case {
    /// The first word that this build cannot carry out yet, with its line.
    pub fn needs_unbuilt(&self) -> Option<(usize, &'static str)> {
        self.steps
            .iter()
            .find_map(|step| Some((step.line, step.action.needs_unbuilt()?)))
    }
}

/// When a fault fires.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    /// The host at which bytes are counted: the one the step is on, unless `when`
    /// names another; with several hosts in `on` it must.
    pub on: String,
    /// Which way the bytes are counted, as seen from `on`.
    pub direction: Direction,
    /// How many.
    pub amount: Amount,
    /// The file whose size a percentage is of.
    pub of: Option<String>,
}

/// The way of the bytes that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Bytes on their way to the host.
    Received,
    /// Bytes on their way from it.
    Sent,
}

/// `40%` or `100MiB`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Of a size known when the step runs; 0 to 1.
    Share(f64),
    /// As it is.
    Bytes(u64),
}

/// What generated files are filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Incompressible, no two blocks alike.
    Random,
    /// Lines of words.
    Text,
    /// All zero bytes, written.
    Zeros,
}

/// How a file comes into the share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Made outside the share and renamed in: complete when it appears.
    Renamed,
    /// Grows visibly under its own name.
    InPlace,
}

/// What must hold. `None`: not asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// Both trees equal to the byte, with modes, mtimes and link targets.
    pub trees_identical: bool,
    /// Bytes delivered towards the receiver beyond the content's size.
    pub resent: Option<Bound>,
    /// No partial file is left.
    pub parts_none: bool,
}

/// `<= 1% + 1MiB`: a share of the content's size plus a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// 0 to 1.
    pub share: f64,
    /// Added to it.
    pub bytes: u64,
}
