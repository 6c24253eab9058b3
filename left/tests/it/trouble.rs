//! Trouble with the disk: it goes on by itself when that is over.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pair::{Pair, noise};

/// A small file system of its own, which only root can have.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(path)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn disk_full_is_waited_for_and_nothing_is_lost() {
    let mut pair = Pair::new();
    let Some(_disk) = SmallDisk::at(&pair.b.share) else {
        println!("skipped: this user (not root) cannot mount a small file system");
        return;
    };
    pair.a.start();
    pair.b.start();
    pair.settle();
    let ballast = pair.b.share.join(".left/ballast");
    let _ = std::fs::write(&ballast, vec![1; 16 * 1024 * 1024]);
    pair.a.write("large", &noise("full", 1_000_000));
    for n in 0..300 {
        pair.a.write(format!("f{n}"), b"small");
    }
    pair.wait("the lack of room is told", || {
        std::fs::read_to_string(&pair.b.log).is_ok_and(|log| log.contains("No space left"))
    });
    assert!(pair.b.is_running());
    std::fs::remove_file(ballast).unwrap();
    pair.settle();
    assert_eq!(pair.b.read("large").unwrap(), noise("full", 1_000_000));
    pair.b.kill();
}

#[test]
fn a_damaged_index_is_set_aside_and_nothing_is_lost() {
    for seed in 0..4 {
        let mut pair = Pair::started();
        for n in 0..200 {
            pair.a
                .write(format!("f{n}"), format!("content {n}").as_bytes());
        }
        pair.wait("they arrived", || pair.b.share.join("f199").exists());
        let before = pair.settle();
        pair.b.terminate();
        let index = pair.b.share.join(".left/index");
        let mut bytes = std::fs::read(&index).unwrap();
        // The first page says what the file is; all others are overwritten.
        for (n, page) in bytes.chunks_mut(4096).enumerate().skip(1) {
            let damage = noise(&format!("damage {seed} {n}"), page.len());
            if n % 4 == seed {
                page.copy_from_slice(&damage);
            }
        }
        std::fs::write(&index, bytes).unwrap();
        pair.b.start();
        assert_eq!(pair.settle(), before, "seed {seed}");
    }
}
