//! What the steps of a run act on: the hosts with what runs there, the link, and
//! the model of what was written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use super::event::{EventKind, Figure};
use super::halt::Halt;
use crate::host::probe::{Exited, Held, HoldSpec, Probe, Readiness};
use crate::lab::Lab;
use crate::report::EventSink;
use crate::sut::adapter::{Adapter, Places, Ready};
use crate::workload::Model;

/// A process whose harness is gone dies after this: short enough that nothing is
/// left within ten seconds, long enough for a machine that is busy for a moment.
pub const LEASE: Duration = Duration::from_secs(5);

/// How often leases are renewed: several times in a lease.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// The longest a program may take until it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A host's own folders in this run, and what runs there.
pub struct Site {
    /// `a`
    pub name: String,
    /// The probe on this host.
    pub probe: Probe,
    /// Where the program lies; `None` for one that the adapter finds by itself.
    pub program: Option<PathBuf>,
    /// The run's folder on this host; all others are in it.
    pub root: PathBuf,
    /// Where the program listens.
    pub listen: SocketAddr,
    /// Where it finds its peer.
    pub peer: SocketAddr,
    process: Mutex<Process>,
}

#[derive(Default)]
struct Process {
    starts: u32,
    held: Option<Held>,
    exits: Vec<Exited>,
}

impl Site {
    /// A host on which nothing runs yet.
    pub fn new(
        name: &str,
        probe: Probe,
        program: Option<PathBuf>,
        root: PathBuf,
        listen: SocketAddr,
        peer: SocketAddr,
    ) -> Self {
        Self {
            name: name.into(),
            probe,
            program,
            root,
            listen,
            peer,
            process: Mutex::default(),
        }
    }

    /// The directory that is kept the same.
    pub fn share(&self) -> PathBuf {
        self.root.join("share")
    }

    /// Where the program may put what is not shared.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where content is made before it is renamed into the share.
    pub fn temp(&self) -> PathBuf {
        self.root.join("temp")
    }

    /// Where the `n`th start of the program keeps its log, from 1.
    pub fn hold_dir(&self, start: u32) -> PathBuf {
        self.root.join(format!("hold-{start}"))
    }

    /// Where things are on this host, for the adapter.
    pub fn places(&self) -> Places {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Places {
            bin: self.program.clone().map(text).unwrap_or_default(),
            share: text(self.share()),
            state: text(self.state()),
            listen: self.listen,
            peer: self.peer,
        }
    }

    /// How often the program was started.
    pub fn starts(&self) -> u32 {
        self.process().starts
    }

    /// The program, if it is meant to run.
    pub fn held(&self) -> Option<Held> {
        self.process().held.clone()
    }

    /// The program is not meant to run any more.
    pub fn ended(&self, exited: &Exited) {
        let mut process = self.process();
        process.held = None;
        process.exits.push(exited.clone());
    }

    /// How each of its processes ended.
    pub fn exits(&self) -> Vec<Exited> {
        self.process().exits.clone()
    }

