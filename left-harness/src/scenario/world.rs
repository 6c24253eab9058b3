//! What is known of the shares and the processes at a step, so that a step which
//! cannot mean anything there is refused before any host is touched.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Span, known};
use super::raw::Reader;
use super::units::show_size;
use super::{Amount, Content};

/// What a path holds, wherever it was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A file; its size where the scenario tells it.
    File(Option<u64>),
    /// A folder, with the bytes in it where the scenario tells them.
    Folder(Option<u64>),
    /// A symbolic link.
    Link,
    /// An `exec` made it: anything.
    Anything,
}

/// What can be wrong with a host for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// It is off the network.
    Cut,
    /// The disk of its share is full.
    Full,
    /// Its program stands still.
    Paused,
}

impl Fault {
    /// The word that begins it and the word that ends it.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Fault::Cut => ("cut", "heal"),
            Fault::Full => ("fill", "free"),
            Fault::Paused => ("pause", "resume"),
        }
    }
}

/// What a step wants of a path.
pub(super) enum Want {
    /// That it exists.
    Something,
    /// That it is a file of at least so many bytes.
    Reach { amount: Amount, at: Option<u64> },
    /// That it is a file of more than so many bytes.
    Beyond(u64),
    /// That its size is known, and reaches a trigger.
    Size(Amount),
}

enum Check {
    /// `then` is what the path held before the step: a step may change the size.
    Path {
        path: String,
        span: Span,
        want: Want,
        then: Option<Known>,
    },
    /// That nothing is left there.
    Gone {
        path: String,
        span: Span,
    },
    Running {
        host: String,
        span: Span,
    },
}

/// The state as the steps have left it so far.
#[derive(Default)]
pub(super) struct World {
    pub(super) paths: BTreeMap<String, Known>,
    /// What was there once and was taken away, with all below it.
    removed: BTreeSet<String>,
    /// Hosts whose SUT runs.
    running: BTreeSet<String>,
    /// Hosts with a fault that nothing but its opposite ends.
    faulty: BTreeSet<(Fault, String)>,
    /// What `as` has named.
    pub(super) names: BTreeSet<String>,
    /// Something is written that the other side must get.
    pub(super) transfers: bool,
    /// Files for which the bytes on the wire say little about a resume, and why.
    pub(super) weightless: Vec<(String, &'static str)>,
    /// Where `resent` is asked for.
    pub(super) resent: Vec<Span>,
    /// Something is checked.
    pub(super) proves: bool,
    /// A step could not be understood, and it may have written anything.
    pub(super) paths_unsure: bool,
    /// A step could not be understood, and it may have started or killed anything.
    pub(super) running_unsure: bool,
    /// A step could not be understood, and it may have begun or ended any fault.
    pub(super) faults_unsure: bool,
    checks: Vec<Check>,
    gone: Vec<String>,
    ended: Vec<String>,
}

impl World {
    /// A step could not be understood: nothing later can be blamed for lacking what it
    /// was to do.
    pub(super) fn lost_track(&mut self) {
        self.paths_unsure = true;
        self.running_unsure = true;
        self.faults_unsure = true;
    }

    pub(super) fn written(&mut self, path: &str, what: Known) {
        self.moved(path, what);
        self.transfers = true;
    }

    /// What was written before is there now.
    pub(super) fn moved(&mut self, path: &str, what: Known) {
        self.paths.insert(path.to_owned(), what);
        let inside = format!("{path}/");
        self.removed
            .retain(|name| name != path && !name.starts_with(&inside));
    }

    pub(super) fn written_with(&mut self, path: &str, size: Option<u64>, content: Content) {
        self.written(path, Known::File(size));
        match content {
            Content::Random => {}
            Content::Text => self.weightless.push((path.to_owned(), "is text")),
            Content::Zeros => self.weightless.push((path.to_owned(), "is zeros")),
        }
    }

    /// The path is gone when the step, or the `together` around it, has ended.
    pub(super) fn gone(&mut self, path: &str) {
        self.gone.push(path.to_owned());
    }

    pub(super) fn get(&self, path: &str) -> Option<Known> {
        let direct = self.paths.get(path).copied();
        direct.or_else(|| {
            // A file of a `tree` has no entry of its own.
            with_folders(path)
                .skip(1)
                .any(|above| {
                    let known = self.paths.get(above);
                    matches!(known, Some(Known::Folder(_) | Known::Anything))
                })
                .then_some(Known::Anything)
        })
    }

    /// Paths at and below `path`.
    pub(super) fn below(&self, path: &str) -> Vec<(String, Known)> {
        let inside = format!("{path}/");
        self.paths
            .iter()
            .filter(|(name, _)| *name == path || name.starts_with(&inside))
            .map(|(name, known)| (name.clone(), *known))
            .collect()
    }

    pub(super) fn wants(&mut self, path: &str, span: Span, want: Want) {
        let then = self.get(path);
        self.checks.push(Check::Path {
            path: path.to_owned(),
            span,
            want,
            then,
        });
    }

    /// The path must be absent once the step, or the `together` around it, has ended.
    pub(super) fn wants_gone(&mut self, path: &str, span: Span) {
        self.checks.push(Check::Gone {
            path: path.to_owned(),
            span,
        });
    }

