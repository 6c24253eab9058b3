//! In what two trees differ. Pure: two manifests in, differences out.
//!
//! Compared are names, kinds, contents, permission bits (not of links, which have
//! none), mtimes of regular files and targets of links. What could not be looked
//! at on either side is neither equal nor different: it makes the verdict
//! inconclusive, unless something else differs for certain.

use std::collections::BTreeSet;
use std::fmt;

use super::finding::Finding;
use super::manifest::{Entry, Kind, Manifest, Name, Time};
use super::text::{escaped, size_text};
use crate::event::Outcome;

/// Lines shown of one comparison; the rest is counted.
const DETAILS_MAX: usize = 60;

/// One of the two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one named first.
    First,
    /// The other one.
    Second,
}

/// In what an entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is on one side only.
    Missing {
        /// Where it is not.
        at: Side,
        /// What is on the other side.
        there: Entry,
    },
    /// A file here, a folder there. Nothing else of it is compared.
    Kind(Kind, Kind),
    /// Other bytes; the sizes of both.
    Content(u64, u64),
    /// Other permission bits.
    Mode(u32, u32),
    /// Changed at another time.
    Mtime(Time, Time),
    /// A link that points elsewhere.
    Target(Vec<u8>, Vec<u8>),
}

/// An entry that differs, in one respect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Relative to both roots.
    pub path: Name,
    /// In what.
    pub what: What,
}

/// All that two trees tell about each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// For certain, in order.
    pub differences: Vec<Difference>,
    /// What could not be compared: where, and why.
    pub unknown: Vec<(Name, String)>,
}

/// Compares two trees; `names` are the names of their hosts.
pub fn compare(names: [&str; 2], first: &Manifest, second: &Manifest) -> Comparison {
    let mut comparison = Comparison::default();
    for (name, manifest) in names.iter().zip([first, second]) {
        let problems = manifest.problems.iter();
        comparison
            .unknown
            .extend(problems.map(|(path, why)| (path.clone(), format!("{name}: {why}"))));
    }
    let paths: BTreeSet<_> = first.entries.keys().chain(second.entries.keys()).collect();
    for path in paths {
        if is_unknown(path, first) || is_unknown(path, second) {
            continue;
        }
        let mut add = |what| {
            comparison.differences.push(Difference {
                path: path.clone(),
                what,
            })
        };
        match (first.entries.get(path), second.entries.get(path)) {
            (Some(there), None) => add(What::Missing {
                at: Side::Second,
                there: there.clone(),
            }),
            (None, Some(there)) => add(What::Missing {
                at: Side::First,
                there: there.clone(),
            }),
            (Some(one), Some(other)) => {
                if !both(one, other, add) {
                    comparison
                        .unknown
                        .push((path.clone(), "its content was not looked at".into()));
                }
            }
            (None, None) => {}
        }
    }
    comparison
}

/// Whether two quick looks show nothing that differs: cheap, and no proof.
pub fn alike(first: &Manifest, second: &Manifest) -> bool {
    let comparison = compare(["", ""], first, second);
    comparison.differences.is_empty() && first.problems.is_empty() && second.problems.is_empty()
}

/// Compares what is on both sides; false when the contents cannot be compared.
fn both(one: &Entry, other: &Entry, mut add: impl FnMut(What)) -> bool {
    if one.kind != other.kind {
        add(What::Kind(one.kind, other.kind));
        return true;
    }
    let mut known = true;
    if one.kind == Kind::File {
        let contents = (one.content, other.content);
        if one.size != other.size || matches!(contents, (Some(one), Some(other)) if one != other) {
            add(What::Content(one.size, other.size));
        } else {
            known = matches!(contents, (Some(_), Some(_)));
        }
        if one.mtime != other.mtime {
            add(What::Mtime(one.mtime, other.mtime));
        }
    }
    if one.kind == Kind::Link {
        if one.target != other.target {
            let target = |entry: &Entry| entry.target.clone().unwrap_or_default();
            add(What::Target(target(one), target(other)));
        }
    } else if one.mode != other.mode {
        add(What::Mode(one.mode, other.mode));
    }
    known
}

/// There was trouble with it, or with a folder it lies in.
fn is_unknown(path: &Name, manifest: &Manifest) -> bool {
    !manifest.problems.is_empty()
        && path
            .with_folders()
            .any(|name| manifest.problems.contains_key(&name))
}

/// The verdict on two trees, with a line for each difference.
pub fn trees(names: [&str; 2], first: &Manifest, second: &Manifest) -> Finding {
    verdict(names, &compare(names, first, second), first)
}

