//! Deploys a sync program to two hosts, injects files and faults, and proves
//! from the outside that nothing was lost.
//!
//! The map, in reading order: what stands first knows nothing of what follows.
//! [`run`] brings everything together; [`report`] sees events only; no module
//! knows the name of a program under test or of a scenario.

pub mod at_once;

pub mod scenario;

pub mod event;

pub mod sut;

pub mod host;

pub mod check;

pub mod link;

pub mod teardown;

pub mod lab;

pub mod workload;

pub mod run;

pub mod report;

pub mod collect;

pub mod cli;

pub mod command;
