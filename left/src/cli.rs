//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::log::Level;

/// Where both sides listen unless told otherwise.
pub const PORT: u16 = 21000;

const EXIT_CODES: &str = "\
Exit codes:
  0  ended cleanly (SIGTERM or SIGINT; what was under way resumes at the next start)
  1  the share or its state cannot be used
  2  a mistake on the command line, or --insecure is missing
  3  the port to listen on cannot be bound
  4  `left status`: no daemon runs on the share
  5  `left confirm`, `left restore`, `left join`, `left forget-peer`: it was
     refused

A file .leftignore at the top of the share says what is not synchronised, in the
syntax of git's .gitignore (one file for the whole share, at most 256 KiB and
4096 rules). It is synchronised itself. What becomes ignored stays where it is, on
both sides; a folder that the peer deletes stays while something ignored is in
it. What is ignored no more is found as new on each side.

Limits of this version: nothing is encrypted; owners, extended attributes, ACLs
and set-id bits are not synchronised. A folder without write permission is made
writable for the moment when the peer has something for it.";

/// Keeps one directory the same on two machines.
#[derive(Debug, Parser)]
#[command(name = "left", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// Another task than keeping the share the same.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Other tasks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tells what the daemon on a share is doing.
    Status(StatusArgs),
    /// Lets the daemon follow a set of deletions that is held back.
    ///
    /// When the peer deletes more than half of the share (and at least 100
    /// paths), or all of a share of ten paths or more, that may be a mistake: the
    /// files stay here until this is said. `left status` names the set. If it is
    /// a mistake, put the files back on the other side.
    Confirm(ConfirmArgs),
    /// Puts back what was deleted, or lists what can be.
    ///
    /// What the peer deleted lies in the share's .left/trash for 30 days, in at
    /// most a tenth of the file system.
    Restore(RestoreArgs),
    /// Lists the conflict copies in a share.
    ///
    /// Where both sides changed a file without knowing of each other, the later
    /// one keeps the name and the other becomes NAME.conflict-REPLICA-HASH.EXT.
    /// Keep what you need of the two, and delete the copy.
    Conflicts(StatusArgs),
    /// Joins two shares that were never joined, or tells what they have.
    ///
    /// When two shares meet for the first time, both get what only one has, what
    /// is the same stays, and where two files of one name differ both are kept.
    /// Nothing is deleted. If more than 100 names differ the shares may not belong
    /// together, and nothing is changed before this is said, with --yes, on
    /// either side.
    Join(JoinArgs),
    /// Forgets whom a share was paired with.
    ///
    /// A share that was paired with somebody refuses everybody else. After this it
    /// takes the next peer as one that it never met: both sides keep all they
    /// have, what differs is kept twice, nothing is deleted, and what was
    /// deleted on one side only comes back. Needed on one of the two sides.
    ForgetPeer(ForgetArgs),
}

/// What `left join` needs to know.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Join them
    #[arg(long)]
    pub yes: bool,
    /// The directory that is kept the same
    #[arg(long, value_name = "DIR", default_value = "./share")]
    pub share: PathBuf,
}

/// What `left forget-peer` needs to know.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The directory that is kept the same
    #[arg(long, value_name = "DIR", default_value = "./share")]
    pub share: PathBuf,
}

/// What `left confirm` needs to know.
#[derive(Debug, Args)]
pub struct ConfirmArgs {
    /// The set's name, from `left status`
    #[arg(value_name = "SET-ID")]
    pub set: String,
    /// The directory that is kept the same
    #[arg(long, value_name = "DIR", default_value = "./share")]
    pub share: PathBuf,
}

/// What `left restore` needs to know.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The path in the share; without one, what can be restored is listed
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// The directory that is kept the same
    #[arg(long, value_name = "DIR", default_value = "./share")]
    pub share: PathBuf,
    /// The list as JSON
    #[arg(long, conflicts_with = "path")]
    pub json: bool,
}

/// What a daemon needs to know.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Address of the peer: an IP address, with the port after a colon unless
    /// it is 21000 (an IPv6 address with a port goes in square brackets)
    #[arg(long, value_name = "PEER[:PORT]", value_parser = parse_peer, required = true)]
    pub ip: Option<SocketAddr>,
    /// The directory to keep the same; ./share is made if it is missing, any
    /// other has to exist
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,
    /// Where to listen for the peer
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:21000")]
    pub listen: SocketAddr,
    /// Run without encryption and authentication; required, because this
    /// version has neither yet
    #[arg(long)]
    pub insecure: bool,
    /// Append what happens to this file as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// What is logged: error, warn, info or debug, and what matters more
    #[arg(long, value_name = "LEVEL", default_value_t = Level::Info)]
    pub log_level: Level,
    /// As --log-level debug
    #[arg(short, long, conflicts_with = "log_level")]
    pub verbose: bool,
    /// As --log-level warn
    #[arg(short, long, conflicts_with_all = ["log_level", "verbose"])]
    pub quiet: bool,
}

impl RunArgs {
    /// What is logged.
    pub fn level(&self) -> Level {
        match (self.verbose, self.quiet) {
            (true, _) => Level::Debug,
            (_, true) => Level::Warn,
            _ => self.log_level,
        }
    }
}

/// What `left status` needs to know.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The directory that is kept the same
    #[arg(long, value_name = "DIR", default_value = "./share")]
    pub share: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_peer(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("port 0 is no port to dial".into()),
            _ => Ok(address),
        };
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => {
            Err("this address means no machine in particular".into())
        }
        Ok(address) => Ok(SocketAddr::new(address, PORT)),
        Err(_) => {
            let host = bare.split(':').next().unwrap_or(bare);
            Err(format!(
                "host names are not looked up, give the IP address (`getent hosts {}` prints it)",
                crate::path::shown(host.as_bytes())
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_addresses() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse_peer(text), Ok(expected.parse().unwrap()), "{text}");
        };
        check("10.0.0.2", "10.0.0.2:21000");
        check("10.0.0.2:7", "10.0.0.2:7");
        check("::1", "[::1]:21000");
        check("[::1]", "[::1]:21000");
        check("[fe80::1]:9", "[fe80::1]:9");
        for bad in [
            "",
            "host",
            "host:1",
            "10.0.0.2:0",
            "10.0.0.2:99999",
            "0.0.0.0",
        ] {
            assert!(parse_peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["left"]).is_err());
        assert!(Cli::try_parse_from(["left", "--ip", "::1"]).is_ok());
        assert!(Cli::try_parse_from(["left", "status"]).is_ok());
        let level = |args: &[&str]| {
            let all = ["left", "--ip", "::1"].iter().chain(args);
            Cli::try_parse_from(all).map(|cli| cli.run.level()).ok()
        };
        assert_eq!(level(&[]), Some(Level::Info));
        assert_eq!(level(&["-v"]), Some(Level::Debug));
        assert_eq!(level(&["--quiet"]), Some(Level::Warn));
        assert_eq!(level(&["--log-level", "error"]), Some(Level::Error));
        assert_eq!(level(&["--log-level", "loud"]), None);
        assert_eq!(level(&["-v", "-q"]), None);
    }
}
