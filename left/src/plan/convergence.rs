//! Two replicas as pure data: people do something on either side, some of what each
//! side has reaches the other, in the end everything does.

use std::collections::BTreeMap;

use super::*;
use crate::entry::Dots;
use crate::merge::changed_here;

const A: ReplicaId = ReplicaId(0xaaaa_aa00_0000_0001);
const B: ReplicaId = ReplicaId(0xbbbb_bb00_0000_0002);

/// Random numbers of a seed.
struct Noise(blake3::OutputReader);

impl Noise {
    fn of(seed: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        Self(hasher.update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, bound: u8) -> u8 {
        let mut one = [0];
        self.0.fill(&mut one);
        one[0] % bound
    }
}

fn id(content: &str) -> ContentId {
    ContentId(*blake3::hash(content.as_bytes()).as_bytes())
}

fn file(content: &str, secs: i64) -> Body {
    Body::File {
        id: id(content),
        size: content.len() as u64,
        mtime: Mtime { secs, nanos: 0 },
    }
}

#[derive(Clone)]
struct Side {
    here: ReplicaId,
    /// The sequence number of the index.
    seq: u64,
    records: BTreeMap<String, Entry>,
}

impl Side {
    fn new(here: ReplicaId) -> Self {
        let (seq, records) = (0, BTreeMap::new());
        Self { here, seq, records }
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let dots = entry.dots;
        for dot in [dots.content, dots.mode, dots.mtime] {
            assert!(entry.version.knows(dot), "{entry:?}");
        }
        self.seq += 1;
        self.records.insert(path.to_owned(), entry);
    }

    fn found(&mut self, path: &str, body: Body, mode: u32) {
        let known = self.records.get(path);
        let entry = changed_here(known, body, mode, self.here, self.seq + 1);
        self.put(path, entry);
    }

    fn live(&self, path: &str) -> Option<&Entry> {
        let known = self.records.get(path);
        known.filter(|known| !known.is_deleted())
    }

    fn edit(&mut self, path: &str, body: Body) {
        let mode = self.live(path).map_or(0o644, |known| known.mode);
        self.found(path, body, mode);
    }

    fn chmod(&mut self, path: &str, mode: u32) {
        if let Some(known) = self.live(path).cloned() {
            self.found(path, known.body, mode);
        }
    }

    fn touch(&mut self, path: &str, secs: i64) {
        if let Some(mut known) = self.live(path).cloned() {
            if let Body::File { mtime, .. } = &mut known.body {
                mtime.secs = secs;
            }
            self.found(path, known.body, known.mode);
        }
    }

    fn delete(&mut self, path: &str) {
        if self.live(path).is_some() {
            self.found(path, Body::Deleted, 0);
        }
    }

