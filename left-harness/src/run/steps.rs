//! Performs the steps of a scenario, one after another; inside `together`, at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::task::JoinSet;

use super::event::{EventKind, Outcome, Unit};
use super::halt::Halt;
use super::trigger::{ArmedKill, kill_now};
use super::world::World;
use super::{observe, prepare, settle};
use crate::check::content;
use crate::check::manifest::Name;
use crate::host::probe::{Arrival, TreeSpec, Wanted, WriteSpec, Written};
use crate::scenario::{Action, Amount, Content, How, Step};
use crate::sut::deploy;
use crate::workload::{Recipe, Version};

/// What a step that went well has to say.
pub type StepResult = Result<String, Halt>;

/// Permission bits of what is written into a share.
const FILE_MODE: u32 = 0o644;

/// The tail of `TC_…` names of arrivals that were waited for together.
type Arrived = (String, f64);

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
    if let Action::Arrives { name, .. } = action {
        let seconds = arrives(world, action).await?;
        if let Some(name) = name {
            time_figure(world, &[(name.clone(), seconds)]);
        }
        return Ok(format!("arrived after {seconds:.3} s"));
    }
    announce(world, action).await?;
    let armed = ArmedKill::arm(world, action)?;
    act(world, number, action, armed).await
}

/// All members at once: what will be written is announced, every trigger is armed,
/// then they start. The first one that fails ends the others.
async fn together(world: &Arc<World>, number: &str, members: &[Step]) -> StepResult {
    for member in members {
        announce(world, &member.action).await?;
    }
    let mut armed = Vec::new();
    for member in members {
        armed.push(ArmedKill::arm(world, &member.action)?);
    }
    let mut running = JoinSet::new();
    for (index, (member, armed)) in members.iter().cloned().zip(armed).enumerate() {
        let world = world.clone();
        let number = format!("{number}.{}", index + 1);
        running.spawn(async move {
            let begun = begin(&world, &number, &member);
            let mut arrived = None;
            let result = match &member.action {
                Action::Arrives { name, .. } => {
                    arrives(&world, &member.action).await.map(|seconds| {
                        arrived = name.clone().map(|name| (name, seconds));
                        format!("arrived after {seconds:.3} s")
                    })
                }
                action => act(&world, &number, action, armed).await,
            };
            end(&world, &number, begun, &result);
            result.map(|_| (index, arrived))
        });
    }
    let mut arrivals: Vec<(usize, Arrived)> = Vec::new();
    while let Some(member) = running.join_next().await {
        let (index, arrived) = member.map_err(|error| Halt::from(anyhow::Error::from(error)))??;
        arrivals.extend(arrived.map(|arrived| (index, arrived)));
    }
    arrivals.sort_by_key(|(index, _)| *index);
    let arrivals: Vec<Arrived> = arrivals.into_iter().map(|(_, arrived)| arrived).collect();
    if !arrivals.is_empty() {
        time_figure(world, &arrivals);
    }
    Ok(String::new())
}

async fn act(
    world: &Arc<World>,
    number: &str,
    action: &Action,
    armed: Option<ArmedKill>,
) -> StepResult {
    match action {
        Action::Start { on } => {
            for host in on {
                world.start(host).await?;
            }
            Ok("ready".into())
        }
        Action::Stop { on } => {
            let mut notes = Vec::new();
            for host in on {
                notes.push(world.stop(host).await?);
            }
            Ok(notes.join(", "))
        }
        Action::Kill { on, .. } => match armed {
            Some(armed) => armed.fire(world, number).await,
            None => kill_now(world, on).await,
        },
        Action::Write {
            on,
            path,
            size,
            content,
            how,
        } => {
            let seed = content_seed(world, number, path);
            write(world, on, path, *size, *content, *how, seed).await
        }
        Action::Put { on, path, from } => put(world, on, path, from).await,
        Action::Tree {
            on,
            path,
            files,
            size,
        } => {
            let seed = content_seed(world, number, path);
            tree(world, on, path, *files, *size, seed).await
        }
        Action::Overwrite {
            on,
            path,
            amount,
            at,
        } => {
            let seed = content_seed(world, number, path);
            overwrite(world, on, path, *amount, *at, seed).await
        }
        Action::Settle { within, quiet } => settle::settle(world, *within, *quiet).await,
        Action::Expect(expect) => {
            let findings = observe::check_now(world, expect).await?;
            observe::report(world, &findings)
        }
        Action::Together(_) | Action::Arrives { .. } => Err(Halt::inconclusive(
            "a step that only the list of steps can perform was nested",
        )),
        // Scenarios with such a step are skipped as a whole before anything begins.
        Action::Later { word, .. } => Err(Halt::inconclusive(format!(
            "this build cannot `{word}` yet"
        ))),
    }
}

