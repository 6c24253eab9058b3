//! Disks that are full, or get full on the way: nobody's fault but the host's.

use super::{FOLDER, Inventory, table};
use crate::bench::Ran;
use crate::sshd::Sshd;

const MANY: &str = r#"
about = "More files than the disk of b has room for."
seed  = 3
step = [
  { start = ["a", "b"] },
  { tree  = { on = "b", path = "folder", files = 200, size = "1KiB" } },
  { settle = { within = "30s", quiet = "1s" } },
]
[expect]
trees = "identical"
"#;

const MANY_SENT: &str = r#"
about = "More files arrive than the disk of b has room for."
seed  = 3
step = [
  { start = ["a", "b"] },
  { tree  = { on = "a", path = "folder", files = 200, size = "1KiB" } },
  { settle = { within = "10s", quiet = "1s" } },
]
[expect]
trees = "identical"
"#;

/// b's folder lies on this disk of a host with busybox.
fn on_disk(disk: &str) -> Option<Inventory> {
    let inventory = Inventory::of(Sshd::openssh("one")?, Sshd::dropbear("two")?);
    let b = table("b", &inventory.b, "").replace(
        &format!("{:?}", inventory.b.home.join(FOLDER)),
        &format!("{:?}", format!("{disk}/left")),
    );
    let hosts = table("a", &inventory.a, "") + &b;
    inventory.bench.write("hosts.toml", &hosts);
    inventory.adopt();
    Some(inventory)
}

fn run(inventory: &Inventory, text: &str) -> Ran {
    let scenario = inventory.bench.write("scenario.toml", text);
    inventory.run_file(&scenario)
}

#[test]
fn a_host_without_room_is_refused_before_anything_is_sent() {
    let Some(inventory) = on_disk("/small") else {
        return;
    };
    let ran = run(&inventory, MANY);
    assert_eq!(ran.code, 3, "{}", ran.all());
    for shown in ["host b cannot be used", "free space", "make room"] {
        assert!(ran.all().contains(shown), "{shown}: {}", ran.all());
    }
}

#[test]
fn a_disk_that_gets_full_under_the_harness_is_infrastructure() {
    let Some(inventory) = on_disk("/few") else {
        return;
    };
    let ran = run(&inventory, MANY);
    assert_eq!(ran.code, 3, "{}", ran.all());
    for shown in ["host b", "no space left on device", "free some space"] {
        assert!(ran.all().contains(shown), "{shown}: {}", ran.all());
    }
}

#[test]
fn a_disk_that_gets_full_under_the_program_is_not_held_against_it() {
    let Some(inventory) = on_disk("/few") else {
        return;
    };
    let ran = run(&inventory, MANY_SENT);
    assert_eq!(ran.code, 4, "{}", ran.all());
    for shown in ["the disk of host b is full", "nobody can tell"] {
        assert!(ran.all().contains(shown), "{shown}: {}", ran.all());
    }
}
