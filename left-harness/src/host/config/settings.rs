//! Settings of one host by name, and what they mean.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Resolved, Target};

/// Keys that `ssh` tries when nobody names any.
const IDENTITIES_USUAL: [&str; 3] = ["~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519"];

const KNOWN_HOSTS_USUAL: [&str; 2] = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"];
const KNOWN_HOSTS_GLOBAL: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// `keyword value`, keywords in small letters. The first one counts, but for identity
/// files, of which all do.
#[derive(Debug, Default)]
pub(super) struct Settings(pub(super) Vec<(String, String)>);

impl Settings {
    /// As `ssh -G` prints them.
    pub(super) fn printed(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Self(
            pairs
                .map(|(key, value)| (key.to_lowercase(), value.trim().to_owned()))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key);
        // What the first line says stands, also where it says that there is none.
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.eq_ignore_ascii_case("none"))
    }

    fn all(&self, key: &str) -> Vec<&str> {
        let found = self.0.iter().filter(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).collect()
    }

    fn says(&self, key: &str, values: &[&str]) -> bool {
        self.get(key).is_some_and(|value| values.contains(&value))
    }

    /// The hosts to jump from, nearest first.
    pub(super) fn jumps(&self, target: &Target) -> Result<Vec<Target>> {
        let list = target.jump.as_deref().or(self.get("proxyjump"));
        let Some(list) = list.filter(|list| !list.eq_ignore_ascii_case("none")) else {
            return Ok(Vec::new());
        };
        list.split(',').map(|hop| jump(hop.trim())).collect()
    }

    /// What all of it means for one host, but for the hosts to jump from.
    pub(super) fn resolve(&self, target: &Target) -> Result<Resolved> {
        if let (Some(command), None) = (self.get("proxycommand"), &target.jump) {
            bail!(
                "ProxyCommand ({command:?}) is not supported: name the host in between by ProxyJump"
            );
        }
        let user = match (&target.user, self.get("user")) {
            (Some(user), _) => user.clone(),
            (None, Some(user)) => user.to_owned(),
            (None, None) => local_user()?,
        };
        let port = match (target.port, self.get("port")) {
            (Some(port), _) => port,
            (None, Some(port)) => port
                .parse()
                .with_context(|| format!("the port {port:?} is no number"))?,
            (None, None) => 22,
        };
        let address = self.get("hostname").unwrap_or(&target.name).to_owned();
        let tokens = Tokens {
            name: &target.name,
            address: &address,
            port,
            user: &user,
        };
        let mut identities: Vec<PathBuf> = target.identity.iter().cloned().collect();
        let named = self.all("identityfile");
        let named = match named.is_empty() {
            true => IDENTITIES_USUAL.to_vec(),
            false => named,
        };
        for path in named {
            if path != "none" {
                identities.push(tokens.path(path)?);
            }
        }
        let known_hosts = match &target.known_hosts {
            Some(file) => vec![file.clone()],
            None => {
                let user = self.files("userknownhostsfile", &KNOWN_HOSTS_USUAL, &tokens)?;
                let global = self.files("globalknownhostsfile", &KNOWN_HOSTS_GLOBAL, &tokens)?;
                user.into_iter().chain(global).collect()
            }
        };
        let agent = match self.get("identityagent") {
            None if self.all("identityagent").is_empty() => std::env::var_os("SSH_AUTH_SOCK"),
            None => None,
            Some("SSH_AUTH_SOCK") => std::env::var_os("SSH_AUTH_SOCK"),
            Some(path) => match path.strip_prefix('$') {
                Some(name) if !name.starts_with('{') => std::env::var_os(name),
                _ => Some(tokens.path(path)?.into()),
            },
        };
        let mut notes = Vec::new();
        if self.says(
            "stricthostkeychecking",
            &["no", "off", "false", "accept-new"],
        ) {
            notes.push(
                "StrictHostKeyChecking is not relaxed here: the host's key must be in known_hosts"
                    .into(),
            );
        }
        if !self.all("certificatefile").is_empty() {
            notes.push("CertificateFile is not supported: only plain keys are tried".into());
        }
        Ok(Resolved {
            name: target.name.clone(),
            port,
            identities,
            identities_only: self.says("identitiesonly", &["yes", "true"]),
            agent: agent.filter(|path| !path.is_empty()).map(PathBuf::from),
            password: target.password,
            key_alias: self.get("hostkeyalias").map(str::to_owned),
            known_hosts,
            first_use: false,
            jumps: Vec::new(),
            notes,
            user,
            address,
        })
    }

    /// Files in one line. `ssh -G` prints no quotes, so a blank may be part of a name.
    fn files(&self, key: &str, usual: &[&str], tokens: &Tokens<'_>) -> Result<Vec<PathBuf>> {
        if !self.0.iter().any(|(known, _)| known == key) {
            return usual.iter().map(|path| tokens.path(path)).collect();
        }
        let Some(line) = self.get(key) else {
            return Ok(Vec::new());
        };
        let whole = tokens.path(line)?;
        if whole.exists() {
            return Ok(vec![whole]);
        }
        line.split(' ')
            .filter(|path| !path.is_empty())
            .map(|path| tokens.path(path))
            .collect()
    }
}

