//! `write`, `tree`, `overwrite`: what is left on the disk. Their content is
//! compared with the harness's own in the harness's tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::talk::{complaint, said};

#[test]
fn a_file_appears_complete_with_its_mode_and_parents() {
    let dir = tempfile::tempdir().unwrap();
    let (dest, temp) = (dir.path().join("a/b/x"), dir.path().join("temp"));
    let [dest_text, temp_text] = [&dest, &temp].map(|path| path.to_str().unwrap());
    let args = [
        "write", dest_text, "--seed", "s", "--size", "100", "--temp", temp_text, "--mode", "4750",
    ];
    let lines = said(&args);
    let bytes = fs::read(&dest).unwrap();
    let hash = blake3::hash(&bytes).to_hex();
    assert_eq!(
        lines,
        [format!(
            "{{\"written\":true,\"size\":100,\"blake3\":\"{hash}\"}}"
        )]
    );
    assert_eq!(
        fs::metadata(&dest).unwrap().permissions().mode() & 0o7777,
        0o4750
    );
    assert!(!temp.exists());
    // The same seed again is the same content, over what is there.
    assert_eq!(said(&args), lines);
}

#[test]
fn progress_is_told_and_grows() {
    let dir = tempfile::tempdir().unwrap();
    let [dest, temp] = ["x", "temp"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let size = (64 << 20).to_string();
    let lines = said(&[
        "write",
        &dest,
        "--seed",
        "s",
        "--size",
        &size,
        "--temp",
        &temp,
        "--content",
        "zeros",
    ]);
    let done: Vec<_> = lines[..lines.len() - 1]
        .iter()
        .map(|line| crate::talk::number(line, "done"))
        .collect();
    assert!(
        done.is_sorted() && done.iter().all(|done| *done <= 64 << 20),
        "{done:?}"
    );
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("taken/inside")).unwrap();
    let [dest, temp] =
        ["taken", "temp"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let text = complaint(
        1,
        &[
            "write", &dest, "--seed", "s", "--size", "9", "--temp", &temp,
        ],
    );
    assert!(text.contains("cannot rename"), "{text}");
    let text = complaint(
        1,
        &[
            "tree", &dest, "--seed", "s", "--size", "9", "--files", "30", "--temp", &temp,
        ],
    );
    assert!(text.contains("cannot rename"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn only_the_asked_bytes_are_overwritten_and_the_inode_stays() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, [7; 1000]).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    said(&[
        "overwrite",
        path.to_str().unwrap(),
        "--seed",
        "s",
        "--at",
        "500",
        "--size",
        "100",
    ]);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(
        (&bytes[..500], &bytes[600..]),
        (&[7; 500][..], &[7; 400][..])
    );
    assert!(bytes[500..600].iter().filter(|byte| **byte != 7).count() > 50);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    std::os::unix::fs::symlink("x", dir.path().join("l")).unwrap();
    let link = dir.path().join("l");
    complaint(
        1,
        &[
            "overwrite",
            link.to_str().unwrap(),
            "--seed",
            "s",
            "--at",
            "0",
            "--size",
            "1",
        ],
    );
}
