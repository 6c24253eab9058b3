//! Reading `.leftignore`, before anything else is looked at. What is told from
//! then on is told by its rules; the engine hears of them first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::look::{is_older_than_step, last_change};
use super::{Observation, Scanner, Seen};
use crate::disk::{Content, Disk, Handle};
use crate::entry::Body;
use crate::ignore::{BadLine, RULES_BYTES_MAX, RULES_FILE, Rules};
use crate::index::Store;
use crate::path::RelPath;
use crate::record::{Record, Stamp};

/// Some programs empty or remove a file just before they write it anew. Rules that
/// ignore less hold when they have been there for this long, as all that was ignored
/// would be told of at once.
const LESS_WAIT: Duration = Duration::from_secs(1);

/// What the problem of the rules is about; no path can be it.
const ABOUT_RULES: &[u8] = b"/rules";

/// What the scanner knows of the rules.
#[derive(Default)]
pub(super) struct Known {
    /// Those by which it tells what it sees; `None` before any were read.
    rules: Option<Arc<Rules>>,
    /// What they were read from.
    read: Option<Stamp>,
    /// Rules that ignore less: what they were read from, if there is a file, and when
    /// that was seen first.
    less: Option<(Option<Stamp>, Instant)>,
}

/// What came of a look at the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// There may be rules that were never read: nothing may be told yet.
    Unsure,
    /// What was to be looked at still is.
    Nothing,
    /// What was ignored may have to be told of.
    IgnoresLess,
}

/// What was found under the name.
enum Found {
    Same,
    Rules(Rules, Stamp),
    Gone,
    Restless,
    Unreadable(Errno),
    Unusable(String),
}

impl Known {
    pub(super) fn new(rules: Option<Arc<Rules>>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }
}

impl<D: Disk, S: Store> Scanner<D, S> {
    /// Whether what is at a path, a folder or not, is ignored.
    pub(super) fn ignores(&self, path: &RelPath, is_dir: bool) -> bool {
        let rules = self.rules.rules.as_ref();
        rules.is_some_and(|rules| rules.ignores(path, is_dir))
    }

    /// As [`Scanner::ignores`] of what is in a folder that is not ignored.
    pub(super) fn ignores_in_folder(&self, path: &RelPath, is_dir: bool) -> bool {
        let rules = self.rules.rules.as_ref();
        rules.is_some_and(|rules| rules.ignores_in_folder(path, is_dir))
    }

    /// What is seen of a record when there is nothing in its place, or something
    /// that is ignored.
    pub(super) fn seen_instead(&self, path: &RelPath, record: &Record) -> Seen {
        match self.ignores(path, record.entry.body == Body::Dir) {
            true => Seen::Ignored,
            false => Seen::Absent,
        }
    }

    /// Nobody has to notice what changes in a folder that is ignored.
    pub(super) fn unwatch_ignored(&self, folder: &RelPath) {
        if let Some(watcher) = self.watcher.as_ref().filter(|it| it.is_watched(folder)) {
            watcher.unwatch(folder);
        }
    }