    pub(super) fn wants_running(&mut self, host: &str, span: Span) {
        self.checks.push(Check::Running {
            host: host.to_owned(),
            span,
        });
    }

    /// `None` when it runs already.
    pub(super) fn started(&mut self, host: &str) -> Option<()> {
        let new = self.running.insert(host.to_owned());
        (new || self.running_unsure).then_some(())
    }

    /// It does not run any more when the step, or the `together` around it, has ended.
    pub(super) fn ended(&mut self, host: &str) {
        self.ended.push(host.to_owned());
    }

    /// A fault has begun that lasts until its opposite.
    pub(super) fn broken(&mut self, fault: Fault, host: &str) {
        self.faulty.insert((fault, host.to_owned()));
    }

    /// Whether no such fault lasts there, as far as is known.
    pub(super) fn is_free_of(&self, fault: Fault, host: &str) -> bool {
        self.faults_unsure || !self.faulty.contains(&(fault, host.to_owned()))
    }

    /// `None` when there was nothing to end.
    pub(super) fn healed(&mut self, fault: Fault, host: &str) -> Option<()> {
        let was = self.faulty.remove(&(fault, host.to_owned()));
        (was || self.faults_unsure).then_some(())
    }

    /// A step at the top has ended: what its members wanted of each other is checked,
    /// then what they took away is gone.
    pub(super) fn step_ended(&mut self, reader: &Reader<'_>) {
        let mut absent = Vec::new();
        for check in std::mem::take(&mut self.checks) {
            match check {
                Check::Path {
                    path,
                    span,
                    want,
                    then,
                } => {
                    let what = then.or_else(|| self.get(&path));
                    self.check_path(reader, &path, span, want, what);
                }
                Check::Gone { path, span } => absent.push((path, span)),
                Check::Running { host, span } => {
                    if !self.running.contains(&host) && !self.running_unsure {
                        reader.missing(span, format!("`{host}` does not run at this step"), None);
                    }
                }
            }
        }
        for path in std::mem::take(&mut self.gone) {
            for (path, _) in self.below(&path) {
                self.paths.remove(&path);
            }
            self.removed.insert(path);
        }
        for (path, span) in absent {
            self.check_gone(reader, &path, span);
        }
        for host in std::mem::take(&mut self.ended) {
            self.running.remove(&host);
            // What stood still is gone with its process.
            self.faulty.remove(&(Fault::Paused, host));
        }
    }

    fn check_gone(&self, reader: &Reader<'_>, path: &str, span: Span) {
        let is_removed = with_folders(path).any(|name| self.removed.contains(name));
        // A command may have taken away what it is said to change.
        let is_anything =
            with_folders(path).any(|name| self.paths.get(name) == Some(&Known::Anything));
        let is_there = !self.below(path).is_empty();
        if self.paths_unsure || is_anything || (is_removed && !is_there) {
            return;
        }
        let path = super::error::tame(path);
        let message = match is_removed {
            true => format!("`{path}` was written again before this step"),
            false => format!("no step before took `{path}` away"),
        };
        let help = "`delete` and `rename` take a path away".to_owned();
        reader.missing(span, message, Some(help));
    }

    fn check_path(
        &self,
        reader: &Reader<'_>,
        path: &str,
        span: Span,
        want: Want,
        what: Option<Known>,
    ) {
        let Some(what) = what else {
            if !self.paths_unsure {
                let help = match self.paths.is_empty() {
                    true => "nothing was written before this step".to_owned(),
                    false => known(path, self.paths.keys().map(String::as_str)),
                };
                let path = super::error::tame(path);
                reader.missing(span, format!("no step before wrote `{path}`"), Some(help));
            }
            return;
        };
        match (want, what) {
            (Want::Something, _)
            | (Want::Reach { .. } | Want::Beyond(_), Known::Anything | Known::File(None)) => {}
            (Want::Reach { amount, at }, Known::File(Some(size))) => {
                let bytes = amount.of(size);
                if at.unwrap_or(0).saturating_add(bytes) > size {
                    let size = show_size(size);
                    reader.wrong(
                        span,
                        format!("reaches beyond the end of the file, which has {size}"),
                    );
                }
            }
            (Want::Beyond(to), Known::File(Some(size))) => {
                if to >= size {
                    let size = show_size(size);
                    let message = format!("cuts nothing off the file, which has {size}");
                    reader.wrong(span, message);
                }
            }
            (Want::Reach { .. } | Want::Beyond(_), Known::Folder(_) | Known::Link) => {
                reader.wrong(span, "is no file, so that it has no bytes to change");
            }
            (Want::Size(amount), Known::File(Some(size)) | Known::Folder(Some(size))) => {
                if let Amount::Bytes(bytes) = amount
                    && bytes > size
                {
                    let (bytes, size) = (show_size(bytes), show_size(size));
                    reader.wrong(span, format!("{bytes} never come: the file has {size}"));
                }
                if size == 0 {
                    reader.wrong(span, "is empty, so that nothing of it is ever on the way");
                }
            }
            (Want::Size(_), _) => {
                reader.wrong(span, "the scenario does not tell the size of this file")
            }
        }
    }
}

/// The path itself, then each folder above it.
fn with_folders(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once('/')?.0))
}