    fn hear(&mut self, path: &str, theirs: &Entry) {
        let mine = self.records.get(path).cloned();
        let raised = |entry: Entry| match entry.version == theirs.version {
            true => entry,
            false => Entry {
                version: entry.version.raised(self.here, self.seq + 1),
                ..entry
            },
        };
        match plan(mine.as_ref(), theirs) {
            Decision::Nothing | Decision::Wait => {}
            Decision::Record(entry) => self.put(path, entry),
            Decision::Remove(entry)
            | Decision::SetMetadata(entry)
            | Decision::Blend(entry)
            | Decision::Install(entry) => {
                let entry = raised(entry);
                self.put(path, entry);
            }
            Decision::InstallKeepingOurs(entry) => {
                let mine = mine.expect("a conflict has two sides");
                let entry = raised(entry);
                self.put(path, entry);
                let copy = conflict_name(path.as_bytes(), &mine.body, self.here, 0);
                let copy = String::from_utf8(copy).unwrap();
                self.found(&copy, mine.body, mine.mode);
            }
        }
    }
}

/// Something of what one side has reaches the other.
fn deliver(noise: &mut Noise, a: &mut Side, b: &mut Side) {
    for _ in 0..noise.below(4) {
        let (from, to) = match noise.below(2) {
            0 => (&*a, &mut *b),
            _ => (&*b, &mut *a),
        };
        let pick = from.records.iter().nth(noise.below(4) as usize);
        if let Some((path, entry)) = pick.map(|(path, entry)| (path.clone(), entry.clone())) {
            to.hear(&path, &entry);
        }
    }
}

/// All of it does, until nothing is news.
fn exchange(a: &mut Side, b: &mut Side) {
    for _ in 0..8 {
        for (path, entry) in a.records.clone() {
            b.hear(&path, &entry);
        }
        for (path, entry) in b.records.clone() {
            a.hear(&path, &entry);
        }
    }
}

#[test]
fn two_replicas_converge_and_lose_nothing() {
    for seed in 0..1000 {
        let mut noise = Noise::of(seed);
        let (mut a, mut b) = (Side::new(A), Side::new(B));
        let mut contents: Vec<ContentId> = Vec::new();
        for round in 0..6 {
            for step in 0..noise.below(6) {
                let path = format!("p{}.txt", noise.below(3));
                let side = match noise.below(2) {
                    0 => &mut a,
                    _ => &mut b,
                };
                let had = side.live(&path).map(|known| known.body.clone());
                match noise.below(8) {
                    0 | 1 => side.chmod(&path, [0o600, 0o640, 0o755][noise.below(3) as usize]),
                    2 => side.touch(&path, noise.below(4).into()),
                    action => {
                        // What its own author replaces need not survive.
                        if let Some(Body::File { id, .. }) = had {
                            contents.retain(|content| *content != id);
                        }
                        if action == 3 {
                            side.delete(&path);
                        } else {
                            let text = format!("{round}-{step}");
                            contents.push(id(&text));
                            side.edit(&path, file(&text, noise.below(4).into()));
                        }
                    }
                }
            }
            deliver(&mut noise, &mut a, &mut b);
        }
        exchange(&mut a, &mut b);
        assert_eq!(a.records, b.records, "seed {seed}");
        for content in contents {
            let kept = a
                .records
                .values()
                .any(|entry| matches!(&entry.body, Body::File { id, .. } if *id == content));
            assert!(kept, "seed {seed} lost {content}");
        }
    }
}

#[test]
fn what_is_changed_on_one_side_alone_is_there_in_the_end() {
    for seed in 0..1000 {
        let mut noise = Noise::of(seed);
        let (mut a, mut b) = (Side::new(A), Side::new(B));
        for n in 0..4 {
            a.edit(&format!("p{n}"), file("base", 1));
        }
        exchange(&mut a, &mut b);
        let mut last = (String::from("base"), 1, 0o644, 0o644);
        let mut touched = 1;
        for round in 0..12 {
            match noise.below(6) {
                // A edits, B says who may read it.
                0 => {
                    last.0 = format!("{round}");
                    last.1 = noise.below(9).into();
                    a.edit("p0", file(&last.0, last.1));
                }
                1 => {
                    last.2 = [0o600, 0o640, 0o644][noise.below(3) as usize];
                    b.chmod("p0", last.2);
                }
                // A touches, B does the same.
                2 => {
                    touched = noise.below(9).into();
                    a.touch("p1", touched);
                }
                3 => {
                    last.3 = [0o600, 0o640, 0o644][noise.below(3) as usize];
                    b.chmod("p1", last.3);
                }
                // A deletes, B changes no content.
                4 => a.delete("p2"),
                _ => {
                    b.chmod("p2", 0o600);
                    b.touch("p2", noise.below(9).into());
                }
            }
            deliver(&mut noise, &mut a, &mut b);
        }
        a.delete("p2");
        exchange(&mut a, &mut b);
        assert_eq!(a.records, b.records, "seed {seed}");
        let of = |path: &str| (a.records[path].body.clone(), a.records[path].mode);
        assert_eq!(of("p0"), (file(&last.0, last.1), last.2), "seed {seed}");
        assert_eq!(of("p1"), (file("base", touched), last.3), "seed {seed}");
        assert!(a.records["p2"].is_deleted(), "seed {seed}");
        assert_eq!(a.records.len(), 4, "seed {seed}: no copies");
    }
}

#[test]
fn a_first_meeting_of_equal_contents_moves_nothing() {
    let (mut a, mut b) = (Side::new(A), Side::new(B));
    for (side, mode, secs) in [(&mut a, 0o644, 7), (&mut b, 0o600, 3)] {
        side.edit("p", file("equal", secs));
        side.chmod("p", mode);
    }
    let first = plan(a.records.get("p"), &b.records["p"]);
    assert!(matches!(first, Decision::Blend(_)), "{first:?}");
    exchange(&mut a, &mut b);
    assert_eq!(a.records, b.records);
    let all: Vec<_> = a
        .records
        .values()
        .map(|entry| (&entry.body, entry.mode))
        .collect();
    assert_eq!(all, [(&file("equal", 7), 0o600)]);
    assert_ne!(a.records["p"].dots, Dots::all(a.records["p"].dots.content));
}
