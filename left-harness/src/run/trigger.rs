//! A kill that is aimed: armed before what it waits for begins, fired at a number
//! of delivered bytes, confirmed by the holder of the victim, measured on the link.

use std::time::Duration;

use tokio::task::JoinSet;

use super::event::EventKind;
use super::halt::Halt;
use super::world::{World, transfer_task};
use crate::host::probe::{Exited, Held};
use crate::link::{Armed, Hold};
use crate::scenario::{Action, Amount, Direction};

/// How long nothing may move on the link before a trigger is given up.
const STALL: Duration = Duration::from_secs(30);

/// A kill whose trigger is armed on the link.
pub struct ArmedKill {
    victims: Vec<String>,
    armed: Armed,
    from: String,
    to: String,
    threshold: u64,
    whole: Option<(String, u64)>,
    /// Delivered in this direction before it was armed.
    before: u64,
    hold: bool,
}

impl ArmedKill {
    /// Arms the trigger of a kill; `None` for every other step, and for a kill without one.
    ///
    /// # Errors
    /// If the file that a percentage is of is not known.
    pub fn arm(world: &World, action: &Action) -> Result<Option<Self>, Halt> {
        let Action::Kill {
            on,
            when: Some(when),
            hold,
        } = action
        else {
            return Ok(None);
        };
        let counted = when.on.clone();
        let other = world.lab.other(&counted).name.clone();
        let (from, to) = match when.direction {
            Direction::Received => (other, counted),
            Direction::Sent => (counted, other),
        };
        let whole = match &when.of {
            Some(path) => {
                let size = world.model().size(path);
                let size = size.ok_or_else(|| {
                    Halt::inconclusive(format!("the size of {path} is not known"))
                })?;
                Some((path.clone(), size))
            }
            None => None,
        };
        let threshold = match (when.amount, &whole) {
            (Amount::Share(_), None) => return Err(Halt::inconclusive("a percentage of nothing")),
            (amount, whole) => amount.of(whole.as_ref().map_or(0, |(_, size)| *size)),
        };
        let link_hold = if *hold { Hold::UntilReleased } else { Hold::No };
        let before = world.lab.link.delivered(&from, &to);
        let armed = world.lab.link.arm(&from, &to, threshold, link_hold);
        Ok(Some(Self {
            victims: on.clone(),
            armed,
            from,
            to,
            threshold,
            whole,
            before,
            hold: *hold,
        }))
    }

    /// Waits for the moment, kills, and tells where it hit.
    ///
    /// # Errors
    /// Inconclusive if the moment never came or the hit proves nothing.
    pub async fn fire(mut self, world: &World, number: &str) -> Result<String, Halt> {
        let held = running(world, &self.victims)?;
        tokio::select! {
            _ = self.armed.fired() => {}
            halt = world.any_death() => return Err(halt),
            () = stalled(world) => return Err(Halt::inconclusive(format!(
                "the kill of {} never fired: {} of {} bytes were delivered {} → {}, then nothing moved for {} s",
                self.victims.join(" and "), self.armed.delivered(), self.threshold, self.from, self.to, STALL.as_secs()
            ))),
        }
        let exits = kill_all(held).await?;
        // Only now: the hit is what was delivered when the death was confirmed.
        let hit = self.armed.delivered();
        let Self {
            victims,
            armed,
            from,
            to,
            threshold,
            whole,
            before,
            hold,
        } = self;
        armed.release();
        for (name, exited) in &exits {
            world.site(name).ended(exited);
            world.process_event(
                name,
                format!("killed after {hit} bytes {from} → {to}: {}", exited.how()),
            );
        }
        world.sink.send(EventKind::Mark {
            task: transfer_task(&from, &to),
            at: before + hit,
            label: format!("killed {}", victims.join(" and ")),
        });
        let (name, text) = match &whole {
            Some((path, size)) => {
                let share = 100.0 * hit as f64 / (*size).max(1) as f64;
                world.figure(
                    format!("kill at (step {number})"),
                    share,
                    "%",
                    format!("{share:.2} % of {path}"),
                );
                (
                    "kill offset",
                    format!("hit at {share:.2} % of {path}: {hit} of {size} bytes"),
                )
            }
            None => ("kill offset", format!("hit after {hit} bytes")),
        };
        world.figure(
            format!("{name} (step {number})"),
            hit as f64,
            "bytes",
            text.clone(),
        );
        judge(hit, &exits, whole.as_ref(), hold.then_some(threshold))?;
        Ok(text)
    }
}

/// A kill before the first byte, after the last one, or of a process that had ended
/// already proves nothing.
fn judge(
    hit: u64,
    exits: &[(String, Exited)],
    whole: Option<&(String, u64)>,
    held_at: Option<u64>,
) -> Result<(), Halt> {
    if let Some((name, exited)) = exits.iter().find(|(_, exited)| !exited.was_killed()) {
        return Err(Halt::inconclusive(format!(
            "{name} ended before the kill reached it: {}",
            exited.how()
        )));
    }
    if hit == 0 {
        return Err(Halt::inconclusive("the kill came before the first byte"));
    }
    if let Some((path, size)) = whole.filter(|(_, size)| hit >= *size) {
        return Err(Halt::inconclusive(format!(
            "the kill came too late: all {size} bytes of {path} had been delivered"
        )));
    }
    match held_at {
        Some(byte) if byte != hit => Err(Halt::inconclusive(format!(
            "the link was to stand still at {byte} bytes and stood at {hit}"
        ))),
        _ => Ok(()),
    }
}

/// Kills without a trigger.
///
/// # Errors
/// If one of them does not run.
pub async fn kill_now(world: &World, victims: &[String]) -> Result<String, Halt> {
    let exits = kill_all(running(world, victims)?).await?;
    let mut notes = Vec::new();
    for (name, exited) in &exits {
        world.site(name).ended(exited);
        world.process_event(name, format!("killed: {}", exited.how()));
        notes.push(format!("{name}: {}", exited.how()));
    }
    match exits.iter().find(|(_, exited)| !exited.was_killed()) {
        Some((name, _)) => Err(Halt::inconclusive(format!(
            "{name} ended before the kill reached it"
        ))),
        None => Ok(notes.join(", ")),
    }
}

fn running(world: &World, victims: &[String]) -> Result<Vec<(String, Held)>, Halt> {
    victims
        .iter()
        .map(|name| match world.site(name).held() {
            Some(held) => Ok((name.clone(), held)),
            None => Err(Halt::inconclusive(format!(
                "nothing runs on {name} that could be killed"
            ))),
        })
        .collect()
}

/// All at the same moment; returns when every death is confirmed.
async fn kill_all(held: Vec<(String, Held)>) -> Result<Vec<(String, Exited)>, Halt> {
    let mut killing = JoinSet::new();
    for (name, held) in held {
        killing.spawn(async move { (name, held.kill().await) });
    }
    let mut exits = Vec::new();
    while let Some(killed) = killing.join_next().await {
        let (name, exited) = killed.map_err(anyhow::Error::from)?;
        exits.push((name, exited?));
    }
    exits.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(exits)
}

/// Returns when nothing has moved on the link for too long.
async fn stalled(world: &World) {
    const LOOK: Duration = Duration::from_millis(500);
    let mut last = world.lab.link.activity();
    let mut still = Duration::ZERO;
    while still < STALL {
        tokio::time::sleep(LOOK).await;
        let now = world.lab.link.activity();
        still = if now == last {
            still + LOOK
        } else {
            Duration::ZERO
        };
        last = now;
    }
}
