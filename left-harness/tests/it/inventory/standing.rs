//! The user's own hosts, standing joined by a link: entered without naming them again.

use serde_json::Value;

use super::Inventory;
use super::crashed::relays_of;
use crate::bench::wait_until;
use crate::shell::Standing;
use crate::sshd::has;

#[test]
fn own_hosts_stand_joined_until_ctrl_c_and_are_entered_by_name() {
    if !has("ssh") {
        return;
    }
    let Some(inventory) = Inventory::new() else {
        return;
    };
    inventory.adopt();
    let cache = inventory.bench.path("cache");
    let mut up = inventory.command(&["lab", "up", "--json"]);
    up.env("XDG_CACHE_HOME", &cache);
    let standing = Standing::up(up);
    assert!(relays_of(&inventory) > 0, "the link is carried by relays");
    let address = |name: &str| standing.said["hosts"][0][name].as_str().map(str::to_owned);
    assert!(address("listen").is_some() && address("peer").is_some());

    // From another folder, with the words that were printed.
    for (host, sshd) in [(0, &inventory.a), (1, &inventory.b)] {
        let (said, code) = standing.ssh(host, "exit 4");
        assert_eq!((said.as_str(), code), ("", Some(4)), "{}", sshd.log());
    }
    let shell = |args: &[&str]| {
        let mut all = vec!["lab", "shell", "b"];
        all.extend(args);
        let mut command = inventory.bench.command(&all);
        command
            .env("XDG_CACHE_HOME", &cache)
            .env_remove("SSH_AUTH_SOCK");
        inventory.bench.ran(command.output().expect("it starts"))
    };
    for args in [
        &["--", "exit", "6"][..],
        &["--hosts", "hosts.toml", "--", "exit", "6"],
    ] {
        let ran = shell(args);
        assert_eq!(ran.code, 6, "{}", ran.all());
    }
    let mut status = inventory.command(&["lab", "status", "--json"]);
    let status = status.env("XDG_CACHE_HOME", &cache).output();
    let status = inventory.bench.ran(status.expect("it starts"));
    let seen: Value = serde_json::from_str(&status.stdout).expect("it is JSON");
    assert_eq!(seen["labs"][0]["id"], standing.said["id"], "{seen}");

    let ended = standing.interrupt();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    wait_until("its relays are gone", 12, || relays_of(&inventory) == 0);
    assert_eq!(inventory.left_on_hosts(), Vec::<std::path::PathBuf>::new());
    let labs = std::fs::read_dir(cache.join("left-harness/labs"));
    assert_eq!(labs.into_iter().flatten().count(), 0, "its entry is gone");
}
