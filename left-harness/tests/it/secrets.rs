//! Passphrases and passwords: from the environment, from the terminal, from nobody.

use std::path::Path;
use std::process::{Command as Process, Output, Stdio};

use left_harness::host::config::{Target, resolve};
use left_harness::host::remote::{Command, Remote};
use left_harness::host::ssh::{Door, Ssh};
use russh::server::{Auth, Handler, Response, Server};

use super::sshd::{Spec, Sshd, has};

/// Names the configuration file for [`the_other_process`].
const CONFIG: &str = "LEFT_HARNESS_TEST_CONFIG";

/// What another process does: secrets come from its environment or its terminal.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_process() {
    let Some(config) = std::env::var_os(CONFIG) else {
        return;
    };
    let target = Target {
        name: "b".into(),
        config: Some(config.into()),
        password: std::env::var_os("LEFT_HARNESS_TEST_PASSWORD").is_some(),
        ..Target::default()
    };
    let resolved = resolve(&target).await.expect("the configuration is good");
    let door = Door::from_resolved("b", &resolved).expect("known_hosts can be read");
    match Ssh::connect(door).await {
        Ok(ssh) => {
            let out = ssh.exec(Command::new(["true"])).await;
            println!("result: in, {}", out.is_ok());
            ssh.close().await;
        }
        Err(error) => println!("result: {error}"),
    }
}

/// Runs it with these variables, a terminal or none, and what is typed on it.
fn elsewhere(config: &Path, variables: &[(&str, &str)], typed: Option<&str>) -> String {
    let test = std::env::current_exe().expect("a test knows its executable");
    let arguments = ["--exact", "secrets::the_other_process", "--nocapture"];
    let mut command = match typed {
        Some(_) => {
            let mut command = Process::new("script");
            let line = format!("{} {}", test.display(), arguments.join(" "));
            command.args(["-qec", &line, "/dev/null"]);
            command
        }
        None => {
            let mut command = Process::new("setsid");
            command.arg("-w").arg(test).args(arguments);
            command
        }
    };
    command
        .env(CONFIG, config)
        .env_remove("SSH_AUTH_SOCK")
        .env_remove("LEFT_HARNESS_PASSPHRASE")
        .env_remove("LEFT_HARNESS_PASSWORD")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("it is piped");
    if let Some(typed) = typed {
        use std::io::{Read, Write};
        // Only when it asks: what was typed before is thrown away.
        let mut output = child.stdout.take().expect("it is piped");
        let mut said = Vec::new();
        let mut byte = [0];
        while output.read(&mut byte).is_ok_and(|length| length == 1) {
            said.push(byte[0]);
            if said.ends_with(b": ") && String::from_utf8_lossy(&said).contains("Pass") {
                let line = format!("{typed}\n");
                input.write_all(line.as_bytes()).expect("it listens");
                break;
            }
        }
        output.read_to_end(&mut said).expect("it ends");
        let _ = child.wait();
        return String::from_utf8_lossy(&said).into_owned();
    }
    drop(input);
    let Output { stdout, .. } = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&stdout).into_owned()
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn an_encrypted_key_is_opened_by_whoever_knows_its_passphrase() {
    for key in [
        &["-t", "ed25519", "-N", "open sesame"][..],
        &["-t", "rsa", "-b", "2048", "-N", "open sesame"],
    ] {
        let spec = Spec {
            key,
            ..Spec::default()
        };
        let Some(b) = Sshd::openssh_with("b", &spec) else {
            return;
        };
        let config = b.dir().join("ssh_config");
        std::fs::write(&config, b.config_block(None)).expect("a file can be written");

        let given = elsewhere(&config, &[("LEFT_HARNESS_PASSPHRASE", "open sesame")], None);
        contains(&given, &["result: in, true"]);
        let wrong = elsewhere(&config, &[("LEFT_HARNESS_PASSPHRASE", "x")], None);
        let file = b.identity.display().to_string();
        contains(
            &wrong,
            &[
                "result: cannot log in to host b",
                "does not open the key",
                &file,
            ],
        );
        let nobody = elsewhere(&config, &[], None);
        let ways = [
            "set LEFT_HARNESS_PASSPHRASE",
            "in a terminal",
            "ssh-add",
            &file,
        ];
        contains(&nobody, &ways);
        if has("script") {
            let typed = elsewhere(&config, &[], Some("open sesame"));
            contains(&typed, &["Passphrase of the key", "result: in, true"]);
            assert!(!typed.contains("sesame"), "it was shown: {typed}");
        }

        // A host that does not take the key: nobody is asked for its passphrase.
        std::fs::write(b.dir().join("authorized_keys"), "").expect("a file can be written");
        let refused = elsewhere(&config, &[], None);
        contains(
            &refused,
            &["does not let user", &file, "it accepts: publickey"],
        );
        assert!(!refused.contains("PASSPHRASE"), "{refused}");
    }
}

