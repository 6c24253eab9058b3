//! What is ignored: it is never touched, and need not be the same on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rest::seen;
use super::{Checked, Run, Violation};
use crate::ignore::{RULES_FILE, Rules};
use crate::path::RelPath;
use crate::sim::plan::At;
use crate::sim::side::Process;

/// By path, what it looks like.
type Tree = BTreeMap<String, String>;

/// Trees by the same rules.
pub(super) struct Compared {
    rules: Arc<Rules>,
    trees: [Tree; 2],
}

impl Run {
    /// The applier does what waits for it, and touches nothing that is ignored.
    pub(super) fn apply(&mut self, at: At) -> Checked {
        let before = self.ignored_by_the_process(at);
        let deeds = self.people.deeds();
        self.process(at, Process::apply)?;
        if self.people.deeds() != deeds || self.side(at).process.is_none() {
            // What people did in the middle of it cannot be told apart.
            return Ok(());
        }
        let after = seen(&self.side(at).machine);
        match before
            .iter()
            .find(|(path, was)| after.get(*path) != Some(*was))
        {
            Some((path, was)) => Err(Violation(format!(
                "{path} is ignored at {at:?}, and it was touched: {was}"
            ))),
            None => Ok(()),
        }
    }

    fn ignored_by_the_process(&self, at: At) -> Tree {
        let side = &self.sides[at as usize];
        let rules = side
            .process
            .as_ref()
            .and_then(|process| process.index.rules());
        let Some(rules) = rules else {
            return Tree::new();
        };
        let mut tree = seen(&side.machine);
        tree.retain(|path, item| ignores(&rules, path, item));
        tree
    }

    /// By what both sides go in the end, which must be what the file says.
    pub(super) fn ignored_at_the_end(&self) -> Checked<Compared> {
        let mut all = Vec::new();
        for side in &self.sides {
            let text = side.machine.user().read(RULES_FILE).unwrap_or_default();
            let (written, _) = Rules::read(&text).expect("people write few rules");
            let process = side.process.as_ref();
            let rules = process.and_then(|process| process.index.rules());
            let rules = rules.unwrap_or_default();
            if *rules != written {
                return Err(Violation(format!("{rules:?} hold and not {written:?}")));
            }
            all.push(rules);
        }
        if all[0] != all[1] {
            return Err(Violation(format!("the rules differ: {all:?}")));
        }
        Ok(Compared {
            rules: all[0].clone(),
            trees: self.trees(),
        })
    }
}

impl Compared {
    /// A path in which they differ for no reason.
    pub(super) fn difference(&self) -> Option<&str> {
        let [a, b] = [0, 1].map(|at: usize| {
            let tree = self.trees[at].iter();
            let visible = tree.filter(|(path, item)| !ignores(&self.rules, path, item));
            visible.collect::<BTreeMap<_, _>>()
        });
        let mut paths = a.keys().chain(b.keys());
        let differs = paths.find(|path| a.get(*path) != b.get(*path) && !self.is_in_the_way(path));
        differs.map(|path| path.as_str())
    }

    /// Whether a path is ignored on a side.
    pub(super) fn is_ignored(&self, at: usize, path: &str) -> bool {
        let item = self.trees[at].get(path);
        item.is_some_and(|item| ignores(&self.rules, path, item))
    }

    /// Whether something that is ignored is in the way of anything.
    pub(super) fn blocks_anything(&self) -> bool {
        let mut paths = self.trees.iter().flat_map(|tree| tree.iter());
        paths.any(|(path, item)| !ignores(&self.rules, path, item) && self.is_in_the_way(path))
    }

    /// Whether on one side something that is ignored is where the other has something
    /// that is not, or keeps a folder that the other has deleted.
    pub(super) fn is_in_the_way(&self, path: &str) -> bool {
        (0..2).any(|at| {
            let (here, there) = (&self.trees[at], &self.trees[1 - at]);
            here.iter()
                .filter(|(name, item)| ignores(&self.rules, name, item))
                .any(|(name, _)| {
                    name == path
                        || path.starts_with(&format!("{name}/"))
                        || (name.starts_with(&format!("{path}/")) && !there.contains_key(path))
                })
        })
    }
}

fn ignores(rules: &Rules, path: &str, item: &str) -> bool {
    let path = RelPath::parse(path.as_bytes());
    path.is_ok_and(|path| rules.ignores(&path, item.starts_with("dir")))
}
