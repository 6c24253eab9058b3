//! Waits until a host holds what was last written to a path, and takes the time.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::halt::Halt;
use super::world::World;
use crate::check::manifest::Name;
use crate::event::{EventKind, Outcome};
use crate::host::probe::{Arrival, Wanted};
use crate::scenario::Action;

/// A name from `as`, with the way from injection to arrival.
pub type Arrived = (String, Way);

/// When something was written, and when it was on the other side.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    injected: Instant,
    arrived: Instant,
}

impl Way {
    /// How long it took.
    pub fn time(&self) -> Duration {
        self.arrived.saturating_duration_since(self.injected)
    }
}

/// Waits until a host holds what was last written to a path anywhere.
///
/// # Errors
/// A failure if it does not come in time.
pub async fn arrives(world: &World, action: &Action) -> Result<Way, Halt> {
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
    let way = Way {
        injected,
        arrived: Instant::now(),
    };
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
    result.map(|_| way).map_err(Halt::fail)
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

/// Arrivals that were waited for together have one time: from the end of the last
/// injection until all of them were there.
pub fn time_figure(world: &World, arrivals: &[Arrived]) {
    let (name, seconds) = whole(arrivals);
    world.figure(name, seconds, "s", format!("{seconds:.3} s"));
}

fn whole(arrivals: &[Arrived]) -> (String, f64) {
    let names = arrivals.iter().map(|(name, _)| format!("TC_{name}"));
    let injected = arrivals.iter().map(|(_, way)| way.injected).max();
    let arrived = arrivals.iter().map(|(_, way)| way.arrived).max();
    let time = injected
        .zip(arrived)
        .map(|(injected, arrived)| Way { injected, arrived }.time());
    let name = names.collect::<Vec<_>>().join("+");
    (name, time.unwrap_or_default().as_secs_f64())
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_together_counts_from_the_last_injection_to_the_last_arrival() {
        let begun = Instant::now();
        let way = |injected, arrived| Way {
            injected: begun + Duration::from_secs(injected),
            arrived: begun + Duration::from_secs(arrived),
        };
        // The folder was written early and looked at late.
        let arrivals = [("2A".to_owned(), way(3, 5)), ("FA".to_owned(), way(0, 4))];
        assert_eq!(whole(&arrivals), ("TC_2A+TC_FA".to_owned(), 2.0));
        assert_eq!(whole(&arrivals[1..]), ("TC_FA".to_owned(), 4.0));
    }
}
