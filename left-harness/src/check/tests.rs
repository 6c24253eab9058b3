//! The checkers together with the real probe: what is done to a tree is what they say.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::content::{self, Version};
use super::explain::{self, Side};
use super::manifest::Name;
use crate::event::Outcome;
use crate::host::local_remote::{LocalRemote, probe_binary};
use crate::host::probe::{Depth, Probe, TreeSpec, WriteSpec};
use crate::scenario::{Content, How};

fn probe() -> Probe {
    Probe::new(Arc::new(LocalRemote), probe_binary())
}

struct Two {
    dir: tempfile::TempDir,
}

impl Two {
    /// Two trees that are the same.
    fn new() -> Self {
        let two = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for side in ["a", "b"] {
            let root = two.root(side);
            std::fs::create_dir_all(root.join("d/empty")).unwrap();
            two.file(side, "d/text", b"one\ntwo\nthree\n");
            two.file(side, "binary", &[0; 300_000]);
            std::os::unix::fs::symlink("d/text", root.join("link")).unwrap();
            let odd = root.join(std::ffi::OsStr::from_bytes(b"odd \xff\n\x1b name"));
            std::fs::write(&odd, "odd").unwrap();
            set_mtime(&odd);
        }
        two
    }

    fn root(&self, side: &str) -> PathBuf {
        self.dir.path().join(side)
    }

    fn file(&self, side: &str, path: &str, bytes: &[u8]) {
        let path = self.root(side).join(path);
        std::fs::write(&path, bytes).unwrap();
        set_mtime(&path);
    }

    async fn said(&self) -> (Outcome, String, Vec<String>) {
        let (probe, roots) = (probe(), ["a", "b"].map(|side| self.root(side)));
        let first = probe.tree(&roots[0], &[], Depth::Hashed).await.unwrap();
        let second = probe.tree(&roots[1], &[], Depth::Hashed).await.unwrap();
        let finding = explain::trees(
            &Side {
                name: "a",
                probe: &probe,
                root: &roots[0],
                manifest: &first,
            },
            &Side {
                name: "b",
                probe: &probe,
                root: &roots[1],
                manifest: &second,
            },
        )
        .await;
        (finding.outcome, finding.text, finding.details)
    }
}

fn set_mtime(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789))
        .unwrap();
}

/// What is said about two equal trees after `b` was changed.
async fn after(change: impl FnOnce(&Two, &Path)) -> (Outcome, String, Vec<String>) {
    let two = Two::new();
    change(&two, &two.root("b"));
    two.said().await
}

fn fails(text: &str, details: &[&str]) -> (Outcome, String, Vec<String>) {
    (
        Outcome::Fail,
        format!("trees differ: {text}"),
        details.iter().map(ToString::to_string).collect(),
    )
}

#[tokio::test]
async fn equal_trees_are_identical() {
    let text = "identical: 6 entries, 293 KiB".to_string();
    assert_eq!(after(|_, _| ()).await, (Outcome::Ok, text, vec![]));
}

#[tokio::test]
async fn a_missing_file_an_extra_one_and_an_empty_folder_are_seen() {
    assert_eq!(
        after(|_, b| std::fs::remove_file(b.join("d/text")).unwrap()).await,
        fails(
            "1 missing at b",
            &["- d/text   missing at b (a: file 14 B)"]
        )
    );
    assert_eq!(
        after(|two, _| two.file("b", "more", b"")).await,
        fails("1 missing at a", &["- more   missing at a (b: file 0 B)"])
    );
    assert_eq!(
        after(|_, b| std::fs::remove_dir(b.join("d/empty")).unwrap()).await,
        fails(
            "1 missing at b",
            &["- d/empty   missing at b (a: empty folder)"]
        )
    );
}

#[tokio::test]
async fn a_mode_an_mtime_a_target_and_a_kind_are_seen() {
    let mode = |path: PathBuf, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap()
    };
    let (_, text, details) = after(|_, b| mode(b.join("binary"), 0o600)).await;
    assert_eq!(text, "trees differ: 1 mode");
    assert!(details[0].ends_with(", b: 0600)"), "{details:?}");
    let (_, text, _) = after(|_, b| mode(b.join("d"), 0o700)).await;
    assert_eq!(text, "trees differ: 1 mode");
    let touched = |_: &Two, b: &Path| {
        let file = std::fs::File::options()
            .write(true)
            .open(b.join("binary"))
            .unwrap();
        file.set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_790))
            .unwrap();
    };
    assert_eq!(
        after(touched).await,
        fails(
            "1 mtime",
            &["- binary   mtime (a: 1000000000.123456789, b: 1000000000.123456790)"]
        )
    );
    let linked = |to: &'static str| {
        move |_: &Two, b: &Path| {
            std::fs::remove_file(b.join("link")).unwrap();
            std::os::unix::fs::symlink(to, b.join("link")).unwrap();
        }
    };
    assert_eq!(
        after(linked("/etc/passwd")).await,
        fails(
            "1 link target",
            &["- link   link target (a: d/text, b: /etc/passwd)"]
        )
    );
    let replaced = |two: &Two, b: &Path| {
        std::fs::remove_file(b.join("link")).unwrap();
        two.file("b", "link", b"one\ntwo\nthree\n");
    };
    assert_eq!(
        after(replaced).await,
        fails("1 kind", &["- link   kind (a: link, b: file)"])
    );
}