/// The verdict on a comparison; `first` only tells how much there was.
pub fn verdict(names: [&str; 2], comparison: &Comparison, first: &Manifest) -> Finding {
    let unknown = comparison.unknown.len();
    let could_not = format!(
        "{unknown} {} could not be compared",
        if unknown == 1 { "entry" } else { "entries" }
    );
    let mut details = lines(names, &comparison.differences);
    details.extend(
        comparison
            .unknown
            .iter()
            .map(|(path, why)| format!("? {path}   {}", escaped(why.as_bytes()))),
    );
    if details.len() > DETAILS_MAX {
        let more = details.len() - DETAILS_MAX;
        details.truncate(DETAILS_MAX);
        details.push(format!("… and {more} more"));
    }
    let finding = if !comparison.differences.is_empty() {
        let mut text = format!("trees differ: {}", counts(names, &comparison.differences));
        if unknown > 0 {
            text = format!("{text}; {could_not}");
        }
        Finding::new("trees", Outcome::Fail, text)
    } else if unknown > 0 {
        Finding::new("trees", Outcome::Inconclusive, could_not)
    } else {
        Finding::new(
            "trees",
            Outcome::Ok,
            format!("identical: {}", first.summary()),
        )
    };
    finding.with_details(details)
}

/// `2 missing at b, 1 content`
fn counts(names: [&str; 2], differences: &[Difference]) -> String {
    let of = |wanted: fn(&What) -> bool| {
        differences
            .iter()
            .filter(|difference| wanted(&difference.what))
            .count()
    };
    let counted = [
        (
            of(|what| {
                matches!(
                    what,
                    What::Missing {
                        at: Side::First,
                        ..
                    }
                )
            }),
            format!("missing at {}", names[0]),
        ),
        (
            of(|what| {
                matches!(
                    what,
                    What::Missing {
                        at: Side::Second,
                        ..
                    }
                )
            }),
            format!("missing at {}", names[1]),
        ),
        (of(|what| matches!(what, What::Kind(..))), "kind".into()),
        (
            of(|what| matches!(what, What::Content(..))),
            "content".into(),
        ),
        (of(|what| matches!(what, What::Mode(..))), "mode".into()),
        (of(|what| matches!(what, What::Mtime(..))), "mtime".into()),
        (
            of(|what| matches!(what, What::Target(..))),
            "link target".into(),
        ),
    ];
    let shown = counted
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"));
    shown.collect::<Vec<_>>().join(", ")
}

/// A line a difference; what lies in a missing folder is told in the folder's line.
fn lines(names: [&str; 2], differences: &[Difference]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut index = 0;
    while let Some(difference) = differences.get(index) {
        index += 1;
        let inside = match &difference.what {
            What::Missing { at, there } if there.kind == Kind::Dir => differences[index..]
                .iter()
                .take_while(|next| {
                    next.path.is_below(&difference.path)
                        && matches!(&next.what, What::Missing { at: next_at, .. } if next_at == at)
                })
                .count(),
            _ => 0,
        };
        lines.push(
            Shown {
                names,
                difference,
                inside: &differences[index..index + inside],
            }
            .to_string(),
        );
        index += inside;
    }
    lines
}

struct Shown<'a> {
    names: [&'a str; 2],
    difference: &'a Difference,
    /// Missing together with it.
    inside: &'a [Difference],
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.names;
        write!(f, "- {}   ", self.difference.path)?;
        match &self.difference.what {
            What::Missing { at, there } => {
                let (at, where_it_is) = if *at == Side::First {
                    (one, other)
                } else {
                    (other, one)
                };
                write!(
                    f,
                    "missing at {at} ({where_it_is}: {})",
                    thing(there, self.inside)
                )
            }
            What::Kind(a, b) => write!(f, "kind ({one}: {a}, {other}: {b})"),
            What::Content(a, b) if a == b => write!(f, "content (both {})", size_text(*a)),
            What::Content(a, b) => write!(f, "content ({one}: {a} bytes, {other}: {b} bytes)"),
            What::Mode(a, b) => write!(f, "mode ({one}: {a:04o}, {other}: {b:04o})"),
            What::Mtime(a, b) => write!(f, "mtime ({one}: {a}, {other}: {b})"),
            What::Target(a, b) => write!(
                f,
                "link target ({one}: {}, {other}: {})",
                escaped(a),
                escaped(b)
            ),
        }
    }
}

