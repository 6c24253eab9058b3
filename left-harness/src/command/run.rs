//! `run`: every scenario that was asked for, one after the other.

use std::sync::Arc;

use anyhow::Result;

use super::{place, wait_for};
use crate::cli::{RunArgs, exit_code};
use crate::collect::{self, Asked};
use crate::event::Outcome;
use crate::lab::Source;
use crate::report::{self, Closing};
use crate::run::folder::RunFolder;
use crate::run::interrupt::Interrupt;
use crate::run::{self, Request};
use crate::scenario::Scenario;

pub(super) fn run(args: &RunArgs) -> Result<u8> {
    let scenarios = collect::scenarios(&args.scenarios)?;
    let lab = place::source(args.lab, &args.place)?;
    let requests = requests(&scenarios, args, &lab)?;
    wait_for(run_requests(&requests, args))
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
