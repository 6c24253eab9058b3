use super::*;

/// What `client` makes of a configuration file.
async fn with_client(client: Option<&Path>, text: &str, target: Target) -> Result<Resolved> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    std::fs::write(&file, text).unwrap();
    let target = Target {
        config: Some(file),
        ..target
    };
    resolve_with(&target, client).await
}

fn named(name: &str) -> Target {
    Target {
        name: name.into(),
        ..Target::default()
    }
}

const CONFIG: &str = "\
Host web
  HostName 10.0.0.1
  Port 2222
  User bob
  IdentityFile /keys/%h-%r
  IdentitiesOnly yes
  ProxyJump near,carol@far:2200
  UserKnownHostsFile /known/a /known/b
  GlobalKnownHostsFile none
  HostKeyAlias alias
  StrictHostKeyChecking no

Host near
  HostName 10.0.0.2
  ProxyJump gate

Host far
  HostName 10.0.0.3
  Port 1
  ProxyJump nowhere

Host circle
  ProxyJump circle
";

#[tokio::test]
async fn the_client_and_the_simple_reader_say_the_same() {
    let simple = with_client(None, CONFIG, named("web")).await.unwrap();
    assert_eq!(simple.address, "10.0.0.1");
    assert_eq!((simple.port, &simple.user[..]), (2222, "bob"));
    assert_eq!(simple.identities, [PathBuf::from("/keys/10.0.0.1-bob")]);
    assert!(simple.identities_only && !simple.first_use);
    assert_eq!(simple.key_alias.as_deref(), Some("alias"));
    let known: Vec<PathBuf> = ["/known/a", "/known/b"].map(Into::into).into();
    assert_eq!(simple.known_hosts, known);
    let note = "StrictHostKeyChecking is not relaxed here";
    assert!(simple.notes[0].starts_with(note), "{:?}", simple.notes);
    // The first hop is behind another one; what the second says of itself does not count.
    let way: Vec<_> = simple
        .jumps
        .iter()
        .map(|jump| (&jump.address[..], jump.port))
        .collect();
    assert_eq!(way, [("gate", 22), ("10.0.0.2", 22), ("10.0.0.3", 2200)]);
    assert_eq!(simple.jumps[2].user, "carol");

    let Some(client) = client() else {
        eprintln!("skipped: there is no ssh client to compare with");
        return;
    };
    let mut asked = with_client(Some(&client), CONFIG, named("web"))
        .await
        .unwrap();
    // The client also names usual keys that are rarely there.
    for (asked, simple) in asked.jumps.iter_mut().zip(&simple.jumps) {
        assert!(
            simple
                .identities
                .iter()
                .all(|key| asked.identities.contains(key))
        );
        asked.identities = simple.identities.clone();
        // The client goes by the account's home, which need not be `$HOME`.
        let names = |files: &[PathBuf]| -> Vec<_> {
            let names = files.iter().map(|file| file.file_name().map(Into::into));
            names.collect::<Vec<Option<PathBuf>>>()
        };
        assert_eq!(names(&asked.known_hosts), names(&simple.known_hosts));
        asked.known_hosts = simple.known_hosts.clone();
    }
    assert_eq!(asked, simple);
}

#[tokio::test]
async fn what_is_asked_for_comes_before_the_configuration() {
    let target = Target {
        user: Some("me".into()),
        port: Some(7),
        identity: Some("/my/key".into()),
        known_hosts: Some("/my/known".into()),
        password: true,
        ..named("web")
    };
    for client in [None, client()] {
        let resolved = with_client(client.as_deref(), CONFIG, target.clone()).await;
        let resolved = resolved.unwrap();
        assert_eq!((resolved.port, &resolved.user[..]), (7, "me"));
        assert_eq!(resolved.identities[0], Path::new("/my/key"));
        assert_eq!(resolved.known_hosts, [PathBuf::from("/my/known")]);
        assert_eq!(resolved.jumps[0].known_hosts[0], Path::new("/my/known"));
        assert!(resolved.password && resolved.trusting_first_use().first_use);
    }
    let direct = Target {
        jump: Some("none".into()),
        ..named("web")
    };
    assert!(
        with_client(None, CONFIG, direct)
            .await
            .unwrap()
            .jumps
            .is_empty()
    );
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    for (text, name, what) in [
        (CONFIG, "circle", "go in a circle?"),
        (
            "ProxyCommand nc %h %p",
            "web",
            "name the host in between by ProxyJump",
        ),
        (CONFIG, "-oProxyCommand=x", "cannot be the name of a host"),
        ("IdentityFile /a/%Z\n", "web", "a % that is not understood"),
    ] {
        let error = with_client(None, text, named(name)).await.unwrap_err();
        assert!(format!("{error:#}").contains(what), "{error:#}");
    }
    let Some(client) = client() else { return };
    let error = with_client(Some(&client), "Nonsense 1\n", named("web")).await;
    let error = format!("{:#}", error.unwrap_err());
    assert!(
        error.contains("Bad configuration option: nonsense"),
        "{error}"
    );
}
