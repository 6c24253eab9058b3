//! `lab …`: a lab without a run.

mod adopt;
mod deploy;
mod leftovers;
mod shell;
mod up;

use anyhow::Result;

use super::{EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, EXIT_OK, place, say, say_json, wait_for};
use crate::cli::LabCommand;
use crate::teardown::Teardown;

pub(super) fn lab(command: LabCommand) -> Result<u8> {
    match command {
        LabCommand::Adopt(args) => adopt::adopt(&args),
        LabCommand::Deploy(args) => deploy::deploy(&args),
        LabCommand::Status(args) => leftovers::status(&args),
        LabCommand::Down(args) => leftovers::down(&args),
        LabCommand::Up(args) => up::up(&args),
        LabCommand::Shell(args) => shell::shell(&args),
    }
}

/// Does something with connections, and closes them whatever came of it.
async fn and_close<T>(
    mut teardown: Teardown,
    work: impl AsyncFnOnce(&mut Teardown) -> Result<T>,
) -> Result<T> {
    let done = work(&mut teardown).await;
    // Connections that do not end politely end with the process.
    teardown.run().await;
    done
}
