//! What has to be looked at again although nothing tells of it.

use crate::path::RelPath;

/// Paths kept; past this, everything is looked at again.
const PATHS_MAX: usize = 4096;

/// What a scan leaves to another one.
#[derive(Debug, Default)]
pub struct Again {
    /// What was told of, until it shows that it is on record and trusted, and
    /// what was not told of because it was changing.
    pub paths: Vec<RelPath>,
    /// There were more than are kept.
    pub everything: bool,
    /// Something was changing.
    pub restless: bool,
    /// What is ignored is not known, so nothing was looked at.
    pub unsure: bool,
}

impl Again {
    pub(super) fn restless(&mut self, path: RelPath) {
        self.restless = true;
        self.keep(path);
    }

    pub(super) fn told(&mut self, path: &RelPath) {
        self.keep(path.clone());
    }

    fn keep(&mut self, path: RelPath) {
        if self.paths.len() < PATHS_MAX {
            self.paths.push(path);
        } else {
            self.everything = true;
        }
    }
}
