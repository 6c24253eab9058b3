//! Deploys a sync program to two hosts, injects files and faults, and proves
//! from the outside that nothing was lost.
//!
//! The map, in reading order; dependencies point upwards in this list only from
//! below: `run` knows everything, `scenario` and `host` know nothing.

pub mod scenario;

pub mod link;

pub mod host {
    //! A machine with an SSH door.
    pub mod remote;
}

pub mod run {
    //! One run of one scenario, from validation to tear-down.
    pub mod event;
}

pub mod report;
