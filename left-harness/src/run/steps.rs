//! Performs the steps of a scenario, one after another; inside `together`, at once.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::arrive::{Arrived, arrives, time_figure};
use super::halt::Halt;
use super::trigger::{ArmedKill, kill_now};
use super::world::World;
use super::{inject, observe, settle};
use crate::event::{EventKind, Outcome};
use crate::scenario::{Action, Step};

/// What a step that went well has to say.
pub type StepResult = Result<String, Halt>;

/// Performs all steps; the first one that does not go well ends it.
///
/// # Errors
/// Why it ended.
pub async fn perform(world: &Arc<World>, steps: &[Step]) -> Result<(), Halt> {
    for (index, step) in steps.iter().enumerate() {
        let number = (index + 1).to_string();
        let begun = begin(world, &number, step);
        let result = match &step.action {
            Action::Together(members) => together(world, &number, members).await,
            action => single(world, &number, action).await,
        };
        end(world, &number, begun, &result);
        result?;
    }
    Ok(())
}

async fn single(world: &Arc<World>, number: &str, action: &Action) -> StepResult {
    inject::announce(world, action).await?;
    let armed = ArmedKill::arm(world, action).await?;
    let (note, arrived) = member(world, number, action, armed).await?;
    if let Some(arrived) = arrived {
        time_figure(world, &[arrived]);
    }
    Ok(note)
}

/// All members at once: what will be written is announced, every trigger is armed,
/// then they start. The first one that fails ends the others.
async fn together(world: &Arc<World>, number: &str, members: &[Step]) -> StepResult {
    for member in members {
        inject::announce(world, &member.action).await?;
    }
    let mut armed = Vec::new();
    for member in members {
        armed.push(ArmedKill::arm(world, &member.action).await?);
    }
    let mut running = JoinSet::new();
    for (index, (step, armed)) in members.iter().cloned().zip(armed).enumerate() {
        let world = world.clone();
        let number = format!("{number}.{}", index + 1);
        running.spawn(async move {
            let begun = begin(&world, &number, &step);
            let result = member(&world, &number, &step.action, armed).await;
            let (result, arrived) = match result {
                Ok((note, arrived)) => (Ok(note), arrived),
                Err(halt) => (Err(halt), None),
            };
            end(&world, &number, begun, &result);
            result.map(|_| (index, arrived))
        });
    }
    let arrivals = ended(&mut running).await;
    // Those that are still at it when another has failed must not go on beside the
    // end of the run.
    running.shutdown().await;
    let arrivals = arrivals?;
    if !arrivals.is_empty() {
        time_figure(world, &arrivals);
    }
    Ok(String::new())
}

/// What arrived, in the order of the members.
async fn ended(
    running: &mut JoinSet<Result<(usize, Option<Arrived>), Halt>>,
) -> Result<Vec<Arrived>, Halt> {
    let mut arrivals = Vec::new();
    while let Some(member) = running.join_next().await {
        let (index, arrived) = member.map_err(anyhow::Error::from)??;
        arrivals.extend(arrived.map(|arrived| (index, arrived)));
    }
    arrivals.sort_by_key(|(index, _)| *index);
    Ok(arrivals.into_iter().map(|(_, arrived)| arrived).collect())
}

/// One step that is not a `together`, with what it waited for under a name.
async fn member(
    world: &Arc<World>,
    number: &str,
    action: &Action,
    armed: Option<ArmedKill>,
) -> Result<(String, Option<Arrived>), Halt> {
    if let Action::Arrives { name, .. } = action {
        let way = arrives(world, action).await?;
        let arrived = name.clone().map(|name| (name, way));
        let seconds = way.time().as_secs_f64();
        // The step may have begun to look long after the writing.
        return Ok((format!("seen {seconds:.3} s after it was written"), arrived));
    }
    if let Some(written) = inject::perform(world, number, action).await {
        return Ok((written?, None));
    }
    let note = match (action, armed) {
        (Action::Kill { .. }, Some(armed)) => armed.fire(world, number).await?,
        (Action::Kill { on, .. }, None) => kill_now(world, on).await?,
        (Action::Start { on }, _) => start(world, on).await?,
        (Action::Stop { on }, _) => stop(world, on).await?,
        (Action::Settle { within, quiet }, _) => settle::settle(world, *within, *quiet).await?,
        (Action::Expect(expect), _) => {
            let findings = observe::check_now(world, expect).await?;
            observe::report(world, &findings)?
        }
        // Scenarios with such a step are skipped as a whole before anything begins.
        (Action::Later { word, .. }, _) => {
            return Err(Halt::inconclusive(format!(
                "this build cannot `{word}` yet"
            )));
        }
        _ => return Err(Halt::inconclusive("this step cannot be performed here")),
    };
    Ok((note, None))
}

async fn start(world: &World, hosts: &[String]) -> StepResult {
    for host in hosts {
        world.start(host).await?;
    }
    Ok("ready".into())
}

async fn stop(world: &World, hosts: &[String]) -> StepResult {
    let mut notes = Vec::new();
    for host in hosts {
        notes.push(world.stop(host).await?);
    }
    Ok(notes.join(", "))
}

fn begin(world: &World, number: &str, step: &Step) -> Instant {
    world.sink.send(EventKind::StepStarted {
        step: number.to_owned(),
        text: step.action.to_string(),
        line: step.line,
    });
    Instant::now()
}

fn end(world: &World, number: &str, begun: Instant, result: &StepResult) {
    let (outcome, note) = match result {
        Ok(note) => (Outcome::Ok, note.clone()),
        Err(halt) => (halt.outcome, halt.reason.clone()),
    };
    world.sink.send(EventKind::StepEnded {
        step: number.to_owned(),
        outcome,
        note,
        seconds: begun.elapsed().as_secs_f64(),
    });
}
