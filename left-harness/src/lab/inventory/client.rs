//! The user's own OpenSSH client, led where the harness itself goes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::file::Entered;
use crate::lab::registry::Entrance;

/// How `ssh`, `sftp` and `scp` get into a host, which a scenario calls `name`. They may
/// be started in any folder.
///
/// # Errors
/// If a path is not UTF-8.
pub fn entrance(name: &str, entered: &Entered) -> Result<Entrance> {
    let mut options: Vec<String> = Vec::new();
    let mut say = |option: &str, value: String| options.extend([option.into(), value]);
    if let Some(config) = &entered.config {
        say("-F", text(config)?);
    }
    if let Some(port) = entered.port {
        // `-p` is something else to some of them.
        say("-o", format!("Port={port}"));
    }
    if let Some(identity) = &entered.identity {
        say("-i", text(identity)?);
    }
    if let Some(known_hosts) = &entered.known_hosts {
        // Quoted, for a folder with spaces.
        say(
            "-o",
            format!("UserKnownHostsFile=\"{}\"", text(known_hosts)?),
        );
    }
    if let Some(jump) = &entered.jump {
        say("-J", jump.clone());
    }
    Ok(Entrance {
        host: name.to_owned(),
        options,
        destination: entered.ssh.clone(),
    })
}

fn text(path: &Path) -> Result<String> {
    // `none` is a word of OpenSSH's, and no file.
    let full = match path == Path::new("none") {
        true => PathBuf::from(path),
        false => std::path::absolute(path)
            .with_context(|| format!("cannot tell where {} is", path.display()))?,
    };
    let text = full.to_str().map(str::to_owned);
    text.with_context(|| format!("the path {} is not UTF-8", full.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::inventory::file::Hosts;

    #[test]
    fn ssh_is_led_the_same_way() {
        let text = "[host.a]\nssh = \"alice@vm1\"\nport = 2222\nidentity = \"/k\"\n\
                    known_hosts = \"/a b\"\njump = \"gate\"\nconfig = \"/c\"\n[host.b]\nssh = \"vm2\"\n";
        let hosts = Hosts::parse(Path::new("hosts.toml"), text).expect("no mistakes");
        let way = |index: usize| entrance("a", &hosts.list[index]).expect("UTF-8");
        assert_eq!(
            way(0).ssh().join(" "),
            "ssh -F /c -o Port=2222 -i /k -o UserKnownHostsFile=\"/a b\" -J gate alice@vm1"
        );
        assert_eq!(way(1).ssh().join(" "), "ssh vm2");
        assert_eq!(way(1).scp().join(" "), "scp FILE vm2:");
    }

    #[test]
    fn files_are_found_from_any_folder() {
        let mut hosts = Hosts::of_aliases(Some(Path::new("my config")), &["x".into(), "y".into()])
            .expect("two of them");
        let way = entrance("a", &hosts.list[0]).expect("UTF-8");
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(
            way.options,
            ["-F", &here.join("my config").display().to_string()]
        );
        hosts.list[0].config = Some("none".into());
        let way = entrance("a", &hosts.list[0]).expect("UTF-8");
        assert_eq!(way.options, ["-F", "none"]);
    }
}
