//! A machine in memory, for tests: a file system that forgets what was not
//! made durable, fails where it is told to, and a clock that only goes when it
//! is pushed. No threads, no wall clock; the same seed gives the same run.
//!
//! [`Machine`] is what outlives a process: the disk, its users ([`User`]), its
//! clock. [`SimDisk`] is a share that a process has opened on it, and stands
//! in for the real one behind [`crate::disk::Disk`].
//!
//! What is assumed of durability, as hostile as ext4 with `data=writeback` and
//! in most things worse:
//! - Of a file, each sector, the length, the mode, and the times are durable
//!   only after a `sync` of the file, or of all. Until then a power cut keeps
//!   of each the state after any of the changes, each by itself: a length
//!   without its data (zeros or what lay there before), new times over old
//!   data, a sector of the second write without the first.
//! - Of a folder, each change of names is durable only after a `sync` of that
//!   folder, or of all. A sync of a file does not keep its name, and one of a
//!   folder not the folder's own name. Until then a power cut keeps or loses
//!   each change, whatever came before or after it.
//! - One change is kept or lost as a whole, also when a rename touches two
//!   folders. Changes of the same name keep their order. A folder that is moved
//!   to another one keeps all changes before it, and a folder is only removed
//!   once what was in it is gone; no file system could make sense of the rest.
//! - A sync of a file that fails writes some of the sectors and forgets the
//!   others: the next one succeeds without having written them. A sync of a
//!   folder that fails changes nothing.
//! - The kill of a process loses nothing that it had done.

mod crash;
mod data;
mod disk;
mod dump;
mod fault;
mod handle;
mod index;
mod inode;
mod machine;
mod names;
mod people;
mod plan;
mod rng;
mod run;
mod side;
mod tree;
mod user;

pub(crate) use disk::SimDisk;
pub(crate) use dump::{Item, Tree};
pub(crate) use fault::{DEAD, On};
pub(crate) use index::open_index;
pub(crate) use machine::{Config, DataLoss, Machine};
pub(crate) use names::NameOrder;
pub(crate) use rng::Rng;

mod against_real;
mod coverage;
mod crash_tests;
mod edit_tests;
mod fault_tests;
mod planted_tests;
mod seeds;
mod tests;
