//! Simple SSH configurations, for machines without an `ssh` client: `Keyword value`
//! lines and `Host` blocks, which is what `vagrant ssh-config` prints.
//!
//! A keyword that would change how a host is reached and is not understood here is
//! refused: a guess might reach another machine.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::settings::Settings;
use crate::host::pattern;

/// Hosts in one file, generously.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Taken over.
const KNOWN: [&str; 13] = [
    "hostname",
    "port",
    "user",
    "identityfile",
    "identitiesonly",
    "identityagent",
    "proxyjump",
    "proxycommand",
    "userknownhostsfile",
    "globalknownhostsfile",
    "hostkeyalias",
    "stricthostkeychecking",
    "certificatefile",
];

/// Without meaning for how a host is reached and known.
const OF_NO_MATTER: [&str; 17] = [
    "addkeystoagent",
    "batchmode",
    "checkhostip",
    "compression",
    "connecttimeout",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "forwardagent",
    "forwardx11",
    "hashknownhosts",
    "loglevel",
    "passwordauthentication",
    "pubkeyacceptedkeytypes",
    "sendenv",
    "serveraliveinterval",
    "serveralivecountmax",
];

/// What the file says of host `name`.
pub(super) fn read(file: &Path, name: &str) -> Result<Settings> {
    let about = || format!("cannot read the SSH configuration {}", file.display());
    let length = std::fs::metadata(file).with_context(about)?.len();
    if length > FILE_BYTES_MAX {
        bail!(
            "the SSH configuration {} has more than {FILE_BYTES_MAX} bytes",
            file.display()
        );
    }
    let text = std::fs::read_to_string(file).with_context(about)?;
    parse(&text, name).map_err(|(line, why)| {
        anyhow::anyhow!(
            "{}:{line}: {why}; with OpenSSH's client installed it would be asked instead",
            file.display()
        )
    })
}

fn parse(text: &str, name: &str) -> Result<Settings, (usize, String)> {
    let mut settings = Vec::new();
    let mut applies = true;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refuse = |why: String| Err((index + 1, why));
        let end = line
            .find(|c: char| c.is_whitespace() || c == '=')
            .unwrap_or(line.len());
        let (keyword, value) = line.split_at(end);
        let value = value.trim_start();
        let value = value.strip_prefix('=').unwrap_or(value).trim();
        let keyword = keyword.to_lowercase();
        if value.is_empty() {
            return refuse(format!("{keyword} has no value"));
        }
        let value = match value.strip_prefix('"') {
            Some(quoted) => match quoted.strip_suffix('"') {
                Some(inner) if !inner.contains('"') => inner,
                _ => return refuse(format!("the quotes of {keyword} are not understood here")),
            },
            None => value,
        };
        match keyword.as_str() {
            "host" => applies = pattern::list_matches(value.split_ascii_whitespace(), name),
            known if KNOWN.contains(&known) => {
                if applies {
                    settings.push((keyword, value.to_owned()));
                }
            }
            known if OF_NO_MATTER.contains(&known) => {}
            _ => return refuse(format!("{keyword:?} is not understood here")),
        }
    }
    // `HostName` may name the host as it was asked for.
    for (keyword, value) in &mut settings {
        if keyword == "hostname" {
            *value = value.replace("%h", name);
        }
    }
    Ok(Settings(settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAGRANT: &str = "\
Host a
  HostName 127.0.0.1
  User vagrant
  Port 2222
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  PasswordAuthentication no
  IdentityFile \"/home/me/.vagrant/machines/a b/private_key\"
  IdentitiesOnly yes
  LogLevel FATAL

Host b
  HostName 127.0.0.1
  Port 2200
";

    #[test]
    fn what_vagrant_prints_is_understood() {
        let settings = parse(VAGRANT, "a").unwrap();
        let all: Vec<_> = settings
            .0
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        assert_eq!(
            all,
            [
                "hostname 127.0.0.1",
                "user vagrant",
                "port 2222",
                "userknownhostsfile /dev/null",
                "stricthostkeychecking no",
                "identityfile /home/me/.vagrant/machines/a b/private_key",
                "identitiesonly yes",
            ]
        );
        let b = parse(VAGRANT, "b").unwrap();
        assert_eq!(b.0[1], ("port".into(), "2200".into()));
        assert!(parse(VAGRANT, "c").unwrap().0.is_empty());
    }

    #[test]
    fn patterns_and_equal_signs_are_understood() {
        let text = "User=all\nHost w* !web\n Port = 1\nHost web\n HostName %h.example.org\n";
        let web = parse(text, "web").unwrap();
        assert_eq!(web.0[1], ("hostname".into(), "web.example.org".into()));
        let other = parse(text, "wiki").unwrap();
        assert_eq!(other.0[1], ("port".into(), "1".into()));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, line, what) in [
            ("Include other", 1, "\"include\" is not understood"),
            ("Host a\nMatch user x", 2, "\"match\" is not understood"),
            ("Host a\n\nPort", 3, "port has no value"),
            ("IdentityFile \"a\" \"b\"", 1, "quotes of identityfile"),
        ] {
            let (at, why) = parse(text, "a").unwrap_err();
            assert_eq!(at, line, "{why}");
            assert!(why.contains(what), "{why}");
        }
    }
}
