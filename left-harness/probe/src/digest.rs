//! BLAKE3 of whole files.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::fail::{Doing, Fail, Result};
use crate::json::Line;

/// Fits the second-level cache, and large enough for the widest instructions.
pub const READ_BYTES: usize = 256 * 1024;

/// A file's hash and the number of bytes that went in.
pub fn hash_reader(mut from: impl Read, buffer: &mut [u8]) -> io::Result<(blake3::Hash, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok((hasher.finalize(), size)),
            Ok(some) => {
                hasher.update(&buffer[..some]);
                size += some as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `digest FILE...`
pub fn digest(files: &[OsString], out: &mut impl Write) -> Result<()> {
    for file in files {
        let line = match hash_file(Path::new(file)) {
            Ok((hash, size)) => Line::new()
                .name("path", file.as_bytes())
                .number("size", size)
                .text("blake3", &hash.to_hex()),
            Err(fail) => Line::new()
                .name("path", file.as_bytes())
                .text("problem", &fail.0),
        };
        out.write_all(line.end().as_bytes())
            .doing(|| "write the answer".into())?;
    }
    Ok(())
}

/// `self`: what is running here, for the one who deployed it.
pub fn own(out: &mut impl Write) -> Result<()> {
    let (hash, size) = hash_file(Path::new("/proc/self/exe"))?;
    let line = Line::new()
        .text("version", env!("CARGO_PKG_VERSION"))
        .number("size", size)
        .text("blake3", &hash.to_hex())
        .end();
    out.write_all(line.as_bytes())
        .doing(|| "write the answer".into())
}

fn hash_file(path: &Path) -> Result<(blake3::Hash, u64)> {
    // A pipe would make a plain open wait for its other end.
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32);
    let file = options
        .open(path)
        .doing(|| format!("open {}", path.display()))?;
    let meta = file
        .metadata()
        .doing(|| format!("look at {}", path.display()))?;
    if !meta.is_file() {
        return Err(Fail(format!("{} is no regular file", path.display())));
    }
    hash_reader(file, &mut vec![0; READ_BYTES]).doing(|| format!("read {}", path.display()))
}
