//! The data path between the hosts: counted, held and broken outside of both.
//!
//! [`Link`] is the seam: what a run does with the wire is the same whatever carries
//! it. Below it, from the bottom up: a [`wire`] joins two hosts and can stand still;
//! each of its two directions is a [`lane`] that counts and carries the armed
//! points, slowed by a [`shape`]; a [`pump`] carries one connection; [`stream`] is
//! the whole link with its listening sockets, inside the harness. [`relay`] is the same
//! on hosts that are not ours, carried by their probes. [`packet`] is a link of another
//! kind: it carries the hosts' frames, so that it can also lose them. Nothing here knows
//! what the bytes mean.

pub mod wire;

pub mod shape;

pub mod lane;

pub mod pump;

pub mod stream;

pub mod relay;

pub mod packet;

use async_trait::async_trait;

pub use lane::Hold;
pub use packet::{PacketEnd, PacketLink};
pub use relay::{RelayEnd, RelayLink};
pub use stream::{LinkError, Route, StreamLink};

#[cfg(test)]
mod relay_tests;
#[cfg(test)]
mod tests;

/// The wire between the hosts, wherever it is carried. An error is trouble of the
/// infrastructure: whatever carries the bytes cannot be asked any more.
#[async_trait]
pub trait Link: Send + Sync {
    /// Payload bytes handed on towards `to`, over all connections ever, whichever
    /// side dialled them. What a retransmission of the link's own carries does not count.
    async fn delivered(&self, from: &str, to: &str) -> anyhow::Result<u64>;

    /// Grows with every payload byte between any two hosts: the link is silent
    /// while it stays the same.
    async fn activity(&self) -> anyhow::Result<u64>;

    /// Waits for the `bytes`-th byte from now on in this direction, over all
    /// connections together. With a hold exactly so many are delivered, and then
    /// the wire between the two stands still both ways, also for new connections,
    /// until the answer is released or dropped.
    async fn arm(
        &self,
        from: &str,
        to: &str,
        bytes: u64,
        hold: Hold,
    ) -> anyhow::Result<Box<dyn Armed>>;
}

/// A point that is armed. Dropping it disarms it, and releases the wire.
#[async_trait]
#[must_use = "dropping it disarms the point"]
pub trait Armed: Send + Sync {
    /// Ends when the point is reached: the bytes delivered since it was armed.
    /// Once it has fired it says the same again at once.
    async fn fired(&mut self) -> anyhow::Result<u64>;

    /// Bytes delivered in this direction since it was armed, up to now.
    async fn delivered(&self) -> anyhow::Result<u64>;
}
