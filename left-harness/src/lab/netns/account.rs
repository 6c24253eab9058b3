//! Who works in the hosts: never root, and the owner of what lies in their folders.

use std::path::Path;

use anyhow::{Context, Result};

use super::message::Account;

/// Its number where the harness is root: an unprivileged one in a range that neither
/// distributions nor systemd give away (60578 to 61183).
const ROOTS_ACCOUNT: u32 = 60_942;

/// Who the program under test runs as: never root.
pub(super) fn choose() -> Result<Account> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() {
        return Ok(Account {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            nested: true,
        });
    }
    // Who has become root by sudo finds files of their own afterwards.
    let number = |name: &str| -> Option<u32> {
        let number = std::env::var(name).ok()?.parse().ok()?;
        (number != 0).then_some(number)
    };
    let (uid, gid) = match (number("SUDO_UID"), number("SUDO_GID")) {
        (Some(uid), Some(gid)) => (uid, gid),
        _ => (ROOTS_ACCOUNT, ROOTS_ACCOUNT),
    };
    Ok(Account {
        uid,
        gid,
        nested: false,
    })
}

/// Gives the folder of a host to the account that works in it, with the folder of
/// programs, which root may fill by `lab deploy`. Nothing below is touched: what the
/// account has put there could be a link to anything.
pub(super) fn give(home: &Path, account: Account) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, lchown};
    let bin = home.join("bin");
    let made = std::fs::DirBuilder::new().mode(0o700).create(&bin);
    made.or_else(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    })
    .and_then(|()| lchown(home, Some(account.uid), Some(account.gid)))
    .and_then(|()| lchown(&bin, Some(account.uid), Some(account.gid)))
    .with_context(|| format!("cannot give {} to the hosts", home.display()))
}
