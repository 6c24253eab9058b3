//! From what a machine said to what it can carry, and what mends the rest.

use super::Facts;
use crate::check::text::{escaped, size_text};
use crate::lab::capability::Capability;
use crate::sut::build::PROBE;
use crate::sut::machine;

/// Programs, content of a few hundred megabytes on each side, and its parts.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// Beyond this, times of two hosts cannot be compared, and a conflict that the later
/// mtime decides goes the wrong way.
const CLOCK_SECONDS_MAX: f64 = 1.0;

/// What the user has said of a host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// The probe may use `sudo -n`.
    pub sudo: bool,
    /// The program under test may run as root.
    pub root: bool,
}

/// Everything about one machine, in the order in which it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// Without one of these nothing runs there.
    pub needed: Vec<Capability>,
    /// More can be tested with these.
    pub helpful: Vec<Capability>,
}

impl Judged {
    /// What keeps everything from running, in sentences.
    pub fn missing(&self) -> Vec<String> {
        self.needed.iter().filter_map(Capability::missing).collect()
    }
}

impl Facts {
    /// What this machine can carry as a host.
    pub fn judge(&self, limits: Limits) -> Judged {
        let mut needed = vec![self.system(), self.proc()];
        needed.extend([self.room(), self.executes(), self.user(limits)]);
        let mut helpful = vec![self.architecture()];
        helpful.extend(self.clock());
        helpful.extend([
            self.tool("tc", "shapes the network", &TC),
            self.tool("nft", "cuts the network", &NFT),
            self.netem(),
            self.tool("strace", "makes system calls fail", &STRACE),
            self.cgroup(),
        ]);
        helpful.extend(self.sudo(limits));
        Judged { needed, helpful }
    }

    fn text(&self, key: &str) -> String {
        escaped(self.get(key).unwrap_or("?").as_bytes())
    }

    fn system(&self) -> Capability {
        let system = format!("{} {}", self.text("system"), self.text("kernel"));
        match self.get("system") {
            Some("Linux") => Capability::yes("system", system),
            _ => Capability::no("system", format!("it is {system}"), "hosts need Linux"),
        }
    }

    /// Programs for another kind of processor must be brought along.
    fn architecture(&self) -> Capability {
        const NAME: &str = "architecture";
        let arch = self.text("arch");
        let ours = std::env::consts::ARCH;
        if arch == ours {
            return Capability::yes(NAME, arch);
        }
        let mend = machine::how_to_build(PROBE, PROBE, &arch);
        Capability::no(
            NAME,
            format!("it is {arch}, this machine {ours}: nothing is built for it here"),
            mend.split_whitespace().collect::<Vec<_>>().join(" "),
        )
    }

    fn proc(&self) -> Capability {
        match self.get("proc") {
            Some(_) => Capability::yes("/proc", "readable"),
            None => Capability::no(
                "/proc",
                "it cannot be read: processes cannot be seen",
                "`mount -t proc proc /proc` as root",
            ),
        }
    }

    fn room(&self) -> Capability {
        const NAME: &str = "free space";
        let folder = self.text("folder");
        if self.get("writable").is_none() {
            return Capability::no(
                NAME,
                format!("{folder} cannot be written to"),
                "choose another folder, or give this one to whoever logs in",
            );
        }
        let free = self.get("free_kib").and_then(|kib| kib.parse::<u64>().ok());
        match free.map(|kib| kib.saturating_mul(1024)) {
            Some(free) if free < FREE_BYTES_MIN => Capability::no(
                NAME,
                format!("{} at {folder}", size_text(free)),
                format!(
                    "make room, or choose a folder with at least {}",
                    size_text(FREE_BYTES_MIN)
                ),
            ),
            Some(free) => Capability::yes(NAME, format!("{} at {folder}", size_text(free))),
            None => Capability::yes(NAME, "unknown: `df` does not say"),
        }
    }

    fn executes(&self) -> Capability {
        const NAME: &str = "executes programs";
        let options = self.get("mount_options").unwrap_or_default();
        match options.split(',').any(|option| option == "noexec") {
            true => Capability::no(
                NAME,
                format!(
                    "{} lies on a file system that is mounted noexec",
                    self.text("folder")
                ),
                "choose a folder elsewhere",
            ),
            false => Capability::yes(NAME, "its file system is not noexec"),
        }
    }

