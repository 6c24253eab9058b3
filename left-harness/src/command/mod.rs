//! What the program does when it is called: one file a command, each ending in the
//! exit code. Only here and in [`crate::report`] anything is printed.

mod doctor;
mod lab;
mod list;
mod place;
mod run;
mod table;

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cli::Command;
use crate::collect;
use crate::lab::{netns, registry};
use crate::report::text;

/// Everything that was asked for was found or done.
const EXIT_OK: u8 = 0;

/// A mistake in what was asked.
pub const EXIT_MISTAKE: u8 = 2;

/// This machine or a host failed.
pub const EXIT_INFRASTRUCTURE: u8 = 3;

/// The user did not want to go on, and all was taken away.
const EXIT_INTERRUPTED: u8 = 130;

/// Does what was asked for; the exit code.
///
/// # Errors
/// [`collect::Mistaken`] for what the user must mend, else trouble of the infrastructure.
pub fn perform(command: Command) -> Result<u8> {
    match command {
        Command::Check { scenarios } => check(&scenarios),
        Command::List(args) => list::list(&args),
        Command::Run(args) => run::run(&args),
        Command::Lab(command) => lab::lab(command),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::LabGuard { id } => registry::guard(&id).map(|()| EXIT_OK),
        Command::NetnsInit => netns::init::run(&standard_input()?).map(|()| EXIT_OK),
        Command::NetnsHost => netns::host::run().map(|()| EXIT_OK),
    }
}

/// What this process was given as its standard input.
fn standard_input() -> Result<OwnedFd> {
    let given = std::io::stdin().as_fd().try_clone_to_owned();
    given.context("there is no standard input")
}

fn check(paths: &[PathBuf]) -> Result<u8> {
    for scenario in collect::scenarios(paths)? {
        say(&format!("{}: ok", scenario.file.display()));
    }
    Ok(EXIT_OK)
}

/// A line, or several, on standard output. Whoever closes it early has read enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// JSON on standard output, with nothing in it that a terminal would obey.
fn say_json(value: &serde_json::Value) {
    say(&text::json_for_terminals(&format!("{value:#}")));
}

/// Runs something that talks to hosts.
fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    // Some file may still be hashed for a run that was interrupted; nobody waits for it.
    runtime.shutdown_background();
    done
}
