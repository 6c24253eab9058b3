//! OpenSSH's own programs against the embedded server, where they are installed.

use std::process::Stdio;

use super::*;

/// The options with which OpenSSH's programs reach `host`; `None` without them.
fn options(host: &Host, folder: &Path) -> Option<Vec<String>> {
    use std::os::unix::fs::PermissionsExt;
    let asked = std::process::Command::new("ssh").arg("-V").output();
    if asked.is_err() {
        eprintln!("skipped: OpenSSH's client is not installed");
        return None;
    }
    let key = folder.join("key");
    let ending = russh::keys::ssh_key::LineEnding::LF;
    std::fs::write(&key, host.key.to_openssh(ending).unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let known = folder.join("known");
    let (port, host_key) = (host.server.port, host.server.host_key.to_openssh().unwrap());
    std::fs::write(&known, format!("[127.0.0.1]:{port} {host_key}\n")).unwrap();
    let options = [
        "BatchMode=yes".into(),
        "IdentitiesOnly=yes".into(),
        "StrictHostKeyChecking=yes".into(),
        format!("Port={port}"),
        format!("IdentityFile={}", key.display()),
        format!("UserKnownHostsFile={}", known.display()),
    ];
    let mut all = vec!["-F".into(), "none".into()];
    for option in options {
        all.extend(["-o".into(), option]);
    }
    Some(all)
}

async fn run(program: &str, options: &[String], words: &[&str], input: &[u8]) -> Output {
    use tokio::io::AsyncWriteExt;
    let mut child = tokio::process::Command::new(program)
        .args(options)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let both = async { tokio::join!(child.wait_with_output(), feed) };
    let (out, ()) = tokio::time::timeout(Duration::from_secs(120), both)
        .await
        .unwrap_or_else(|_| panic!("{program} {words:?} does not end"));
    let out = out.unwrap();
    Output {
        exit: Exit::Code(out.status.code().unwrap() as u32),
        stdout: out.stdout,
        stderr: out.stderr,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_runs_programs() {
    let host = Host::up().await;
    let folder = tempfile::tempdir().unwrap();
    let Some(options) = options(&host, folder.path()) else {
        return;
    };
    let out = run("ssh", &options, &["127.0.0.1", "echo $HOME; exit 3"], b"").await;
    let home = host.home().canonicalize().unwrap();
    let complaints = String::from_utf8_lossy(&out.stderr);
    let expected = format!("{}\n", home.display());
    assert_eq!(out.stdout, expected.as_bytes(), "{complaints}");
    assert_eq!(out.exit, Exit::Code(3));

    let much = content("through ssh", 32 << 20);
    let out = run("ssh", &options, &["127.0.0.1", "cat"], &much).await;
    assert!(out.stdout == much, "what came back differs");

    // A shell, but no terminal; whoever insists on one is told.
    let shell = b"echo shell; exit 4\n";
    let out = run("ssh", &options, &["127.0.0.1"], shell).await;
    assert_eq!(
        (&out.stdout[..], out.exit),
        (&b"shell\n"[..], Exit::Code(4))
    );
    let out = run("ssh", &options, &["-tt", "127.0.0.1"], shell).await;
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(
        complaints.contains("PTY allocation request failed"),
        "{complaints}"
    );

    let forward = ["-W", "127.0.0.1:1", "127.0.0.1"];
    let out = run("ssh", &options, &forward, b"").await;
    assert_eq!(out.exit, Exit::Code(255), "forwarding must be refused");
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_moves_files() {
    let host = Host::up().await;
    let folder = tempfile::tempdir().unwrap();
    let Some(options) = options(&host, folder.path()) else {
        return;
    };
    let bytes = content("through sftp", (32 << 20) + 1);
    let from = folder.path().join("from");
    std::fs::write(&from, &bytes).unwrap();
    let from = from.to_str().unwrap();
    let home = host.home().to_str().unwrap().to_string();
    let there = format!("127.0.0.1:{home}/scp");
    let here = folder.path().join("here");
    let here = here.to_str().unwrap();

    for way in ["-s", "-O"] {
        if way == "-O"
            && run("scp", &[], &["-O"], b"")
                .await
                .stderr
                .starts_with(b"unknown")
        {
            continue;
        }
        for words in [[way, "-p", from, &there], [way, "-p", &there, here]] {
            let out = run("scp", &options, &words, b"").await;
            let complaints = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.exit, Exit::Code(0), "scp {words:?}: {complaints}");
        }
        assert!(
            std::fs::read(here).unwrap() == bytes,
            "scp {way} changed it"
        );
        std::fs::remove_file(host.home().join("scp")).unwrap();
        std::fs::remove_file(here).unwrap();
    }

    let batch = format!(
        "put {from} up\nmkdir d\nrename up d/f\nln -s d/f link\nchmod 640 d/f\n\
         get d/f {here}\nls -l d\nrm link\nreget d/f {here}\ncd d\npwd\nrm f\ncd ..\nrmdir d\n"
    );
    let words = ["-b", "-", "127.0.0.1"];
    let out = run("sftp", &options, &words, batch.as_bytes()).await;
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.exit, Exit::Code(0), "{complaints}");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("-rw-r-----"), "{said}");
    assert!(std::fs::read(here).unwrap() == bytes, "sftp changed it");
    assert_eq!(std::fs::read_dir(host.home()).unwrap().count(), 0);
    host.server.stop().await;
}
