//! The packet link: joins hosts at the level of their Ethernet frames.

pub mod socket;
