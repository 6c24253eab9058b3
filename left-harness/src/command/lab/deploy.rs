//! `lab deploy`: the programs on the hosts, without a run.

use std::path::Path;

use anyhow::Result;

use super::{EXIT_OK, and_close, place, say, wait_for};
use crate::check::text::size_text;
use crate::cli::DeployArgs;
use crate::collect::{self, Mistaken};
use crate::run::programs::Stock;
use crate::sut::deploy::{deploy_others, deploy_probe};
use crate::sut::machine;
use crate::teardown::Teardown;

pub(super) fn deploy(args: &DeployArgs) -> Result<u8> {
    let source = place::source(args.lab.lab, &args.lab.place)?;
    let adapter = collect::adapter(Path::new("scenarios/any.toml"), &args.sut)?;
    wait_for(and_close(
        Teardown::new(),
        async |teardown: &mut Teardown| {
            let stock = Stock::new(&adapter, args.bin_dir.as_deref(), &|_, _| {});
            let grounds = source.grounds(teardown).await?;
            if grounds.is_empty() {
                let name = source.name();
                return Err(Mistaken::of(format!(
                    "the {name} lab has had no host yet: `left-harness lab up --lab {name}` makes them"
                ))
                .into());
            }
            for ground in grounds {
                let (remote, home) = (&ground.remote, &ground.home);
                let programs = stock.programs(&machine::ask(&**remote).await?).await?;
                let (probe, others) = (&programs.probe, Vec::from_iter(&programs.sut));
                let (there, mut deployed) =
                    deploy_probe(remote, home, probe, &|_, _, _| {}).await?;
                deploy_others(&there, home, &others, &|_, _, _| {}, &mut deployed).await?;
                say(&match deployed.sent {
                    0 => format!("host {}: all programs are there already", remote.name()),
                    sent => format!(
                        "host {}: {sent} programs, {}, in {}",
                        remote.name(),
                        size_text(deployed.bytes),
                        home.join("bin").display()
                    ),
                });
            }
            Ok(EXIT_OK)
        },
    ))
}
