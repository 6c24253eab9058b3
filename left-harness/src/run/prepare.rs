//! From nothing to two hosts on which the steps can act.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;

use super::Request;
use super::folder::RunFolder;
use super::halt::Halt;
use super::leases::Leases;
use super::leftovers;
use super::phase::Phase;
use super::programs::{Programs, Stock};
use super::provide;
use super::site::Site;
use super::world::World;
use crate::check::text::size_text;
use crate::event::{EventKind, Unit};
use crate::host::probe::Probe;
use crate::lab::Lab;
use crate::report::EventSink;
use crate::sut::adapter::Seat;
use crate::sut::build;
use crate::sut::deploy::{deploy, remove_unused};
use crate::sut::machine;
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
    let on_progress = |name: &str, progress: build::BuildProgress| {
        sink.send(EventKind::Progress {
            task: "build".into(),
            done: progress.done,
            total: progress.total,
            unit: Unit::Items,
            note: format!("{name}: {}", progress.crates),
        });
    };
    let bin_dir = request.bin_dir.as_deref();
    let stock = Stock::new(&request.adapter, bin_dir, &on_progress);
    // What the hosts of this machine are is known before there are any; others are
    // asked, and get what they need when they are there.
    if let Some(machine) = request.lab.machine() {
        build(&stock, machine, sink).await?;
    }

    let phase = Phase::begin(sink, "lab up");
    let scenario = &request.scenario;
    let up = request.lab.up(
        &scenario.hosts,
        &scenario.link,
        Some(&folder.run),
        &stock,
        &mut undo.teardown,
    );
    let lab = up.await;
    sink.send(EventKind::ProgressEnded {
        task: "build".into(),
    });
    let lab = phase.ended(lab, |lab| format!("{} hosts", lab.hosts.len()))?;
    for note in &lab.notes {
        sink.warn(note.clone());
    }

    let mut programs = Vec::new();
    for host in &lab.hosts {
        let machine = machine::ask(host.remote.as_ref()).await?;
        if !stock.has(&machine).await {
            build(&stock, &machine, sink).await?;
        }
        programs.push(stock.programs(&machine).await?);
    }

    let phase = Phase::begin(sink, "deploy");
    let deployed = deploy_all(&lab, &programs, sink).await;
    let (probes, _) = phase.ended(deployed, |(_, note)| note.clone())?;
    let mut provided = Vec::new();
    for ((host, probe), programs) in lab.hosts.iter().zip(&probes).zip(&programs) {
        let deployed = programs.sut.as_ref().map(|sut| sut.on(host));
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
        let ground = match &host.disk {
            Some(disk) => {
                let ground = disk.join(format!("run-{}", folder.run));
                undo.leases.folder(&probe, &ground, &folder.run).await?;
                ground
            }
            None => root.clone(),
        };
        for folder in [
            ground.join("share"),
            ground.join("temp"),
            root.join("state"),
        ] {
            host.remote.make_dir(&folder).await?;
        }
        let seat = match sites.is_empty() {
            true => Seat::First,
            false => Seat::Second,
        };
        let site = Site::new(host, seat, probe, provided, root, ground);
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
        let (leases, stays) = (self.leases.clone(), self.stays.clone());
        let ledger = async move {
            let stays = stays.lock().map_or(Folders::Go, |stays| *stays);
            leases.check_ledger(stays == Folders::Stay).await
        };
        self.teardown
            .push("leave the hosts as they were", UNDO_DEADLINE, ledger);
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
        let escaped = async move { leases.end_escaped().await };
        self.teardown
            .push("kill what has escaped", UNDO_DEADLINE, escaped);
        let leases = self.leases.clone();
        let programs = async move { leases.kill_programs().await };
        self.teardown
            .push("kill what still runs", UNDO_DEADLINE, programs);
    }
}

/// Finds or builds what hosts of this kind need.
async fn build(stock: &Stock<'_>, machine: &str, sink: &EventSink) -> Result<(), Halt> {
    let phase = Phase::begin(sink, "build");
    let programs = stock.programs(machine).await;
    sink.send(EventKind::ProgressEnded {
        task: "build".into(),
    });
    phase.ended(programs, |_| String::new()).map(drop)
}

async fn deploy_all(
    lab: &Lab,
    programs: &[Arc<Programs>],
    sink: &EventSink,
) -> Result<(Vec<Probe>, String)> {
    let mut probes = Vec::new();
    let (mut sent, mut bytes) = (0, 0);
    for (host, programs) in lab.hosts.iter().zip(programs) {
        let Programs { probe, sut } = &**programs;
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
        let result = deploy(host, probe, sut.as_ref().as_slice(), &on_bytes).await;
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
