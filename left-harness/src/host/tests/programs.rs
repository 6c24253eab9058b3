use super::*;
use crate::host::remote::{RemoteError, Said};

#[tokio::test]
async fn output_and_exit_arrive() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let out = ssh
        .exec(sh("echo out; echo err >&2; exit 7"))
        .await
        .unwrap();
    assert_eq!(out.stdout, b"out\n");
    assert_eq!(out.stderr, b"err\n");
    assert_eq!(out.exit, Exit::Code(7));
    let gone = ssh.exec(Command::new(["/no/such/program"])).await.unwrap();
    assert_eq!(gone.exit, Exit::Code(127));
    host.server.stop().await;
}

#[tokio::test]
async fn death_by_a_signal_is_told_from_an_exit() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    for signal in ["KILL", "TERM", "XFSZ"] {
        let out = ssh.exec(sh(&format!("kill -{signal} $$"))).await.unwrap();
        assert_eq!(out.exit, Exit::Signal(signal.into()));
    }
    host.server.stop().await;
}

#[tokio::test]
async fn a_program_gets_its_argv_and_little_else() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let every: String = (1..0x500).filter_map(char::from_u32).collect();
    let out = ok(&ssh, Command::new(["printf", "%s", &every])).await;
    assert_eq!(out.stdout, every.as_bytes());

    let mut command = Command::new(["env"]);
    command.env = vec![("LEFT_EXTRA".into(), "a b'c".into())];
    let out = String::from_utf8(ok(&ssh, command).await.stdout).unwrap();
    let mut names: Vec<_> = out
        .lines()
        .filter_map(|l| l.split('=').next())
        .filter(|name| !["_", "SHLVL", "OLDPWD"].contains(name))
        .collect();
    names.sort_unstable();
    let expected = ["HOME", "LANG", "LEFT_EXTRA", "LEFT_TEST", "PATH", "PWD"];
    assert_eq!(names, expected);
    assert!(out.contains("\nLEFT_EXTRA=a b'c\n") || out.starts_with("LEFT_EXTRA=a b'c\n"));

    let out = ok(&ssh, Command::new(["pwd"])).await;
    let home = host.home().canonicalize().unwrap();
    assert_eq!(out.stdout, format!("{}\n", home.display()).as_bytes());
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_in_both_directions_disturbs_nobody() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let much = content("much", 64 << 20);
    let mut echo = Command::new(["cat"]).deadline(Duration::from_secs(120));
    echo.stdin = much.clone();
    let big = ssh.exec(echo);
    let others = async {
        for round in 0..20 {
            let out = ok(&ssh, Command::new(["echo", &round.to_string()])).await;
            assert_eq!(out.stdout, format!("{round}\n").as_bytes());
        }
    };
    let (big, ()) = tokio::join!(big, others);
    assert!(big.unwrap().stdout == much, "what came back differs");
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_send_and_receive_much_do_not_lock_each_other() {
    let host = Host::up().await;
    let ssh = Arc::new(host.connect().await);
    let much = content("many", 16 << 20);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (ssh, much) = (ssh.clone(), much.clone());
        all.spawn(async move {
            let mut echo = Command::new(["cat"]).deadline(Duration::from_secs(120));
            echo.stdin = much.clone();
            assert!(
                ok(&ssh, echo).await.stdout == much,
                "what came back differs"
            );
        });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_leaves_its_input_alone_disturbs_nobody() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let mut deaf = sh("sleep 1000");
    deaf.stdin = content("deaf", 32 << 20);
    deaf.deadline = Duration::from_secs(3);
    let (deaf, out) = tokio::join!(ssh.exec(deaf), ok(&ssh, Command::new(["echo", "x"])));
    assert!(
        matches!(deaf, Err(RemoteError::Deadline { .. })),
        "{deaf:?}"
    );
    assert_eq!(out.stdout, b"x\n");
    let mut early = Command::new(["true"]);
    early.stdin = content("early", 8 << 20);
    ok(&ssh, early).await;
    host.server.stop().await;
}

