//! Waits until both sides are equal and quiet. Asks the program nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::halt::Halt;
use super::observe;
use super::steps::StepResult;
use super::world::World;
use crate::check::difference::{alike, compare};
use crate::check::manifest::Manifest;
use crate::host::probe::Depth;

/// How often is looked while nothing is known to be wrong.
const LOOK_MIN: Duration = Duration::from_millis(100);

/// Looking may take this share of the time at most: it competes with the program.
const LOOK_SHARE: u32 = 10;

/// Ends well when the manifests are equal and unchanged and the link is silent, less
/// the program's keep-alive, for `quiet`; ends badly at `within`, or when a program
/// that must run dies.
///
/// # Errors
/// A failure that shows what differs or that traffic goes on.
pub async fn settle(world: &Arc<World>, within: Duration, quiet: Duration) -> StepResult {
    let begun = Instant::now();
    let mut state = Quiet::new(world);
    loop {
        let looked = Instant::now();
        let manifests = tokio::select! {
            manifests = observe::look(world, Depth::Quick) => manifests?,
            halt = world.any_death() => return Err(halt),
        };
        let waited_for = state.look(world, &manifests);
        let since = state.since.elapsed();
        if waited_for.is_none() && since >= quiet {
            let settled = (begun.elapsed().saturating_sub(since)).as_secs_f64();
            return Ok(format!(
                "equal after {settled:.2} s, quiet for {:.1} s",
                quiet.as_secs_f64()
            ));
        }
        if begun.elapsed() >= within {
            let why = waited_for.unwrap_or_else(|| "it was quiet for too short a time".into());
            let details = observe::trees(world, &manifests).await.details;
            return Err(Halt::fail(format!(
                "not settled within {:.0} s: {why}",
                within.as_secs_f64()
            ))
            .with_details(details));
        }
        let pause = LOOK_MIN.max(looked.elapsed() * LOOK_SHARE);
        tokio::time::sleep(pause.min(within.saturating_sub(begun.elapsed()))).await;
    }
}

/// Since when nothing has happened.
struct Quiet {
    since: Instant,
    last: Vec<Manifest>,
    activity: u64,
}

impl Quiet {
    fn new(world: &World) -> Self {
        Self {
            since: Instant::now(),
            last: Vec::new(),
            activity: world.lab.link.activity(),
        }
    }

    /// `None` while both sides are equal and quiet; else what is waited for.
    fn look(&mut self, world: &World, manifests: &[Manifest]) -> Option<String> {
        let activity = world.lab.link.activity();
        let moved = activity - self.activity;
        let why = if !alike(&manifests[0], &manifests[1]) {
            let names = [world.sites[0].name.as_str(), world.sites[1].name.as_str()];
            let different = compare(names, &manifests[0], &manifests[1])
                .differences
                .len();
            Some(format!("{different} differences between the trees"))
        } else if self.last != manifests {
            Some("the trees still change".into())
        } else if moved > world.adapter.quiet_bytes {
            Some(format!("{moved} bytes moved on the link"))
        } else {
            None
        };
        if why.is_some() {
            self.since = Instant::now();
            self.activity = activity;
            self.last = manifests.to_vec();
        }
        why
    }
}
