//! The command line: what can be asked for, in the words of the help.

pub mod lab;
pub mod look;
pub mod place;
pub mod run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::event::Outcome;

pub use lab::{DeployArgs, LabArgs, LabCommand, ShellArgs, StatusArgs, UpArgs};
pub use look::{DoctorArgs, ListArgs};
pub use place::{LabChoice, LabKind, PlaceArgs};
pub use run::{KeepArg, RunArgs};

/// Deploys a sync program to two hosts over SSH, injects files, kills processes in
/// the middle of a transfer, and proves from the outside that nothing was lost and
/// that a resumed transfer did not start over.
#[derive(Debug, Parser)]
#[command(name = "left-harness", version, help_template = HELP, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The program under test unless another one is asked for.
const DEFAULT_SUT: &str = "left";

/// clap lists all commands in one heap; people look for them by what they want to do.
const HELP: &str = "\
{about-with-newline}
{usage-heading} {usage}

Run:
  run     Run scenarios: build, deploy, inject, break, check, tear down

Look:
  check   Check scenarios for mistakes without running them
  list    List scenarios: what each proves, and in which lab it would run

Labs:
  lab     Give the harness a folder on your hosts, bring a lab up, enter it, clear it up
  doctor  Say what this machine and your hosts can do, and what mends the rest

Options:
{options}
{after-help}";

const EXIT_CODES: &str = "\
Exit codes:
  0    every scenario passed
  1    a scenario failed: the program under test did not do what it must
  2    a mistake in what was asked: the command line, a scenario, an adapter
  3    infrastructure: the lab, the way to a host or this machine failed
  4    inconclusive: a fault had no effect, or something could not be measured
  130  interrupted, and cleaned up";

/// What to do, in three groups: run, look, labs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios: build, deploy, inject, break, check, tear down
    Run(RunArgs),
    /// Check scenarios for mistakes without running them
    Check {
        /// Scenario files, or folders of them
        #[arg(required = true, value_name = "SCENARIO|DIR")]
        scenarios: Vec<PathBuf>,
    },
    /// List scenarios: what each proves, and what it would be skipped for
    List(ListArgs),
    /// Give the harness a folder on your hosts, bring a lab up, enter it, clear it up
    #[command(subcommand)]
    Lab(LabCommand),
    /// Say what this machine and your hosts can do, and what mends the rest
    Doctor(DoctorArgs),
    /// The process that takes the keys of a lab away when the harness is gone, which starts it
    #[command(hide = true)]
    LabGuard {
        /// The lab
        id: String,
    },
    /// The process in which a netns lab lives; the harness starts it
    #[command(hide = true)]
    NetnsInit,
    /// The first process of a host of a netns lab
    #[command(hide = true)]
    NetnsHost,
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
    fn the_help_names_every_command_in_its_group() {
        let help = Cli::command().render_long_help().to_string();
        for command in Cli::command()
            .get_subcommands()
            .filter(|one| !one.is_hide_set())
        {
            let name = command.get_name();
            assert!(help.contains(&format!("\n  {name} ")), "{name}: {help}");
        }
        for group in ["\nRun:\n", "\nLook:\n", "\nLabs:\n"] {
            assert!(help.contains(group), "{group}: {help}");
        }
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