/// `[user@]host[:port]` or `ssh://[user@]host[:port]`
fn jump(text: &str) -> Result<Target> {
    let rest = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, rest),
    };
    let (name, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (name, after) = rest
                .split_once(']')
                .with_context(|| format!("the jump host {text:?} has a [ and no ]"))?;
            (name, after.strip_prefix(':'))
        }
        // More than one colon is an IPv6 address without a port.
        None if rest.matches(':').count() == 1 => match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        },
        None => (rest, None),
    };
    let port = match port {
        None => None,
        Some(port) => Some(
            port.parse()
                .with_context(|| format!("the port of the jump host {text:?} is no number"))?,
        ),
    };
    Ok(Target {
        name: name.to_owned(),
        user,
        port,
        ..Target::default()
    })
}

/// What stands for something else in a path.
struct Tokens<'a> {
    name: &'a str,
    address: &'a str,
    port: u16,
    user: &'a str,
}

impl Tokens<'_> {
    /// `~`, `%h` and `${HOME}` replaced.
    fn path(&self, text: &str) -> Result<PathBuf> {
        let text = text.trim_matches('"');
        let text = match text.strip_prefix("~/") {
            Some(rest) => self.home(text)?.join(rest),
            None => PathBuf::from(text),
        };
        let text = text
            .to_str()
            .with_context(|| format!("the path {} is not UTF-8", text.display()))?;
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['%', '$']) {
            out += &rest[..at];
            let after = &rest[at..];
            if let Some(inner) = after.strip_prefix("${") {
                let (name, after) = inner
                    .split_once('}')
                    .with_context(|| format!("the path {text:?} has a ${{ and no }}"))?;
                out += &std::env::var(name).with_context(|| {
                    format!("the path {text:?} needs the environment variable {name}")
                })?;
                rest = after;
            } else if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else {
                let token = after[1..].chars().next();
                match token {
                    Some('%') => out.push('%'),
                    Some('d') => out += &self.home(text)?.to_string_lossy(),
                    Some('h') => out += self.address,
                    Some('n') => out += self.name,
                    Some('p') => out += &self.port.to_string(),
                    Some('r') => out += self.user,
                    Some('u') => out += &local_user()?,
                    Some('i') => out += &rustix::process::getuid().as_raw().to_string(),
                    _ => bail!("the path {text:?} holds a % that is not understood here"),
                }
                rest = &after[1 + token.map_or(0, char::len_utf8)..];
            }
        }
        Ok(PathBuf::from(out + rest))
    }

    fn home(&self, text: &str) -> Result<PathBuf> {
        home().with_context(|| format!("the path {text:?} needs HOME to be set"))
    }
}

/// The user's home.
pub(super) fn home() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from)?;
    Path::new(&home).is_absolute().then_some(home)
}

fn local_user() -> Result<String> {
    let named = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    match named {
        Some(name) => Ok(name),
        None if rustix::process::getuid().is_root() => Ok("root".into()),
        None => bail!("nobody says who is to log in: name a user"),
    }
}
