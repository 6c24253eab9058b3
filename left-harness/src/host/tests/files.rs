use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::host::remote::RemoteError;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_there_and_back() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let local = tempfile::tempdir().unwrap();
    let bytes = content("large", (64 << 20) + 12_345);
    std::fs::write(local.path().join("from"), &bytes).unwrap();
    let there = host.home().join("there");
    let progress = std::sync::Mutex::new(Vec::new());
    let on_bytes = |done| progress.lock().unwrap().push(done);
    let from = local.path().join("from");
    ssh.upload(&from, &there, 0o750, &on_bytes).await.unwrap();

    let arrived = std::fs::read(&there).unwrap();
    assert_eq!(blake3::hash(&arrived), blake3::hash(&bytes));
    let mode = std::fs::metadata(&there).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    let progress = progress.into_inner().unwrap();
    assert!(progress.is_sorted() && progress.last() == Some(&(bytes.len() as u64)));

    let back = local.path().join("back");
    ssh.download(&there, &back).await.unwrap();
    let returned = std::fs::read(&back).unwrap();
    assert_eq!(blake3::hash(&returned), blake3::hash(&bytes));
    assert_eq!(names(host.home()), ["there"]);
    assert_eq!(names(local.path()), ["back", "from"]);
    host.server.stop().await;
}

#[tokio::test]
async fn an_upload_replaces_what_is_there_in_one_move() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let there = host.home().join("f");
    ssh.write(&there, b"old", 0o644).await.unwrap();
    let held = std::fs::File::open(&there).unwrap();
    ssh.write(&there, b"", 0o4700).await.unwrap();
    assert_eq!(std::fs::read(&there).unwrap(), b"");
    let mode = std::fs::metadata(&there).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o4700);
    // Whoever had the old file open still has the old file.
    assert_eq!(std::io::read_to_string(held).unwrap(), "old");
    assert_eq!(names(host.home()), ["f"]);
    host.server.stop().await;
}

#[tokio::test]
async fn ranges_end_with_the_file() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let there = host.home().join("f");
    let bytes = content("range", 3 << 20);
    std::fs::write(&there, &bytes).unwrap();
    let read = async |offset: u64, length: usize| ssh.read(&there, offset, length).await.unwrap();
    assert!(read(1_000_000, 1_500_000).await == bytes[1_000_000..2_500_000]);
    assert!(read(0, usize::MAX).await == bytes);
    assert!(read((3 << 20) - 5, 100).await == bytes[(3 << 20) - 5..]);
    assert!(read(5 << 20, 100).await.is_empty());
    assert!(read(0, 0).await.is_empty());
    host.server.stop().await;
}

#[tokio::test]
async fn looking_does_not_follow_links() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let at = |name: &str| host.home().join(name);
    std::fs::write(at("file"), "12345").unwrap();
    std::fs::set_permissions(at("file"), PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::create_dir(at("dir")).unwrap();
    std::os::unix::fs::symlink("dir", at("link")).unwrap();
    let file = ssh.stat(&at("file")).await.unwrap().unwrap();
    assert_eq!((file.size, file.mode, file.is_dir), (5, 0o640, false));
    assert!(ssh.stat(&at("dir")).await.unwrap().unwrap().is_dir);
    assert!(!ssh.stat(&at("link")).await.unwrap().unwrap().is_dir);
    assert_eq!(ssh.stat(&at("none")).await.unwrap(), None);
    // Through a file there is nothing either, but that is a mistake.
    assert!(ssh.stat(&at("file/x")).await.is_err());
    host.server.stop().await;
}

#[tokio::test]
async fn folders_are_made_with_their_parents_and_listed() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let deep = host.home().join("a/b/c");
    ssh.make_dir(&deep).await.unwrap();
    ssh.make_dir(&deep).await.unwrap();
    for folder in ["a", "a/b", "a/b/c"] {
        let stat = ssh.stat(&host.home().join(folder)).await.unwrap().unwrap();
        assert_eq!((stat.is_dir, stat.mode), (true, 0o700));
    }
    for number in 0..300 {
        std::fs::write(deep.join(format!("n{number:03}")), "").unwrap();
    }
    let listed = ssh.list(&deep).await.unwrap();
    assert_eq!(listed.len(), 300);
    assert!(listed.is_sorted() && listed[299] == "n299");
    assert!(ssh.list(&host.home().join("a/b")).await.unwrap() == ["c"]);

    std::os::unix::fs::symlink(&deep, host.home().join("link")).unwrap();
    ssh.make_dir(&host.home().join("link/d")).await.unwrap();
    assert!(deep.join("d").is_dir());
    let error = ssh.make_dir(&deep.join("n000")).await.unwrap_err();
    assert!(
        error.to_string().ends_with("a file is in the way"),
        "{error}"
    );
    host.server.stop().await;
}

