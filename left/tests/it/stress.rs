//! Random writing, deleting and renaming on both sides and random kills: no version is ever lost.
//!
//! A version that a user completed must be found at the end, under its name or
//! as a conflict copy, on both sides, unless a user who had it replaced it. The
//! one declared limit is left out: what is written through a descriptor whose
//! file was replaced meanwhile.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::pair::{Item, Pair, manifest, noise};

/// Runs in `cargo test`; `LEFT_STRESS_SEEDS=from..to` runs others.
const SEEDS: std::ops::Range<u64> = 1..3;

const STEPS: usize = 70;

const NAMES: [&str; 6] = ["a.txt", "b.txt", "c", "d/e.txt", "d/f", "large.bin"];

/// The versions that must be found at the end, and what wrote them.
type Owed = BTreeMap<[u8; 32], String>;

struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(
            blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof(),
        )
    }

    fn below(&mut self, sides: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % sides
    }
}

fn id(content: &[u8]) -> [u8; 32] {
    *blake3::hash(content).as_bytes()
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("LEFT_STRESS_SEEDS") else {
        return SEEDS;
    };
    let (from, to) = text.split_once("..").expect("LEFT_STRESS_SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn no_version_is_lost_whatever_is_killed() {
    for seed in seeds() {
        println!("seed {seed}");
        run(seed);
    }
}

fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut pair = Pair::started();
    let mut owed = Owed::new();
    for step in 0..STEPS {
        let here = dice.below(2) == 0;
        if dice.below(10) == 0 {
            let side = if here { &mut pair.a } else { &mut pair.b };
            side.kill();
            // Sometimes it stays away for some steps.
            if dice.below(2) == 0 {
                std::thread::sleep(Duration::from_millis(dice.below(100)));
            }
            side.start();
        }
        let name = NAMES[dice.below(NAMES.len() as u64) as usize];
        let what = format!(
            "seed {seed} step {step} on {} at {name}",
            if here { "a" } else { "b" }
        );
        let len = match dice.below(4) {
            0 => 600_000,
            1 => 150_000,
            _ => 300,
        };
        let content = noise(&what, 20 + dice.below(len) as usize);
        let share = if here { &pair.a.share } else { &pair.b.share };
        let path = share.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match dice.below(9) {
            0..2 => write_in_place(&path, &content, WriteAt::Start, &what, &mut owed),
            2..4 => write_in_place(&path, &content, WriteAt::End, &what, &mut owed),
            4 => take_out(&path, &pair.dir.path().join("staged"), &mut owed),
            5 => {
                let other = share.join(NAMES[dice.below(NAMES.len() as u64) as usize]);
                // Its version lives on under the other name, if that is free.
                let _ = std::fs::create_dir_all(other.parent().unwrap());
                let _ = renameat_with(CWD, &path, CWD, &other, RenameFlags::NOREPLACE);
            }
            6 if dice.below(2) == 0 => {
                take_out(&share.join("d"), &pair.dir.path().join("staged"), &mut owed);
            }
            _ => rename_over(
                &path,
                &pair.dir.path().join("staged"),
                &content,
                &what,
                &mut owed,
            ),
        }
        std::thread::sleep(Duration::from_millis(dice.below(80)));
    }
    let found = settle_for_good(&pair);
    for (version, what) in owed {
        let kept = found.iter().any(|item| item.content == version);
        assert!(kept, "{what} was lost; there is: {}", listing(&pair));
    }
}

/// The status is as old as a quarter of a second, and what a user wrote last may not
/// be seen yet: equal trees are the end when they stay as they are.
fn settle_for_good(pair: &Pair) -> Vec<Item> {
    let mut found = pair.settle();
    loop {
        std::thread::sleep(Duration::from_millis(700));
        let again = pair.settle();
        if again == found {
            return found;
        }
        found = again;
    }
}

fn listing(pair: &Pair) -> String {
    let side = |share: &PathBuf, log: &PathBuf| {
        let names: Vec<_> = crate::pair::names(share);
        let log = std::fs::read_to_string(log).unwrap_or_default();
        format!("{names:?}\n{log}")
    };
    assert_eq!(manifest(&pair.a.share), manifest(&pair.b.share));
    format!(
        "{}\n{}",
        side(&pair.a.share, &pair.a.log),
        side(&pair.b.share, &pair.b.log)
    )
}

#[derive(Clone, Copy)]
enum WriteAt {
    Start,
    End,
}

/// As a shell does it with `>` and `>>`.
fn write_in_place(path: &Path, content: &[u8], at: WriteAt, what: &str, owed: &mut Owed) {
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap();
    let mut before = Vec::new();
    file.read_to_end(&mut before).unwrap();
    owed.remove(&id(&before));
    let mut after = Vec::new();
    match at {
        WriteAt::Start => {
            file.set_len(0).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
        }
        WriteAt::End => after = before,
    }
    // Not in one piece, so that it can be seen half-written.
    for piece in content.chunks(content.len() / 2 + 1) {
        file.write_all(piece).unwrap();
    }
    after.extend_from_slice(content);
    if is_at(&file, path) {
        owed.insert(id(&after), what.to_owned());
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let ours = file.metadata().unwrap().ino();
    std::fs::metadata(path).is_ok_and(|there| there.ino() == ours)
}

/// Deletes a file, or a folder with all that is in it: in one step, so that it is
/// known what went.
fn take_out(path: &Path, staged: &Path, owed: &mut Owed) {
    if std::fs::rename(path, staged).is_err() {
        return;
    }
    let gone = if staged.is_dir() {
        let inside = std::fs::read_dir(staged).unwrap().flatten();
        let contents = inside.map(|entry| std::fs::read(entry.path()).unwrap());
        let contents: Vec<_> = contents.collect();
        std::fs::remove_dir_all(staged).unwrap();
        contents
    } else {
        let content = std::fs::read(staged).unwrap();
        std::fs::remove_file(staged).unwrap();
        vec![content]
    };
    for content in gone {
        owed.remove(&id(&content));
    }
}

/// As an editor does it; the exchange tells exactly what was replaced.
fn rename_over(path: &Path, staged: &Path, content: &[u8], what: &str, owed: &mut Owed) {
    loop {
        std::fs::write(staged, content).unwrap();
        let flag = if path.exists() {
            RenameFlags::EXCHANGE
        } else {
            RenameFlags::NOREPLACE
        };
        if renameat_with(CWD, staged, CWD, path, flag).is_ok() {
            break;
        }
    }
    if let Ok(replaced) = std::fs::read(staged) {
        owed.remove(&id(&replaced));
        std::fs::remove_file(staged).unwrap();
    }
    owed.insert(id(content), what.to_owned());
}