    fn user(&self, limits: Limits) -> Capability {
        const NAME: &str = "ordinary user";
        let user = self.text("user");
        if !self.is_root() {
            return Capability::yes(NAME, user);
        }
        // The local lab runs as whoever runs the harness, whose own affair that is.
        if limits.root || self.is_here {
            return Capability::yes(NAME, "root, which is allowed; permissions prove nothing");
        }
        Capability::no(
            NAME,
            "the login is root, and so would the program under test be",
            "log in as another user, or say `root = true` for this host",
        )
    }

    fn clock(&self) -> Option<Capability> {
        const NAME: &str = "clock";
        let ahead = self.clock_ahead?;
        let doubt = self.clock_doubt;
        let (size, way) = (ahead.abs(), if ahead < 0.0 { "behind" } else { "ahead" });
        Some(match size - doubt > CLOCK_SECONDS_MAX {
            true => Capability::no(
                NAME,
                format!("it is {size:.1} s {way} of this machine's (± {doubt:.1} s)"),
                "keep both in time, for instance by chrony or systemd-timesyncd",
            ),
            false => Capability::yes(NAME, format!("within {:.1} s", size.max(doubt))),
        })
    }

    fn netem(&self) -> Capability {
        match self.get("netem") {
            Some(_) => Capability::yes("netem", "the kernel delays and loses packets"),
            None => Capability::no(
                "netem",
                "the kernel has no sch_netem: it delays and loses no packets",
                match self.family() {
                    Family::Fedora => "`dnf install kernel-modules-extra`".to_owned(),
                    _ => "a kernel with CONFIG_NET_SCH_NETEM; or leave it: the local lab delays, \
                          the netns lab loses packets without"
                        .to_owned(),
                },
            ),
        }
    }

    fn cgroup(&self) -> Capability {
        match self.get("cgroup2") {
            Some(mount) => Capability::yes("cgroup v2", escaped(mount.as_bytes())),
            None => Capability::no(
                "cgroup v2",
                "it is not mounted: programs are killed one by one",
                "`mount -t cgroup2 none /sys/fs/cgroup` as root",
            ),
        }
    }

    fn sudo(&self, limits: Limits) -> Option<Capability> {
        if !limits.sudo || self.is_root() {
            return None;
        }
        Some(match self.get("sudo") {
            Some(_) => Capability::yes("sudo", "`sudo -n` works"),
            None => Capability::no(
                "sudo",
                "`sudo -n true` is refused",
                format!(
                    "a line `{} ALL=(root) NOPASSWD: ALL` in /etc/sudoers.d, or `sudo = false`",
                    self.text("user")
                ),
            ),
        })
    }

    fn tool(&self, name: &'static str, does: &str, package: &Package) -> Capability {
        match self.get(&format!("has_{name}")) {
            Some(path) => Capability::yes(name, escaped(path.as_bytes())),
            None => Capability::no(
                name,
                format!("not installed; it {does}"),
                self.install(package),
            ),
        }
    }

    /// The command that installs a package here.
    pub fn install(&self, package: &Package) -> String {
        let Package {
            debian,
            fedora,
            alpine,
        } = package;
        match self.family() {
            Family::Debian => format!("`apt-get install {debian}`"),
            Family::Fedora => format!("`dnf install {fedora}`"),
            Family::Alpine => format!("`apk add {alpine}`"),
            Family::Other => format!(
                "install {debian} (`apt-get install {debian}`, `dnf install {fedora}`, `apk add {alpine}`)"
            ),
        }
    }

