//! Options of the commands that only look.

use std::path::PathBuf;

use clap::Args;

use super::place::{LabChoice, PlaceArgs};

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Scenario files, or folders of them
    #[arg(default_value = "scenarios", value_name = "SCENARIO|DIR")]
    pub scenarios: Vec<PathBuf>,
    /// A table of what would run in which lab, and why not: one of them, or all
    #[arg(long, value_enum)]
    pub lab: Option<LabChoice>,
    /// Which hosts.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The program under test: an adapter's name, or its file
    #[arg(long, default_value = super::DEFAULT_SUT, value_name = "NAME|FILE")]
    pub sut: String,
    /// Print the table as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Which hosts.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}
