//! The client against the real probe, as processes of this machine.

use std::sync::Mutex;

use super::*;
use crate::host::local_remote::{LocalRemote, probe_binary};
use crate::host::remote::{Output, Running, Said, Stat};

fn probe() -> Probe {
    Probe::new(Arc::new(LocalRemote), probe_binary())
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn hold_spec(dir: &Path, argv: &[&str]) -> HoldSpec {
    HoldSpec {
        dir: dir.join("held"),
        lease: Duration::from_secs(20),
        cwd: Some(dir.to_owned()),
        env: vec![("GREETING".into(), "a = b".into())],
        listen: None,
        open_files: Some(100),
        argv: argv.iter().map(ToString::to_string).collect(),
    }
}

fn write_spec(dir: &Path, size: u64) -> WriteSpec {
    WriteSpec {
        dest: dir.join("share/d/file"),
        seed: "7/d/file".into(),
        size,
        temp: dir.join("temp"),
        mode: 0o640,
        content: Content::Random,
        how: How::Renamed,
    }
}

#[tokio::test]
async fn what_is_written_is_seen_and_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("share");
    let written = probe()
        .write(&write_spec(dir.path(), 300_000), &|_| ())
        .await
        .unwrap();
    let manifest = probe().tree(&root, &[], Depth::Hashed).await.unwrap();
    assert_eq!(manifest.summary(), "2 entries, 293 KiB");
    let entry = &manifest.entries[&name("d/file")];
    assert_eq!(
        (entry.mode, entry.size, entry.content),
        (0o640, 300_000, Some(written.hash))
    );

    let mut wanted = vec![
        Wanted {
            path: name("d"),
            file: None,
        },
        Wanted {
            path: name("d/file"),
            file: Some((written.hash, written.size)),
        },
    ];
    let arrival = probe()
        .arrives(&root, &wanted, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(arrival, Arrival::Arrived);
    wanted[1].path = name("d/other");
    let arrival = probe()
        .arrives(&root, &wanted, Duration::from_millis(30))
        .await
        .unwrap();
    assert_eq!(
        arrival,
        Arrival::Missing {
            count: 1,
            first: name("d/other"),
            why: "absent".into()
        }
    );

    let blocks = probe().blocks(&root.join("d/file"), 131_072).await.unwrap();
    assert_eq!((blocks.size, blocks.hashes.len()), (300_000, 3));
    let digest = probe()
        .digest(&[root.join("d/file"), root.join("none")])
        .await
        .unwrap();
    assert_eq!(digest[0].content, Ok((300_000, written.hash)));
    assert!(
        digest[1]
            .content
            .as_ref()
            .unwrap_err()
            .ends_with("no such file or directory")
    );
    let parts = probe()
        .parts(&root, &["d/f*".into(), "nothing*".into()])
        .await
        .unwrap();
    assert_eq!((parts.len(), parts[0].size), (1, 300_000));
    let own = probe().self_digest().await.unwrap();
    assert_eq!(
        own.hash,
        blake3::hash(&std::fs::read(probe_binary()).unwrap())
    );
}

#[tokio::test]
async fn a_quick_look_sees_that_a_file_was_touched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), "1").unwrap();
    let before = probe().tree(dir.path(), &[], Depth::Quick).await.unwrap();
    assert_eq!(
        probe().tree(dir.path(), &[], Depth::Quick).await.unwrap(),
        before
    );
    let file = std::fs::File::options()
        .write(true)
        .open(dir.path().join("x"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(5))
        .unwrap();
    assert_ne!(
        probe().tree(dir.path(), &[], Depth::Quick).await.unwrap(),
        before
    );
    assert_eq!(
        probe()
            .tree(dir.path(), &["x"], Depth::Quick)
            .await
            .unwrap(),
        Manifest::default()
    );
}

