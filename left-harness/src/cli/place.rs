//! Which hosts are meant: the same options wherever a lab is named.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options that say where hosts come from.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceArgs {
    /// Your own hosts, as a file like scenarios/hosts.example.toml lists them; implies --lab inventory
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ssh_hosts", "ssh_config"])]
    pub hosts: Option<PathBuf>,
    /// Two hosts as `ssh` knows them, such as vm1,vm2, instead of a file; implies --lab inventory
    #[arg(long, value_name = "HOST,HOST", value_delimiter = ',')]
    pub ssh_hosts: Vec<String>,
    /// The ssh configuration that knows the hosts of --ssh-hosts [default: your own]
    #[arg(long, value_name = "FILE", requires = "ssh_hosts")]
    pub ssh_config: Option<PathBuf>,
    /// Where the hosts' folders of the local and netns labs lie [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub lab_dir: Option<PathBuf>,
}

impl PlaceArgs {
    /// Hosts of the user's own are named.
    pub fn names_hosts(&self) -> bool {
        self.hosts.is_some() || !self.ssh_hosts.is_empty()
    }
}

/// Where hosts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabKind {
    /// Folders of this machine, each behind an SSH server inside the harness
    Local,
    /// Network namespaces of this machine, each with a real SSH server and kernel network
    Netns,
    /// Your own hosts, named by --hosts or --ssh-hosts
    Inventory,
}

/// Which labs a table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabChoice {
    /// Every lab that there is
    All,
    /// The embedded one
    Local,
    /// Network namespaces of this machine
    Netns,
    /// Your own hosts
    Inventory,
}
