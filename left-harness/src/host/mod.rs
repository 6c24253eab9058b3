//! A machine with an SSH door: the connection to it, and a server that is one.
//!
//! In reading order: [`remote`] is the seam, all that the rest of the harness
//! knows of a host, and [`probe`] speaks over it to the harness's helper there.
//! [`ssh`] implements the seam: `door` gets in, `program` runs programs, `sftp` moves files,
//! over the one socket that `wire` keeps from blocking, or over `spares` where the server (its
//! `greeting` tells) cannot do that; [`shell`] alone quotes. What a door
//! needs to know comes from [`config`] (where a host is), [`known_hosts`] and `host_key` (who
//! it must be), `credential`, `key_file` and `ask` (who we are).
//! [`server`] is the other end, for labs without machines, and [`client_config`] lets
//! the user's own `ssh` in. No other module speaks
//! SSH, and nothing here knows labs or programs under test.

pub mod remote;

pub mod probe;

pub mod ssh;

pub mod config;

pub mod known_hosts;
mod pattern;

mod ask;
mod credential;
mod door;
mod greeting;
mod host_key;
mod key_file;
mod program;
mod sftp;
mod spares;

mod wire;

pub mod shell;

pub mod keys;

pub mod server;

pub mod client_config;

#[cfg(test)]
pub(crate) mod local_remote;
#[cfg(test)]
mod tests;
