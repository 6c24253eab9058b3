//! What travels between the two sides, apart from who sends it when.

pub mod frame;
pub mod message;
pub mod socket;
