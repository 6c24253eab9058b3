//! Waits until a host holds what was last written to a path, and takes the time.

use anyhow::Context;

use super::halt::Halt;
use super::world::World;
use crate::check::manifest::Name;
use crate::event::{EventKind, Outcome};
use crate::host::probe::{Arrival, Wanted};
use crate::scenario::Action;

/// A name from `as`, with the seconds since the injection had ended.
pub type Arrived = (String, f64);

/// Waits until a host holds what was last written to a path anywhere; seconds since
/// the injection ended.
///
/// # Errors
/// A failure if it does not come in time.
pub async fn arrives(world: &World, action: &Action) -> Result<f64, Halt> {
    let Action::Arrives {
        on,
        path,
        within,
        name,
    } = action
    else {
        return Err(Halt::inconclusive("not a step that waits for a content"));
    };
    // What is there before that is an older version.
    world.injected(path).await;
    let Some(injected) = world.model().injected(path) else {
        return Err(Halt::inconclusive(format!("nothing was written to {path}")));
    };
    let wanted = wanted(world, path)?;
    let site = world.site(on);
    let share = site.share();
    let arrival = tokio::select! {
        arrival = site.probe.arrives(&share, &wanted, *within) => arrival?,
        halt = world.any_death() => return Err(halt),
    };
    let seconds = injected.elapsed().as_secs_f64();
    let files = count(wanted.len(), "file");
    let result = match arrival {
        Arrival::Arrived => Ok(format!("{path} is on {on}, {files} equal by BLAKE3")),
        Arrival::Missing { count, first, why } => Err(format!(
            "{path} did not arrive on {on} within {} s: {count} of {files} not there, the first is {first} ({why})",
            within.as_secs_f64(),
        )),
    };
    if let Some(name) = name {
        tell(world, name, &result);
    }
    result.map(|_| seconds).map_err(Halt::fail)
}

fn wanted(world: &World, path: &str) -> Result<Vec<Wanted>, Halt> {
    let parse = |path: String| {
        let name = Name::parse(path);
        name.context("a path of the scenario is no path")
    };
    let mut wanted = Vec::new();
    for (name, version) in world.model().files_of(path) {
        wanted.push(Wanted {
            path: parse(name)?,
            file: Some((version.blake3, version.size)),
        });
    }
    if wanted.is_empty() {
        // Nothing wanted would be there at once.
        wanted.push(Wanted {
            path: parse(path.to_owned())?,
            file: None,
        });
    }
    Ok(wanted)
}

fn tell(world: &World, name: &str, result: &Result<String, String>) {
    let (outcome, word, text) = match result {
        Ok(text) => (Outcome::Ok, "pass", text),
        Err(text) => (Outcome::Fail, "fail", text),
    };
    world.sink.send(EventKind::Checked {
        what: format!("MD5_{name}"),
        outcome,
        text: text.clone(),
        details: Vec::new(),
    });
    let value = f64::from(u8::from(result.is_ok()));
    world.figure(format!("MD5_{name}"), value, "pass", word);
}

/// Arrivals that were waited for together have one time: until all of them were there.
pub fn time_figure(world: &World, arrivals: &[Arrived]) {
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

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
