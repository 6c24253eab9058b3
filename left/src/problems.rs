//! What stands in the way: each path with its reason, as many as a person can
//! read, and of the others how many they are.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use serde::Serialize;

/// Problems kept with their words; a folder of a million unreadable files must
/// not fill the memory.
const LISTED_MAX: usize = 200;

/// Problems that are only counted, a few bytes each.
const COUNTED_MAX: usize = 100_000;

/// Something that stands in the way, as the status tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Of which path; none if it is of no path in particular.
    pub path: Option<String>,
    /// The reason, and what mends it.
    pub text: String,
}

/// Who told of a problem, and so who knows when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Somebody who says when it is over.
    Itself,
    /// The look of this number at everything, or one after it: it is over when
    /// the next one does not find it.
    Look(u64),
}

/// What is new about a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing.
    Known,
    /// It, or its reason.
    This,
    /// It is the first of those that are only counted.
    More,
}

/// The problems that stand.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    listed: BTreeMap<String, (String, By)>,
    /// Those past the bound, by what remains the same of their names.
    counted: HashMap<u64, By>,
    names: RandomState,
}

impl Problems {
    /// Something stands in the way of `about`.
    pub(crate) fn add(&mut self, about: &str, text: &str, by: By) -> News {
        if let Some((known, of)) = self.listed.get_mut(about) {
            *of = by;
            if known == text {
                return News::Known;
            }
            text.clone_into(known);
            return News::This;
        }
        let name = self.names.hash_one(about);
        if self.listed.len() < LISTED_MAX {
            self.counted.remove(&name);
            self.listed.insert(about.to_owned(), (text.to_owned(), by));
            return News::This;
        }
        let is_first = self.counted.is_empty();
        if self.counted.len() < COUNTED_MAX || self.counted.contains_key(&name) {
            self.counted.insert(name, by);
        }
        match is_first {
            true => News::More,
            false => News::Known,
        }
    }

    /// Nothing stands in the way of `about` any more; whether anything did.
    pub(crate) fn solve(&mut self, about: &str) -> bool {
        self.listed.remove(about).is_some()
            || (!self.counted.is_empty()
                && self.counted.remove(&self.names.hash_one(about)).is_some())
    }

    /// As [`Problems::solve`], if it was a look that told of it.
    pub(crate) fn solve_seen(&mut self, about: &str) -> bool {
        let of = match self.listed.get(about) {
            Some((_, of)) => Some(of),
            None => self.counted.get(&self.names.hash_one(about)),
        };
        matches!(of, Some(By::Look(_))) && self.solve(about)
    }

    /// What looks before this one told of is over; whether there was any.
    pub(crate) fn solve_before(&mut self, look: u64) -> bool {
        let before = self.count();
        let stands = |by: &By| !matches!(by, By::Look(told) if *told < look);
        self.listed.retain(|_, (_, by)| stands(by));
        self.counted.retain(|_, by| stands(by));
        self.count() != before
    }

    /// What stands in the way of `about`, if it is kept with its words.
    pub(crate) fn text_of(&self, about: &str) -> Option<String> {
        self.listed.get(about).map(|(text, _)| text.clone())
    }

    /// Whether something stands in the way of `about`.
    pub(crate) fn has(&self, about: &str) -> bool {
        self.listed.contains_key(about) || self.counted.contains_key(&self.names.hash_one(about))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.counted.is_empty()
    }

    /// How many there are, or at least are.
    pub(crate) fn count(&self) -> u64 {
        (self.listed.len() + self.counted.len()) as u64
    }

    /// Those that are kept with their words.
    pub(crate) fn listed(&self) -> Vec<Problem> {
        let listed = self.listed.iter();
        listed
            .map(|(about, (text, _))| Problem {
                // No path begins with it.
                path: (!about.is_empty() && !about.starts_with('/')).then(|| about.clone()),
                text: text.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_problems_are_counted_and_few_of_them_kept() {
        let mut problems = Problems::default();
        let name = |n: usize| format!("f{n}");
        let most = LISTED_MAX + COUNTED_MAX;
        let mut told = 0;
        for _look in 0..2 {
            for n in 0..most + 1000 {
                told += usize::from(problems.add(&name(n), "no", By::Itself) != News::Known);
            }
        }
        assert_eq!(told, LISTED_MAX + 1);
        assert_eq!(problems.listed().len(), LISTED_MAX);
        assert_eq!(problems.count(), most as u64);
        for n in 0..most + 1000 {
            problems.solve(&name(n));
        }
        assert!(problems.is_empty());
    }

    #[test]
    fn what_was_only_counted_is_listed_when_there_is_room_and_counts_once() {
        let mut problems = Problems::default();
        for n in 0..LISTED_MAX + 2 {
            problems.add(&format!("f{n}"), "no", By::Itself);
        }
        assert!(problems.solve("f0"));
        let last = format!("f{}", LISTED_MAX + 1);
        assert_eq!(problems.add(&last, "no", By::Itself), News::This);
        assert_eq!(problems.count(), LISTED_MAX as u64 + 1);
        let listed = problems.listed();
        assert!(
            listed
                .iter()
                .any(|problem| problem.path == Some(last.clone()))
        );
    }

    #[test]
    fn what_the_next_look_does_not_find_again_is_over() {
        let mut problems = Problems::default();
        problems.add("a", "cannot read a", By::Look(1));
        problems.add("b", "cannot read b", By::Look(1));
        problems.add("/watching", "no", By::Itself);
        problems.add("b", "cannot read b", By::Look(2));
        assert!(!problems.solve_seen("/watching") && !problems.solve_seen("c"));
        assert!(problems.has("a") && !problems.has("c"));
        assert!(problems.solve_before(2));
        assert!(!problems.solve_before(2));
        let paths: Vec<_> = problems.listed().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, [None, Some("b".to_owned())]);
    }
}
