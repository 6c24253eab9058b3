//! `left-harness`: reads the command line and says how it went.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;

use left_harness::cli::{Cli, Command, LabKind, RunArgs, exit_code};
use left_harness::collect::{self, Asked, Mistaken};
use left_harness::event::Outcome;
use left_harness::lab::{Source, local, netns, places};
use left_harness::report::{self, Closing};
use left_harness::run::folder::RunFolder;
use left_harness::run::interrupt::Interrupt;
use left_harness::run::{self, Keep, Request};
use left_harness::scenario::Scenario;

/// A mistake in what was asked.
const EXIT_MISTAKE: u8 = 2;

/// This machine or a host failed.
const EXIT_INFRASTRUCTURE: u8 = 3;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check { scenarios } => check(&scenarios),
        Command::List { scenarios, sut } => list(&scenarios, &sut),
        Command::Run(args) => run_all(&args),
        Command::NetnsInit => netns::init::run(&standard_input()).map(|()| 0),
        Command::NetnsHost => netns::host::run().map(|()| 0),
    };
    match done {
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

/// What this process was given as its standard input.
fn standard_input() -> std::os::fd::OwnedFd {
    std::os::fd::AsFd::as_fd(&std::io::stdin())
        .try_clone_to_owned()
        .expect("standard input is open")
}

fn check(paths: &[PathBuf]) -> Result<u8> {
    for scenario in collect::scenarios(paths)? {
        say(&format!("{}: ok", scenario.file.display()));
    }
    Ok(0)
}

fn list(paths: &[PathBuf], sut: &str) -> Result<u8> {
    let asked = Asked {
        sut: sut.to_owned(),
        seed: None,
        repeat: 1,
        lab: source(LabKind::Local, None)?,
        bin_dir: None,
        keep: Keep::Never,
    };
    for scenario in collect::scenarios(paths)? {
        say(&format!(
            "{}\n    {}",
            scenario.file.display(),
            scenario.about
        ));
        for request in collect::requests(&scenario, &asked)? {
            if let Some(reason) = request.skip_reason() {
                say(&format!(
                    "    would be skipped: {}: {reason}",
                    request.title()
                ));
            }
        }
    }
    Ok(0)
}

/// Whoever closes standard output early has read enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn run_all(args: &RunArgs) -> Result<u8> {
    let scenarios = collect::scenarios(&args.scenarios)?;
    let lab = source(args.lab, args.lab_dir.as_deref())?;
    let requests = requests(&scenarios, args, &lab)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let code = runtime.block_on(run_requests(&requests, args));
    // Some file may still be hashed for a run that was interrupted; nobody waits for it.
    runtime.shutdown_background();
    code
}

/// The lab that was asked for, and where its hosts' folders lie.
fn source(kind: LabKind, lab_dir: Option<&Path>) -> Result<Source> {
    let dir = |name: &str| match lab_dir {
        Some(dir) => Ok(dir.to_owned()),
        None => Ok::<_, anyhow::Error>(places::cache_dir()?.join(name)),
    };
    Ok(match kind {
        LabKind::Local => Source::Local(dir(local::NAME)?),
        LabKind::Netns => Source::Netns(dir(netns::NAME)?),
    })
}

fn requests(scenarios: &[Arc<Scenario>], args: &RunArgs, lab: &Source) -> Result<Vec<Request>> {
    let asked = Asked {
        sut: args.sut.clone(),
        seed: args.seed,
        repeat: args.repeat,
        lab: lab.clone(),
        bin_dir: args.bin_dir.clone(),
        keep: args.keep.into(),
    };
    let mut requests = Vec::new();
    for scenario in scenarios {
        requests.extend(collect::requests(scenario, &asked)?);
    }
    Ok(requests)
}

async fn run_requests(requests: &[Request], args: &RunArgs) -> Result<u8> {
    let mut interrupt = Interrupt::listen(|| {
        eprintln!(
            "left-harness: left at once; programs and run-… folders on the hosts go by themselves \
             within ten seconds"
        );
    })?;
    let closing = match args.json {
        true => Closing::Json,
        false => Closing::Summary,
    };
    let (sink, hub) = report::start(closing);
    let mut outcomes = Vec::new();
    for request in requests {
        if interrupt.is_asked() {
            break;
        }
        let folder = RunFolder::make(&args.out, &request.title())?;
        outcomes.push(run::run(request, &folder, &sink, &mut interrupt).await);
    }
    hub.finish();
    if interrupt.is_asked() {
        outcomes.push(Outcome::Interrupted);
    }
    Ok(exit_code(&outcomes))
}
