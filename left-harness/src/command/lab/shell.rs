//! `lab shell`: the user's own `ssh`, told the way to a host.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use super::place;
use crate::cli::ShellArgs;
use crate::collect::Mistaken;
use crate::lab::inventory::file::Entered;

pub(super) fn shell(args: &ShellArgs) -> Result<u8> {
    let Some(hosts) = place::hosts(&args.lab.place)? else {
        return Err(Mistaken::of(
            "lab shell needs to know your hosts: --hosts hosts.toml or --ssh-hosts vm1,vm2",
        )
        .into());
    };
    let Some(entered) = hosts.list.iter().find(|host| host.name == args.host) else {
        let known: Vec<&str> = hosts.list.iter().map(|host| host.name.as_str()).collect();
        return Err(Mistaken::of(format!(
            "no host named `{}` in {} (known: {})",
            args.host,
            hosts.origin,
            known.join(", ")
        ))
        .into());
    };
    let argv = ssh(entered, &args.command);
    // It takes this program's place: signals, terminal and exit code are its own.
    let error = Command::new("ssh").args(&argv).exec();
    Err(error).context("cannot run ssh: install an OpenSSH client")
}

/// The arguments that lead `ssh` where the harness itself goes.
fn ssh(entered: &Entered, command: &[String]) -> Vec<OsString> {
    let mut argv: Vec<OsString> = Vec::new();
    let mut say = |option: &str, value: OsString| argv.extend([option.into(), value]);
    if let Some(config) = &entered.config {
        say("-F", config.into());
    }
    if let Some(port) = entered.port {
        say("-p", port.to_string().into());
    }
    if let Some(identity) = &entered.identity {
        say("-i", identity.into());
    }
    if let Some(known_hosts) = &entered.known_hosts {
        // Quoted, for a folder with spaces.
        let file = known_hosts.display();
        say("-o", format!("UserKnownHostsFile=\"{file}\"").into());
    }
    if let Some(jump) = &entered.jump {
        say("-J", jump.into());
    }
    argv.extend(["--".into(), OsString::from(&entered.ssh)]);
    argv.extend(command.iter().map(OsString::from));
    argv
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::lab::inventory::file::Hosts;

    #[test]
    fn ssh_is_led_the_same_way() {
        let text = "[host.a]\nssh = \"alice@vm1\"\nport = 2222\nidentity = \"/k\"\n\
                    known_hosts = \"/a b\"\njump = \"gate\"\nconfig = \"/c\"\n[host.b]\nssh = \"vm2\"\n";
        let hosts = Hosts::parse(Path::new("hosts.toml"), text).expect("no mistakes");
        let argv = |index: usize, command: &[&str]| {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            let argv = ssh(&hosts.list[index], &command);
            argv.join(" ".as_ref()).into_string().expect("UTF-8")
        };
        assert_eq!(
            argv(0, &[]),
            "-F /c -p 2222 -i /k -o UserKnownHostsFile=\"/a b\" -J gate -- alice@vm1"
        );
        assert_eq!(argv(1, &["ls", "-l"]), "-- vm2 ls -l");
    }
}
