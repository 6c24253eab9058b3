//! Options of `run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::place::{LabKind, PlaceArgs};
use crate::run::Keep;

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "SCENARIO|DIR")]
    pub scenarios: Vec<PathBuf>,
    /// Where the hosts come from [default: local, or inventory if hosts are named]
    #[arg(long, value_enum)]
    pub lab: Option<LabKind>,
    /// Which hosts.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The program under test: an adapter's name (suts/NAME.toml beside the scenario), or its file
    #[arg(long, default_value = super::DEFAULT_SUT, value_name = "NAME|FILE")]
    pub sut: String,
    /// Seed of all generated content, instead of the scenario's own
    #[arg(long)]
    pub seed: Option<u64>,
    /// Run each scenario so often; every repetition has a seed of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub repeat: u32,
    /// Take the program under test from this folder, by its name, instead of building it;
    /// the probe (left-harness-probe) too, if it is there
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Where the folder of each run is made
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub out: PathBuf,
    /// Leave the run's folders on the hosts: always (--keep), or only when it did not pass (--keep=on-failure)
    #[arg(long, value_enum, default_value_t = KeepArg::Never, default_missing_value = "always", num_args = 0..=1, require_equals = true)]
    pub keep: KeepArg,
    /// Print one line of JSON a run on standard output instead of the summary
    #[arg(long)]
    pub json: bool,
}

/// When the hosts' folders of a run stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeepArg {
    /// They are always taken away
    Never,
    /// They stay unless the run passed
    OnFailure,
    /// They always stay
    Always,
}

impl From<KeepArg> for Keep {
    fn from(arg: KeepArg) -> Self {
        match arg {
            KeepArg::Never => Self::Never,
            KeepArg::OnFailure => Self::OnFailure,
            KeepArg::Always => Self::Always,
        }
    }
}
