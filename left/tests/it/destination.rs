//! The destination changes while something is on its way to it.

use std::fs;

use crate::pair::{Pair, Side, manifest, names, noise};

const SIZE: usize = 96 * 1024 * 1024;

/// Offers a large file at A, in a folder that both have, and waits until B has some of it.
fn begin(pair: &Pair) {
    fs::create_dir(pair.a.share.join("d")).unwrap();
    pair.wait("the folder is there", || pair.b.share.join("d").exists());
    pair.settle();
    let staged = pair.dir.path().join("staged");
    fs::write(&staged, noise("destination", SIZE)).unwrap();
    fs::rename(staged, pair.a.share.join("d/big")).unwrap();
    pair.wait("some of it is in a part", || {
        let found = part(&pair.b).and_then(|part| part.metadata().ok());
        found.is_some_and(|part| part.len() > 8 * 1024 * 1024)
    });
}

fn part(side: &Side) -> Option<std::path::PathBuf> {
    let all = fs::read_dir(side.share.join(".left/parts")).unwrap();
    all.flatten().map(|part| part.path()).next()
}

#[test]
fn dst_part_deleted_that_file_alone_starts_again() {
    let pair = Pair::started();
    begin(&pair);
    fs::remove_file(part(&pair.b).unwrap()).unwrap();
    pair.a.write("other", b"small");
    pair.wait("both arrived", || {
        pair.b.share.join("other").exists() && pair.b.share.join("d/big").exists()
    });
    pair.settle();
    assert!(pair.b.read("d/big").as_deref() == Some(&noise("destination", SIZE)));
}

#[test]
fn dst_parent_renamed_nothing_is_lost_or_written_elsewhere() {
    let pair = Pair::started();
    begin(&pair);
    fs::rename(pair.b.share.join("d"), pair.b.share.join("e")).unwrap();
    let whole = noise("destination", SIZE);
    let hash = blake3::hash(&whole);
    let holders = || {
        let all = manifest(&pair.b.share);
        let with_it = all.iter().filter(|item| item.content == hash.as_bytes());
        with_it
            .map(|item| String::from_utf8_lossy(&item.path).into_owned())
            .collect::<Vec<_>>()
    };
    pair.wait("it is somewhere", || !holders().is_empty());
    pair.settle();
    assert!(
        holders() == ["d/big"] || holders() == ["e/big"],
        "{:?}",
        names(&pair.b.share)
    );
}

#[test]
fn dst_name_taken_meanwhile_keeps_what_the_user_made() {
    let pair = Pair::started();
    begin(&pair);
    pair.b.write("d/big", b"the user's own");
    pair.wait("both have both", || {
        names(&pair.a.share).len() == 3 && names(&pair.b.share).len() == 3
    });
    let all = pair.settle();
    for content in [&noise("destination", SIZE)[..], b"the user's own"] {
        let hash = blake3::hash(content);
        assert!(all.iter().any(|item| item.content == hash.as_bytes()));
    }
}
