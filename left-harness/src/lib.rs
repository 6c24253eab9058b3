//! Deploys a sync program to two hosts, injects files and faults, and proves
//! from the outside that nothing was lost.
//!
//! The map, in reading order; dependencies point upwards in this list only from
//! below: `run` knows everything, `scenario` and `host` know nothing.

pub mod scenario;

pub mod host {
    //! A machine with an SSH door.
    pub mod probe;

    #[cfg(test)]
    pub(crate) mod local_remote;
    pub mod remote;
}

pub mod run {
    //! One run of one scenario, from validation to tear-down.
    pub mod event;
}

pub mod check {
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

    #[cfg(test)]
    mod tests;
}
