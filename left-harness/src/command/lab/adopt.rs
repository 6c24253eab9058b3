//! `lab adopt`: gives the harness a folder of its own on the user's hosts.

use anyhow::Result;

use super::{EXIT_INFRASTRUCTURE, EXIT_OK, place, say, wait_for};
use crate::cli::{LabArgs, LabKind};
use crate::collect::Mistaken;
use crate::lab::facts;
use crate::lab::inventory::connect;
use crate::lab::inventory::file::Entered;
use crate::lab::inventory::folder::{self, Adopted};

pub(super) fn adopt(args: &LabArgs) -> Result<u8> {
    let hosts = place::hosts(&args.place)?;
    let (Some(hosts), None | Some(LabKind::Inventory)) = (hosts, args.lab) else {
        return Err(Mistaken::of(
            "lab adopt is for hosts of your own: name them with --hosts hosts.toml or --ssh-hosts vm1,vm2",
        )
        .into());
    };
    wait_for(async {
        let mut code = EXIT_OK;
        for entered in &hosts.list {
            // One that cannot be had does not keep the others from it.
            match one(entered).await {
                Ok(line) => say(&line),
                Err(error) => {
                    eprintln!("left-harness: {error:#}");
                    code = EXIT_INFRASTRUCTURE;
                }
            }
        }
        Ok(code)
    })
}

async fn one(entered: &Entered) -> Result<String> {
    let connected = connect::connect(&entered.name, entered).await?;
    let remote = &*connected.remote;
    let adopting = async {
        let facts = facts::ask(remote, &entered.folder).await?;
        folder::adopt(remote, &facts).await
    };
    let adopted = adopting.await;
    remote.close().await;
    let (folder, how) = adopted?;
    let how = match how {
        Adopted::Now => "is the harness's own from now on",
        Adopted::Before => "was the harness's own already",
    };
    Ok(format!("host {}: {} {how}", entered.name, folder.display()))
}
