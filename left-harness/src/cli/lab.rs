//! The commands about labs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::place::{LabKind, PlaceArgs};

/// What is done with a lab.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Make the harness's own folder on your hosts, which it wants to see before it touches them
    Adopt(LabArgs),
    /// Build and send the programs, without a run
    Deploy(DeployArgs),
    /// Show what is up and what earlier runs have left
    Status(StatusArgs),
    /// Remove what crashed runs have left
    Down(LabArgs),
    /// Open a shell on a host, by your own ssh
    Shell(ShellArgs),
}

/// Options that every one of them has.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// Which lab [default: local, or inventory if hosts are named]
    #[arg(long, value_enum)]
    pub lab: Option<LabKind>,
    /// Which hosts.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Options of `lab deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Which lab.
    #[command(flatten)]
    pub lab: LabArgs,
    /// The program under test: an adapter's name, or its file
    #[arg(long, default_value = super::DEFAULT_SUT, value_name = "NAME|FILE")]
    pub sut: String,
    /// Take programs from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
}

/// Options of `lab status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which lab.
    #[command(flatten)]
    pub lab: LabArgs,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `lab shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The host's name: a
    pub host: String,
    /// Which lab.
    #[command(flatten)]
    pub lab: LabArgs,
    /// A command to run there instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
