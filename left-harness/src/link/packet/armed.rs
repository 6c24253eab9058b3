//! A point of the packet link, as whoever waits for it has it.

use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;

use super::carrier::Shared;
use super::engine::End;
use super::point::{Point, State};
use crate::link::Armed;

/// A point that is armed. Dropping it disarms it, and takes back what it did: a
/// wire that it holds moves again, one that it cut is whole again.
#[derive(Debug)]
#[must_use = "dropping it disarms the point"]
pub struct ArmedPacket {
    shared: Arc<Shared>,
    from: End,
    point: Arc<Point>,
}

impl ArmedPacket {
    pub(super) fn new(shared: Arc<Shared>, from: End, point: Arc<Point>) -> Self {
        Self {
            shared,
            from,
            point,
        }
    }

    /// Disarms it.
    pub fn release(self) {}
}

#[async_trait]
impl Armed for ArmedPacket {
    async fn fired(&mut self) -> anyhow::Result<u64> {
        let mut watch = self.point.watch();
        let state = watch.wait_for(|state| *state != State::Waiting).await;
        // Copied out at once: the guard may not be held over an await. The sender
        // is ours and lives.
        match state.map(|state| *state) {
            Ok(State::Fired(bytes)) => {
                self.point.notice();
                self.shared.wake();
                Ok(bytes)
            }
            _ => Err(down(self.shared.lock().failed.as_deref())),
        }
    }

    async fn delivered(&self) -> anyhow::Result<u64> {
        let state = self.shared.lock();
        if let Some(failed) = &state.failed {
            return Err(down(Some(failed)));
        }
        Ok(state.engine.direction(self.from).counted - self.point.from)
    }
}

impl Drop for ArmedPacket {
    fn drop(&mut self) {
        self.shared.lock().engine.disarm(self.from, &self.point);
        self.shared.wake();
    }
}

/// Why the link cannot be asked any more.
pub(super) fn down(failed: Option<&str>) -> anyhow::Error {
    match failed {
        Some(failed) => anyhow!("the packet link has broken down: {failed}"),
        None => anyhow!("the packet link is down"),
    }
}