#[tokio::test]
async fn trees_and_overwrites_tell_what_they_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let spec = TreeSpec {
        dest: dir.path().join("fifty"),
        seed: "7/fifty".into(),
        files: 50,
        size: 1000,
        temp: dir.path().join("temp"),
    };
    let counted = Mutex::new(0);
    let tree = probe()
        .tree_write(&spec, &|files| *counted.lock().unwrap() = files)
        .await
        .unwrap();
    assert_eq!(
        (tree.files.len(), tree.bytes, *counted.lock().unwrap()),
        (50, 50_000, 50)
    );
    let file = dir
        .path()
        .join("fifty")
        .join(tree.files[0].0.as_str().unwrap());
    let after = probe().overwrite(&file, "8", 990, 10).await.unwrap();
    assert_eq!(after.size, 1000);
    assert_eq!(after.hash, blake3::hash(&std::fs::read(&file).unwrap()));
    assert_ne!(after.hash, tree.files[0].1.hash);
    let error = probe()
        .overwrite(&file, "8", 5000, 10)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("it ends at 1000"), "{error}");
}

#[tokio::test]
async fn a_held_process_is_killed_while_somebody_renews() {
    let dir = tempfile::tempdir().unwrap();
    let held = probe()
        .hold(&hold_spec(dir.path(), &["sleep", "600"]))
        .await
        .unwrap();
    assert!(held.process().is_some());
    let armed = held.arm_kill().await.unwrap();
    let renewer = held.clone();
    let renewing = tokio::spawn(async move {
        let mut renewals = 0;
        while renewer.has_exited().is_none() {
            renewer.renew().await.unwrap();
            renewals += 1;
            tokio::task::yield_now().await;
        }
        renewals
    });
    let exited = armed.fire().await.unwrap();
    assert_eq!(
        (exited.code, exited.signal.as_deref(), exited.left_behind),
        (None, Some("KILL"), 0)
    );
    renewing.await.unwrap();
    // What comes too late is answered by what has happened.
    assert_eq!(held.kill().await.unwrap(), exited);
}

#[tokio::test]
async fn a_process_that_ends_by_itself_tells_how() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo \"$GREETING in $(pwd), $(ulimit -n) files\"; exit 7";
    let held = probe()
        .hold(&hold_spec(dir.path(), &["sh", "-c", script]))
        .await
        .unwrap();
    let exited = held.exited().await.unwrap();
    assert_eq!((exited.code, exited.signal), (Some(7), None));
    let log = std::fs::read_to_string(dir.path().join("held/log")).unwrap();
    assert_eq!(
        log,
        format!("a = b in {}, 100 files\n", dir.path().display())
    );
    let again = probe().reconnect(&dir.path().join("held")).await.unwrap();
    assert_eq!(again.exited().await.unwrap().code, Some(7));
    assert_eq!(again.process(), None);
}

#[tokio::test]
async fn a_signal_reaches_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done";
    let held = probe()
        .hold(&hold_spec(dir.path(), &["sh", "-c", script]))
        .await
        .unwrap();
    while std::fs::read(dir.path().join("held/log")).unwrap_or_default() != b"up\n" {
        tokio::task::yield_now().await;
    }
    held.signal("TERM").await.unwrap();
    assert_eq!(held.exited().await.unwrap().code, Some(9));
    let refused = probe()
        .hold(&hold_spec(dir.path(), &["sleep", "600"]))
        .await
        .unwrap();
    refused.signal("NONSENSE").await.unwrap();
    refused.kill().await.unwrap();
    assert_eq!(refused.refused().unwrap(), "no signal is called NONSENSE");
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_is_told_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let error = probe()
        .hold(&hold_spec(dir.path(), &["/no/such/program"]))
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot start /no/such/program on host local: cannot execute /no/such/program: no such file or directory"
    );
}

