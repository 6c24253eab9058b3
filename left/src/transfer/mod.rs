//! Content between the two sides: the receiver pulls verified blocks.

pub mod blocks;
pub mod hash;
pub mod receive;
pub mod send;
