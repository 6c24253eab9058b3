//! dropbear in a view of its own: busybox is the only userland, `/` a folder of the
//! test. Needs user namespaces and nothing else, as root and as an ordinary user.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{Sshd, has, keygen, read, said, start, write_private};

/// Who lives there; no user of this machine.
const USER: &str = "tester";
const ID: &str = "1000";

/// Makes the view around the prepared folder `$1`, then becomes the server: `/` is
/// that folder, root is nobody, and who dies takes everything along.
const ENTER: &str = r#"
set -e
root=$1; shift
for folder in usr/lib usr/lib64 usr/lib32; do
    [ -d "/$folder" ] || continue
    mkdir -p "$root/$folder"
    mount --rbind "/$folder" "$root/$folder"
done
for device in null zero full urandom random tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t proc proc "$root/proc"
# A disk that is soon full, for whoever wants one.
mount -t tmpfs -o size=1m,mode=1777 small "$root/small"
# And one that looks large, but has room for few files.
mount -t tmpfs -o size=4g,nr_inodes=60,mode=1777 few "$root/few"
exec unshare --user --map-user="$ID" --map-group="$ID" --root="$root" --wd=/ \
    env -i PATH=/usr/bin:/bin "$@"
"#;

impl Sshd {
    /// dropbear, with nothing but busybox's programs and OpenSSH's sftp-server.
    pub fn dropbear(name: &str) -> Option<Self> {
        let programs = [
            "dropbear",
            "dropbearkey",
            "busybox",
            "unshare",
            "ssh-keygen",
        ];
        let sbin = ["/usr/sbin/dropbear"];
        let sftp = ["/usr/lib/sftp-server"];
        let lacks = |all: &[&str]| !all.iter().all(|program| has(program));
        if lacks(&sbin) || lacks(&programs[1..]) || lacks(&sftp) || !can_enter() {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        // Only its owner could go through the folder otherwise, who is another there.
        let open = std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755));
        open.expect("a mode can be set");
        let at = |name: &str| dir.path().join(name);
        keygen(&at("id"), &["-t", "ed25519", "-N", ""]);
        let host_key = said(
            "dropbearkey",
            &["-t", "ed25519", "-f", &at("host").display().to_string()],
        );
        let host_key = host_key.lines().find(|line| line.starts_with("ssh-"));
        let host_key = host_key
            .expect("dropbearkey prints the public key")
            .to_owned();

        let root = at("root");
        furnish(&root, &read(&at("id.pub")));
        std::fs::copy(at("host"), root.join("etc/host")).expect("a file can be copied");
        let (port, child) = start(&at("log"), |port| {
            let mut command = Command::new("unshare");
            command
                .args(["--user", "--map-root-user", "--mount", "--pid", "--fork"])
                .args(["--kill-child", "sh", "-c", ENTER, "enter"])
                .arg(&root)
                .args(["/usr/sbin/dropbear", "-F", "-E", "-r", "/etc/host", "-p"])
                .arg(format!("127.0.0.1:{port}"))
                .env("ID", ID);
            command
        });
        let mut sshd = Self {
            name: name.into(),
            port,
            user: USER.into(),
            identity: at("id"),
            known_hosts: at("known_hosts"),
            host_keys: vec![host_key],
            home: format!("/home/{USER}").into(),
            root,
            dir,
            child,
        };
        sshd.know();
        Some(sshd)
    }
}

/// Whether an ordinary user may make a view of its own here.
fn can_enter() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork"]);
    command.args([
        "sh",
        "-c",
        "d=$(mktemp -d) && mount -t proc proc $d; s=$?; umount $d; rmdir $d; exit $s",
    ]);
    let out = command.output().expect("unshare starts");
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        eprintln!(
            "skipped: no user namespaces with /proc here: {}",
            why.trim()
        );
    }
    out.status.success()
}

/// Puts a whole small machine into a folder.
fn furnish(root: &Path, authorized: &str) {
    let home = format!("home/{USER}");
    let ssh = format!("{home}/.ssh");
    for folder in [
        "bin", "dev", "etc", "few", "proc", "run", "small", "tmp", "usr/sbin", "var/log", &ssh,
    ] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder can be made");
    }
    for (folder, mode) in [("tmp", 0o1777), (&home, 0o755), (&ssh, 0o700)] {
        let path = root.join(folder);
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode can be set");
    }
    for (link, to) in [("usr/bin", "../bin"), ("sbin", "bin")] {
        symlink(to, root.join(link)).expect("a link can be made");
    }
    for name in ["lib", "lib64", "lib32"] {
        // Where this machine has them apart, the loader finds them all the same.
        symlink(format!("usr/{name}"), root.join(name)).expect("a link can be made");
    }
    std::fs::copy(which("busybox"), root.join("bin/busybox")).expect("busybox can be copied");
    std::fs::copy("/usr/sbin/dropbear", root.join("usr/sbin/dropbear"))
        .expect("dropbear can be copied");
    for applet in said("busybox", &["--list"]).lines() {
        let path = root.join("bin").join(applet);
        if applet != "busybox" && !path.exists() {
            symlink("busybox", path).expect("a link can be made");
        }
    }
    let write = |name: &str, text: String| {
        std::fs::write(root.join(name), text).expect("a file can be written");
    };
    let shell = "/bin/sh";
    write(
        "etc/passwd",
        format!("root:x:0:0::/root:{shell}\n{USER}:x:{ID}:{ID}::/home/{USER}:{shell}\n"),
    );
    write("etc/group", format!("root:x:0:\n{USER}:x:{ID}:\n"));
    write("etc/shells", format!("{shell}\n"));
    write_private(&root.join(ssh).join("authorized_keys"), authorized);
}

fn which(program: &str) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(program));
    found
        .find(|path| path.exists())
        .expect("it was found before")
}