#[tokio::test]
async fn a_guarded_folder_goes_when_it_is_healed() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    std::fs::create_dir_all(run.join("a/b")).unwrap();
    std::fs::write(run.join(".left-harness-run"), "r1").unwrap();
    let spec = |id: &str| GuardSpec {
        dir: run.clone(),
        id: id.into(),
        lease: Duration::from_secs(20),
    };
    let error = probe()
        .guard(&spec("r2"))
        .await
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("bears another id"), "{error}");
    let guarded = probe().guard(&spec("r1")).await.unwrap();
    guarded.renew().await.unwrap();
    guarded.dismiss().await.unwrap();
    assert!(run.exists());
    probe()
        .guard(&spec("r1"))
        .await
        .unwrap()
        .heal()
        .await
        .unwrap();
    assert!(!run.exists());
}

/// A probe that says what it is told to.
struct Scripted(Mutex<Vec<Said>>);

#[async_trait::async_trait]
impl Remote for Scripted {
    fn name(&self) -> &str {
        "b"
    }
    async fn spawn(&self, _: Command) -> Result<Running, RemoteError> {
        let (stdin, _) = tokio::sync::mpsc::channel(1);
        let (tell, said) = tokio::sync::mpsc::channel(100);
        for one in self.0.lock().unwrap().drain(..) {
            tell.try_send(one).unwrap();
        }
        Ok(Running { stdin, said })
    }
    async fn exec(&self, _: Command) -> Result<Output, RemoteError> {
        unreachable!()
    }
    async fn upload(&self, _: &Path, _: &Path, _: u32, _: OnBytes<'_>) -> Result<(), RemoteError> {
        unreachable!()
    }
    async fn write(&self, _: &Path, _: &[u8], _: u32) -> Result<(), RemoteError> {
        unreachable!()
    }
    async fn download(&self, _: &Path, _: &Path) -> Result<(), RemoteError> {
        unreachable!()
    }
    async fn read(&self, _: &Path, _: u64, _: usize) -> Result<Vec<u8>, RemoteError> {
        unreachable!()
    }
    async fn stat(&self, _: &Path) -> Result<Option<Stat>, RemoteError> {
        unreachable!()
    }
    async fn list(&self, _: &Path) -> Result<Vec<String>, RemoteError> {
        unreachable!()
    }
    async fn make_dir(&self, _: &Path) -> Result<(), RemoteError> {
        unreachable!()
    }
    async fn close(&self) {}
}

