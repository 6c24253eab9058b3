//! One run of one scenario, from validation to tear-down.
//!
//! The order never changes: build what is missing → lab up → deploy → steps →
//! settle → stop the program and fetch its logs → observe → check → tear down in
//! reverse, also after a failure and after Ctrl-C. [`event`] is the only way out
//! for news; nothing in here prints.

pub mod event;
pub mod folder;
pub mod halt;
pub mod interrupt;
pub mod observe;
pub mod settle;
pub mod steps;
pub mod trigger;
pub mod world;

mod prepare;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::event::{EventKind, Outcome, Unit};
use self::folder::RunFolder;
use self::halt::Halt;
use self::interrupt::Interrupt;
use self::world::{RENEW_INTERVAL, World, transfer_task};
use crate::host::probe::{Depth, Guarded};
use crate::report::EventSink;
use crate::scenario::{Case, Scenario};
use crate::sut::adapter::Adapter;
use crate::teardown::Teardown;

/// How long the end of a run waits for both sides unless a step of the scenario did.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// How long both sides must be quiet unless the scenario says otherwise.
const SETTLE_QUIET: Duration = Duration::from_secs(2);

/// What a user asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Checked already.
    pub scenario: Arc<Scenario>,
    /// The cell of its matrix.
    pub case: Case,
    /// Of the scenario, or the user's own.
    pub seed: u64,
    /// The program under test.
    pub adapter: Adapter,
    /// The hosts' folders in the local lab.
    pub lab_dir: PathBuf,
    /// Programs from here instead of building them.
    pub bin_dir: Option<PathBuf>,
    /// What to do with the hosts' folders of this run.
    pub keep: Keep,
}

/// Whether the run's folders stay on the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Taken away.
    #[default]
    Never,
    /// Kept unless the run passed.
    OnFailure,
    /// Kept.
    Always,
}

impl Request {
    /// `resume`, or `edges[size=1MiB]`.
    pub fn title(&self) -> String {
        match self.case.label.as_str() {
            "" => self.scenario.name.clone(),
            label => format!("{}[{label}]", self.scenario.name),
        }
    }

    /// Why this build or this lab cannot carry the scenario, if so.
    pub fn skip_reason(&self) -> Option<String> {
        if let Some((line, word)) = self.case.needs_unbuilt() {
            return Some(format!("this build cannot `{word}` yet (line {line})"));
        }
        if self.scenario.link.loss.is_some() {
            return Some("the local lab's link carries streams: it cannot lose packets".into());
        }
        if let Some(host) = self
            .scenario
            .hosts
            .iter()
            .find(|host| host.share_bytes.is_some())
        {
            return Some(format!(
                "the local lab cannot limit the size of the share of {}",
                host.name
            ));
        }
        None
    }
}

/// Runs a scenario to its verdict; everything else about it goes to the sink.
pub async fn run(
    request: &Request,
    folder: &RunFolder,
    sink: &EventSink,
    interrupt: &mut Interrupt,
) -> Outcome {
    let begun = Instant::now();
    sink.send(EventKind::RunStarted {
        run: folder.run.clone(),
        scenario: request.title(),
        about: request.scenario.about.clone(),
        lab: "local".into(),
        sut: request.adapter.name.clone(),
        seed: request.seed,
        folder: folder.path.clone(),
    });
    let (outcome, reason) = match request.skip_reason() {
        Some(reason) => (Outcome::Skipped, reason),
        None => carry_out(request, folder, sink, interrupt).await,
    };
    let seconds = begun.elapsed().as_secs_f64();
    sink.send(EventKind::RunEnded {
        outcome,
        reason,
        seconds,
    });
    outcome
}

/// Everything between the first and the last event: whatever happens in the middle,
/// what was registered for tear-down is taken away.
async fn carry_out(
    request: &Request,
    folder: &RunFolder,
    sink: &EventSink,
    interrupt: &mut Interrupt,
) -> (Outcome, String) {
    let mut teardown = Teardown::new();
    let mut guards = Vec::new();
    let verdict = tokio::select! {
        verdict = hosts_to_verdict(request, folder, sink, &mut teardown, &mut guards) => verdict,
        () = interrupt.asked() => {
            sink.send(EventKind::Interrupted);
            Err(Halt { outcome: Outcome::Interrupted, reason: "stopped by the user".into(), details: Vec::new() })
        }
    };
    let keep = match request.keep {
        Keep::Never => false,
        Keep::OnFailure => verdict.is_err(),
        Keep::Always => true,
    };
    if keep {
        for (host, guard, dir) in guards {
            match guard.dismiss().await {
                Ok(()) => sink.send(EventKind::Warning {
                    text: format!("kept on host {host}: {}", dir.display()),
                }),
                Err(error) => sink.send(EventKind::Warning {
                    text: format!("cannot keep the folder on host {host}: {error:#}"),
                }),
            }
        }
    }
    let phase = Phase::begin(sink, "tear down");
    let failed = teardown.run().await;
    for text in &failed {
        sink.send(EventKind::Warning { text: text.clone() });
    }
    let torn = if failed.is_empty() {
        Outcome::Ok
    } else {
        Outcome::Infrastructure
    };
    phase.end(
        torn,
        if keep {
            "the hosts' folders are kept"
        } else {
            "nothing is left"
        },
    );
    match verdict {
        Ok(()) if !failed.is_empty() => (Outcome::Infrastructure, failed.join("; ")),
        Ok(()) => (Outcome::Ok, String::new()),
        Err(halt) => {
            if !halt.details.is_empty() {
                sink.send(EventKind::Checked {
                    what: "why".into(),
                    outcome: halt.outcome,
                    text: halt.reason.clone(),
                    details: halt.details,
                });
            }
            (halt.outcome, halt.reason)
        }
    }
}

