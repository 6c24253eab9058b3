//! `hosts.toml`: the user's own machines, and what may be done to them.
//!
//! Read like scenarios and adapters: every mistake at once, each with its place and
//! the known names. The format is described in `scenarios/INVENTORY.md`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::lab::needs::Hurt;
use crate::scenario::error::{Mistakes, Span, tame};
use crate::scenario::raw::{self, Entry, Fields, Node, Reader};

/// Where the harness's folder lies on a host unless the file says otherwise: below
/// the home of whoever logs in.
pub const FOLDER: &str = "~/.cache/left-harness";

/// Hosts as the user wrote them down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// What messages call it: `hosts.toml`.
    pub origin: String,
    /// The words of the command line that stand for it: `--hosts hosts.toml`.
    pub option: String,
    /// In the order of the file.
    pub list: Vec<Entered>,
}

/// One host of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// `a`
    pub name: String,
    /// As one would say it to `ssh`: an alias, a name or an address, with or without
    /// `user@`.
    pub ssh: String,
    /// Instead of what the configuration says.
    pub port: Option<u16>,
    /// The private key, instead of what the configuration says.
    pub identity: Option<PathBuf>,
    /// Where the host's own key is looked up, instead of what the configuration says.
    pub known_hosts: Option<PathBuf>,
    /// The hosts to jump from, as for `ssh -J`.
    pub jump: Option<String>,
    /// An `ssh_config`, instead of the user's own.
    pub config: Option<PathBuf>,
    /// A password may be asked for.
    pub password: bool,
    /// Address on the data network; where SSH goes if nothing is said.
    pub data: Option<IpAddr>,
    /// Port on which the other host's relay finds this one; a free one if nothing is said.
    pub data_port: Option<u16>,
    /// The harness's own folder there.
    pub folder: String,
    /// The probe may be run by `sudo -n`.
    pub sudo: bool,
    /// The program under test may run as root.
    pub root: bool,
    /// What may be done to it.
    pub may: BTreeSet<Hurt>,
}

impl Hosts {
    /// Reads the file that `--hosts` names.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(file: &Path) -> Result<Self, Mistakes> {
        Self::parse(file, &raw::read_text(file)?)
    }

    /// Checks the text of such a file; relative paths in it are beside it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        raw::read(file, text, |reader, root| hosts(file, reader, root))
    }

    /// Hosts that `ssh` knows by these names, called a and b.
    ///
    /// # Errors
    /// If one of them can be no name of a host.
    pub fn of_aliases(config: Option<&Path>, aliases: &[String]) -> Result<Self, String> {
        let mut option = format!("--ssh-hosts {}", aliases.join(","));
        if let Some(config) = config {
            option = format!("--ssh-config {} {option}", config.display());
        }
        let [_, _] = aliases else {
            return Err(format!(
                "--ssh-hosts wants two hosts such as vm1,vm2, not {}",
                aliases.len()
            ));
        };
        let mut list = Vec::new();
        for (name, alias) in ["a", "b"].into_iter().zip(aliases) {
            if let Some(trouble) = destination_trouble(alias) {
                return Err(format!("--ssh-hosts: `{}` {trouble}", tame(alias)));
            }
            let mut host = Entered::new(name, alias);
            host.config = config.map(Path::to_owned);
            list.push(host);
        }
        Ok(Self {
            origin: option.clone(),
            option,
            list,
        })
    }

    /// The entries for a scenario's hosts, in their order: by name, or one for one
    /// where the scenario calls its hosts a and b.
    ///
    /// # Errors
    /// If names do not match, with the known ones.
    pub fn matched(&self, names: &[&str]) -> Result<Vec<&Entered>, String> {
        let by_name: Option<Vec<&Entered>> = names
            .iter()
            .map(|name| self.list.iter().find(|host| host.name == *name))
            .collect();
        if let Some(found) = by_name {
            return Ok(found);
        }
        if names == ["a", "b"] && self.list.len() == names.len() {
            return Ok(self.list.iter().collect());
        }
        let known: Vec<&str> = self.list.iter().map(|host| host.name.as_str()).collect();
        Err(format!(
            "the scenario's hosts are {}, but {} has {}",
            names.join(" and "),
            self.origin,
            known.join(", ")
        ))
    }
}

impl Entered {
    /// A host of which nothing is known but where it is.
    fn new(name: &str, ssh: &str) -> Self {
        Self {
            name: name.to_owned(),
            ssh: ssh.to_owned(),
            port: None,
            identity: None,
            known_hosts: None,
            jump: None,
            config: None,
            password: false,
            data: None,
            data_port: None,
            folder: FOLDER.to_owned(),
            sudo: false,
            root: false,
            may: BTreeSet::from([Hurt::Kill]),
        }
    }
}