    /// The end of the current process's log.
    pub async fn log_tail(&self) -> Vec<String> {
        const TAIL_BYTES: usize = 64 * 1024;
        const LINES: usize = 12;
        let log = self.hold_dir(self.starts()).join("log");
        let remote = &self.probe.remote;
        let size = remote
            .stat(&log)
            .await
            .ok()
            .flatten()
            .map_or(0, |stat| stat.size);
        let offset = size.saturating_sub(TAIL_BYTES as u64);
        let bytes = remote
            .read(&log, offset, TAIL_BYTES)
            .await
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[lines.len().saturating_sub(LINES)..].to_vec()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Everything that the steps of one run share.
pub struct World {
    /// `20261122-140512-k3f9`
    pub run: String,
    /// Of all generated content.
    pub seed: u64,
    /// How the program is started and what its files look like.
    pub adapter: Adapter,
    /// The hosts' connections and the link.
    pub lab: Lab,
    /// One for each host, in the scenario's order.
    pub sites: Vec<Site>,
    /// Who is told.
    pub sink: EventSink,
    model: Mutex<Model>,
}

impl World {
    /// Nothing is written and nothing runs yet.
    pub fn new(
        run: String,
        seed: u64,
        adapter: Adapter,
        lab: Lab,
        sites: Vec<Site>,
        sink: EventSink,
    ) -> Self {
        Self {
            run,
            seed,
            adapter,
            lab,
            sites,
            sink,
            model: Mutex::default(),
        }
    }

    /// The host with this name; scenarios name only hosts that there are.
    ///
    /// # Panics
    /// If there is none.
    pub fn site(&self, name: &str) -> &Site {
        self.sites
            .iter()
            .find(|site| site.name == name)
            .unwrap_or_else(|| panic!("the run has no host {name}"))
    }

    /// What was written so far.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A figure worth quoting.
    pub fn figure(&self, name: impl Into<String>, value: f64, unit: &str, text: impl Into<String>) {
        self.sink.send(EventKind::Figure(Figure {
            name: name.into(),
            value,
            unit: unit.into(),
            text: text.into(),
        }));
    }

    /// Something happened to the program on a host.
    pub fn process_event(&self, on: &str, text: impl Into<String>) {
        self.sink.send(EventKind::Process {
            on: on.into(),
            text: text.into(),
        });
    }

    /// Starts the program on a host and waits until it is ready.
    ///
    /// # Errors
    /// A failure of the program if it ends first or is not ready in time.
    pub async fn start(&self, name: &str) -> Result<(), Halt> {
        let site = self.site(name);
        let (start, running) = {
            let mut process = site.process();
            process.starts += 1;
            (process.starts, process.held.is_some())
        };
        if running {
            return Err(Halt::fail(format!(
                "{} runs on {name} already",
                self.adapter.name
            )));
        }
        let listens = self.adapter.ready == Ready::Listening;
        let held = site
            .probe
            .hold(&HoldSpec {
                dir: site.hold_dir(start),
                argv: self.adapter.argv(&site.places()),
                env: vec![("LEFT_HARNESS_RUN".into(), self.run.clone())],
                cwd: Some(site.state()),
                listen: listens.then_some(site.listen.port()),
                open_files: None,
                lease: LEASE,
            })
            .await?;
        let pid = held.process().map_or(0, |(pid, _)| pid);
        self.process_event(name, format!("started, pid {pid}"));
        site.process().held = Some(held.clone());
        if !listens {
            return Ok(());
        }
        tokio::select! {
            ready = held.ready() => match ready? {
                Readiness::Listening { .. } => Ok(()),
                Readiness::Exited(exited) => Err(self.died(site, &exited, "before it was ready").await),
            },
            () = tokio::time::sleep(READY_DEADLINE) => {
                let details = site.log_tail().await;
                Err(Halt::fail(format!(
                    "{} on {name} does not listen on port {} after {} s",
                    self.adapter.name, site.listen.port(), READY_DEADLINE.as_secs()
                )).with_details(details))
            }
        }
    }

    /// Asks the program to end, as its adapter says, and waits for it.
    ///
    /// # Errors
    /// A failure of the program if it takes too long; it is then killed.
    pub async fn stop(&self, name: &str) -> Result<String, Halt> {
        let site = self.site(name);
        let Some(held) = site.held() else {
            return Ok(format!("{name} does not run"));
        };
        let within = self.adapter.stop.within;
        held.signal(self.adapter.stop.signal).await?;
        match tokio::time::timeout(within, held.exited()).await {
            Ok(exited) => {
                let exited = exited?;
                site.ended(&exited);
                let text = format!("ended: {}", exited.how());
                self.process_event(name, text.clone());
                Ok(text)
            }
            Err(_) => {
                let exited = held.kill().await?;
                site.ended(&exited);
                Err(Halt::fail(format!(
                    "{} on {name} did not end within {} s of SIG{}",
                    self.adapter.name,
                    within.as_secs(),
                    self.adapter.stop.signal
                )))
            }
        }
    }

    /// Waits until a program that must run ends by itself; never returns otherwise.
    pub async fn any_death(&self) -> Halt {
        let mut running = JoinSet::new();
        for (index, site) in self.sites.iter().enumerate() {
            if let Some(held) = site.held() {
                running.spawn(async move { (index, held.exited().await) });
            }
        }
        match running.join_next().await {
            Some(Ok((index, Ok(exited)))) => {
                self.died(&self.sites[index], &exited, "by itself").await
            }
            Some(Ok((_, Err(error)))) => error.into(),
            Some(Err(error)) => anyhow::Error::from(error).into(),
            None => std::future::pending().await,
        }
    }

    /// A program ended though nobody asked it to.
    pub async fn died(&self, site: &Site, exited: &Exited, when: &str) -> Halt {
        let details = site.log_tail().await;
        site.ended(exited);
        let text = format!("ended {when}: {}", exited.how());
        self.process_event(&site.name, text.clone());
        if exited.lease_lapsed {
            // Its holder killed it because we were silent for too long.
            return anyhow::anyhow!(
                "this machine was too slow to renew the lease of {} on {}",
                self.adapter.name,
                site.name
            )
            .into();
        }
        Halt::fail(format!("{} on {} {text}", self.adapter.name, site.name)).with_details(details)
    }

    /// Ordered pairs of hosts: every direction that bytes can take.
    pub fn directions(&self) -> Vec<(&str, &str)> {
        let names: Vec<&str> = self.sites.iter().map(|site| site.name.as_str()).collect();
        let mut pairs = Vec::new();
        for from in &names {
            pairs.extend(names.iter().filter(|to| *to != from).map(|to| (*from, *to)));
        }
        pairs
    }
}

/// The bar on which a direction's bytes are shown.
pub fn transfer_task(from: &str, to: &str) -> String {
    format!("{from} → {to}")
}
