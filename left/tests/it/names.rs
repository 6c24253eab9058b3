//! Names and trees at the edge of what a file system takes.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::pair::{Pair, left, names};

/// As deep as is asked for in [`name_deep`].
const LEVELS: usize = 1000;

/// The paths of nested folders, outermost first.
fn nested(top: &str) -> impl DoubleEndedIterator<Item = PathBuf> {
    (0..LEVELS).map(move |below| Path::new(top).join("d/".repeat(below)))
}

/// Takes nested folders away without a descriptor for each of them.
fn take_away(share: &Path, top: &str) {
    let _ = std::fs::remove_file(share.join(top).join("d/".repeat(LEVELS - 1)).join("leaf"));
    for folder in nested(top).rev() {
        let _ = std::fs::remove_dir(share.join(folder));
    }
}

/// Says that what the peer deleted is meant, if that is asked.
fn confirm(side: &crate::pair::Side) {
    if let Value::String(set) = &side.status()["held"]["set"] {
        let _ = left()
            .args(["confirm", set, "--share"])
            .arg(&side.share)
            .output();
    }
}

#[test]
fn name_deep() {
    let pair = Pair::started();
    let (a, b) = (&pair.a, &pair.b);
    let staged = pair.dir.path().join("staged");
    std::fs::create_dir(&staged).unwrap();
    for folder in nested("top") {
        std::fs::create_dir(staged.join(folder)).unwrap();
    }
    let deepest = nested("top").next_back().unwrap();
    std::fs::write(staged.join(&deepest).join("leaf"), b"far below").unwrap();
    std::fs::rename(staged.join("top"), a.share.join("top")).unwrap();
    pair.wait("the leaf arrived", || {
        std::fs::read(b.share.join(&deepest).join("leaf")).is_ok_and(|leaf| leaf == b"far below")
    });
    pair.settle();
    let asked = left()
        .arg("conflicts")
        .arg("--share")
        .arg(&b.share)
        .output();
    let asked = asked.unwrap();
    assert!(asked.status.success(), "{asked:?}");

    std::fs::rename(a.share.join("top"), a.share.join("moved")).unwrap();
    let moved = nested("moved").next_back().unwrap();
    pair.wait("it has its new name", || {
        b.share.join(&moved).join("leaf").exists() && !b.share.join("top").exists()
    });
    pair.settle();

    take_away(&a.share, "moved");
    pair.wait("it is gone", || {
        confirm(b);
        !b.share.join("moved").exists()
    });
    pair.settle();
    // What a failed test leaves is taken away with one descriptor a level.
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
    const FILES: usize = 5000;
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