/// Makes known what is about to be written, so that triggers can count on it.
async fn announce(world: &Arc<World>, action: &Action) -> Result<(), Halt> {
    let (host, path, size, written) = match action {
        Action::Write { on, path, size, .. } => (on, path, *size, *size),
        Action::Put { on, path, from } => {
            let size = tokio::fs::metadata(from)
                .await
                .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", from.display()))?
                .len();
            (on, path, size, size)
        }
        Action::Tree {
            on,
            path,
            files,
            size,
        } => (on, path, files * size, files * size),
        Action::Overwrite {
            on, path, amount, ..
        } => {
            let size = known_size(world, path)?;
            (on, path, size, amount.of(size).min(size))
        }
        _ => return Ok(()),
    };
    world.model().announce(host, path, size, written);
    Ok(())
}

async fn write(
    world: &Arc<World>,
    on: &str,
    path: &str,
    size: u64,
    content: Content,
    how: How,
    seed: String,
) -> StepResult {
    let site = world.site(on);
    let task = format!("write {on}:{path}");
    let written = site
        .probe
        .write(
            &WriteSpec {
                dest: site.share().join(path),
                temp: site.temp().join(temp_name(&seed)),
                seed: seed.clone(),
                size,
                mode: FILE_MODE,
                content,
                how,
            },
            &|done| progress(world, &task, done, size),
        )
        .await;
    world.sink.send(EventKind::ProgressEnded { task });
    let written = written?;
    let recipe = Recipe::Seeded(content::Version::written(content, seed, size));
    remember(world, on, path, &written, recipe);
    Ok(String::new())
}

async fn put(world: &Arc<World>, on: &str, path: &str, from: &Path) -> StepResult {
    let site = world.site(on);
    let task = format!("put {on}:{path}");
    let total = world.model().size(path).unwrap_or(0);
    // Sent to a place outside the share first: the program must not see it grow,
    // nor the temporary name under which it comes.
    let temp = site.temp().join("put");
    let sent = site
        .probe
        .remote
        .upload(from, &temp, FILE_MODE, &|done| {
            progress(world, &task, done, total)
        })
        .await;
    world.sink.send(EventKind::ProgressEnded { task });
    sent?;
    let hash = deploy::digest(&site.probe, &temp).await?;
    prepare::move_into_place(world.lab.host(on), &temp, &site.share().join(path)).await?;
    let written = Written { size: total, hash };
    remember(world, on, path, &written, Recipe::Sent(from.to_owned()));
    Ok(String::new())
}

async fn tree(
    world: &Arc<World>,
    on: &str,
    path: &str,
    files: u64,
    size: u64,
    seed: String,
) -> StepResult {
    let site = world.site(on);
    let task = format!("tree {on}:{path}");
    let written = site
        .probe
        .tree_write(
            &TreeSpec {
                dest: site.share().join(path),
                temp: site.temp().join(temp_name(&seed)),
                seed: seed.clone(),
                files,
                size,
            },
            &|done| progress_files(world, &task, done, files),
        )
        .await;
    world.sink.send(EventKind::ProgressEnded { task });
    let written = written?;
    for (name, file) in &written.files {
        let name = name
            .as_str()
            .context("the probe made a name that is not UTF-8")?;
        let version =
            content::Version::written(Content::Random, format!("{seed}/{name}"), file.size);
        remember(
            world,
            on,
            &format!("{path}/{name}"),
            file,
            Recipe::Seeded(version),
        );
    }
    world.model().made_folder(path.to_owned());
    Ok(format!("{} files", written.files.len()))
}

async fn overwrite(
    world: &Arc<World>,
    on: &str,
    path: &str,
    amount: Amount,
    at: Option<u64>,
    seed: String,
) -> StepResult {
    let site = world.site(on);
    let base = world
        .model()
        .version(path)
        .map(|version| version.recipe.clone());
    let Some(base) = base else {
        return Err(Halt::inconclusive(format!(
            "nothing is known to be at {path}"
        )));
    };
    let whole = known_size(world, path)?;
    let size = amount.of(whole).min(whole);
    // In the middle, unless said: neither a header nor a tail is a special case there.
    let at = at.unwrap_or((whole - size) / 2);
    let written = site
        .probe
        .overwrite(&site.share().join(path), &seed, at, size)
        .await?;
    let recipe = base.overwritten(seed, at, size);
    remember(world, on, path, &written, recipe);
    Ok(format!("{size} bytes at {at}"))
}

