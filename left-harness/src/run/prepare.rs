//! From nothing to two hosts on which the steps can act.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::Request;
use super::folder::RunFolder;
use super::halt::Halt;
use super::leases::Leases;
use super::leftovers;
use super::phase::Phase;
use super::provide;
use super::site::Site;
use super::world::World;
use crate::check::text::size_text;
use crate::event::{EventKind, Unit};
use crate::host::probe::Probe;
use crate::lab::Lab;
use crate::report::EventSink;
use crate::sut::adapter::{Seat, Source};
use crate::sut::build::{self, PROBE};
use crate::sut::deploy::{Program, deploy, remove_unused};
use crate::teardown::Teardown;
use crate::workload::Model;

/// How long taking all folders or all processes away may take.
const UNDO_DEADLINE: Duration = Duration::from_secs(15);

/// What stays on the hosts is decided by the verdict, but the undo that goes by it is
/// registered long before.
pub(super) type Stays = Arc<Mutex<Folders>>;

/// What becomes of the run's folders on the hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Folders {
    /// They are removed.
    #[default]
    Go,
    /// They are left to the user.
    Stay,
}

/// Builds, brings the lab up, deploys and makes the run's folders.
pub(super) async fn world(
    request: &Request,
    folder: &RunFolder,
    sink: &EventSink,
    undo: &mut Undo,
) -> Result<Arc<World>, Halt> {
    let phase = Phase::begin(sink, "build");
    let programs = programs(request, sink).await;
    sink.send(EventKind::ProgressEnded {
        task: "build".into(),
    });
    let (probe, sut) = phase.ended(programs, |_| String::new())?;

    let phase = Phase::begin(sink, "lab up");
    let scenario = &request.scenario;
    let up = request
        .lab
        .up(&scenario.hosts, &scenario.link, &mut undo.teardown);
    let lab = up.await;
    let lab = phase.ended(lab, |lab| format!("{} hosts", lab.hosts.len()))?;

    let phase = Phase::begin(sink, "deploy");
    let deployed = deploy_all(&lab, &probe, sut.as_ref(), sink).await;
    let (probes, _) = phase.ended(deployed, |(_, note)| note.clone())?;
    let mut provided = Vec::new();
    for (host, probe) in lab.hosts.iter().zip(&probes) {
        let deployed = sut.as_ref().map(|sut| sut.on(host));
        provided.push(provide::provided(&request.adapter, probe, deployed).await?);
        // What cannot be tidied up harms nobody.
        if let Err(error) = leftovers::remove(host, probe).await {
            sink.warn(format!("cannot tidy up host {}: {error:#}", host.name));
        }
    }

    undo.register(sink);
    let mut sites = Vec::new();
    for ((host, probe), provided) in lab.hosts.iter().zip(probes).zip(provided) {
        let root = host.home.join(format!("run-{}", folder.run));
        undo.leases.folder(&probe, &root, &folder.run).await?;
        for name in ["share", "state", "temp"] {
            host.remote.make_dir(&root.join(name)).await?;
        }
        let seat = match sites.is_empty() {
            true => Seat::First,
            false => Seat::Second,
        };
        let site = Site::new(host, seat, probe, provided, root);
        provide::files(&request.adapter, &site).await?;
        sites.push(site);
    }
    Ok(Arc::new(World {
        run: folder.run.clone(),
        seed: request.seed,
        adapter: request.adapter.clone(),
        lab,
        sites,
        leases: undo.leases.clone(),
        sink: sink.clone(),
        model: Mutex::new(Model::default()),
        injecting: watch::Sender::new(Vec::new()),
    }))
}

/// What a run must take away again, and what it keeps alive until then.
pub(super) struct Undo {
    pub(super) teardown: Teardown,
    pub(super) leases: Arc<Leases>,
    pub(super) stays: Stays,
}

impl Undo {
    pub(super) fn new() -> Self {
        Self {
            teardown: Teardown::new(),
            leases: Leases::new(),
            stays: Stays::default(),
        }
    }

    /// Before the first folder is made and the first program is started.
    fn register(&mut self, sink: &EventSink) {
        let (leases, stays, sink) = (self.leases.clone(), self.stays.clone(), sink.clone());
        let folders = async move {
            let stays = stays.lock().map_or(Folders::Go, |stays| *stays);
            if stays == Folders::Go {
                return leases.remove_folders().await;
            }
            for place in leases.keep_folders().await? {
                sink.warn(format!("kept on {place}"));
            }
            Ok(())
        };
        self.teardown
            .push("remove or keep the run's folders", UNDO_DEADLINE, folders);
        let leases = self.leases.clone();
        let programs = async move { leases.kill_programs().await };
        self.teardown
            .push("kill what still runs", UNDO_DEADLINE, programs);
    }
}

/// The probe, and the program under test where it is built, or the user brought it.
async fn programs(request: &Request, sink: &EventSink) -> Result<(Program, Option<Program>)> {
    let mut found = Vec::new();
    let sut = match &request.adapter.source {
        Source::Built(build) => Some((build.package.as_str(), build.binary.as_str())),
        Source::Named | Source::Found(_) => None,
    };
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
        // The probe is ours: whoever brings a program of their own need not bring it.
        let ours = |dir: &&Path| name != PROBE || dir.join(name).is_file();
        let bin_dir = request.bin_dir.as_deref().filter(ours);
        let path = build::program(&wanted, bin_dir, &on_progress).await?;
        found.push(Program::at(name, &path)?);
    }
    if let (Source::Found(find), Some(dir)) = (&request.adapter.source, &request.bin_dir)
        && let Some((name, path)) = provide::brought(find, dir)
    {
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
        if let Err(error) = remove_unused(host).await {
            sink.warn(format!("cannot remove unused programs: {error:#}"));
        }
        probes.push(there);
        sent += deployed.sent;
        bytes += deployed.bytes;
    }
    let note = match sent {
        0 => "nothing: all programs are there already".to_owned(),
        _ => format!("{sent} programs, {}", size_text(bytes)),
    };
    Ok((probes, note))
}
