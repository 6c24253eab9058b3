//! The data path between the hosts: counted, held and broken outside of both.
//!
//! From the bottom up: a [`wire`] joins two hosts and can stand still; each of
//! its two directions is a [`lane`] that counts and carries the armed points,
//! slowed by a [`shape`]; a [`pump`] carries one connection; [`stream`] is the
//! whole link with its listening sockets. Nothing here knows what the bytes mean.

pub mod wire;

pub mod shape;

pub mod lane;

pub mod pump;

pub mod stream;

pub use lane::{Armed, Hold};
pub use stream::{LinkError, Route, StreamLink};

#[cfg(test)]
mod tests;
