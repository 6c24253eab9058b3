//! The commands about labs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::place::{LabKind, PlaceArgs};

/// What is done with a lab.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Make the harness's own folder on your hosts, which it wants to see before it touches them
    Adopt(LabArgs),
    /// Bring a lab up and keep it standing until Ctrl-C, to look around in it
    #[command(after_help = UP_HELP)]
    Up(UpArgs),
    /// Open a shell on a host of a lab that is up, or of your own, by your own ssh
    #[command(after_help = SHELL_HELP)]
    Shell(ShellArgs),
    /// Build and send the programs, without a run
    Deploy(DeployArgs),
    /// Show what is up and what earlier runs have left
    Status(StatusArgs),
    /// Remove what crashed runs have left
    Down(LabArgs),
}

const UP_HELP: &str = "\
Two hosts, a and b, stand until Ctrl-C, and then go with everything that was started in them;
hosts of your own (--hosts, --ssh-hosts) are joined by a link until then, and stay.
For each it prints how to get in: `left-harness lab shell a`, and the lines for your own ssh,
sftp and scp. `left-harness lab deploy` brings the programs into their folders.
Exit code 0 once all of it is taken away.";

const SHELL_HELP: &str = "\
The lab is the one that is up: by `left-harness lab up`, or for a run that goes on. If there
are several, --run says which. With --hosts or --ssh-hosts none need be up.
The words of COMMAND go through the host's shell, as with ssh, and its exit code is passed on;
it is 255 if ssh itself cannot get in.";

/// Options of `lab up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Which lab.
    #[command(flatten)]
    pub lab: LabArgs,
    /// Take the probe, which the link between hosts of your own needs, from this folder
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Print what is up as one line of JSON
    #[arg(long)]
    pub json: bool,
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
    /// Which run, or which standing lab, if several are up
    #[arg(long, value_name = "RUN|LAB", conflicts_with_all = ["hosts", "ssh_hosts"])]
    pub run: Option<String>,
    /// Which lab.
    #[command(flatten)]
    pub lab: LabArgs,
    /// A command to run there instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