async fn hosts_to_verdict(
    request: &Request,
    folder: &RunFolder,
    sink: &EventSink,
    teardown: &mut Teardown,
    guards: &mut Vec<(String, Guarded, PathBuf)>,
) -> Result<(), Halt> {
    let world = prepare::world(request, folder, sink, teardown, guards).await?;
    // Ends with this function: whatever is renewed is taken away by then.
    let mut company = tokio::task::JoinSet::new();
    company.spawn(renew(
        world.clone(),
        guards.iter().map(|(_, guard, _)| guard.clone()).collect(),
    ));
    company.spawn(show_transfers(world.clone()));

    let mut verdict = steps::perform(&world, &request.case.steps).await;
    if verdict.is_ok() && request.case.expect.trees_identical && !settles(&request.case) {
        let phase = Phase::begin(sink, "settle");
        let settled = settle::settle(&world, SETTLE_WITHIN, SETTLE_QUIET).await;
        phase.end_with(&settled);
        verdict = settled.map(drop);
    }
    company.shutdown().await;
    for (from, to) in world.directions() {
        sink.send(EventKind::ProgressEnded {
            task: transfer_task(from, to),
        });
    }

    let phase = Phase::begin(sink, "stop");
    let stopped = stop_all(&world).await;
    phase.end_with(&stopped);
    prepare::fetch_logs(&world, folder).await;
    verdict?;
    stopped?;

    let phase = Phase::begin(sink, "observe");
    let manifests = observe::look(&world, Depth::Hashed).await?;
    for (site, manifest) in world.sites.iter().zip(&manifests) {
        folder.save_manifest(&site.name, manifest)?;
    }
    phase.end(Outcome::Ok, "");
    let mut findings = observe::check(&world, &request.case.expect, &manifests).await?;
    findings.extend(prepare::log_findings(&world, folder)?);
    findings.extend(observe::left_behind(&world));
    figures(&world);
    observe::report(&world, &findings).map(drop)
}

fn settles(case: &Case) -> bool {
    matches!(
        case.steps.last().map(|step| &step.action),
        Some(crate::scenario::Action::Settle { .. })
    )
}

async fn stop_all(world: &World) -> Result<String, Halt> {
    let mut first = Ok(String::new());
    for site in &world.sites {
        if let Err(halt) = world.stop(&site.name).await
            && first.is_ok()
        {
            first = Err(halt);
        }
    }
    first
}

/// Keeps everything on the hosts alive while the harness is.
async fn renew(world: Arc<World>, guards: Vec<Guarded>) {
    loop {
        // A renewal that fails shows itself where the process or folder is used next.
        for site in &world.sites {
            if let Some(held) = site.held() {
                let _ = held.renew().await;
            }
        }
        for guard in &guards {
            let _ = guard.renew().await;
        }
        tokio::time::sleep(RENEW_INTERVAL).await;
    }
}

/// Draws what moves on the link.
async fn show_transfers(world: Arc<World>) {
    const INTERVAL: Duration = Duration::from_millis(100);
    loop {
        for (from, to) in world.directions() {
            let total = world.model().written_on(from);
            if total > 0 {
                world.sink.send(EventKind::Progress {
                    task: transfer_task(from, to),
                    done: world.lab.link.delivered(from, to),
                    total,
                    unit: Unit::Bytes,
                    note: String::new(),
                });
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The figures that every run has.
fn figures(world: &World) {
    for (from, to) in world.directions() {
        let size = world.model().written_on(from);
        if size == 0 {
            continue;
        }
        let delivered = world.lab.link.delivered(from, to);
        let resent = delivered as f64 - size as f64;
        let share = 100.0 * resent / size as f64;
        world.figure(
            format!("size {from} → {to}"),
            size as f64,
            "bytes",
            mib(size as f64),
        );
        world.figure(
            format!("delivered {from} → {to}"),
            delivered as f64,
            "bytes",
            mib(delivered as f64),
        );
        world.figure(
            format!("resent {from} → {to}"),
            resent,
            "bytes",
            format!("{} ({share:.2} %)", mib(resent)),
        );
    }
    for site in &world.sites {
        let peak = site
            .exits()
            .iter()
            .filter_map(|exited| exited.max_rss_kib)
            .max();
        if let Some(peak) = peak {
            world.figure(
                format!("peak memory {}", site.name),
                peak as f64 * 1024.0,
                "bytes",
                mib(peak as f64 * 1024.0),
            );
        }
    }
}

fn mib(bytes: f64) -> String {
    format!("{:.2} MiB", bytes / 1_048_576.0)
}

/// A part of the run outside the steps, from its begin to its end.
pub(crate) struct Phase<'a> {
    sink: &'a EventSink,
    name: &'static str,
    begun: Instant,
}

impl<'a> Phase<'a> {
    pub(crate) fn begin(sink: &'a EventSink, name: &'static str) -> Self {
        sink.send(EventKind::PhaseStarted { phase: name.into() });
        Self {
            sink,
            name,
            begun: Instant::now(),
        }
    }

    pub(crate) fn end(self, outcome: Outcome, note: impl Into<String>) {
        self.sink.send(EventKind::PhaseEnded {
            phase: self.name.into(),
            outcome,
            note: note.into(),
            seconds: self.begun.elapsed().as_secs_f64(),
        });
    }

    pub(crate) fn end_with(self, result: &Result<String, Halt>) {
        match result {
            Ok(note) => self.end(Outcome::Ok, note.clone()),
            Err(halt) => self.end(halt.outcome, halt.reason.clone()),
        }
    }
}
