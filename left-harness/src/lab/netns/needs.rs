//! What a netns lab needs of this machine, looked for before anything is made.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::lab::capability::Capability;

/// Each thing that the lab needs, and how what is missing is mended.
pub fn capabilities() -> Vec<Capability> {
    let mut all = vec![
        program("OpenSSH server", "/usr/sbin/sshd", "apt-get install openssh-server"),
        tool("unshare", &["--version"], "apt-get install util-linux"),
        tool("ip", &["-V"], "apt-get install iproute2"),
    ];
    all.push(namespaces());
    all
}

/// Why the lab cannot come up here, if so; looked for once.
pub fn missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING
        .get_or_init(|| capabilities().iter().find_map(Capability::missing))
        .clone()
}

fn program(name: &'static str, path: &str, mend: &str) -> Capability {
    match Path::new(path).is_file() {
        true => Capability::yes(name, path),
        false => Capability::no(name, format!("there is no {path}"), mend),
    }
}

fn tool(name: &'static str, arguments: &[&str], mend: &str) -> Capability {
    match Command::new(name).args(arguments).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            Capability::yes(name, text.lines().next().unwrap_or_default())
        }
        Err(error) => Capability::no(name, error.to_string(), mend),
    }
}

/// Namespaces with a veth, as the lab itself makes them.
fn namespaces() -> Capability {
    const NAME: &str = "network namespaces";
    let mut command = Command::new("unshare");
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--"]);
    command.args(["ip", "link", "add", "one", "type", "veth", "peer", "name", "other"]);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Capability::yes(NAME, match is_root {
            true => "as root",
            false => "in a user namespace",
        }),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let why = text.lines().next_back().unwrap_or("it was refused").trim();
            Capability::no(NAME, why, match is_root {
                true => "root of a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN",
                false => "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0 (those that there are), or run it as root",
            })
        }
        Err(error) => Capability::no(NAME, error.to_string(), "apt-get install util-linux"),
    }
}
