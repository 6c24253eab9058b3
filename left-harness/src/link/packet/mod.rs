//! The packet link: joins two hosts at the level of their Ethernet frames, outside
//! of both.
//!
//! From the bottom up: a [`socket`] is what the wire's end of a host is made of; a
//! frame begins with what its sender left to do (`vnet`), is read by `frame`, cut
//! and taken apart by `piece` with the right `checksum`s, or answered by `reset`;
//! `flows` knows which of its bytes are new. [`conditions`] say how good a
//! direction is, a `direction` queues, and stops at a [`point`]; the `engine` is
//! both directions, without sockets or a clock; the [`carrier`] is the one thread
//! that has them. Here is the link itself, a handle for the others.
//!
//! Nothing here answers for a host, except a reset that was asked for.

pub mod socket;

mod vnet;

mod frame;

mod checksum;

mod piece;

mod reset;

mod flows;

pub mod conditions;

pub mod point;

mod direction;

mod engine;

pub mod carrier;

pub mod armed;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, bail};
use async_trait::async_trait;

pub use armed::ArmedPacket;
pub use carrier::PacketEnd;
pub use conditions::{Faults, Shape};
pub use point::AtPoint;

use super::{Armed, Hold, Link};
use crate::scenario::LinkSpec;
use carrier::{Shared, State};
use direction::Passage;
use engine::{End, Engine};

#[cfg(test)]
mod tests;

/// A link that is up. It goes down, and its thread ends, with its last handle.
#[derive(Debug, Clone)]
pub struct PacketLink {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hosts: [String; 2],
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl PacketLink {
    /// Joins the ends, two of them. They are closed when the link goes down.
    ///
    /// # Errors
    /// If there are not two, or the system has no thread or no descriptor left.
    pub fn up(ends: Vec<PacketEnd>, spec: &LinkSpec) -> anyhow::Result<Self> {
        let shape = Shape {
            rate: spec.rate,
            delay: spec.delay.unwrap_or_default(),
            ..Shape::default()
        };
        let faults = Faults {
            loss: spec.loss.unwrap_or_default(),
            ..Faults::default()
        };
        let engine = Engine::new(&shape, &faults, Instant::now());
        let ends: [PacketEnd; 2] = match ends.try_into() {
            Ok(ends) => ends,
            Err(ends) => bail!("a packet link has 2 ends, not {}", ends.len()),
        };
        let hosts = [ends[0].host.clone(), ends[1].host.clone()];
        if hosts[0] == hosts[1] {
            bail!("both ends of the packet link are host {}'s", hosts[0]);
        }
        let (shared, thread) = carrier::start(engine, ends).with_context(|| {
            format!("starting the packet link of {} and {}", hosts[0], hosts[1])
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                hosts,
                shared,
                thread: Some(thread),
            }),
        })
    }

    /// Makes one direction so wide and so long, for what comes from now on.
    pub fn shape(&self, from: &str, to: &str, shape: Shape) -> anyhow::Result<()> {
        self.change(from, to, |engine, from| {
            let direction = engine.direction_mut(from);
            direction.set_shape(shape, Instant::now());
        })
    }

    /// Has this happen to the packets of one direction from now on.
    pub fn faults(&self, from: &str, to: &str, faults: Faults) -> anyhow::Result<()> {
        self.change(from, to, |engine, from| {
            engine.direction_mut(from).set_faults(faults);
        })
    }

    /// Loses everything in one direction, also what is on the way, until
    /// [`PacketLink::heal`].
    pub fn cut(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.change(from, to, |engine, from| {
            engine.direction_mut(from).passage = Passage::Cut;
        })
    }

    /// Ends all connections between the two at both ends, and answers every attempt
    /// to go on or to connect with a reset, until [`PacketLink::heal`].
    pub fn refuse(&self, one: &str, other: &str) -> anyhow::Result<()> {
        self.change(one, other, |engine, from| {
            for end in [from, from.opposite()] {
                engine.direction_mut(end).passage = Passage::Refused;
            }
            engine.reset(Instant::now());
        })
    }

    /// Ends all connections between the two at both ends, once.
    pub fn reset(&self, one: &str, other: &str) -> anyhow::Result<()> {
        self.change(one, other, |engine, _| engine.reset(Instant::now()))
    }

    /// Lets packets of this direction through again, after [`PacketLink::cut`] or
    /// [`PacketLink::refuse`].
    pub fn heal(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.change(from, to, |engine, from| {
            engine.direction_mut(from).passage = Passage::Open;
        })
    }

    /// See [`Link::arm`]; this one can also cut.
    pub fn arm_point(
        &self,
        from: &str,
        to: &str,
        bytes: u64,
        action: AtPoint,
    ) -> anyhow::Result<ArmedPacket> {
        let from = self.end(from, to)?;
        let mut state = self.state()?;
        let point = state.engine.arm(from, bytes, action, Instant::now());
        drop(state);
        Ok(ArmedPacket::new(self.inner.shared.clone(), from, point))
    }

    fn change(
        &self,
        from: &str,
        to: &str,
        change: impl FnOnce(&mut Engine, End),
    ) -> anyhow::Result<()> {
        let from = self.end(from, to)?;
        change(&mut self.state()?.engine, from);
        self.inner.shared.wake();
        Ok(())
    }

    /// The end from which the direction comes.
    fn end(&self, from: &str, to: &str) -> anyhow::Result<End> {
        let [one, other] = &self.inner.hosts;
        match () {
            () if from == one && to == other => Ok(End::One),
            () if from == other && to == one => Ok(End::Other),
            () => bail!("no packet link from {from} to {to}: it joins {one} and {other}"),
        }
    }

    /// The state, unless the link has ended by itself.
    fn state(&self) -> anyhow::Result<std::sync::MutexGuard<'_, State>> {
        let state = self.inner.shared.lock();
        if let Some(failed) = &state.failed {
            return Err(armed::down(Some(failed)));
        }
        Ok(state)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked is down too.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Link for PacketLink {
    async fn delivered(&self, from: &str, to: &str) -> anyhow::Result<u64> {
        let from = self.end(from, to)?;
        Ok(self.state()?.engine.direction(from).counted)
    }

    async fn activity(&self) -> anyhow::Result<u64> {
        let state = self.state()?;
        let directions = End::BOTH.map(|end| state.engine.direction(end));
        Ok(directions.iter().map(|one| one.counted + one.other).sum())
    }

    async fn arm(
        &self,
        from: &str,
        to: &str,
        bytes: u64,
        hold: Hold,
    ) -> anyhow::Result<Box<dyn Armed>> {
        Ok(Box::new(self.arm_point(from, to, bytes, hold.into())?))
    }
}
