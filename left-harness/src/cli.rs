//! The command line: what can be asked for, in the words of the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::event::Outcome;
use crate::run::Keep;

/// Deploys a sync program to two hosts over SSH, injects files, kills processes in
/// the middle of a transfer, and proves from the outside that nothing was lost and
/// that a resumed transfer did not start over.
#[derive(Debug, Parser)]
#[command(name = "left-harness", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    every scenario passed
  1    a scenario failed: the program under test did not do what it must
  2    a mistake in what was asked: the command line, a scenario, an adapter
  3    infrastructure: the lab, the way to a host or this machine failed
  4    inconclusive: a fault had no effect, or something could not be measured
  130  interrupted, and cleaned up";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios: build, deploy, inject, break, check, tear down
    Run(RunArgs),
    /// The process in which a netns lab lives; the harness starts it
    #[command(hide = true)]
    NetnsInit,
    /// The first process of a host of a netns lab
    #[command(hide = true)]
    NetnsHost,
    /// Check scenarios for mistakes without running them
    Check {
        /// Scenario files, or folders of them
        #[arg(required = true, value_name = "SCENARIO|DIR")]
        scenarios: Vec<PathBuf>,
    },
    /// List scenarios: what each proves, and what it would be skipped for
    List {
        /// Scenario files, or folders of them
        #[arg(default_value = "scenarios", value_name = "SCENARIO|DIR")]
        scenarios: Vec<PathBuf>,
        /// The program under test: an adapter's name, or its file
        #[arg(long, default_value = "left", value_name = "NAME|FILE")]
        sut: String,
    },
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "SCENARIO|DIR")]
    pub scenarios: Vec<PathBuf>,
    /// Where the hosts come from
    #[arg(long, value_enum, default_value_t = LabKind::Local)]
    pub lab: LabKind,
    /// The program under test: an adapter's name (suts/NAME.toml beside the scenario), or its file
    #[arg(long, default_value = "left", value_name = "NAME|FILE")]
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
    /// Where the hosts' folders of the local and netns labs lie [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub lab_dir: Option<PathBuf>,
    /// Leave the run's folders on the hosts: always (--keep), or only when it did not pass (--keep=on-failure)
    #[arg(long, value_enum, default_value_t = KeepArg::Never, default_missing_value = "always", num_args = 0..=1, require_equals = true)]
    pub keep: KeepArg,
    /// Print one line of JSON a run on standard output instead of the summary
    #[arg(long)]
    pub json: bool,
}

/// Where hosts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabKind {
    /// Folders of this machine, each behind an SSH server inside the harness
    Local,
    /// Network namespaces of this machine, each with a real SSH server and kernel network
    Netns,
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

/// The exit code of a command that ran scenarios: the gravest outcome decides.
/// Scenarios that were all skipped prove nothing and are inconclusive.
pub fn exit_code(outcomes: &[Outcome]) -> u8 {
    let any = |wanted: Outcome| outcomes.contains(&wanted);
    if any(Outcome::Interrupted) {
        130
    } else if any(Outcome::Infrastructure) {
        3
    } else if any(Outcome::Fail) {
        1
    } else if any(Outcome::Inconclusive) || !any(Outcome::Ok) {
        4
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_gravest_outcome_decides_the_exit_code() {
        use Outcome::{Fail, Inconclusive, Infrastructure, Interrupted, Ok, Skipped};
        for (outcomes, code) in [
            (&[Ok, Ok][..], 0),
            (&[Ok, Skipped], 0),
            (&[Skipped], 4),
            (&[Ok, Inconclusive], 4),
            (&[Inconclusive, Fail], 1),
            (&[Fail, Infrastructure], 3),
            (&[Infrastructure, Interrupted], 130),
        ] {
            assert_eq!(exit_code(outcomes), code, "{outcomes:?}");
        }
    }
}