/// Waits until a host holds what was last written to a path anywhere; seconds since
/// the injection ended.
async fn arrives(world: &Arc<World>, action: &Action) -> Result<f64, Halt> {
    let Action::Arrives {
        on,
        path,
        within,
        name,
    } = action
    else {
        return Err(Halt::inconclusive("not a step that waits for a content"));
    };
    let site = world.site(on);
    let (files, injected) = {
        let model = world.model();
        (model.files_of(path), model.injected(path))
    };
    let mut wanted = Vec::new();
    for (name, version) in files {
        let path = Name::parse(name).context("a path of the scenario is no path")?;
        wanted.push(Wanted {
            path,
            file: Some((version.blake3, version.size)),
        });
    }
    let Some(injected) = injected else {
        return Err(Halt::inconclusive(format!("nothing was written to {path}")));
    };
    let share = site.share();
    let arrival = tokio::select! {
        arrival = site.probe.arrives(&share, &wanted, *within) => arrival?,
        halt = world.any_death() => return Err(halt),
    };
    let seconds = injected.elapsed().as_secs_f64();
    let (outcome, text) = match &arrival {
        Arrival::Arrived => (
            Outcome::Ok,
            format!(
                "{path} is on {on}, {} equal by BLAKE3",
                count(wanted.len(), "file")
            ),
        ),
        Arrival::Missing {
            count: missing,
            first,
            why,
        } => (
            Outcome::Fail,
            format!(
                "{path} did not arrive on {on} within {:.0} s: {missing} of {} not there, the first is {first} ({why})",
                within.as_secs_f64(),
                count(wanted.len(), "file"),
            ),
        ),
    };
    if let Some(name) = name {
        world.sink.send(EventKind::Checked {
            what: format!("MD5_{name}"),
            outcome,
            text: text.clone(),
            details: Vec::new(),
        });
        let passed = outcome == Outcome::Ok;
        let word = if passed { "pass" } else { "fail" };
        world.figure(
            format!("MD5_{name}"),
            f64::from(u8::from(passed)),
            "pass",
            word,
        );
    }
    match outcome {
        Outcome::Ok => Ok(seconds),
        _ => Err(Halt::fail(text)),
    }
}

/// Arrivals that were waited for together have one time: until all of them were there.
fn time_figure(world: &World, arrivals: &[Arrived]) {
    let names: Vec<String> = arrivals
        .iter()
        .map(|(name, _)| format!("TC_{name}"))
        .collect();
    let seconds = arrivals
        .iter()
        .map(|(_, seconds)| *seconds)
        .fold(0.0, f64::max);
    world.figure(names.join("+"), seconds, "s", format!("{seconds:.3} s"));
}

fn remember(world: &World, on: &str, path: &str, written: &Written, recipe: Recipe) {
    let version = Version {
        origin: on.to_owned(),
        size: written.size,
        blake3: written.hash,
        recipe,
        injected: Instant::now(),
    };
    world.model().wrote(path.to_owned(), version);
}

fn known_size(world: &World, path: &str) -> Result<u64, Halt> {
    let size = world.model().size(path);
    size.ok_or_else(|| Halt::inconclusive(format!("nothing is known to be at {path}")))
}

fn content_seed(world: &World, number: &str, path: &str) -> String {
    format!("{}/{number}/{path}", world.seed)
}

/// Unique among the steps of a run, whatever the path is.
fn temp_name(seed: &str) -> String {
    format!("w-{}", &blake3::hash(seed.as_bytes()).to_hex()[..16])
}

fn progress(world: &World, task: &str, done: u64, total: u64) {
    send_progress(world, task, done, total, Unit::Bytes);
}

fn progress_files(world: &World, task: &str, done: u64, total: u64) {
    send_progress(world, task, done, total, Unit::Items);
}

fn send_progress(world: &World, task: &str, done: u64, total: u64, unit: Unit) {
    world.sink.send(EventKind::Progress {
        task: task.to_owned(),
        done,
        total,
        unit,
        note: String::new(),
    });
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
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
