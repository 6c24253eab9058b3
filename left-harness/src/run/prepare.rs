//! From nothing to two hosts on which the steps can act; and fetching the logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Phase;
use super::Request;
use super::event::{EventKind, Outcome, Unit};
use super::folder::RunFolder;
use super::halt::Halt;
use super::world::{Site, World};
use crate::check::Finding;
use crate::host::probe::{GuardSpec, Guarded, Probe};
use crate::host::remote::{Command, Exit};
use crate::lab::{Host, Lab, local};
use crate::report::EventSink;
use crate::sut::build::{self, PROBE};
use crate::sut::deploy::{Program, deploy};
use crate::teardown::Teardown;

/// The file that says whose folder it is; nothing without it is ever removed.
const MARKER: &str = ".left-harness-run";

/// A run's folder goes after this when the harness is gone: after the processes in
/// it, which have a shorter lease.
const FOLDER_LEASE: Duration = Duration::from_secs(7);

/// How long taking a folder or a process away may take.
const UNDO_DEADLINE: Duration = Duration::from_secs(10);

/// Builds, brings the lab up, deploys and makes the run's folders.
pub(super) async fn world(
    request: &Request,
    folder: &RunFolder,
    sink: &EventSink,
    teardown: &mut Teardown,
    guards: &mut Vec<(String, Guarded, PathBuf)>,
) -> Result<Arc<World>, Halt> {
    let phase = Phase::begin(sink, "build");
    let programs = programs(request, sink).await;
    sink.send(EventKind::ProgressEnded {
        task: "build".into(),
    });
    let (probe, sut) = ended(phase, programs, |_| String::new())?;

    let phase = Phase::begin(sink, "lab up");
    let lab = local::up(
        &request.lab_dir,
        &request.scenario.hosts,
        &request.scenario.link,
        teardown,
    )
    .await;
    let lab = ended(phase, lab, |lab| format!("{} hosts", lab.hosts.len()))?;

    let phase = Phase::begin(sink, "deploy");
    let deployed = deploy_all(&lab, &probe, sut.as_ref(), sink).await;
    let (probes, _) = ended(phase, deployed, |(_, note)| note.clone())?;

    let mut sites = Vec::new();
    for (host, probe) in lab.hosts.iter().zip(probes) {
        let guard = make_root(host, &probe, &folder.run).await?;
        let healing = guard.clone();
        teardown.push(
            format!("remove the run's folder on host {}", host.name),
            UNDO_DEADLINE,
            async move { Ok(healing.heal().await?) },
        );
        let root = root(host, &folder.run);
        guards.push((host.name.clone(), guard, root.clone()));
        let program = sut.as_ref().map(|sut| sut.on(host));
        sites.push(Site::new(
            &host.name,
            probe,
            program,
            root,
            host.listen,
            host.peer,
        ));
    }
    let world = World::new(
        folder.run.clone(),
        request.seed,
        request.adapter.clone(),
        lab,
        sites,
        sink.clone(),
    );
    let world = Arc::new(world);
    let stopping = world.clone();
    teardown.push("kill what still runs", UNDO_DEADLINE, async move {
        for site in &stopping.sites {
            if let Some(held) = site.held() {
                held.kill().await?;
            }
        }
        Ok(())
    });
    Ok(world)
}

/// The probe, and the program under test where the adapter says how it is built.
async fn programs(request: &Request, sink: &EventSink) -> Result<(Program, Option<Program>)> {
    let mut found = Vec::new();
    let sut = request
        .adapter
        .build
        .as_ref()
        .map(|build| (build.package.as_str(), build.binary.as_str()));
    for (package, name) in std::iter::once((PROBE, PROBE)).chain(sut) {
        let on_progress = |progress: build::BuildProgress| {
            sink.send(EventKind::Progress {
                task: "build".into(),
                done: progress.done,
                total: progress.total,
                unit: Unit::Items,
                note: format!("{name}: {}", progress.crates),
            });
        };
        let wanted = build::Wanted {
            package,
            binary: name,
            arch: std::env::consts::ARCH,
        };
        let path = build::program(&wanted, request.bin_dir.as_deref(), &on_progress).await?;
        found.push(Program::at(name, &path)?);
    }
    let mut found = found.into_iter();
    let probe = found.next().context("no probe was built")?;
    Ok((probe, found.next()))
}

