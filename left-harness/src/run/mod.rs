//! One run of one scenario, from validation to tear-down.
//!
//! The order never changes: build what is missing → lab up → deploy → steps →
//! settle → stop the program and fetch its logs → observe → check → tear down in
//! reverse, also after a failure and after Ctrl-C. [`crate::event`] is the only way out
//! for news; nothing in here prints.

pub mod arrive;
pub mod blame;
pub mod folder;
pub mod halt;
pub mod inject;
pub mod interrupt;
pub mod leases;
pub mod ledger;
pub mod leftovers;
pub mod logs;
pub mod observe;
pub mod phase;
pub mod process;
pub mod programs;
pub mod provide;
pub mod settle;
pub mod site;
pub mod steps;
pub mod transfers;
pub mod trigger;
pub mod world;

mod prepare;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use self::folder::RunFolder;
use self::halt::Halt;
use self::interrupt::Interrupt;
use self::phase::Phase;
use self::prepare::{Folders, Undo};
use self::world::World;
use crate::check::Finding;
use crate::event::{EventKind, Outcome};
use crate::host::probe::Depth;
use crate::lab::Source;
use crate::report::EventSink;
use crate::scenario::{Case, Scenario};
use crate::sut::adapter::Adapter;

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
    /// Where the hosts come from.
    pub lab: Source,
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

    /// Why this build, this program or this lab cannot carry the scenario, if so.
    pub fn skip_reason(&self) -> Option<String> {
        if let Some((line, word)) = self.case.needs_unbuilt() {
            return Some(format!("this build cannot `{word}` yet (line {line})"));
        }
        let name = &self.adapter.name;
        let first = self.scenario.hosts.first();
        let first = first.map_or("", |host| host.name.as_str());
        if let Some(what) = self.adapter.promise.broken_by(&self.case, first) {
            return Some(format!("{name} does not promise to {what}"));
        }
        if self.adapter.needs_own_network && !self.lab.gives_own_network() {
            let lab = self.lab.name();
            return Some(format!(
                "{name} needs its own network, which the {lab} lab does not give its hosts"
            ));
        }
        self.lab.skip_reason(&self.scenario, &self.case)
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
        lab: request.lab.name().into(),
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
    let mut undo = Undo::new();
    // Goes on until the last thing is taken away: looking and checking takes longer
    // than a lease.
    let leases = undo.leases.clone();
    let mut company = tokio::task::JoinSet::new();
    company.spawn(async move { leases.renew().await });
    let verdict = tokio::select! {
        verdict = caught(hosts_to_verdict(request, folder, sink, &mut undo)) => verdict,
        () = interrupt.asked() => {
            sink.send(EventKind::Interrupted);
            Err(Halt::interrupted())
        }
    };
    let stays = match request.keep {
        Keep::Never => Folders::Go,
        Keep::OnFailure if verdict.is_ok() => Folders::Go,
        Keep::OnFailure | Keep::Always => Folders::Stay,
    };
    let torn = tear_down(undo, stays, sink).await;
    company.shutdown().await;
    match (verdict, torn) {
        (Ok(()), Ok(())) => (Outcome::Ok, String::new()),
        (Ok(()), Err(halt)) => (halt.outcome, halt.reason),
        (Err(halt), _) => {
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

async fn tear_down(undo: Undo, stays: Folders, sink: &EventSink) -> Result<(), Halt> {
    let phase = Phase::begin(sink, "tear down");
    if let Ok(mut decided) = undo.stays.lock() {
        *decided = stays;
    }
    let failed = undo.teardown.run().await;
    for text in &failed {
        sink.warn(text.clone());
    }
    let torn = match failed.is_empty() {
        true => Ok(()),
        false => Err(anyhow::anyhow!(failed.join("; "))),
    };
    phase.ended(torn, |()| match stays {
        Folders::Stay => "the hosts' folders are kept".into(),
        Folders::Go => "nothing is left".into(),
    })
}

/// A bug of ours must not keep a run from being torn down.
async fn caught(work: impl Future<Output = Result<(), Halt>>) -> Result<(), Halt> {
    let mut work = pin!(work);
    poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        // What it was is on standard error already.
        polled.unwrap_or_else(|_| {
            Poll::Ready(Err(anyhow::anyhow!("the harness itself broke").into()))
        })
    })
    .await
}

async fn hosts_to_verdict(
    request: &Request,
    folder: &RunFolder,
    sink: &EventSink,
    undo: &mut Undo,
) -> Result<(), Halt> {
    let world = prepare::world(request, folder, sink, undo).await?;
    let mut drawing = tokio::task::JoinSet::new();
    drawing.spawn(transfers::show(world.clone()));
    let mut verdict = perform(&world, &request.case).await;
    drawing.shutdown().await;
    transfers::end_bars(&world);
    verdict = blame::judged(&world, verdict).await;

    let phase = Phase::begin(sink, "stop");
    let stopped = phase.ended(stop_all(&world).await, |()| String::new());
    let unfetched = logs::fetch(&world, folder).await;
    verdict?;
    stopped?;

    let phase = Phase::begin(sink, "observe");
    let findings = observe(&world, &request.case, folder, &unfetched).await;
    let findings = phase.ended(findings, |_| String::new())?;
    transfers::figures(&world).await?;
    let verdict = observe::report(&world, &findings).map(drop);
    blame::judged(&world, verdict).await
}

/// All steps, and a settle at the end where the scenario has none of its own.
async fn perform(world: &Arc<World>, case: &Case) -> Result<(), Halt> {
    steps::perform(world, &case.steps).await?;
    let last = case.steps.last().map(|step| &step.action);
    let settles = matches!(last, Some(crate::scenario::Action::Settle { .. }));
    if !case.expect.trees_identical || settles {
        return Ok(());
    }
    let phase = Phase::begin(&world.sink, "settle");
    let settled = settle::settle(world, SETTLE_WITHIN, SETTLE_QUIET).await;
    phase.ended(settled, String::clone).map(drop)
}

/// The first one that does not end well decides, but all are stopped.
async fn stop_all(world: &World) -> Result<(), Halt> {
    let mut all = Ok(());
    for site in &world.sites {
        let stopped = world.stop(&site.name).await.map(drop);
        all = all.and(stopped);
    }
    all
}

/// All that can be seen from the outside when nothing runs any more.
async fn observe(
    world: &Arc<World>,
    case: &Case,
    folder: &RunFolder,
    unfetched: &[String],
) -> anyhow::Result<Vec<Finding>> {
    let manifests = observe::look(world, Depth::Hashed).await?;
    for (site, manifest) in world.sites.iter().zip(&manifests) {
        folder.save_manifest(&site.name, manifest)?;
    }
    let (findings, processes) = tokio::join!(
        observe::check(world, &case.expect, &manifests),
        ledger::processes(world)
    );
    let mut findings = findings?;
    findings.extend(logs::findings(world, folder, unfetched)?);
    findings.extend(processes?);
    Ok(findings)
}
