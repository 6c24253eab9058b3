//! A kill that is aimed: armed before what it waits for begins, fired at a number
//! of delivered bytes, confirmed by the holder of the victim, measured on the link.

use std::time::Duration;

use super::halt::Halt;
use super::leases;
use super::transfers;
use super::world::World;
use crate::check::text::grouped;
use crate::event::EventKind;
use crate::host::probe::{self, Exited, Held};
use crate::link::{Armed, Hold};
use crate::scenario::{Action, Amount, Direction};

/// How long nothing may move on the link before a trigger is given up.
const STALL: Duration = Duration::from_secs(15);

/// One that is ready to be sent, with its victim.
type Kill = (String, Held, probe::ArmedKill);

/// How the victims ended.
type Exits = Vec<(String, Exited)>;

/// A kill whose trigger is armed on the link.
pub struct ArmedKill {
    victims: Vec<String>,
    armed: Box<dyn Armed>,
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
    pub async fn arm(world: &World, action: &Action) -> Result<Option<Self>, Halt> {
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
        let before = world.lab.link.delivered(&from, &to).await?;
        let armed = world.lab.link.arm(&from, &to, threshold, link_hold).await?;
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
        let kills = tokio::select! {
            kills = arm_kills(world, &self.victims) => kills?,
            stalled = stalled(world) => return Err(stalled.err().unwrap_or_else(|| Halt::inconclusive(format!(
                "the kill of {} could not be armed: nothing was started there", self.victims.join(" and ")
            )))),
        };
        tokio::select! {
            // In this order: the moment has come, whatever else happens in it.
            biased;
            fired = self.armed.fired() => { fired?; }
            halt = world.any_death() => return Err(halt),
            stalled = stalled(world) => {
                stalled?;
                return Err(self.never_fired().await?);
            }
        }
        let struck = strike(world, kills).await?;
        let exits = confirm(world, struck).await?;
        // Only now: the hit is what was delivered when the death was confirmed.
        let hit = self.armed.delivered().await?;
        self.tell(world, number, hit, &exits)
    }

    async fn never_fired(&self) -> Result<Halt, Halt> {
        let delivered = self.armed.delivered().await?;
        Ok(Halt::inconclusive(format!(
            "the kill of {} never fired: {} of {} bytes were delivered {} → {}, then nothing moved for {} s",
            self.victims.join(" and "),
            delivered,
            self.threshold,
            self.from,
            self.to,
            STALL.as_secs()
        )))
    }

    /// Lets the link move on, says where the kill hit, and judges it.
    fn tell(self, world: &World, number: &str, hit: u64, exits: &Exits) -> Result<String, Halt> {
        drop(self.armed);
        let (from, to) = (&self.from, &self.to);
        for (name, exited) in exits {
            let how = exited.how();
            world.process_event(
                name,
                format!("killed after {hit} bytes {from} → {to}: {how}"),
            );
        }
        world.sink.send(EventKind::Mark {
            task: transfers::bar(from, to),
            at: self.before + hit,
            label: format!("killed {}", self.victims.join(" and ")),
        });
        let text = match &self.whole {
            Some((path, size)) => {
                let share = 100.0 * hit as f64 / (*size).max(1) as f64;
                world.figure(
                    format!("kill at (step {number})"),
                    share,
                    "%",
                    format!("{share:.2} % of {path}"),
                );
                format!(
                    "hit at {share:.2} %: {} of {} bytes",
                    grouped(hit),
                    grouped(*size)
                )
            }
            None => format!("hit after {} bytes", grouped(hit)),
        };
        let name = format!("kill offset (step {number})");
        world.figure(name, hit as f64, "bytes", format!("{} bytes", grouped(hit)));
        judge(
            hit,
            self.whole.as_ref(),
            self.hold.then_some(self.threshold),
        )?;
        Ok(text)
    }
}

/// A kill before the first byte or after the last one proves nothing.
fn judge(hit: u64, whole: Option<&(String, u64)>, held_at: Option<u64>) -> Result<(), Halt> {
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
    let kills = arm(world.running(victims).await?).await?;
    let struck = strike(world, kills).await?;
    let mut notes = Vec::new();
    for (name, exited) in confirm(world, struck).await? {
        world.process_event(&name, format!("killed: {}", exited.how()));
        notes.push(format!("{name}: {}", exited.how()));
    }
    Ok(notes.join(", "))
}

/// Everything for the kills that can be done before them. Victims that another
/// member of a `together` is only just starting are waited for.
async fn arm_kills(world: &World, victims: &[String]) -> Result<Vec<Kill>, Halt> {
    const LOOK: Duration = Duration::from_millis(5);
    while victims.iter().any(|name| world.site(name).held().is_none()) {
        tokio::time::sleep(LOOK).await;
    }
    arm(world.running(victims).await?).await
}

async fn arm(running: Vec<(String, Held)>) -> Result<Vec<Kill>, Halt> {
    let mut kills = Vec::new();
    for (name, held) in running {
        let kill = held.arm_kill().await?;
        kills.push((name, held, kill));
    }
    Ok(kills)
}

/// All at the same moment; nothing is waited for in between.
async fn strike(world: &World, kills: Vec<Kill>) -> Result<Vec<(String, Held)>, Halt> {
    for (name, held, _) in &kills {
        let site = world.site(name);
        // It would be credited to us: SIGKILL is SIGKILL, whoever sends it.
        if let Some(exited) = held.has_exited() {
            return Err(world.died(site, &exited, "before the kill").await);
        }
        site.is_to_end();
    }
    let strike = |(name, _, kill): Kill| (name, kill.strike());
    Ok(kills.into_iter().map(strike).collect())
}

/// Returns when every death is confirmed, and was by our hand.
async fn confirm(world: &World, struck: Vec<(String, Held)>) -> Result<Exits, Halt> {
    let mut exits = Exits::new();
    for (name, held) in struck {
        let exited = leases::confirmed(&name, held.exited()).await?;
        exits.push((name, exited));
    }
    for (name, exited) in &exits {
        let site = world.site(name);
        if exited.lease_lapsed || !exited.was_killed() {
            return Err(world.died(site, exited, "before the kill reached it").await);
        }
        site.ended(exited);
    }
    Ok(exits)
}

/// Returns when nothing but what keeps a connection alive has moved on the link for
/// too long.
async fn stalled(world: &World) -> Result<(), Halt> {
    const LOOK: Duration = Duration::from_millis(500);
    let mut last = world.lab.link.activity().await?;
    let mut still = Duration::ZERO;
    while still < STALL {
        tokio::time::sleep(LOOK).await;
        still += LOOK;
        let now = world.lab.link.activity().await?;
        // A file that is still being made has yet to be sent.
        let entries = world.model().versions().count() as u64;
        let allowed = world.adapter.quiet.allows(still, entries);
        if now - last > allowed || world.is_injecting() {
            last = now;
            still = Duration::ZERO;
        }
    }
    Ok(())
}