#[tokio::test]
async fn a_conversation_with_a_running_program() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let mut running = ssh.spawn(Command::new(["cat"])).await.unwrap();
    for line in ["one\n", "two\n"] {
        running.stdin.send(line.into()).await.unwrap();
        match running.said.recv().await {
            Some(Said::Stdout(said)) => assert_eq!(said, line.as_bytes()),
            other => panic!("{other:?}"),
        }
    }
    drop(running.stdin);
    match running.said.recv().await {
        Some(Said::Exit(Exit::Code(0))) => {}
        other => panic!("{other:?}"),
    }
    assert!(running.said.recv().await.is_none());
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_listener_holds_up_nobody_else() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let talker = sh("head -c 41943040 /dev/zero; echo end >&2");
    let mut talker = ssh.spawn(talker).await.unwrap();
    // Nothing is taken from it while the others work.
    for _ in 0..20 {
        ok(&ssh, Command::new(["true"])).await;
    }
    ssh.write(&host.home().join("f"), b"file", 0o600)
        .await
        .unwrap();
    let mut bytes = 0;
    let exit = loop {
        match talker.said.recv().await {
            Some(Said::Stdout(said)) => bytes += said.len(),
            Some(Said::Stderr(said)) => assert_eq!(said, b"end\n"),
            Some(Said::Exit(exit)) => break exit,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((bytes, exit), (41_943_040, Exit::Code(0)));
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_at_once() {
    let host = Host::up().await;
    let ssh = Arc::new(host.connect().await);
    let mut all = tokio::task::JoinSet::new();
    for number in 0..40 {
        let ssh = ssh.clone();
        all.spawn(async move {
            let out = ok(&ssh, sh(&format!("sleep 0.2; echo {number}"))).await;
            assert_eq!(out.stdout, format!("{number}\n").as_bytes());
        });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
    host.server.stop().await;
}

#[tokio::test]
async fn more_programs_than_sessions_wait_their_turn() {
    let host = Host::up().await;
    let ssh = Ssh::connect(host.door().sessions_max(3)).await.unwrap();
    ssh.write(&host.home().join("f"), b"x", 0o600)
        .await
        .unwrap();
    // The file channel holds one of the three.
    let first = ssh.spawn(Command::new(["cat"])).await.unwrap();
    let _second = ssh.spawn(Command::new(["cat"])).await.unwrap();
    let quick = Command::new(["true"]).deadline(Duration::from_millis(300));
    let waited = ssh.exec(quick).await;
    assert!(
        matches!(waited, Err(RemoteError::Deadline { .. })),
        "{waited:?}"
    );
    drop(first);
    ok(&ssh, Command::new(["true"]).deadline(SOON)).await;
    host.server.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_the_program_too() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let pid_file = host.home().join("pid");
    let command = sh("echo $$ >pid; exec sleep 1000").deadline(Duration::from_millis(500));
    let error = ssh.exec(command).await.unwrap_err();
    assert!(
        error.to_string().contains("did not finish running `sh -c"),
        "{error}"
    );
    let pid = std::fs::read_to_string(pid_file).unwrap();
    wait_until(|| runs(&pid), |runs| !runs).await;
    host.server.stop().await;
}

#[tokio::test]
async fn a_lost_channel_ends_the_group_but_not_a_session_of_its_own() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let script = "sleep 1000 & echo $! >group.tmp; mv group.tmp group; \
                  setsid sh -c 'echo $$ >own.tmp; mv own.tmp own; exec sleep 1000' \
                  </dev/null >/dev/null 2>&1 & \
                  cat";
    let running = ssh.spawn(sh(script)).await.unwrap();
    let read = |name| std::fs::read_to_string(host.home().join(name)).unwrap_or_default();
    wait_until(
        || (read("group"), read("own")),
        |(group, own)| !group.is_empty() && !own.is_empty(),
    )
    .await;
    let (group, own) = (read("group"), read("own"));
    assert!(runs(&group) && runs(&own));
    drop(running);
    wait_until(|| runs(&group), |runs| !runs).await;
    assert!(runs(&own), "a session of its own must live on");
    let own = rustix::process::Pid::from_raw(own.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_nobody_listens_to_is_given_up_in_the_end() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    let mut talker = ssh.spawn(sh("echo $$; exec cat /dev/zero")).await.unwrap();
    let pid = match talker.said.recv().await {
        Some(Said::Stdout(pid)) => {
            let digits = pid.split(|byte| *byte == b'\n').next().unwrap();
            String::from_utf8(digits.to_vec()).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert!(runs(&pid));
    wait_until(|| runs(&pid), |runs| !runs).await;
    ok(&ssh, Command::new(["true"]).deadline(SOON)).await;
    let last = loop {
        match talker.said.recv().await {
            Some(Said::Stdout(_)) => {}
            other => break other,
        }
    };
    match last {
        Some(Said::Lost(error)) => {
            assert!(error.to_string().contains("nobody took"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_takes_a_flood_of_input_is_killed() {
    let host = Host::up().await;
    let ssh = host.connect().await;
    // More than the server keeps for one program.
    let mut deaf = sh("sleep 1000").deadline(SOON);
    deaf.stdin = vec![0; 96 << 20];
    let out = ssh.exec(deaf).await;
    assert!(matches!(out, Err(RemoteError::Lost { .. })), "{out:?}");
    ok(&ssh, Command::new(["true"]).deadline(SOON)).await;
    host.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_just_written_can_be_executed_while_others_are_starting() {
    let host = Host::up().await;
    let ssh = Arc::new(host.connect().await);
    let others: Vec<_> = (0..4)
        .map(|_| {
            let ssh = ssh.clone();
            tokio::spawn(async move {
                loop {
                    let _ = ssh.exec(Command::new(["true"])).await;
                }
            })
        })
        .collect();
    let program = host.home().join("program");
    for round in 0..300 {
        ssh.write(&program, b"#!/bin/sh\nexit 7\n", 0o700)
            .await
            .unwrap();
        let command = Command::new([program.to_str().unwrap()]);
        let out = ssh.exec(command).await.unwrap();
        let complaints = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.exit, Exit::Code(7), "round {round}: {complaints}");
    }
    others.iter().for_each(|other| other.abort());
    host.server.stop().await;
}
