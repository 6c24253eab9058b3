//! A "host" that is this machine without any connection: for tests of what talks to a host.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::remote::{Command, Exit, OnBytes, Output, Remote, RemoteError, Running, Said, Stat};

/// Runs commands as local processes and files as they are.
pub(crate) struct LocalRemote;

/// The probe of this workspace, built if need be.
pub(crate) fn probe_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let status = std::process::Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "left-harness-probe"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo starts");
        assert!(status.success(), "the probe builds");
        // Tests lie in target/debug/deps.
        let test = std::env::current_exe().expect("a test knows its executable");
        let binary = test
            .parent()
            .and_then(Path::parent)
            .expect("target/debug")
            .join("left-harness-probe");
        assert!(binary.exists(), "{} is there", binary.display());
        binary
    })
}

fn start(command: &Command) -> Result<tokio::process::Child, RemoteError> {
    let (program, arguments) = command.argv.split_first().expect("a program");
    tokio::process::Command::new(program)
        .args(arguments)
        .envs(command.env.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| file_error("execute", Path::new(program), &error))
}

fn exit(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code as u32),
        (None, signal) => Exit::Signal(signal.unwrap_or(0).to_string()),
    }
}

fn file_error(doing: &'static str, path: &Path, error: &std::io::Error) -> RemoteError {
    RemoteError::File {
        host: "local".into(),
        doing,
        path: path.to_owned(),
        why: error.to_string(),
    }
}

#[async_trait::async_trait]
impl Remote for LocalRemote {
    fn name(&self) -> &str {
        "local"
    }

    async fn exec(&self, command: Command) -> Result<Output, RemoteError> {
        let mut child = start(&command)?;
        let mut stdin = child.stdin.take().expect("piped");
        let feed = tokio::spawn(async move { stdin.write_all(&command.stdin).await });
        let output = child
            .wait_with_output()
            .await
            .map_err(|error| file_error("run", Path::new("it"), &error))?;
        let _ = feed.await;
        Ok(Output {
            exit: exit(output.status),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }

    async fn spawn(&self, command: Command) -> Result<Running, RemoteError> {
        let mut child = start(&command)?;
        let (stdin, mut orders) = mpsc::channel::<Vec<u8>>(8);
        let (tell, said) = mpsc::channel(8);
        let mut input = child.stdin.take().expect("piped");
        tokio::spawn(async move {
            while let Some(bytes) = orders.recv().await {
                if input.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let mut stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let tell_errors = tell.clone();
        let errors = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(some @ 1..) = stderr.read(&mut buffer).await {
                let _ = tell_errors
                    .send(Said::Stderr(buffer[..some].to_vec()))
                    .await;
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 32 * 1024];
            while let Ok(some @ 1..) = stdout.read(&mut buffer).await {
                if tell
                    .send(Said::Stdout(buffer[..some].to_vec()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            let _ = errors.await;
            if let Ok(status) = child.wait().await {
                let _ = tell.send(Said::Exit(exit(status))).await;
            }
        });
        Ok(Running { stdin, said })
    }

    async fn upload(
        &self,
        from: &Path,
        to: &Path,
        _: u32,
        on_bytes: OnBytes<'_>,
    ) -> Result<(), RemoteError> {
        let bytes = std::fs::copy(from, to).map_err(|error| file_error("upload", to, &error))?;
        on_bytes(bytes);
        Ok(())
    }

    async fn write(&self, to: &Path, bytes: &[u8], _: u32) -> Result<(), RemoteError> {
        std::fs::write(to, bytes).map_err(|error| file_error("write", to, &error))
    }

    async fn download(&self, from: &Path, to: &Path) -> Result<(), RemoteError> {
        std::fs::copy(from, to)
            .map(|_| ())
            .map_err(|error| file_error("download", from, &error))
    }

    async fn read(&self, from: &Path, offset: u64, length: usize) -> Result<Vec<u8>, RemoteError> {
        use std::io::{Read, Seek, SeekFrom};
        let read = || {
            let mut file = std::fs::File::open(from)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            file.take(length as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| file_error("read", from, &error))
    }

    async fn stat(&self, path: &Path) -> Result<Option<Stat>, RemoteError> {
        use std::os::unix::fs::PermissionsExt;
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(Stat {
                size: meta.len(),
                mode: meta.permissions().mode() & 0o7777,
                is_dir: meta.is_dir(),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error("stat", path, &error)),
        }
    }

    async fn list(&self, path: &Path) -> Result<Vec<String>, RemoteError> {
        let entries = std::fs::read_dir(path).map_err(|error| file_error("list", path, &error))?;
        let mut names: Vec<_> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    async fn make_dir(&self, path: &Path) -> Result<(), RemoteError> {
        std::fs::create_dir_all(path).map_err(|error| file_error("make folder", path, &error))
    }

    async fn close(&self) {}
}
