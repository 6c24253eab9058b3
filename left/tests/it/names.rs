//! Names and trees at the edge of what a file system takes.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::pair::{Pair, left, names};

/// As deep as [`name_deep`] asks for.
const LEVELS: usize = 1000;

/// Without optimisation each level of a path costs so much that fewer have to do
/// where all of them change.
const LEVELS_MOVED: usize = if cfg!(debug_assertions) { 200 } else { LEVELS };

/// The paths of nested folders, outermost first.
fn nested(top: &str, levels: usize) -> impl DoubleEndedIterator<Item = PathBuf> {
    (0..levels).map(move |below| Path::new(top).join("d/".repeat(below)))
}

/// Where there is a file at the bottom of them.
fn leaf(top: &str, levels: usize) -> PathBuf {
    let deepest = nested(top, levels).next_back();
    deepest.expect("a level").join("leaf")
}

/// Moves nested folders into the share of a and waits for them at b.
fn dig(pair: &Pair, levels: usize) {
    let staged = pair.dir.path().join("staged");
    std::fs::create_dir(&staged).unwrap();
    for folder in nested("top", levels) {
        std::fs::create_dir(staged.join(folder)).unwrap();
    }
    std::fs::write(staged.join(leaf("top", levels)), b"far below").unwrap();
    std::fs::rename(staged.join("top"), pair.a.share.join("top")).unwrap();
    let there = pair.b.share.join(leaf("top", levels));
    pair.wait("the leaf arrived", || {
        std::fs::read(&there).is_ok_and(|leaf| leaf == b"far below")
    });
    pair.settle();
}

/// Takes nested folders away without a descriptor for each of them.
fn take_away(share: &Path, top: &str, levels: usize) {
    let _ = std::fs::remove_file(share.join(leaf(top, levels)));
    for folder in nested(top, levels).rev() {
        let _ = std::fs::remove_dir(share.join(folder));
    }
}

#[test]
fn name_deep() {
    let mut pair = Pair::started();
    dig(&pair, LEVELS);
    let asked = left()
        .arg("conflicts")
        .arg("--share")
        .arg(&pair.b.share)
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
    for side in [&mut pair.a, &mut pair.b] {
        side.terminate();
        take_away(&side.share, "top", LEVELS);
    }
}

#[test]
fn name_deep_moves_and_goes() {
    let pair = Pair::started();
    let (a, b) = (&pair.a, &pair.b);
    dig(&pair, LEVELS_MOVED);
    std::fs::rename(a.share.join("top"), a.share.join("moved")).unwrap();
    let moved = b.share.join(leaf("moved", LEVELS_MOVED));
    pair.wait("it has its new name", || {
        moved.exists() && !b.share.join("top").exists()
    });
    pair.settle();
    assert_eq!(b.status()["held"], Value::Null);

    take_away(&a.share, "moved", LEVELS_MOVED);
    pair.wait("it is gone", || {
        // A file and its folders are all there is, so that it may be held back.
        if let Value::String(set) = &b.status()["held"]["set"] {
            let mut confirm = left();
            confirm.args(["confirm", set, "--share"]).arg(&b.share);
            let _ = confirm.output();
        }
        !b.share.join("moved").exists()
    });
    pair.settle();
}

#[test]
fn name_of_255_bytes() {
    let pair = Pair::started();
    let long = |first: u8| OsString::from_vec(vec![first; 255]);
    let folder = PathBuf::from(long(b'd'));
    std::fs::create_dir(pair.a.share.join(&folder)).unwrap();
    pair.a.write(folder.join(long(b'f')), b"in it");
    // Not UTF-8, so that it is three times as long on the wire.
    pair.b.write(long(0xff), b"of b");
    pair.wait("all are there", || {
        names(&pair.a.share).len() == 3 && names(&pair.b.share).len() == 3
    });
    pair.settle();
    pair.a.write(folder.join(long(b'f')), b"another content");
    std::fs::remove_file(pair.a.share.join(long(0xff))).unwrap();
    pair.wait("they change and go", || {
        let content = std::fs::read(pair.b.share.join(&folder).join(long(b'f')));
        content.is_ok_and(|content| content == b"another content")
            && !pair.b.share.join(long(0xff)).exists()
    });
    pair.settle();
}

/// `.ci/scale --files 100000 --per-folder 100000` does the same with as many.
#[test]
fn name_wide() {
    const FILES: usize = 2000;
    let pair = Pair::started();
    let (a, b) = (&pair.a, &pair.b);
    let staged = pair.dir.path().join("staged");
    std::fs::create_dir(&staged).unwrap();
    for n in 0..FILES {
        std::fs::write(staged.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let count = |folder: PathBuf| std::fs::read_dir(folder).map_or(0, Iterator::count);
    std::fs::rename(&staged, a.share.join("wide")).unwrap();
    pair.wait("all arrived", || count(b.share.join("wide")) == FILES);
    pair.settle();
    std::fs::rename(a.share.join("wide"), a.share.join("renamed")).unwrap();
    pair.wait("all are renamed", || {
        count(b.share.join("renamed")) == FILES && !b.share.join("wide").exists()
    });
    pair.settle();
    assert_eq!(b.status()["held"], Value::Null);
    assert!(File::open(b.share.join("renamed/f17")).is_ok());
}
