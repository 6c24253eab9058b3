//! `look blocks`: the hash of each block of one file, to find where two files differ.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use rustix::fs::Mode;

use crate::beneath;
use crate::digest::hash_reader;
use crate::fail::{Doing, Fail, Result};
use crate::json::Line;

/// Hashes a file block by block.
pub fn blocks(path: &Path, block_bytes: u64, out: impl Write) -> Result<()> {
    if block_bytes == 0 {
        return Err(Fail("--block 0 is no size of a block".into()));
    }
    let opened = rustix::fs::open(path, beneath::FILE, Mode::empty());
    let file = File::from(opened.doing(|| format!("open {}", path.display()))?);
    let stat = rustix::fs::fstat(&file).doing(|| format!("look at {}", path.display()))?;
    if !beneath::is_file(&stat) {
        return Err(Fail(format!("{} is no regular file", path.display())));
    }
    let mut out = BufWriter::new(out);
    let say = |out: &mut BufWriter<_>, line: Line| {
        out.write_all(line.end().as_bytes())
            .doing(|| "write the answer".into())
    };
    say(&mut out, Line::new().number("size", stat.st_size as u64))?;
    let mut buffer = vec![0; crate::digest::READ_BYTES];
    for block in 0u64.. {
        let (hash, size) = hash_reader((&file).take(block_bytes), &mut buffer)
            .doing(|| format!("read {}", path.display()))?;
        if size == 0 {
            break;
        }
        say(
            &mut out,
            Line::new()
                .number("block", block)
                .text("blake3", &hash.to_hex()),
        )?;
    }
    say(&mut out, Line::new().yes("end"))?;
    out.flush().doing(|| "write the answer".into())
}