/// A server that lets in by a password, asked for in one way or the other.
#[derive(Clone)]
struct Asking {
    by_question: bool,
}

impl Server for Asking {
    type Handler = Self;

    fn new_client(&mut self, _: Option<std::net::SocketAddr>) -> Self {
        self.clone()
    }
}

impl Handler for Asking {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(match user == "me" && password == "friend" {
            true => Auth::Accept,
            false => Auth::reject(),
        })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut response) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Password: ".into(), false)].into(),
            });
        };
        Ok(
            match response
                .next()
                .is_some_and(|answer| &answer[..] == b"friend")
            {
                true => Auth::Accept,
                false => Auth::reject(),
            },
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_only_where_it_is_asked_for() {
    use russh::{MethodKind, MethodSet};
    for by_question in [false, true] {
        let key = left_harness::host::keys::generate().expect("a key can be made");
        let public = key.public_key().to_openssh().expect("it can be written");
        let method = match by_question {
            true => MethodKind::KeyboardInteractive,
            false => MethodKind::Password,
        };
        let server = russh::server::Config {
            keys: vec![key],
            methods: MethodSet::from(&[method][..]),
            auth_rejection_time: std::time::Duration::ZERO,
            ..russh::server::Config::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback is there");
        let port = listener.local_addr().expect("it has an address").port();
        let serving = tokio::spawn(async move {
            let mut asking = Asking { by_question };
            let _ = asking.by_question;
            let _ = asking
                .run_on_socket(std::sync::Arc::new(server), &listener)
                .await;
        });
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let known = folder.path().join("known");
        std::fs::write(&known, format!("[127.0.0.1]:{port} {public}\n")).expect("a file");
        let config = folder.path().join("config");
        let text = format!(
            "Host b\n HostName 127.0.0.1\n Port {port}\n User me\n IdentityFile none\n \
             UserKnownHostsFile {}\n",
            known.display()
        );
        std::fs::write(&config, text).expect("a file can be written");
        let told = ("LEFT_HARNESS_TEST_PASSWORD", "yes");
        let right = ("LEFT_HARNESS_PASSWORD", "friend");
        let wrong = ("LEFT_HARNESS_PASSWORD", "foe");
        // This server knows no programs: to be let in is all there is. It may hang up
        // on whoever gives a wrong password.
        for (variables, expected) in [
            (&[told, right][..], &["result: in"][..]),
            (
                &[told, wrong],
                &["cannot log in to host b", "tried:", "the password"],
            ),
            (&[told], &["set LEFT_HARNESS_PASSWORD"]),
            (&[right], &["does not let user me in", "`password = true`"]),
        ] {
            let config = config.clone();
            let said = tokio::task::block_in_place(|| elsewhere(&config, variables, None));
            contains(&said, expected);
        }
        if has("script") {
            let said = tokio::task::block_in_place(|| elsewhere(&config, &[told], Some("friend")));
            contains(&said, &["Password of me@127.0.0.1", "result: in"]);
        }
        serving.abort();
    }
}
