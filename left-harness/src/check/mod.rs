//! What the observations mean: plain functions that end in a finding. Only
//! `explain` asks the hosts for more.

pub mod finding;

pub mod text;

pub mod manifest;

pub mod content;

pub mod difference;

pub mod explain;

pub mod resent;

pub mod parts;

pub mod kept;

#[cfg(test)]
mod tests;

pub use finding::Finding;