#[tokio::test]
async fn one_flipped_byte_is_found_where_it_is() {
    let flipped = |two: &Two, _: &Path| {
        let mut bytes = vec![0; 300_000];
        bytes[200_000] = 1;
        two.file("b", "binary", &bytes);
    };
    let zeros = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
    assert_eq!(
        after(flipped).await,
        fails(
            "1 content",
            &[
                "- binary   content (both 293 KiB)",
                &format!(
                    "  binary: first difference at byte 200,000 (0x30d40): a 00 {zeros}; b 01 {zeros}"
                ),
                "  binary: 1 range differs: 200,000–200,000 (1 byte)",
            ]
        )
    );
}

#[tokio::test]
async fn a_truncated_binary_ends_where_it_ends() {
    let (_, _, details) = after(|two, _| two.file("b", "binary", &[0; 299_990])).await;
    assert_eq!(
        details[1..],
        [
            "  binary: first difference at byte 299,990 (0x493d6): a 00 00 00 00 00 00 00 00 00 00; b ends here",
            "  binary: a is 10 bytes longer",
        ]
    );
}

#[tokio::test]
async fn far_apart_changes_are_ranges() {
    let changed = |two: &Two, _: &Path| {
        let mut bytes = vec![0; 300_000];
        bytes[10..14].fill(7);
        bytes[290_000] = 7;
        two.file("b", "binary", &bytes);
    };
    let (_, _, details) = after(changed).await;
    assert_eq!(
        details[2],
        "  binary: 2 ranges differ: 10–13, 290,000–290,000 (5 bytes)"
    );
}

#[tokio::test]
async fn a_text_is_shown_as_a_bounded_diff() {
    let (_, _, details) = after(|two, _| two.file("b", "d/text", b"one\nt\x1bwo\nthree")).await;
    assert_eq!(
        details[1..],
        [
            "  --- a:d/text",
            "  +++ b:d/text",
            "  @@ -1,3 +1,3 @@",
            "   one",
            "  -two",
            "  -three",
            "  +t\\u{1b}wo",
            "  +three (no line end)",
        ]
    );
    let many: String = (0..1000).map(|number| format!("{number}\n")).collect();
    let (_, _, details) = after(|two, _| two.file("b", "d/text", many.as_bytes())).await;
    assert_eq!(details.len(), 1 + 40 + 1);
    assert!(
        details[41].ends_with("more lines of this difference"),
        "{}",
        details[41]
    );
}

#[tokio::test]
async fn the_probe_writes_what_the_harness_expects() {
    let dir = tempfile::tempdir().unwrap();
    for (content, sizes) in [
        (
            Content::Random,
            vec![
                0, 1, 1023, 1024, 1025, 131_071, 131_072, 131_073, 1_048_576, 1_048_577, 3_000_000,
            ],
        ),
        (Content::Text, vec![0, 1, 56, 131_072, 1_048_577]),
        (Content::Zeros, vec![0, 1_048_577]),
    ] {
        for size in sizes {
            for how in [How::Renamed, How::InPlace] {
                let seed = format!("7/ü{size}");
                let spec = WriteSpec {
                    dest: dir.path().join("share/file"),
                    seed: seed.clone(),
                    size,
                    temp: dir.path().join("temp"),
                    mode: 0o644,
                    content,
                    how,
                };
                let written = probe().write(&spec, &|_| ()).await.unwrap();
                let expected = Version::written(content, seed, size);
                assert_eq!(written.hash, expected.hash(), "{content:?} {size} {how:?}");
                let bytes = std::fs::read(&spec.dest).unwrap();
                assert_eq!(
                    (bytes.len() as u64, blake3::hash(&bytes)),
                    (size, written.hash)
                );
            }
        }
    }
}

#[tokio::test]
async fn the_probe_overwrites_what_the_harness_expects() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let mut version = Version::written(Content::Random, "1", 2_000_000);
    let spec = WriteSpec {
        dest: file.clone(),
        seed: "1".into(),
        size: 2_000_000,
        temp: dir.path().join("temp"),
        mode: 0o644,
        content: Content::Random,
        how: How::Renamed,
    };
    probe().write(&spec, &|_| ()).await.unwrap();
    for (seed, at, size) in [
        ("2", 0, 1),
        ("3", 1_048_575, 2),
        ("4", 1_999_999, 1_100_000),
        ("5", 5, 0),
    ] {
        version = version.overwritten(seed, at, size).unwrap();
        let written = probe().overwrite(&file, seed, at, size).await.unwrap();
        assert_eq!(
            (written.size, written.hash),
            (version.size(), version.hash()),
            "{seed}"
        );
    }
}

#[tokio::test]
async fn the_probe_makes_the_trees_the_harness_expects() {
    let dir = tempfile::tempdir().unwrap();
    for files in [0, 1, 50, 101] {
        let dest = dir.path().join(format!("tree{files}"));
        let spec = TreeSpec {
            dest,
            seed: "7/tree".into(),
            files,
            size: 1500,
            temp: dir.path().join("temp"),
        };
        let written = probe().tree_write(&spec, &|_| ()).await.unwrap();
        let written: Vec<_> = written
            .files
            .into_iter()
            .map(|(name, file)| (name, file.hash))
            .collect();
        let expected: Vec<_> = content::tree("7/tree", files, 1500)
            .map(|(name, version)| (name, version.hash()))
            .collect();
        assert_eq!(written, expected);
        let seen = probe().tree(&spec.dest, &[], Depth::Hashed).await.unwrap();
        let mut expected = expected;
        expected.sort_by(|(one, _), (other, _)| one.cmp(other));
        let seen: Vec<(Name, _)> = seen
            .files()
            .map(|(name, file)| (name.clone(), file.content.unwrap()))
            .collect();
        assert_eq!(seen, expected);
    }
}