#[tokio::test]
async fn errors_name_host_path_and_reason() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let none = host.home().join("none/f");
    let error = ssh.write(&none, b"x", 0o600).await.unwrap_err();
    let expected = format!("cannot create {} on host a: no such file", none.display());
    assert_eq!(error.to_string(), expected);
    let error = ssh.read(&none, 0, 1).await.unwrap_err();
    let expected = format!("cannot open {} on host a: no such file", none.display());
    assert_eq!(error.to_string(), expected);
    let missing = host.home().join("missing local file");
    let error = ssh
        .upload(&missing, &none, 0o600, &|_| {})
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("cannot read the local file: no such file or directory"),
        "{error}"
    );
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root is denied nothing, so no permission error can be seen");
    } else {
        let locked = host.home().join("locked");
        std::fs::create_dir(&locked).unwrap();
        std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o500)).unwrap();
        let error = ssh.write(&locked.join("f"), b"x", 0o600).await.unwrap_err();
        assert!(error.to_string().ends_with("permission denied"), "{error}");
    }
    host.server.stop().await;
}

#[tokio::test]
async fn names_that_are_not_text_are_refused_not_mistaken() {
    use std::os::unix::ffi::OsStrExt;
    let host = Host::up().await;
    let ssh = host.connect().await;
    let odd = host.home().join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    let error = ssh.write(&odd, b"x", 0o600).await.unwrap_err();
    assert!(matches!(error, RemoteError::File { .. }), "{error}");
    assert!(error.to_string().contains("not UTF-8"), "{error}");
    std::fs::write(&odd, "").unwrap();
    let error = ssh.list(host.home()).await.unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
    host.server.stop().await;
}

/// No space is left on a tmpfs of one MiB: only root can make one.
#[tokio::test]
async fn a_full_disk_leaves_nothing_behind() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let host = Host::up().await;
    let ssh = host.connect().await;
    let small = host.home().join("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&small)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounting a tmpfs is not allowed here");
        return;
    }
    std::fs::write(small.join("f"), "old").unwrap();
    let written = ssh
        .write(&small.join("f"), &content("full", 8 << 20), 0o600)
        .await;
    // The removal is sent before the next request, so it is done by then.
    let listed = ssh.list(&small).await;
    let kept = std::fs::read(small.join("f"));
    let unmounted = std::process::Command::new("umount").arg(&small).status();
    assert!(unmounted.unwrap().success());
    let error = written.unwrap_err().to_string();
    assert!(error.ends_with("no space left on device"), "{error}");
    assert_eq!(listed.unwrap(), ["f"]);
    assert_eq!(kept.unwrap(), b"old");
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_given_up_leaves_nothing_behind() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let bytes = content("given up", 64 << 20);
    let there = host.home().join("f");
    let begun = tokio::sync::Notify::new();
    let local = tempfile::tempdir().unwrap();
    let from = local.path().join("from");
    std::fs::write(&from, &bytes).unwrap();
    let on_bytes = |_| begun.notify_one();
    tokio::select! {
        done = ssh.upload(&from, &there, 0o600, &on_bytes) => panic!("{done:?} too early"),
        () = begun.notified() => {}
    }
    wait_until(|| names(host.home()), Vec::is_empty).await;
    // Server and test are one process, so its descriptors are seen here.
    let home = host.home().canonicalize().unwrap();
    let held = || {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = all.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| link.starts_with(&home)).count()
    };
    wait_until(held, |held| *held == 0).await;
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_programs_at_once() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let bytes = content("beside", 32 << 20);
    let there = host.home().join("f");
    let others = async {
        for round in 0..20 {
            let small = host.home().join(format!("small{round}"));
            ssh.write(&small, b"x", 0o600).await.unwrap();
            ok(&ssh, Command::new(["true"])).await;
        }
    };
    let (written, ()) = tokio::join!(ssh.write(&there, &bytes, 0o600), others);
    written.unwrap();
    assert!(std::fs::read(&there).unwrap() == bytes);
    host.server.stop().await;
}