    /// Reads the rules if they changed, when they are at rest.
    pub(super) fn look_at_rules(&mut self) -> News {
        let Ok(path) = RelPath::parse(RULES_FILE.as_bytes()) else {
            return News::Nothing;
        };
        let found = self.read_rules(&path).unwrap_or_else(Found::Unreadable);
        let (rules, stamp) = match found {
            Found::Same => return News::Nothing,
            Found::Rules(rules, stamp) => (rules, Some(stamp)),
            Found::Gone => {
                self.reporter.solved(ABOUT_RULES);
                (Rules::default(), None)
            }
            Found::Restless => {
                self.again.restless(path);
                return self.as_before();
            }
            Found::Unreadable(errno) => {
                let why = std::io::Error::from(errno);
                let then = match self.rules.rules {
                    Some(_) => "the rules that were read last hold until it can be read",
                    None => "nothing is synchronised until it can be read",
                };
                let text = format!("cannot read {RULES_FILE}: {why}; {then}");
                self.reporter.problem(ABOUT_RULES, &text);
                self.again.told(&path);
                return self.as_before();
            }
            Found::Unusable(why) => {
                let text = format!("{RULES_FILE} {why}; the rules that were read last hold");
                self.reporter.problem(ABOUT_RULES, &text);
                self.rules.rules.get_or_insert_default();
                return News::Nothing;
            }
        };
        if stamp.is_some_and(|stamp| !stamp.trusted) {
            self.again.told(&path);
        }
        let old = self.rules.rules.clone().unwrap_or_default();
        let ignores_less = !rules.ignore_all_of(&old);
        if ignores_less && !self.is_calm(stamp) {
            self.again.told(&path);
            return News::Nothing;
        }
        self.rules.less = None;
        self.rules.read = stamp;
        if *old == rules {
            self.rules.rules = Some(old);
            return News::Nothing;
        }
        let rules = Arc::new(rules);
        self.rules.rules = Some(rules.clone());
        self.batch.push(Observation {
            path,
            compared_with: None,
            seen: Seen::Rules(rules),
        });
        match ignores_less {
            true => News::IgnoresLess,
            false => News::Nothing,
        }
    }

    /// Whether rules that ignore less have been there long enough.
    fn is_calm(&mut self, stamp: Option<Stamp>) -> bool {
        if let Some(stamp) = stamp {
            let age = self.share.wall().duration_since(last_change(&stamp));
            if age.is_ok_and(|age| age >= LESS_WAIT) {
                return true;
            }
        }
        let now = self.share.now();
        let is_it = |seen: &Option<Stamp>| match (seen, stamp) {
            (Some(seen), Some(stamp)) => seen.same_file(&stamp),
            (seen, stamp) => seen.is_none() && stamp.is_none(),
        };
        match &self.rules.less {
            Some((seen, since)) if is_it(seen) => {
                now.saturating_duration_since(*since) >= LESS_WAIT
            }
            _ => {
                self.rules.less = Some((stamp, now));
                false
            }
        }
    }

    fn as_before(&self) -> News {
        match self.rules.rules {
            Some(_) => News::Nothing,
            None => News::Unsure,
        }
    }

    fn read_rules(&mut self, path: &RelPath) -> Result<Found, Errno> {
        let stat = match self.share.stat(path) {
            Err(Errno::NOENT) => return Ok(Found::Gone),
            other => other?,
        };
        if !stat.is_file() {
            return Ok(Found::Unusable("is no file".to_owned()));
        }
        let stamp = stat.stamp();
        let read = self.rules.read;
        if read.is_some_and(|read| read.trusted && read.same_file(&stamp)) {
            return Ok(Found::Same);
        }
        if !self.rests(path, &stamp) {
            return Ok(Found::Restless);
        }
        if stat.size > RULES_BYTES_MAX {
            let text = format!("is longer than {RULES_BYTES_MAX} bytes");
            return Ok(Found::Unusable(text));
        }
        let began = self.share.wall();
        let file = self.share.open_file(path)?;
        let mut text = vec![0; stat.size as usize];
        let is_whole = file.read_whole_at(&mut text, 0)?;
        let after = file.stat()?;
        if !is_whole || !after.stamp().same_file(&stamp) {
            return Ok(Found::Restless);
        }
        let trusted = is_older_than_step(&after, began);
        let stamp = Stamp { trusted, ..stamp };
        Ok(match Rules::read(&text) {
            Err(error) => {
                self.rules.read = Some(stamp);
                Found::Unusable(format!("is not used: {error}"))
            }
            Ok((rules, bad)) => {
                match bad.first() {
                    None => self.reporter.solved(ABOUT_RULES),
                    Some(first) => {
                        let text = left_out(first, bad.len());
                        self.reporter.problem(ABOUT_RULES, &text);
                    }
                }
                Found::Rules(rules, stamp)
            }
        })
    }
}

fn left_out(first: &BadLine, count: usize) -> String {
    let BadLine { number, why } = first;
    let others = match count - 1 {
        0 => String::new(),
        others => format!("; so are {others} other lines"),
    };
    format!("line {number} of {RULES_FILE} is left out, because {why}{others}; the rest holds")
}