    fn family(&self) -> Family {
        let said = self.values.get("os").into_iter().flatten();
        let words: Vec<&str> = said
            .flat_map(|value| value.split(['"', ' ', '\'']))
            .collect();
        let any = |names: &[&str]| names.iter().any(|name| words.contains(name));
        if any(&["debian", "ubuntu"]) {
            Family::Debian
        } else if any(&["fedora", "rhel", "centos"]) {
            Family::Fedora
        } else if any(&["alpine"]) {
            Family::Alpine
        } else {
            Family::Other
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Debian,
    Fedora,
    Alpine,
    Other,
}

/// What a program is in, where it is known.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    debian: &'static str,
    fedora: &'static str,
    alpine: &'static str,
}

const TC: Package = Package {
    debian: "iproute2",
    fedora: "iproute-tc",
    alpine: "iproute2-tc",
};
const NFT: Package = Package {
    debian: "nftables",
    fedora: "nftables",
    alpine: "nftables",
};
const STRACE: Package = Package {
    debian: "strace",
    fedora: "strace",
    alpine: "strace",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::capability::Have;

    fn facts(said: &str) -> Facts {
        let arch = std::env::consts::ARCH;
        let good = format!(
            "system=Linux\nkernel=6.1\narch={arch}\nuid=1000\nuser=alice\nproc=yes\n\
             folder=/srv/x\nwritable=yes\nfree_kib=9000000\nmount_options=rw,nosuid\n{said}\nend=yes\n"
        );
        Facts::parse(good.as_bytes()).expect("complete")
    }

    #[test]
    fn a_good_host_lacks_nothing_it_needs() {
        assert_eq!(
            facts("").judge(Limits::default()).missing(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_missing_thing_comes_with_what_mends_it() {
        for (said, shown) in [
            ("system=FreeBSD", "hosts need Linux"),
            ("proc=", "mount -t proc"),
            ("free_kib=1000", "make room"),
            ("writable=", "/srv/x cannot be written to"),
            (
                "mount_options=rw,noexec",
                "mounted noexec; choose a folder elsewhere",
            ),
            ("uid=0", "say `root = true`"),
        ] {
            let missing = facts(said).judge(Limits::default()).missing();
            assert_eq!(missing.len(), 1, "{said}: {missing:?}");
            assert!(missing[0].contains(shown), "{said}: {missing:?}");
        }
        let root = Limits {
            root: true,
            ..Limits::default()
        };
        assert!(facts("uid=0").judge(root).missing().is_empty());
    }

    #[test]
    fn another_architecture_comes_with_the_line_that_builds_for_it() {
        let judged = facts("arch=riscv64").judge(Limits::default());
        assert!(judged.missing().is_empty(), "programs can be brought along");
        let missing = judged.helpful[0].missing().expect("another one");
        assert!(
            missing.contains("--target riscv64gc-unknown-linux-musl"),
            "{missing}"
        );
        assert!(missing.contains("--bin-dir DIR"), "{missing}");
    }

    #[test]
    fn packages_are_those_of_the_system() {
        for (os, command) in [
            ("os=debian", "`apt-get install iproute2`"),
            (
                "os=rocky\nos=\"rhel centos fedora\"",
                "`dnf install iproute-tc`",
            ),
            ("os=alpine", "`apk add iproute2-tc`"),
            ("os=nixos", "install iproute2 (`apt-get"),
        ] {
            let judged = facts(os).judge(Limits::default());
            let tc = judged.helpful.iter().find(|one| one.name == "tc");
            let missing = tc.and_then(Capability::missing).expect("it is not there");
            assert!(missing.contains(command), "{os}: {missing}");
        }
    }

    #[test]
    fn only_a_clock_that_is_certainly_off_is_complained_about() {
        for (ahead, doubt, good) in [(0.5, 0.0, true), (-3.0, 0.2, false), (3.0, 2.5, true)] {
            let mut facts = facts("");
            (facts.clock_ahead, facts.clock_doubt) = (Some(ahead), doubt);
            let judged = facts.judge(Limits::default());
            let clock = judged.helpful.iter().find(|one| one.name == "clock");
            let clock = clock.expect("it was compared");
            assert_eq!(matches!(clock.state, Have::Yes(_)), good, "{ahead} {doubt}");
        }
    }

    #[test]
    fn sudo_is_only_asked_about_where_it_is_allowed() {
        let has = |limits| {
            let judged = facts("").judge(limits);
            judged.helpful.iter().any(|one| one.name == "sudo")
        };
        assert!(!has(Limits::default()));
        assert!(has(Limits {
            sudo: true,
            ..Limits::default()
        }));
    }
}
