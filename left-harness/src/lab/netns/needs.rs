//! What a netns lab needs of this machine, looked for before anything is made.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::lab::capability::Capability;

/// Where servers lie that are not in everybody's `PATH`.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Each thing that the lab needs, and how what is missing is mended.
pub fn capabilities() -> Vec<Capability> {
    let mut all = vec![
        server(),
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

/// OpenSSH's server: in `PATH`, or where programs lie that are not in everybody's. It
/// insists on being called by its full path.
pub fn sshd() -> Option<PathBuf> {
    find_sshd(&std::env::var_os("PATH").unwrap_or_default())
}

fn find_sshd(path: &OsStr) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).chain(SBIN.iter().map(PathBuf::from));
    let mut files = folders.map(|folder| folder.join("sshd"));
    let found = files.find(|file| file.is_absolute() && is_program(file))?;
    // A link may lead through a folder that the hosts have for themselves, such as /run.
    found.canonicalize().ok()
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|stat| stat.is_file() && stat.permissions().mode() & 0o111 != 0)
}

fn server() -> Capability {
    const NAME: &str = "OpenSSH server";
    match sshd() {
        Some(file) => Capability::yes(NAME, file.display().to_string()),
        None => Capability::no(
            NAME,
            format!("no sshd in PATH, {}", SBIN.join(", ")),
            "apt-get install openssh-server",
        ),
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
    command.args([
        "ip", "link", "add", "one", "type", "veth", "peer", "name", "other",
    ]);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Capability::yes(
            NAME,
            match is_root {
                true => "as root",
                false => "in a user namespace",
            },
        ),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let why = text.lines().next_back().unwrap_or("it was refused").trim();
            Capability::no(
                NAME,
                why,
                match is_root {
                    true => "root of a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN",
                    false => {
                        "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0 (those that there are), or run it as root"
                    }
                },
            )
        }
        Err(error) => Capability::no(NAME, error.to_string(), "apt-get install util-linux"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_server_is_found_in_the_path_by_its_real_name() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let dir = dir.path().canonicalize().expect("it is there");
        let real = dir.join("store-sshd");
        std::fs::write(&real, "").expect("written");
        symlink(&real, dir.join("sshd")).expect("linked");
        assert_ne!(find_sshd(dir.as_os_str()), Some(real.clone()), "no program");
        let program = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&real, program).expect("it is ours");
        let path = std::env::join_paths(["relative".as_ref(), dir.as_path()]).expect("a path");
        assert_eq!(find_sshd(&path), Some(real));
    }
}
