//! Of a file that changed only what changed travels.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::pair::{Pair, noise};

const BLOCK: u64 = 128 * 1024;
const SIZE: usize = 16 * 1024 * 1024;

/// Changes a file of A and asserts how much of its new form came over the wire.
fn check(change: impl Fn(&File), received_max: u64) {
    let mut pair = Pair::started();
    let path = pair.a.write("large", &noise("modify", SIZE));
    pair.wait("it arrived", || pair.b.share.join("large").exists());
    pair.settle();
    // B counts from its start.
    pair.b.terminate();
    pair.b.start();
    pair.settle();
    change(&File::options().write(true).open(&path).unwrap());
    let content = std::fs::read(&path).unwrap();
    pair.wait("the change arrived", || {
        pair.b.read("large").as_deref() == Some(&content[..])
    });
    pair.settle();
    pair.a.write("last", b"x");
    pair.wait("all is counted", || {
        let received = pair.b.status()["received_bytes"].as_u64();
        received.is_some_and(|received| received % 2 == 1)
    });
    let received = pair.b.status()["received_bytes"].as_u64().unwrap();
    assert!(
        received <= received_max + 1,
        "{received} bytes were received"
    );
}

#[test]
fn an_overwritten_share_alone_is_fetched() {
    let change = |file: &File| {
        file.write_all_at(&noise("change", 16 * 1024), 5 * 1024 * 1024 - 1000)
            .unwrap();
    };
    check(change, 2 * BLOCK);
}

#[test]
fn of_an_appended_file_the_end_alone_is_fetched() {
    let change = |file: &File| {
        file.write_all_at(&noise("append", 200_000), SIZE as u64)
            .unwrap();
    };
    check(change, 2 * BLOCK);
}

#[test]
fn of_a_truncated_file_nothing_is_fetched() {
    check(|file| file.set_len(9 * 1024 * 1024 + 76).unwrap(), 0);
}
