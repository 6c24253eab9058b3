use super::*;
use crate::host::remote::{RemoteError, Said};

#[tokio::test]
async fn another_key_is_refused() {
    let mut host = Host::up().await;
    let right = host.connect().await;
    host.key = Arc::new(keys::generate().unwrap());
    let shown = keys::fingerprint(host.key.public_key());
    let error = Ssh::connect(host.door()).await.err().unwrap();
    assert!(matches!(error, RemoteError::Login { .. }), "{error}");
    let expected = format!("it does not accept the key ED25519 {shown} for user tester");
    assert!(error.to_string().ends_with(&expected), "{error}");
    ok(&right, Command::new(["true"])).await;
    host.server.stop().await;
}

#[tokio::test]
async fn a_host_that_changed_its_key_is_refused() {
    let host = Host::up().await;
    let other = keys::generate().unwrap().public_key().clone();
    let door = Door::new(
        "a",
        Way::Tcp {
            address: "127.0.0.1".into(),
            port: host.server.port,
        },
        "tester",
        Credential::Key(host.key.clone()),
        HostKey::Pinned(other.clone()),
    );
    let error = Ssh::connect(door).await.err().unwrap();
    assert!(matches!(error, RemoteError::Login { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&keys::fingerprint(&other)), "{text}");
    assert!(
        text.contains(&keys::fingerprint(&host.server.host_key)),
        "{text}"
    );
    host.server.stop().await;
}

async fn connect_to(port: u16, deadline: Duration) -> RemoteError {
    let key = keys::generate().unwrap();
    let pinned = key.public_key().clone();
    let way = Way::Tcp {
        address: "127.0.0.1".into(),
        port,
    };
    let credential = Credential::Key(Arc::new(key));
    let door = Door::new("b", way, "tester", credential, HostKey::Pinned(pinned));
    let connected = Ssh::connect(door.connect_deadline(deadline)).await;
    connected.err().unwrap()
}

#[tokio::test]
async fn a_door_that_never_answers_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let error = connect_to(port, Duration::from_millis(300)).await;
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to host b at 127.0.0.1:{port}: \
             connected, but no SSH handshake within 0.3 s"
        )
    );
    drop(silent);
    let error = connect_to(port, SOON).await;
    assert!(error.to_string().ends_with("connection refused"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_stops_half_way_leaves_no_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = mute.local_addr().unwrap().port();
    let serving = async {
        let (mut stream, _) = mute.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-mute\r\n").await.unwrap();
        // Ends only when the other side gives up its socket.
        let mut all = Vec::new();
        let read = stream.read_to_end(&mut all);
        tokio::time::timeout(SOON, read).await.expect("still open")
    };
    let connecting = connect_to(port, Duration::from_millis(300));
    let (error, _) = tokio::join!(connecting, serving);
    assert!(matches!(error, RemoteError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn what_does_not_speak_ssh_is_no_host() {
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = web.local_addr().unwrap().port();
    let serving = async {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = web.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    };
    let (error, ()) = tokio::join!(connect_to(port, SOON), serving);
    assert!(matches!(error, RemoteError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_stops_loses_everybody_and_leaves_nothing() {
    let host = Host::up().await;
    let ssh = Arc::new(host.connect().await);
    let mut spawned = ssh.spawn(sh("echo $$; exec sleep 1000")).await.unwrap();
    let pid = match spawned.said.recv().await {
        Some(Said::Stdout(pid)) => String::from_utf8(pid).unwrap(),
        other => panic!("{other:?}"),
    };
    let busy = ssh.clone();
    let exec = tokio::spawn(async move { busy.exec(sh("touch started; sleep 1000")).await });
    let started = host.home().join("started");
    wait_until(|| started.exists(), |exists| *exists).await;
    assert!(runs(&pid));

    host.server.stop().await;
    assert!(!runs(&pid), "stop waits for what it kills");
    let error = exec.await.unwrap().unwrap_err().to_string();
    assert!(
        error.starts_with("lost the connection to host a while running `sh -c")
            && error.ends_with("the host ended it: the server stops"),
        "{error}"
    );
    match spawned.said.recv().await {
        Some(Said::Lost(RemoteError::Lost { .. })) => {}
        other => panic!("{other:?}"),
    }
    for error in [
        ssh.exec(Command::new(["true"]))
            .await
            .map(drop)
            .unwrap_err(),
        ssh.stat(Path::new("/")).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, RemoteError::Lost { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_goes_takes_its_programs_along() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let mut running = ssh.spawn(sh("echo $$; exec sleep 1000")).await.unwrap();
    let pid = match running.said.recv().await {
        Some(Said::Stdout(pid)) => String::from_utf8(pid).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(runs(&pid));
    ssh.close().await;
    wait_until(|| runs(&pid), |runs| !runs).await;
    let error = ssh.stat(Path::new("/")).await.unwrap_err();
    assert!(
        error.to_string().ends_with("it was closed from here"),
        "{error}"
    );
    host.server.stop().await;
}

#[tokio::test]
async fn strangers_are_dropped_and_friends_still_get_in() {
    use tokio::io::AsyncWriteExt;
    let host = Host::up().await;
    let mut strangers = Vec::new();
    for hello in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x\r\n\xff\xff\xff\xff",
        b"",
    ] {
        let at = ("127.0.0.1", host.server.port);
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        stream.write_all(hello).await.unwrap();
        strangers.push(stream);
    }
    let ssh = host.connect().await;
    ok(&ssh, Command::new(["true"])).await;
    host.server.stop().await;
}
