//! `left-harness`: reads the command line and says how it went.

use std::process::ExitCode;

use clap::Parser;

use left_harness::cli::Cli;
use left_harness::collect::Mistaken;
use left_harness::command::{self, EXIT_INFRASTRUCTURE, EXIT_MISTAKE};

fn main() -> ExitCode {
    match command::perform(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => match error.downcast::<Mistaken>() {
            Ok(mistaken) => {
                eprintln!("{mistaken}");
                ExitCode::from(EXIT_MISTAKE)
            }
            Err(error) => {
                eprintln!("left-harness: {error:#}");
                ExitCode::from(EXIT_INFRASTRUCTURE)
            }
        },
    }
}
