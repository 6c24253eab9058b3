//! Holes cost neither reading, nor wire, nor disk.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::pair::{Pair, noise};

const TIB: u64 = 1 << 40;
const MIB: u64 = 1 << 20;
const BLOCK: u64 = 128 * 1024;

/// Bytes of the disk that a file takes.
fn used(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.blocks() * 512)
}

/// A file with holes, outside the shares; `None`, said aloud, where there are no such.
fn sparse(pair: &Pair, size: u64, data: &[(u64, Vec<u8>)]) -> Option<File> {
    let path = pair.dir.path().join("staged");
    let file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .read(true)
        .open(&path)
        .unwrap();
    let is_made = file.set_len(size).is_ok();
    for (offset, bytes) in data.iter().filter(|_| is_made) {
        file.write_all_at(bytes, *offset).unwrap();
    }
    file.sync_all().unwrap();
    let bytes: u64 = data.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    if !is_made || used(&path) > bytes + 16 * MIB {
        eprintln!("skipped: the file system of the temporary folder has no files with holes");
        return None;
    }
    Some(file)
}

/// Gives it its name at A.
fn offer(pair: &Pair, name: &str) {
    std::fs::rename(pair.dir.path().join("staged"), pair.a.share.join(name)).unwrap();
}

fn has(path: &Path, size: u64, data: &[(u64, Vec<u8>)]) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    file.metadata().unwrap().len() == size
        && data.iter().all(|(offset, bytes)| {
            let mut found = vec![0; bytes.len()];
            file.read_exact_at(&mut found, *offset).is_ok() && found == *bytes
        })
}

/// What B has received since its start, up to now.
fn received(pair: &Pair) -> u64 {
    let items = || std::fs::read_dir(&pair.b.share).unwrap().count() as u64;
    // A status that knows of the mark knows of all before it.
    let mark = format!("mark-{}", items());
    pair.a.write(&mark, b"");
    pair.wait("the mark is there", || pair.b.share.join(&mark).exists());
    let mut seen = None;
    pair.wait("all is counted", || {
        let status = pair.b.status();
        seen = status["received_bytes"].as_u64();
        // The state folder is none.
        status["entries"] == items() - 1
    });
    seen.unwrap()
}

/// A few extents, on block edges and off them.
fn extents() -> Vec<(u64, Vec<u8>)> {
    vec![
        (0, noise("first", 1000)),
        (5 * MIB - 7, noise("across an edge", 300_000)),
        (700 << 30, noise("far away", MIB as usize)),
        (TIB - 10, noise("the end", 10)),
    ]
}

#[test]
fn kind_holes_a_sparse_file_of_1_tib_costs_its_data() {
    let pair = Pair::started();
    if sparse(&pair, TIB, &extents()).is_none() {
        return;
    }
    offer(&pair, "large");
    let there = pair.b.share.join("large");
    pair.wait("it is there", || has(&there, TIB, &extents()));
    assert!(used(&there) <= 16 * MIB, "{} bytes on disk", used(&there));
    let first = received(&pair);
    assert!(first <= 12 * MIB, "{first} bytes received");

    // A copy of it is made on the other side, from what is there.
    if sparse(&pair, TIB, &extents()).is_none() {
        return;
    }
    offer(&pair, "copy");
    let there = pair.b.share.join("copy");
    pair.wait("the copy is there", || has(&there, TIB, &extents()));
    assert!(used(&there) <= 16 * MIB, "{} bytes on disk", used(&there));
    assert_eq!(received(&pair), first);
}

#[test]
fn kind_holes_a_hole_punched_into_a_file_arrives_as_one() {
    let pair = Pair::started();
    let content = noise("to be punched", 64 * MIB as usize);
    let path = pair.a.write("file", &content);
    let there = pair.b.share.join("file");
    pair.wait("it arrived", || {
        pair.b.read("file").as_deref() == Some(&content[..])
    });
    let before = received(&pair);
    let file = File::options().write(true).open(&path).unwrap();
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if fallocate(&file, how, BLOCK, 48 * MIB).is_err() {
        eprintln!("skipped: the file system of the temporary folder makes no holes");
        return;
    }
    let mut punched = content;
    punched[BLOCK as usize..][..48 * MIB as usize].fill(0);
    pair.wait("the hole arrived", || {
        pair.b.read("file").as_deref() == Some(&punched[..])
    });
    assert!(used(&there) <= 20 * MIB, "{} bytes on disk", used(&there));
    assert_eq!(received(&pair), before, "nothing had to be received");
}

#[test]
fn kind_holes_zeros_that_were_written_do_not_travel() {
    let pair = Pair::started();
    let mut content = vec![0; 16 * MIB as usize + 5];
    content[3 * MIB as usize..][..1000].copy_from_slice(&noise("among zeros", 1000));
    pair.a.write("zeros", &content);
    pair.wait("it arrived", || {
        pair.b.read("zeros").as_deref() == Some(&content[..])
    });
    assert_eq!(received(&pair), BLOCK);
    pair.settle();
}

#[test]
fn kind_holes_a_sparse_file_is_resumed() {
    let mut pair = Pair::started();
    let len = 192 * MIB;
    let data = [(300 << 30, noise("resumed", len as usize))];
    if sparse(&pair, TIB, &data).is_none() {
        return;
    }
    offer(&pair, "large");
    let parts = pair.b.share.join(".left/parts");
    pair.wait("some of it is in a part", || {
        let part = std::fs::read_dir(&parts).unwrap().flatten().next();
        part.is_some_and(|part| used(&part.path()) > 16 * MIB)
    });
    pair.b.kill();
    let there = pair.b.share.join("large");
    assert!(!there.exists(), "the kill came too late to prove anything");
    pair.b.start();
    pair.wait("it is there", || has(&there, TIB, &data));
    let again = received(&pair);
    assert!(again <= len - 8 * MIB, "{again} bytes were received again");
    assert!(used(&there) <= len + 16 * MIB);
}