async fn error_of(said: Vec<Said>) -> String {
    let probe = Probe::new(Arc::new(Scripted(Mutex::new(said))), "/probe");
    probe
        .tree(Path::new("/x"), &[], Depth::Hashed)
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn nonsense_and_early_ends_show_what_the_probe_complained_about() {
    use crate::host::remote::Exit;
    let out = |text: &str| Said::Stdout(text.into());
    let err = |text: &str| Said::Stderr(text.into());
    let at = "the probe on host b";
    assert_eq!(
        error_of(vec![
            err("probe: cannot\nread \x1b[1mit\n"),
            Said::Exit(Exit::Code(1))
        ])
        .await,
        format!("{at} failed at look tree: probe: cannot; read \\u{{1b}}[1mit")
    );
    assert_eq!(
        error_of(vec![Said::Exit(Exit::Signal("SEGV".into()))]).await,
        format!("{at} failed at look tree: it was killed by SIGSEGV")
    );
    let error = error_of(vec![out("Last login: today\n")]).await;
    assert!(
        error.starts_with(&format!("{at} talks nonsense at look tree: expected value")),
        "{error}"
    );
    assert!(error.ends_with("in `Last login: today`"), "{error}");
    let error = error_of(vec![
        out("{\"path\":\"../x\",\"problem\":\"y\"}\n"),
        out("{\"end\":true}\n"),
    ])
    .await;
    assert!(error.ends_with("`../x` is no path below a root"), "{error}");
    let error = error_of(vec![Said::Stdout(vec![b'x'; 2 << 20])]).await;
    assert!(
        error.ends_with("a line longer than 1048576 bytes"),
        "{error}"
    );
    assert_eq!(
        error_of(vec![
            out("{\"end\":true,\"new_key\":[1]}\n"),
            out("{}\n"),
            Said::Exit(Exit::Code(0))
        ])
        .await,
        format!("{at} talks nonsense at look tree: it goes on after the end")
    );
    assert_eq!(
        error_of(vec![Said::Exit(Exit::Code(0))]).await,
        format!("{at} talks nonsense at look tree: it ended in the middle")
    );
    assert_eq!(
        error_of(vec![]).await,
        "lost the connection to host b while look tree: the channel closed"
    );
}

#[tokio::test]
async fn a_host_tells_what_it_can_do() {
    let dir = tempfile::tempdir().unwrap();
    let there_later = dir.path().join("not/yet");
    let can = probe().capabilities(&there_later).await.unwrap();
    assert_eq!(can.machine, std::env::consts::ARCH);
    assert_eq!(can.euid, rustix::process::geteuid().as_raw());
    assert!(can.processors > 0 && can.free_bytes > 0 && can.proc);
    assert!(!can.noexec || !can.release.is_empty());
    // It is the same clock.
    assert!(can.clock_offset_ns.unsigned_abs() <= can.clock_error.as_nanos());
    let has_sudo = ["/usr/bin/sudo", "/bin/sudo"]
        .map(Path::new)
        .iter()
        .any(|path| path.exists());
    assert_eq!(can.sudo.is_some(), has_sudo);
}

fn undo_spec(dir: &Path, lease: Duration, script: &str) -> UndoSpec {
    UndoSpec {
        dir: dir.join("guard"),
        lease,
        within: Duration::from_millis(500),
        argv: ["sh", "-c", script].map(str::to_owned).into(),
    }
}

async fn is_removed(file: &Path) {
    let begun = std::time::Instant::now();
    while file.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is undone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_fault_is_undone_when_it_is_healed_and_stays_when_it_is_dismissed() {
    let dir = tempfile::tempdir().unwrap();
    let fault = dir.path().join("fault");
    let script = format!("rm '{}'", fault.display());
    let spec = undo_spec(dir.path(), Duration::from_secs(20), &script);
    std::fs::write(&fault, "").unwrap();
    let guard = probe().guard_undo(&spec).await.unwrap();
    guard.renew().await.unwrap();
    assert!(fault.exists());
    guard.dismiss().await.unwrap();
    assert!(fault.exists());
    let guard = probe().guard_undo(&spec).await.unwrap();
    guard.heal().await.unwrap();
    assert!(!fault.exists());
}

#[tokio::test]
async fn a_fault_is_undone_when_the_lease_lapses_after_the_channel_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let fault = dir.path().join("fault");
    // The first try fails: who is not there to be told must not need a second wish.
    let script = format!(
        "[ -e '{0}.tried' ] || {{ touch '{0}.tried'; exit 1; }}; rm '{0}'",
        fault.display()
    );
    let spec = undo_spec(dir.path(), Duration::from_millis(300), &script);
    std::fs::write(&fault, "").unwrap();
    let guard = probe().guard_undo(&spec).await.unwrap();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        guard.renew().await.unwrap();
    }
    assert!(fault.exists(), "renewed is not undone");
    drop(guard);
    is_removed(&fault).await;
}

#[tokio::test]
async fn an_undo_that_fails_or_hangs_is_told_with_its_complaint() {
    let dir = tempfile::tempdir().unwrap();
    for (script, words) in [
        (
            "echo 'no such table' >&2; exit 3",
            "exit status: 3: no such table",
        ),
        ("sleep 60", "did not end within 0.5 s"),
    ] {
        let spec = undo_spec(dir.path(), Duration::from_secs(20), script);
        let guard = probe().guard_undo(&spec).await.unwrap();
        let why = guard.heal().await.unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
    }
}