fn hosts<'d>(file: &Path, reader: &Reader<'d>, root: Node<'_, 'd>) -> Option<Hosts> {
    let mut fields = root.fields("the inventory", Span { start: 0, end: 0 })?;
    let table = fields.must("host");
    let at = fields.place("host");
    fields.finish();
    let base = file.parent().unwrap_or(Path::new(""));
    let mut list = Vec::new();
    let mut good = true;
    for Entry { key, at, value } in table?.entries("tables such as [host.a]")? {
        let read = value.and_then(|node| host(base, reader, node, key, at));
        good &= read.is_some();
        list.extend(read);
    }
    if good && list.len() < 2 {
        let message = format!("a run needs two hosts, here is {}", list.len());
        reader.missing(at, message, Some("add a table such as [host.b]".into()));
    }
    Some(Hosts {
        origin: file.display().to_string(),
        option: format!("--hosts {}", file.display()),
        list,
    })
}

fn host<'d>(
    base: &Path,
    reader: &Reader<'d>,
    node: Node<'_, 'd>,
    name: &'d str,
    at: Span,
) -> Option<Entered> {
    if !is_name(name) {
        let message = format!(
            "the host name `{}` must be 1 to 16 of a-z, 0-9 and `-`, a letter first",
            tame(name)
        );
        reader.wrong(at, message);
    }
    let mut fields = node.fields(format!("[host.{}]", tame(name)), at)?;
    let ssh = text(reader, fields.must("ssh"), destination_trouble);
    let mut host = Entered::new(name, &ssh.unwrap_or_default());
    host.port = port(&mut fields, "port");
    host.identity = path(base, &mut fields, "identity");
    host.known_hosts = path(base, &mut fields, "known_hosts");
    host.config = path(base, &mut fields, "config");
    host.jump = text(reader, fields.may("jump"), jump_trouble);
    host.password = flag(&mut fields, "password");
    host.data = fields.may("data").and_then(|node| address(reader, node));
    host.data_port = port(&mut fields, "data_port");
    if let Some(folder) = text(reader, fields.may("folder"), folder_trouble) {
        host.folder = folder;
    }
    host.sudo = flag(&mut fields, "sudo");
    host.root = flag(&mut fields, "root");
    if let Some(node) = fields.may("may") {
        let words = node.list("a list such as [\"kill\", \"disk\"]");
        let hurts = words.unwrap_or_default().into_iter();
        host.may = hurts.filter_map(|node| node.word(&Hurt::WORDS)).collect();
    }
    fields.finish();
    Some(host)
}

/// As in scenarios.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 16
        && name.chars().all(plain)
}

fn text(
    reader: &Reader<'_>,
    node: Option<Node<'_, '_>>,
    trouble: impl Fn(&str) -> Option<&'static str>,
) -> Option<String> {
    let node = node?;
    let text = node.text()?;
    if let Some(trouble) = trouble(text) {
        reader.wrong(node.span, format!("`{}` {trouble}", tame(text)));
    }
    Some(text.to_owned())
}

fn flag(fields: &mut Fields<'_, '_>, key: &'static str) -> bool {
    fields.may(key).and_then(Node::flag).unwrap_or_default()
}

fn port(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<u16> {
    let number = fields.may(key)?.count(1, u64::from(u16::MAX))?;
    u16::try_from(number).ok()
}

/// Of this machine; `~/` is the user's home, the rest is beside the file.
fn path(base: &Path, fields: &mut Fields<'_, '_>, key: &'static str) -> Option<PathBuf> {
    let text = fields.may(key)?.text()?;
    let home = || std::env::var_os("HOME").map(PathBuf::from);
    match text.strip_prefix("~/").zip(home()) {
        Some((rest, home)) => Some(home.join(rest)),
        None => Some(base.join(text)),
    }
}

fn address(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<IpAddr> {
    let text = node.text()?;
    let address: Option<IpAddr> = text.parse().ok();
    match address {
        Some(address) if !address.is_unspecified() => return Some(address),
        Some(_) => reader.wrong(
            node.span,
            "the other host cannot dial the address of no host",
        ),
        None => reader.wrong_with(
            node.span,
            format!("`{}` is no address", tame(text)),
            "an address such as 10.0.0.1: names may mean another network on the hosts".into(),
        ),
    }
    None
}

/// Why `ssh` could not take it for a host.
fn destination_trouble(text: &str) -> Option<&'static str> {
    let host = text.rsplit('@').next().unwrap_or_default();
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if host.is_empty() || text.starts_with('@') {
        return Some("names no host");
    }
    if text.starts_with('-') || host.starts_with('-') {
        return Some("would be taken for an option");
    }
    text.contains(odd)
        .then_some("is no host as one would say it to ssh, such as alice@vm1")
}

fn jump_trouble(text: &str) -> Option<&'static str> {
    text.split(',').find_map(destination_trouble)
}

