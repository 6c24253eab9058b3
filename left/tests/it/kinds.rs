//! Kinds of things, sizes, and what belongs to a file beside its content.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::pair::{Pair, names, noise};

#[test]
fn kind_empty_file_arrives_and_an_emptied_one() {
    let pair = Pair::started();
    pair.a.write("empty", b"");
    pair.a.write("emptied", b"content");
    pair.wait("both arrived", || names(&pair.b.share).len() == 2);
    pair.settle();
    pair.b.write("emptied", b"");
    pair.wait("it is empty there too", || {
        pair.a.read("emptied").as_deref() == Some(b"")
    });
    pair.settle();
}

#[test]
#[ignore = "takes 10 GiB of disk and a minute: kind-large"]
fn kind_large_is_exact() {
    let pair = Pair::started();
    for (name, size) in [("one", 1u64 << 30), ("above four", (4 << 30) + 4097)] {
        let mut content = blake3::Hasher::new().update(name.as_bytes()).finalize_xof();
        let staged = pair.dir.path().join("staged");
        let mut file = File::create(&staged).unwrap();
        let mut left = size;
        let mut block = vec![0; 1 << 20];
        while left > 0 {
            let now = left.min(block.len() as u64) as usize;
            content.fill(&mut block[..now]);
            std::io::Write::write_all(&mut file, &block[..now]).unwrap();
            left -= now as u64;
        }
        fs::rename(staged, pair.a.share.join(name)).unwrap();
    }
    pair.wait("both arrived", || names(&pair.b.share).len() == 2);
    let hash = |path: std::path::PathBuf| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path).unwrap()).unwrap();
        hasher.finalize()
    };
    for name in ["one", "above four"] {
        assert_eq!(hash(pair.a.share.join(name)), hash(pair.b.share.join(name)));
    }
}

#[test]
fn kind_symlinks_arrive_as_links_and_are_never_followed() {
    let pair = Pair::started();
    let outside = pair.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    pair.a.write("target", b"x");
    let links = [
        ("good", "target"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("dots", "../../../etc"),
        ("folder", outside.to_str().unwrap()),
    ];
    for (name, target) in links {
        symlink(target, pair.a.share.join(name)).unwrap();
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 6);
    pair.settle();
    for (name, target) in links {
        let found = fs::read_link(pair.b.share.join(name)).unwrap();
        assert_eq!(found.to_str().unwrap(), target);
    }
    // One that points elsewhere now, and one that becomes a folder.
    fs::remove_file(pair.b.share.join("good")).unwrap();
    symlink("dangling", pair.b.share.join("good")).unwrap();
    fs::remove_file(pair.b.share.join("folder")).unwrap();
    fs::create_dir(pair.b.share.join("folder")).unwrap();
    pair.b.write("folder/inside", b"y");
    pair.wait("both arrived", || {
        pair.a.read("folder/inside").is_some()
            && fs::read_link(pair.a.share.join("good")).is_ok_and(|to| to.as_os_str() == "dangling")
    });
    pair.settle();
    let left: Vec<_> = fs::read_dir(&outside).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "something was written through a link");
}

#[test]
fn kind_hardlinks_are_equal_files_and_editing_one_corrupts_nothing() {
    let pair = Pair::started();
    let one = pair.a.write("one", &noise("linked", 300_000));
    fs::hard_link(&one, pair.a.share.join("two")).unwrap();
    pair.wait("both arrived", || names(&pair.b.share).len() == 2);
    pair.settle();
    // At B an edit of one is saved as an editor does it; at A both names are one file.
    pair.b.write("new", b"edited at b");
    fs::rename(pair.b.share.join("new"), pair.b.share.join("one")).unwrap();
    pair.wait("the edit arrived", || {
        pair.a.read("one").as_deref() == Some(b"edited at b")
    });
    pair.settle();
    assert!(pair.a.read("two").as_deref() == Some(&noise("linked", 300_000)));
    // In place at A, of a pair: the other name has it too, there and at B.
    fs::hard_link(pair.a.share.join("two"), pair.a.share.join("three")).unwrap();
    pair.wait("the third arrived", || pair.b.share.join("three").exists());
    pair.settle();
    pair.a.write("three", b"in place");
    pair.wait("both names have it", || {
        ["two", "three"]
            .iter()
            .all(|name| pair.b.read(name).as_deref() == Some(b"in place"))
    });
    pair.settle();
}

/// The policy: set-user-id and set-group-id never travel, and what is set here stays; the
/// sticky bit of a folder travels.
#[test]
fn kind_setuid_never_travels_and_stays_where_it_is() {
    let pair = Pair::started();
    let program = pair.a.write("program", b"#!/bin/sh\n");
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    let folder = pair.a.share.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o1777)).unwrap();
    let mode = |side: &crate::pair::Side, name: &str| {
        let found = fs::metadata(side.share.join(name));
        found.map_or(0, |found| found.mode() & 0o7777)
    };
    pair.wait("both arrived", || {
        mode(&pair.b, "program") == 0o755 && mode(&pair.b, "folder") == 0o1777
    });
    // A change of the other bits there takes nothing away here.
    let there = pair.b.share.join("program");
    fs::set_permissions(&there, Permissions::from_mode(0o700)).unwrap();
    pair.wait("the change arrived", || mode(&pair.a, "program") == 0o4700);
    assert_eq!(mode(&pair.b, "program"), 0o700);
}

/// The policy: extended attributes and ACLs are not synchronised. What a file has stays when
/// only its metadata are changed; a new content comes without.
#[test]
fn kind_xattr_is_not_synchronised_and_not_in_the_way() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let pair = Pair::started();
    let path = pair.a.write("file", b"content");
    if let Err(errno) = setxattr(&path, "user.mark", b"value", XattrFlags::empty()) {
        eprintln!("skipped: this file system has no extended attributes: {errno}");
        return;
    }
    pair.wait("it arrived", || pair.b.share.join("file").exists());
    pair.settle();
    let mark = |path: &std::path::Path| {
        let mut value = [0; 16];
        getxattr(path, "user.mark", &mut value[..]).map(|len| value[..len].to_vec())
    };
    let there = pair.b.share.join("file");
    assert!(mark(&there).is_err());
    fs::set_permissions(&there, Permissions::from_mode(0o600)).unwrap();
    pair.wait("the mode arrived", || {
        fs::metadata(&path).unwrap().mode() & 0o777 == 0o600
    });
    assert_eq!(mark(&path).unwrap(), b"value");
}

#[test]
fn kind_fifos_sockets_and_devices_are_named_once_and_others_go_on() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let pair = Pair::started();
    mknodat(
        CWD,
        pair.a.share.join("fifo"),
        FileType::Fifo,
        Mode::RWXU,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(pair.a.share.join("socket")).unwrap();
    pair.a.write("file", b"x");
    pair.wait("the file arrived, and both are named", || {
        let problems = pair.a.status()["problems"].to_string();
        pair.b.share.join("file").exists()
            && problems.contains("fifo")
            && problems.contains("socket")
    });
    pair.settle_but(&["fifo", "socket"]);
    let log = fs::read_to_string(&pair.a.log).unwrap();
    assert_eq!(log.matches("fifo").count(), 1, "{log}");
}
