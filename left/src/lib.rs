//! `left` keeps one directory the same on two machines.
//!
//! In reading order: what things are ([`path`], [`version`], [`entry`],
//! [`pairing`], and what is none of ours: [`ignore`]); what this side knows
//! ([`record`], [`index`]); what the disk says ([`disk`],
//! [`share`], [`scanner`]) and when it is asked ([`watcher`]); what follows from
//! both sides' knowledge ([`plan`], [`merge`]); what travels ([`wire`]) and how content does
//! ([`transfer`], [`part`]); what changes the share ([`apply`]); who decides
//! when ([`engine`]), with whom ([`session`]), and who runs it all
//! ([`daemon`]); what the world is told ([`status`], [`progress`], [`problems`], [`log`], [`events`]).
//!
//! What never happens: a path holds half a content; the absence of an entry is
//! taken for a deletion; a file of the user is removed without a newer version
//! made by somebody who knew it; a byte is written outside the share; bytes of
//! the peer, names or disk contents cause a panic.

//!
//! Limits of this version, all of them meant to go: nothing is encrypted; where
//! changes cannot be watched, looking takes at most a fiftieth of a core, so it is
//! seldom in a large share; what is written through a mapping of a file is found
//! by the next look at everything; content that moved within a file is received
//! again; two clones of a machine that have one machine id, and meet, refuse each
//! other; on a file system
//! that cannot exchange two names, an edit in the instant of a replacement is
//! lost; a writer that still holds a replaced file open writes into nothing; equal
//! large files are received one after the other; hard links become separate
//! files; owners, extended attributes, ACLs, set-id bits, and mtimes of folders
//! and links are not synchronised; files end at 16 TiB.

#![forbid(unsafe_code)]

pub mod entry;
pub mod ignore;
pub mod pairing;
pub mod path;
pub mod version;

pub mod disk;
pub mod share;
pub mod trouble;

pub mod index;
pub mod merge;
pub mod plan;
pub mod record;
pub mod scanner;
pub mod watcher;

pub mod apply;
pub mod part;
pub mod transfer;
pub mod trash;
pub mod wire;

pub mod daemon;
pub mod engine;
pub mod session;

pub mod events;
pub mod log;
pub mod problems;
pub mod progress;
pub mod status;

mod planted;

pub mod cli;
pub mod control;

#[cfg(test)]
mod sim;