async fn deploy_all(
    lab: &Lab,
    probe: &Program,
    sut: Option<&Program>,
    sink: &EventSink,
) -> Result<(Vec<Probe>, String)> {
    let mut probes = Vec::new();
    let (mut sent, mut bytes) = (0, 0);
    for host in &lab.hosts {
        let task = format!("deploy {}", host.name);
        let on_bytes = |name: &str, done: u64, total: u64| {
            sink.send(EventKind::Progress {
                task: task.clone(),
                done,
                total,
                unit: Unit::Bytes,
                note: name.to_owned(),
            });
        };
        let result = deploy(host, probe, sut.as_slice(), &on_bytes).await;
        sink.send(EventKind::ProgressEnded { task });
        let (there, deployed) = result?;
        probes.push(there);
        sent += deployed.sent;
        bytes += deployed.bytes;
    }
    let note = match sent {
        0 => "nothing: all programs are there already".to_owned(),
        _ => format!("{sent} programs, {:.1} MiB", bytes as f64 / 1_048_576.0),
    };
    Ok((probes, note))
}

/// A folder of this run on a host, under the guard of a lease.
async fn make_root(host: &Host, probe: &Probe, run: &str) -> Result<Guarded> {
    let root = root(host, run);
    host.remote.make_dir(&root).await?;
    host.remote
        .write(&root.join(MARKER), run.as_bytes(), 0o600)
        .await?;
    let guard = probe
        .guard(&GuardSpec {
            dir: root.clone(),
            id: run.to_owned(),
            lease: FOLDER_LEASE,
        })
        .await?;
    for name in ["share", "state", "temp"] {
        host.remote.make_dir(&root.join(name)).await?;
    }
    Ok(guard)
}

fn root(host: &Host, run: &str) -> PathBuf {
    host.home.join(format!("run-{run}"))
}

/// Renames what was made outside the share into it.
pub(super) async fn move_into_place(host: &Host, from: &Path, to: &Path) -> Result<()> {
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .context("a path of the harness is not UTF-8")
    };
    let parent = to.parent().context("a file has no folder")?;
    for argv in [
        vec!["mkdir".to_owned(), "-p".into(), "--".into(), text(parent)?],
        vec![
            "mv".to_owned(),
            "-f".into(),
            "--".into(),
            text(from)?,
            text(to)?,
        ],
    ] {
        let doing = argv.join(" ");
        let output = host.remote.exec(Command::new(argv)).await?;
        if output.exit != Exit::Code(0) {
            bail!(
                "`{doing}` failed on host {}: {}",
                host.name,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
    }
    Ok(())
}

/// Brings home what the program wrote about itself. A log that cannot be fetched is
/// a warning: it must never hide why a run failed.
pub(super) async fn fetch_logs(world: &World, folder: &RunFolder) {
    for site in &world.sites {
        let mut wanted = Vec::new();
        for start in 1..=site.starts() {
            wanted.push((
                site.hold_dir(start).join("log"),
                format!("{}-{start}.log", site.name),
            ));
        }
        for there in world.adapter.logs(&site.places()) {
            let there = Path::new(&there).to_owned();
            let name = there
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            wanted.push((there, format!("{}-{name}", site.name)));
        }
        for (there, here) in wanted {
            let to = folder.logs().join(here);
            if let Err(error) = site.probe.remote.download(&there, &to).await {
                world.sink.send(EventKind::Warning {
                    text: format!("cannot fetch a log: {error}"),
                });
            }
        }
    }
}

/// A program that panicked has failed, whatever its files look like.
pub(super) fn log_findings(world: &World, folder: &RunFolder) -> Result<Vec<Finding>> {
    const LINES_MAX: usize = 10;
    let mut details = Vec::new();
    for entry in std::fs::read_dir(folder.logs()).context("cannot read the logs")? {
        let path = entry?.path();
        let text =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let bad = |line: &&str| {
            world
                .adapter
                .panics
                .iter()
                .any(|word| line.contains(word.as_str()))
        };
        details.extend(
            text.lines()
                .filter(bad)
                .map(|line| format!("{name}: {line}")),
        );
    }
    if details.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!("{} panicked", world.adapter.name);
    details.truncate(LINES_MAX);
    Ok(vec![Finding {
        what: "log".into(),
        outcome: Outcome::Fail,
        text,
        details,
    }])
}

fn ended<T>(
    phase: Phase<'_>,
    result: Result<T>,
    note: impl FnOnce(&T) -> String,
) -> Result<T, Halt> {
    match result {
        Ok(value) => {
            phase.end(Outcome::Ok, note(&value));
            Ok(value)
        }
        Err(error) => {
            phase.end(Outcome::Infrastructure, format!("{error:#}"));
            Err(error.into())
        }
    }
}
