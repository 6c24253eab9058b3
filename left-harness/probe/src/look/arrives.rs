//! `look arrives`: waits until wanted contents lie under their names, all at the same look.

use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::beneath::{self, Stamp};
use crate::digest::{READ_BYTES, hash_reader};
use crate::fail::{Doing, Fail, Result};
use crate::json::{Line, unhex};

/// A line of the question: two hashes' worth of digits and a long path.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Paths in one question.
const WANTED_MAX: usize = 1_000_000;
/// File systems stamp with the clock of the last timer tick, at most this coarse.
const STAMP_STEP_NS: i128 = 20_000_000;
const INTERVAL_MIN: Duration = Duration::from_millis(1);
const INTERVAL_MAX: Duration = Duration::from_millis(20);

struct Wanted {
    path: Vec<u8>,
    /// `None` wants a folder.
    hash: Option<[u8; 32]>,
    /// Where the asker knows it; saves hashing what cannot fit.
    size: Option<u64>,
    seen: Option<Seen>,
}

/// What was hashed, and how long that stays true.
struct Seen {
    stamp: Stamp,
    hash: [u8; 32],
    /// The file could have been written again within the same time stamp.
    racy: bool,
    /// A file that grows under its own name is not hashed at every look.
    not_before: Instant,
}

/// Answers once everything is there, or when `within` is over. Ends when `questions` does.
pub fn arrives(
    root: &Path,
    within: Duration,
    mut questions: impl BufRead + AsFd,
    out: &mut impl Write,
) -> Result<()> {
    let deadline = Instant::now() + within;
    let root = beneath::open_root(root)?;
    let mut wanted = read_wanted(&mut questions)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let began = Instant::now();
        let missing = look(&root, &mut wanted, &mut buffer);
        let line = match missing {
            None => Line::new().yes("arrived"),
            Some(missing) if Instant::now() >= deadline => Line::new()
                .no("arrived")
                .number("missing", missing.count)
                .name("first", &missing.first)
                .text("why", &missing.why),
            Some(_) => {
                // A look at many paths costs more, so it is taken less often.
                let pause = (began.elapsed() * 4).clamp(INTERVAL_MIN, INTERVAL_MAX);
                let pause = pause.min(deadline.saturating_duration_since(Instant::now()));
                if asker_is_gone(&questions, pause)? {
                    return Ok(());
                }
                continue;
            }
        };
        return out
            .write_all(line.end().as_bytes())
            .and_then(|()| out.flush())
            .doing(|| "write the answer".into());
    }
}

fn read_wanted(questions: &mut impl BufRead) -> Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    loop {
        let mut line = Vec::new();
        let read = questions
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .doing(|| "read the question".into())?;
        if read == 0 || line.pop() != Some(b'\n') {
            return Err(Fail("the question ends before its line end".into()));
        }
        if line == b"end" {
            return Ok(wanted);
        }
        if wanted.len() == WANTED_MAX {
            return Err(Fail(format!(
                "more than {WANTED_MAX} paths in one question"
            )));
        }
        let one = parse_wanted(&line);
        wanted.push(one.ok_or_else(|| {
            Fail(format!(
                "no such line is known: {}",
                String::from_utf8_lossy(&line)
            ))
        })?);
    }
}

fn parse_wanted(line: &[u8]) -> Option<Wanted> {
    let mut words = line.split(|byte| *byte == b' ');
    let hash = match words.next()? {
        b"-" => None,
        digits => Some(unhex(digits)?.try_into().ok()?),
    };
    let path = unhex(words.next()?)?;
    let size = match words.next() {
        Some(digits) => Some(std::str::from_utf8(digits).ok()?.parse().ok()?),
        None => None,
    };
    beneath::components(&path)?;
    words.next().is_none().then_some(Wanted {
        path,
        hash,
        size,
        seen: None,
    })
}

struct Missing {
    count: u64,
    first: Vec<u8>,
    why: String,
}

fn look(root: &OwnedFd, wanted: &mut [Wanted], buffer: &mut [u8]) -> Option<Missing> {
    let mut missing: Option<Missing> = None;
    for one in wanted {
        if let Err(why) = one.look(root, buffer) {
            match &mut missing {
                Some(missing) => missing.count += 1,
                None => {
                    missing = Some(Missing {
                        count: 1,
                        first: one.path.clone(),
                        why,
                    })
                }
            }
        }
    }
    missing
}

impl Wanted {
    fn look(&mut self, root: &OwnedFd, buffer: &mut [u8]) -> std::result::Result<(), String> {
        let trouble = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR => "absent".to_string(),
            Errno::LOOP => "differs: a link is in the way".to_string(),
            other => crate::fail::reason(&other.into()),
        };
        let Some(hash) = self.hash else {
            return beneath::open(root, &self.path, beneath::DIRECTORY)
                .map(|_| ())
                .map_err(trouble);
        };
        let file =
            std::fs::File::from(beneath::open(root, &self.path, beneath::FILE).map_err(trouble)?);
        let stat = rustix::fs::fstat(&file).map_err(trouble)?;
        if !beneath::is_file(&stat) {
            return Err(format!(
                "differs: a {} lies there",
                beneath::kind_word(&stat)
            ));
        }
        let size = stat.st_size as u64;
        if let Some(wanted) = self.size
            && wanted != size
        {
            return Err(format!("size {size} instead of {wanted}"));
        }
        let stamp = Stamp::of(&stat);
        if let Some(seen) = &self.seen {
            let still_true = seen.stamp == stamp && !seen.racy;
            if (still_true || Instant::now() < seen.not_before) && seen.hash != hash {
                return Err("differs".into());
            }
            if still_true {
                return Ok(());
            }
        }
        let began = Instant::now();
        let racy = now_ns() - stamp.changed_ns() < STAMP_STEP_NS;
        let (found, _) = hash_reader(&file, buffer).map_err(|error| crate::fail::reason(&error))?;
        let after = rustix::fs::fstat(&file).map_err(trouble)?;
        let found = *found.as_bytes();
        self.seen = Some(Seen {
            stamp,
            hash: found,
            racy,
            not_before: Instant::now() + began.elapsed() * 2,
        });
        if Stamp::of(&after) != stamp {
            return Err("changed while it was read".into());
        }
        if found == hash {
            Ok(())
        } else {
            Err("differs".into())
        }
    }
}

fn now_ns() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as i128)
}

/// Waits for the pause to pass, or for the end of the question's channel.
fn asker_is_gone(questions: &impl AsFd, pause: Duration) -> Result<bool> {
    let mut fds = [PollFd::new(questions, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: pause.as_secs() as i64,
        tv_nsec: pause.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) | Err(Errno::INTR) => Ok(false),
        Ok(_) => {
            // Nothing more is ever asked: whatever is readable now is the end, or noise.
            let mut byte = [0];
            Ok(rustix::io::read(questions, &mut byte).doing(|| "read the question".into())? == 0)
        }
        Err(error) => Err(error).doing(|| "wait".into()),
    }
}
