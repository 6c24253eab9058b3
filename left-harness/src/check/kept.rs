//! Nothing lost: every version that nobody replaced must be somewhere on every side,
//! and must be what was asked for. Equal trees can be equally wrong.

use std::collections::BTreeSet;

use blake3::Hash;

use super::finding::Finding;
use super::manifest::Manifest;
use super::text::{escaped, size_text};
use crate::event::Outcome;

/// Lines shown; the rest is counted.
const DETAILS_MAX: usize = 20;

/// The last version of a file, as far as three parties know it.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// In the share.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// What the host said that it wrote.
    pub told: Hash,
    /// What the harness makes of the same recipe by itself; `None` where it cannot.
    pub own: Option<Hash>,
}

/// Judges trees by what was written into them. A version counts as kept under
/// whatever name it is found: a conflict copy is no loss.
pub fn kept(versions: &[Acknowledged], trees: &[(&str, &Manifest)]) -> Finding {
    let wrong: Vec<String> = versions
        .iter()
        .filter(|version| version.own.is_some_and(|own| own != version.told))
        .map(|version| {
            format!(
                "! {}   is not the content that was asked for",
                escaped(version.path.as_bytes())
            )
        })
        .collect();
    if !wrong.is_empty() {
        let text = format!(
            "{} files were not written as asked: nothing can be said of them",
            wrong.len()
        );
        return Finding::new("content", Outcome::Infrastructure, text)
            .with_details(shortened(wrong));
    }
    let mut lost = Vec::new();
    let mut versions_lost = BTreeSet::new();
    let mut unknown = Vec::new();
    for (host, manifest) in trees {
        let there: BTreeSet<[u8; 32]> = manifest
            .files()
            .filter_map(|(_, entry)| Some(*entry.content?.as_bytes()))
            .collect();
        for version in versions
            .iter()
            .filter(|version| !there.contains(version.told.as_bytes()))
        {
            let path = escaped(version.path.as_bytes());
            let size = size_text(version.size);
            if manifest.problems.is_empty() {
                versions_lost.insert(&version.path);
                lost.push(format!(
                    "- {path}   its last version ({size}) is nowhere at {host}"
                ));
            } else {
                // It may be in what could not be looked at.
                unknown.push(format!(
                    "? {path}   its last version ({size}) was not found at {host}, where {} could not be looked at",
                    counted(manifest.problems.len(), "place")
                ));
            }
        }
    }
    if lost.is_empty() && !unknown.is_empty() {
        let text = format!("{} not found", counted(unknown.len(), "version"));
        return Finding::new("content", Outcome::Inconclusive, text)
            .with_details(shortened(unknown));
    }
    if lost.is_empty() {
        let bytes = versions.iter().map(|version| version.size).sum();
        let text = format!(
            "as written: {}, {}",
            counted(versions.len(), "version"),
            size_text(bytes)
        );
        return Finding::new("content", Outcome::Ok, text);
    }
    let text = format!(
        "{} of {} versions are lost",
        versions_lost.len(),
        versions.len()
    );
    Finding::new("content", Outcome::Fail, text).with_details(shortened(lost))
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > DETAILS_MAX {
        let more = lines.len() - DETAILS_MAX;
        lines.truncate(DETAILS_MAX);
        lines.push(format!("… and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::manifest::{Entry, Kind, Name, Time};

    fn tree(files: &[(&str, &str)]) -> Manifest {
        let mut manifest = Manifest::default();
        for (path, content) in files {
            let entry = Entry {
                kind: Kind::File,
                mode: 0o644,
                mtime: Time {
                    seconds: 0,
                    nanos: 0,
                },
                size: content.len() as u64,
                content: Some(blake3::hash(content.as_bytes())),
                target: None,
                stamp: None,
            };
            manifest
                .entries
                .insert(Name::parse(*path).expect("a path"), entry);
        }
        manifest
    }

    fn wrote(path: &str, content: &str) -> Acknowledged {
        let told = blake3::hash(content.as_bytes());
        Acknowledged {
            path: path.into(),
            size: content.len() as u64,
            told,
            own: Some(told),
        }
    }

    #[test]
    fn a_version_under_another_name_is_kept() {
        let copy = tree(&[("f", "theirs"), ("f.conflict", "mine")]);
        let finding = kept(&[wrote("f", "mine")], &[("a", &copy), ("b", &copy)]);
        assert_eq!(
            (finding.outcome, finding.text.as_str()),
            (Outcome::Ok, "as written: 1 version, 4 B")
        );
    }

    #[test]
    fn a_version_that_is_gone_from_equal_trees_is_lost() {
        let empty = tree(&[]);
        let finding = kept(&[wrote("f", "mine")], &[("a", &empty), ("b", &empty)]);
        assert_eq!(finding.outcome, Outcome::Fail);
        assert_eq!(finding.text, "1 of 1 versions are lost");
        assert_eq!(finding.details.len(), 2);
        assert!(finding.details[1].contains("nowhere at b"), "{finding:?}");
    }

    #[test]
    fn a_version_that_may_be_in_what_nobody_can_read_is_not_lost() {
        let mut tree = tree(&[]);
        let name = Name::parse("f").expect("a path");
        tree.problems.insert(name, "permission denied".into());
        let finding = kept(&[wrote("f", "mine")], &[("a", &tree)]);
        assert_eq!(finding.outcome, Outcome::Inconclusive, "{finding:?}");
    }

    #[test]
    fn a_host_that_wrote_something_else_proves_nothing() {
        let mut version = wrote("f", "mine");
        version.own = Some(blake3::hash(b"asked"));
        let tree = tree(&[("f", "mine")]);
        assert_eq!(
            kept(&[version], &[("a", &tree)]).outcome,
            Outcome::Infrastructure
        );
    }
}