/// Why the harness could not have this folder on a host.
fn folder_trouble(text: &str) -> Option<&'static str> {
    if text.contains(char::is_control) {
        return Some("holds a control character");
    }
    let rest = match text.strip_prefix('~') {
        Some("" | "/") => return Some("is the home itself: the harness needs a folder of its own"),
        Some(rest) => rest,
        None => text,
    };
    let Some(rest) = rest.strip_prefix('/') else {
        return Some("must be an absolute path, or begin with `~/`");
    };
    let mut parts = rest.split('/').filter(|part| !matches!(*part, "" | "."));
    if parts.clone().any(|part| part == "..") {
        return Some("must not lead back by `..`");
    }
    parts
        .next()
        .is_none()
        .then_some("is the root of the file system: the harness needs a folder of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Hosts, String> {
        Hosts::parse(Path::new("lab/hosts.toml"), text).map_err(|mistakes| mistakes.to_string())
    }

    const TWO: &str = "[host.a]\nssh = \"alice@vm1\"\n[host.b]\nssh = \"vm2\"\n";

    #[test]
    fn little_must_be_said() {
        let hosts = parsed(TWO).expect("no mistakes");
        let [a, b] = &hosts.list[..] else {
            panic!("two hosts")
        };
        assert_eq!(a, &Entered::new("a", "alice@vm1"));
        assert_eq!(b.folder, FOLDER);
        assert_eq!(b.may, BTreeSet::from([Hurt::Kill]));
    }

    #[test]
    fn everything_can_be_said() {
        let text = r#"
[host.b]
ssh = "10.1.1.2"
[host.a]
ssh = "vm1"
port = 2222
identity = "keys/id"
known_hosts = "/etc/known"
jump = "bob@gate,gate2"
config = "ssh_config"
password = true
data = "fd00::1"
data_port = 21100
folder = "/srv/left-harness"
sudo = true
root = true
may = ["network", "kill"]
"#;
        let hosts = parsed(text).expect("no mistakes");
        let a = &hosts.list[1];
        assert_eq!(a.identity, Some("lab/keys/id".into()));
        assert_eq!(a.known_hosts, Some("/etc/known".into()));
        assert_eq!(a.data, Some(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])));
        assert_eq!((a.port, a.data_port), (Some(2222), Some(21100)));
        assert!(a.password && a.sudo && a.root);
        assert_eq!(a.may, BTreeSet::from([Hurt::Kill, Hurt::Network]));
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place_and_the_known_names() {
        let text = r#"
[host.A]
ssh = "-oProxyCommand=x"
folder = "/"
may = ["kil"]
[host.b]
sssh = "vm2"
data = "vm2"
data_port = 70000
folder = "~"
jump = "a,,b"
[host.c]
ssh = "c d"
folder = "work/../x"
"#;
        let said = parsed(text).expect_err("all is wrong");
        for wanted in [
            "hosts.toml:2:7: the host name `A`",
            "hosts.toml:3:7: `-oProxyCommand=x` would be taken for an option",
            "`/` is the root of the file system",
            "unknown word `kil`",
            "did you mean `kill`? known: kill, network, disk, clock",
            "[host.b] needs `ssh`",
            "unknown key `sssh` in [host.b]",
            "did you mean `ssh`?",
            "hosts.toml:8:8: `vm2` is no address",
            "must be a number from 1 to 65535",
            "`~` is the home itself",
            "`a,,b` names no host",
            "`c d` is no host",
            "`work/../x` must be an absolute path",
            "12 mistakes in lab/hosts.toml",
        ] {
            assert!(said.contains(wanted), "{wanted}:\n{said}");
        }
    }

    #[test]
    fn one_host_is_not_enough() {
        let said = parsed("[host.a]\nssh = \"x\"\n").expect_err("alone");
        assert!(said.contains("a run needs two hosts, here is 1"), "{said}");
        let said = parsed("").expect_err("nobody");
        assert!(said.contains("the inventory needs `host`"), "{said}");
    }

    #[test]
    fn a_scenario_finds_its_hosts_by_name_or_in_order() {
        let hosts = parsed(
            &TWO.replace("host.a", "host.left")
                .replace("host.b", "host.right"),
        )
        .expect("no mistakes");
        let names = |wanted: &[&str]| {
            hosts.matched(wanted).map(|found| {
                found
                    .iter()
                    .map(|host| host.name.clone())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            names(&["right", "left"]),
            Ok(vec!["right".into(), "left".into()])
        );
        assert_eq!(names(&["a", "b"]), Ok(vec!["left".into(), "right".into()]));
        assert_eq!(
            names(&["a", "right"]),
            Err("the scenario's hosts are a and right, but lab/hosts.toml has left, right".into())
        );
    }

    #[test]
    fn aliases_of_an_ssh_config_are_hosts_too() {
        let two = ["vm1".to_owned(), "vm2".to_owned()];
        let hosts = Hosts::of_aliases(Some(Path::new("cfg")), &two).expect("two hosts");
        assert_eq!(hosts.list[1].ssh, "vm2");
        assert_eq!(hosts.list[1].config, Some("cfg".into()));
        assert!(Hosts::of_aliases(None, &two[..1]).is_err());
        let odd = ["vm1".to_owned(), "-x".to_owned()];
        assert!(Hosts::of_aliases(None, &odd).is_err_and(|why| why.contains("option")));
    }
}