fn thing(entry: &Entry, inside: &[Difference]) -> String {
    match entry.kind {
        Kind::File => format!("file {}", size_text(entry.size)),
        Kind::Link => format!(
            "link to {}",
            escaped(entry.target.as_deref().unwrap_or_default())
        ),
        Kind::Dir if inside.is_empty() => "empty folder".into(),
        Kind::Dir => format!("folder with {} inside", inside.len()),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Name {
        Name::parse(path).unwrap()
    }

    fn entry(kind: Kind, content: &str) -> Entry {
        Entry {
            kind,
            mode: 0o644,
            mtime: Time {
                seconds: 5,
                nanos: 7,
            },
            size: content.len() as u64,
            content: (kind == Kind::File).then(|| blake3::hash(content.as_bytes())),
            target: (kind == Kind::Link).then(|| content.into()),
            stamp: None,
        }
    }

    fn tree() -> Manifest {
        let mut manifest = Manifest::default();
        for (path, kind, content) in [
            ("d", Kind::Dir, ""),
            ("d/x", Kind::File, "twelve bytes"),
            ("empty", Kind::Dir, ""),
            ("link", Kind::Link, "d/x"),
            ("y", Kind::File, "yy"),
        ] {
            manifest.entries.insert(name(path), entry(kind, content));
        }
        manifest
    }

    /// What is said when the second tree was changed.
    fn said(change: impl FnOnce(&mut Manifest)) -> (Outcome, String, Vec<String>) {
        let mut second = tree();
        change(&mut second);
        let finding = trees(["a", "b"], &tree(), &second);
        (finding.outcome, finding.text, finding.details)
    }

    fn change(path: &str, change: impl FnOnce(&mut Entry)) -> (Outcome, String, Vec<String>) {
        said(|manifest| change(manifest.entries.get_mut(&name(path)).unwrap()))
    }

    fn fails(text: &str, detail: &str) -> (Outcome, String, Vec<String>) {
        (
            Outcome::Fail,
            format!("trees differ: {text}"),
            vec![detail.into()],
        )
    }

    #[test]
    fn equal_trees_pass_with_their_size() {
        assert_eq!(
            said(|_| ()),
            (Outcome::Ok, "identical: 5 entries, 14 B".into(), vec![])
        );
    }

    #[test]
    fn every_difference_is_named() {
        assert_eq!(
            said(|tree| drop(tree.entries.remove(&name("d/x")))),
            fails("1 missing at b", "- d/x   missing at b (a: file 12 B)")
        );
        assert_eq!(
            said(|tree| drop(tree.entries.insert(name("z\n"), entry(Kind::File, "")))),
            fails("1 missing at a", "- z\\n   missing at a (b: file 0 B)")
        );
        assert_eq!(
            said(|tree| drop(tree.entries.remove(&name("empty")))),
            fails("1 missing at b", "- empty   missing at b (a: empty folder)")
        );
        let other = Some(blake3::hash(b"Twelve bytes"));
        assert_eq!(
            change("d/x", |entry| entry.content = other),
            fails("1 content", "- d/x   content (both 12 B)")
        );
        assert_eq!(
            change("y", |entry| *entry = Entry {
                size: 3,
                content: other,
                ..entry.clone()
            }),
            fails("1 content", "- y   content (a: 2 bytes, b: 3 bytes)")
        );
        assert_eq!(
            change("d", |entry| entry.mode = 0o755),
            fails("1 mode", "- d   mode (a: 0644, b: 0755)")
        );
        assert_eq!(
            change("y", |entry| entry.mtime.nanos = 8),
            fails("1 mtime", "- y   mtime (a: 5.000000007, b: 5.000000008)")
        );
        assert_eq!(
            change("link", |entry| entry.target = Some(b"d/\xff".to_vec())),
            fails("1 link target", "- link   link target (a: d/x, b: d/\\xff)")
        );
        assert_eq!(
            change("y", |new| *new = entry(Kind::Link, "d")),
            fails("1 kind", "- y   kind (a: file, b: link)")
        );
    }

    #[test]
    fn what_carries_no_meaning_is_not_compared() {
        let (outcome, ..) = change("d", |entry| entry.mtime.seconds = 99);
        assert_eq!(outcome, Outcome::Ok, "a folder's mtime");
        let (outcome, ..) = change("link", |entry| {
            (entry.mtime.seconds, entry.mode) = (99, 0o777)
        });
        assert_eq!(outcome, Outcome::Ok, "a link's mtime and mode");
        let (outcome, ..) = change("empty", |entry| entry.size = 4096);
        assert_eq!(outcome, Outcome::Ok, "a folder's size");
    }

    #[test]
    fn a_missing_folder_is_one_line() {
        let (_, text, details) = said(|tree| {
            tree.entries
                .retain(|path, _| !path.to_string().starts_with('d'))
        });
        assert_eq!(text, "trees differ: 2 missing at b");
        assert_eq!(details, ["- d   missing at b (a: folder with 1 inside)"]);
    }

    #[test]
    fn what_could_not_be_looked_at_is_neither_equal_nor_different() {
        let broken = |tree: &mut Manifest| {
            tree.entries.remove(&name("d/x"));
            tree.problems.insert(name("d"), "permission denied".into());
        };
        let (outcome, text, details) = said(broken);
        assert_eq!(
            (outcome, text.as_str()),
            (Outcome::Inconclusive, "1 entry could not be compared")
        );
        assert_eq!(details, ["? d   b: permission denied"]);
        let (outcome, text, _) = said(|tree| {
            broken(tree);
            tree.entries.remove(&name("y"));
        });
        assert_eq!(outcome, Outcome::Fail, "{text}");
        let (outcome, ..) = change("y", |entry| entry.content = None);
        assert_eq!(
            outcome,
            Outcome::Inconclusive,
            "a quick look proves nothing"
        );
    }

    #[test]
    fn a_flood_is_counted() {
        let (_, _, details) = said(|tree| {
            for number in 0..100 {
                tree.entries
                    .insert(name(&format!("n{number}")), entry(Kind::File, ""));
            }
        });
        assert_eq!((details.len(), details[60].as_str()), (61, "… and 40 more"));
    }
}
