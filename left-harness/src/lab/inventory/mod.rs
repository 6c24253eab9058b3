//! Any hosts that are reached over SSH: the user's own machines.

pub mod file;
