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

/// A look that took long, for whatever reason, makes nobody wait longer than this.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Looking may take this share of the time at most: it competes with the program.
const LOOK_SHARE: u32 = 10;

/// A program that works by interval is given two of them, however short `quiet` is.
/// Ends well when the manifests are equal and unchanged and the link is silent, less
/// the program's keep-alive, for `quiet`; ends badly at `within`, or when a program
/// that must run dies.
///
/// # Errors
/// A failure that shows what differs or that traffic goes on.
pub async fn settle(world: &Arc<World>, within: Duration, quiet: Duration) -> StepResult {
    let quiet = world.adapter.quiet.lasts(quiet);
    if quiet >= within {
        return Err(Halt::inconclusive(format!(
            "{} looks for changes so seldom that it counts as quiet after {} s, and `within` is {} s",
            world.adapter.name,
            quiet.as_secs_f64(),
            within.as_secs_f64()
        )));
    }
    let begun = Instant::now();
    let mut state = Quiet::new(world).await?;
    loop {
        let looked = Instant::now();
        let manifests = tokio::select! {
            manifests = observe::look(world, Depth::Quick) => manifests?,
            halt = world.any_death() => return Err(halt),
        };
        let waited_for = state.look(world, &manifests).await?;
        let since = state.since.elapsed();
        if waited_for.is_none() && since >= quiet {
            let settled = (begun.elapsed().saturating_sub(since)).as_secs_f64();
            return Ok(format!(
                "equal after {settled:.2} s, quiet for {:.1} s",
                quiet.as_secs_f64()
            ));
        }
        if begun.elapsed() >= within {
            let why = waited_for.unwrap_or_else(|| state.too_short());
            let details = observe::trees(world, &manifests).await.details;
            let reason = format!("not settled within {} s: {why}", within.as_secs_f64());
            let halt = match unseen(&manifests) {
                0 => Halt::fail(reason),
                // What nobody could look at is not the program's fault.
                _ => Halt::inconclusive(reason),
            };
            return Err(halt.with_details(details));
        }
        let pause = (looked.elapsed() * LOOK_SHARE).clamp(LOOK_MIN, LOOK_MAX);
        tokio::select! {
            () = tokio::time::sleep(pause.min(within.saturating_sub(begun.elapsed()))) => {}
            halt = world.any_death() => return Err(halt),
        }
    }
}

/// Places that could not be looked at, where nothing else differs.
fn unseen(manifests: &[Manifest]) -> usize {
    let differ = !compare(["", ""], &manifests[0], &manifests[1])
        .differences
        .is_empty();
    match differ {
        true => 0,
        false => manifests.iter().map(|one| one.problems.len()).sum(),
    }
}

/// Since when nothing has happened.
struct Quiet {
    since: Instant,
    last: Vec<Manifest>,
    activity: u64,
    /// What happened last.
    disturbed: String,
}

impl Quiet {
    async fn new(world: &World) -> anyhow::Result<Self> {
        Ok(Self {
            since: Instant::now(),
            last: Vec::new(),
            activity: world.lab.link.activity().await?,
            disturbed: String::new(),
        })
    }

    /// Why it is not settled though all is quiet.
    fn too_short(&self) -> String {
        let since = self.since.elapsed().as_secs_f64();
        format!("quiet for only {since:.1} s, since {}", self.disturbed)
    }

    /// `None` while both sides are equal and quiet; else what is waited for.
    async fn look(
        &mut self,
        world: &World,
        manifests: &[Manifest],
    ) -> anyhow::Result<Option<String>> {
        let activity = world.lab.link.activity().await?;
        let moved = activity - self.activity;
        let entries = manifests[0].entries.len() as u64;
        let allowed = world.adapter.quiet.allows(self.since.elapsed(), entries);
        let why = if !alike(&manifests[0], &manifests[1]) {
            let names = [world.sites[0].name.as_str(), world.sites[1].name.as_str()];
            let different = compare(names, &manifests[0], &manifests[1])
                .differences
                .len();
            Some(match (different, unseen(manifests)) {
                (0, unseen) => format!("{unseen} places could not be looked at"),
                (different, _) => format!("{different} differences between the trees"),
            })
        } else if self.last != manifests {
            Some("the trees still change".into())
        } else if moved > allowed {
            Some(format!("{moved} bytes moved on the link"))
        } else {
            None
        };
        if let Some(why) = &why {
            self.disturbed = why.clone();
            self.since = Instant::now();
            self.activity = activity;
            self.last = manifests.to_vec();
        }
        Ok(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::manifest::{Entry, Kind, Name, Time};

    fn tree(file: Option<&str>, problem: Option<&str>) -> Manifest {
        let mut manifest = Manifest::default();
        let mtime = Time {
            seconds: 0,
            nanos: 0,
        };
        let entry = Entry {
            kind: Kind::Dir,
            mode: 0o755,
            mtime,
            size: 0,
            content: None,
            target: None,
            stamp: None,
        };
        let name = |text| Name::parse(text).expect("a path");
        manifest
            .entries
            .extend(file.map(|file| (name(file), entry)));
        let why = "permission denied".to_owned();
        manifest
            .problems
            .extend(problem.map(|path| (name(path), why)));
        manifest
    }

    #[test]
    fn what_nobody_could_look_at_counts_only_where_nothing_differs() {
        let good = tree(Some("d"), None);
        let closed = tree(Some("d"), Some("closed"));
        let other = tree(None, Some("closed"));
        assert_eq!(unseen(&[good.clone(), closed.clone()]), 1);
        assert_eq!(unseen(&[good.clone(), other]), 0);
        assert_eq!(unseen(&[good.clone(), good]), 0);
    }
}
