//! The harness's small helper on a host: looks at files, generates them, holds one process.
//!
//! One verb a run. All answers are JSON Lines on standard output; mistakes in
//! the command line go to standard error with exit code 2, failures with 1.
//! Nothing of the program under test is in here, and nothing here is in it.

mod args;
mod beneath;
mod bridge;
mod caps;
mod content;
mod control;
mod digest;
mod fail;
mod family;
mod guard;
mod hold;
mod holder;
mod json;
mod lease;
mod look;
mod process;
mod relay;
mod remove;
mod stage;
mod undo;
mod write;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::args::Args;
use crate::fail::{Doing, Fail, Result};

const HELP: &str = "\
left-harness-probe VERB …: answers in JSON Lines

look
  digest FILE...                              size and BLAKE3 of files
  self                                        version and BLAKE3 of this program
  caps FOLDER                                 what this host can do
  look tree ROOT [--quick] [--skip NAME]...   all that is below ROOT, sorted
  look blocks FILE --block N                  BLAKE3 of each block of N bytes
  look parts ROOT GLOB...                     names that match, size, allocated
  look arrives ROOT --within MS               waits for the contents named on stdin
  look run ID                                 processes of a run, with their ports
  end ID                                      kills those that are not probes
write
  write DEST --seed S --size N --temp T [--mode 644]
        [--content random|text|zeros] [--in-place]
  tree DEST --seed S --files N --size BYTES --temp T
  overwrite FILE --seed S --at OFFSET --size N
hold
  hold --dir D --lease-ms MS [--cwd C] [--env K=V]... [--listen PORT]
       [--nofile N] -- ARGV...                orders: renew, signal NAME, kill
  guard --dir D --id ID --lease-ms MS [--make]
                                              orders: renew, heal, dismiss
  guard --undo --dir D --lease-ms MS --within-ms MS -- ARGV...
                                              the same for the undo of a fault
  ctl --dir D                                 talks to a hold or guard again
wire
  relay --data ADDR:PORT --lease-ms MS [--rate BYTES] [--delay-us US]
                       orders, each after a number: renew, join TOKEN ADDR:PORT,
                       arm ID BYTES hold|flow, noticed ID, stand ID, release ID,
                       cut, heal, count, end
";

/// Ten minutes; a lease protects against a harness that is gone, not against a slow one.
const LEASE_MAX: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let mut given = std::env::args_os().skip(1);
    let verb = given.next().unwrap_or_default();
    if verb == "--help" || verb == "help" {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let verb = match verb.to_str() {
        Some("look") => format!("look {}", given.next().unwrap_or_default().display()),
        _ => verb.display().to_string(),
    };
    let work = match prepare(&verb, given) {
        Ok(work) => work,
        Err(mistake) => {
            eprintln!("left-harness-probe {verb}: {mistake}");
            return ExitCode::from(2);
        }
    };
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fail) => {
            eprintln!("left-harness-probe {verb}: {fail}");
            ExitCode::FAILURE
        }
    }
}

type Work = Box<dyn FnOnce() -> Result<()>>;

/// Reads the command line to its end before anything is done.
fn prepare(verb: &str, given: impl Iterator<Item = OsString>) -> Result<Work> {
    match verb {
        "digest" => {
            let args = Args::parse(given, &[], &[])?;
            let (first, rest) = args.first_and_rest("FILE")?;
            let files: Vec<_> = std::iter::once(first.into_os_string())
                .chain(rest.iter().cloned())
                .collect();
            Ok(Box::new(move || digest::digest(&files, &mut io::stdout())))
        }
        "self" => {
            Args::parse(given, &[], &[])?.none()?;
            Ok(Box::new(|| digest::own(&mut io::stdout())))
        }
        "caps" => {
            let folder = Args::parse(given, &[], &[])?.one("FOLDER")?;
            Ok(Box::new(move || caps::caps(&folder, io::stdout())))
        }
        "look run" | "end" => {
            let id = Args::parse(given, &[], &[])?.one("ID")?;
            let id = id.to_str().filter(|id| !id.is_empty());
            let id = id.ok_or_else(|| Fail("ID is not UTF-8".into()))?.to_owned();
            match verb {
                "end" => Ok(Box::new(move || look::run::end(&id, io::stdout()))),
                _ => Ok(Box::new(move || look::run::run(&id, io::stdout()))),
            }
        }
        "look tree" | "look blocks" | "look parts" | "look arrives" => prepare_look(verb, given),
        "write" | "tree" | "overwrite" => prepare_write(verb, given),
        "hold" | "guard" | "ctl" | "holder" | "guardian" | "exec-stage" => {
            prepare_hold(verb, given)
        }
        "relay" => {
            let options = ["--data", "--lease-ms", "--rate", "--delay-us"];
            let args = Args::parse(given, &[], &options)?;
            args.none()?;
            let data = args.text("--data")?.parse();
            let spec = relay::Spec {
                data: data.map_err(|_| Fail("--data is not ADDR:PORT".into()))?,
                lease: lease(&args)?,
                rate: args.number("--rate")?,
                delay: Duration::from_micros(args.number("--delay-us")?.unwrap_or(0)),
            };
            Ok(Box::new(move || relay::relay(&spec)))
        }
        "" => Err(Fail("no verb is given; --help lists them".into())),
        _ => Err(Fail("no such verb; --help lists them".into())),
    }
}

fn prepare_look(verb: &str, given: impl Iterator<Item = OsString>) -> Result<Work> {
    match verb {
        "look tree" => {
            let args = Args::parse(given, &["--quick"], &["--skip"])?;
            let root = args.one("ROOT")?;
            let skip = args.all("--skip").cloned().collect();
            let depth = if args.has("--quick") {
                look::tree::Depth::Quick
            } else {
                look::tree::Depth::Hashed
            };
            Ok(Box::new(move || {
                look::tree::tree(&root, skip, depth, io::stdout())
            }))
        }
        "look blocks" => {
            let args = Args::parse(given, &[], &["--block"])?;
            let (file, block) = (args.one("FILE")?, args.needed_number("--block")?);
            Ok(Box::new(move || {
                look::blocks::blocks(&file, block, io::stdout())
            }))
        }
        "look parts" => {
            let args = Args::parse(given, &[], &[])?;
            let (root, globs) = args.first_and_rest("ROOT")?;
            let globs = globs.to_vec();
            Ok(Box::new(move || {
                look::parts::parts(&root, &globs, io::stdout())
            }))
        }
        _ => {
            let args = Args::parse(given, &[], &["--within"])?;
            let root = args.one("ROOT")?;
            let within = Duration::from_millis(args.needed_number("--within")?);
            Ok(Box::new(move || {
                look::arrives::arrives(&root, within, io::stdin().lock(), &mut io::stdout())
            }))
        }
    }
}

fn prepare_write(verb: &str, given: impl Iterator<Item = OsString>) -> Result<Work> {
    match verb {
        "write" => {
            let args = Args::parse(
                given,
                &["--in-place"],
                &["--seed", "--size", "--temp", "--mode", "--content"],
            )?;
            let kind = args
                .value("--content")
                .map_or(Some("random"), |word| word.to_str());
            let kind = kind.and_then(content::Kind::parse);
            let how = if args.has("--in-place") {
                write::How::InPlace
            } else {
                write::How::Renamed(PathBuf::from(args.needed("--temp")?))
            };
            let wanted = write::Wanted {
                dest: args.one("DEST")?,
                seed: args.text("--seed")?.to_string(),
                size: args.needed_number("--size")?,
                mode: mode(
                    args.value("--mode")
                        .map_or(OsStr::new("644"), OsString::as_os_str),
                )?,
                kind: kind.ok_or_else(|| Fail("--content is one of random, text, zeros".into()))?,
                how,
            };
            Ok(Box::new(move || write::write(&wanted, &mut io::stdout())))
        }
        "tree" => {
            let args = Args::parse(given, &[], &["--seed", "--files", "--size", "--temp"])?;
            let (dest, temp) = (args.one("DEST")?, PathBuf::from(args.needed("--temp")?));
            let seed = args.text("--seed")?.to_string();
            let (files, size) = (
                args.needed_number("--files")?,
                args.needed_number("--size")?,
            );
            Ok(Box::new(move || {
                write::tree(&dest, &seed, files, size, &temp, &mut io::stdout())
            }))
        }
        _ => {
            let args = Args::parse(given, &[], &["--seed", "--at", "--size"])?;
            let (file, seed) = (args.one("FILE")?, args.text("--seed")?.to_string());
            let (at, size) = (args.needed_number("--at")?, args.needed_number("--size")?);
            Ok(Box::new(move || {
                write::overwrite(&file, &seed, at, size, &mut io::stdout())
            }))
        }
    }
}

fn prepare_hold(verb: &str, given: impl Iterator<Item = OsString>) -> Result<Work> {
    match verb {
        "ctl" => {
            let args = Args::parse(given, &[], &["--dir"])?;
            args.none()?;
            let folder = PathBuf::from(args.needed("--dir")?);
            Ok(Box::new(move || bridge::reconnect(&folder)))
        }
        "guard" | "guardian" => {
            let options = ["--dir", "--id", "--lease-ms", "--within-ms"];
            let args = Args::parse(given, &["--make", "--undo"], &options)?;
            args.none()?;
            if args.has("--undo") {
                return prepare_undo(verb, &args);
            }
            let folder = PathBuf::from(args.needed("--dir")?);
            let make = args.has("--make");
            let spec = guard::Spec {
                folder,
                id: args.text("--id")?.to_string(),
                lease: lease(&args)?,
            };
            if verb == "guardian" {
                return Ok(Box::new(move || guard::guard(spec)));
            }
            Ok(Box::new(move || {
                let folder =
                    std::path::absolute(&spec.folder).doing(|| "find the current folder".into())?;
                let lease_ms = spec.lease.as_millis().to_string();
                let options = [
                    "--id".into(),
                    spec.id.clone().into(),
                    "--lease-ms".into(),
                    lease_ms.into(),
                ];
                if !make {
                    guard::check(&folder, &spec.id)?;
                    return hold::start("guardian", &folder, &options, &[]);
                }
                guard::make(&folder, &spec.id)?;
                let guarded = hold::start("guardian", &folder, &options, &[]);
                if guarded.is_err() {
                    // Nobody guards what we made: it must not stay.
                    guard::unmake(&folder, &spec.id)?;
                }
                guarded
            }))
        }
        "hold" | "holder" => {
            let options = [
                "--dir",
                "--lease-ms",
                "--cwd",
                "--env",
                "--listen",
                "--nofile",
            ];
            let given: Vec<_> = given.collect();
            let args = Args::parse(given.iter().cloned(), &[], &options)?;
            args.none()?;
            let spec = held(&args)?;
            if verb == "holder" {
                return Ok(Box::new(move || holder::hold(spec)));
            }
            Ok(Box::new(move || {
                let folder = hold::make_folder(&spec.folder)?;
                // Relative names mean our current folder, not the holder's.
                let cwd =
                    std::path::absolute(&spec.cwd).doing(|| "find the current folder".into())?;
                let mut options = vec![
                    "--lease-ms".into(),
                    spec.lease.as_millis().to_string().into(),
                ];
                options.extend(["--cwd".into(), cwd.into_os_string()]);
                for (key, value) in spec.env {
                    let mut pair = key;
                    pair.push("=");
                    pair.push(value);
                    options.extend(["--env".into(), pair]);
                }
                if let Some(port) = spec.listen {
                    options.extend(["--listen".into(), port.to_string().into()]);
                }
                if let Some(files) = spec.open_files {
                    options.extend(["--nofile".into(), files.to_string().into()]);
                }
                hold::start("holder", &folder, &options, &spec.argv)
            }))
        }
        _ => {
            let args = Args::parse(given, &[], &["--holder", "--cwd", "--nofile"])?;
            let (holder, folder) = (
                args.needed_number("--holder")?,
                PathBuf::from(args.needed("--cwd")?),
            );
            let files = args.number("--nofile")?;
            Ok(Box::new(move || {
                stage::stage(holder, &folder, files, &args.after)
            }))
        }
    }
}

fn prepare_undo(verb: &str, args: &Args) -> Result<Work> {
    if args.after.is_empty() {
        return Err(Fail("no program is given after --".into()));
    }
    let spec = undo::Spec {
        folder: PathBuf::from(args.needed("--dir")?),
        lease: lease(args)?,
        within: Duration::from_millis(args.needed_number("--within-ms")?).min(LEASE_MAX),
        argv: args.after.clone(),
    };
    if verb == "guardian" {
        return Ok(Box::new(move || undo::guard(&spec)));
    }
    Ok(Box::new(move || {
        let folder = hold::make_folder(&spec.folder)?;
        let number = |time: Duration| OsString::from(time.as_millis().to_string());
        let options = [
            "--undo".into(),
            "--lease-ms".into(),
            number(spec.lease),
            "--within-ms".into(),
            number(spec.within),
        ];
        hold::start("guardian", &folder, &options, &spec.argv)
    }))
}

fn held(args: &Args) -> Result<holder::Spec> {
    if args.after.is_empty() {
        return Err(Fail("no program is given after --".into()));
    }
    Ok(holder::Spec {
        folder: PathBuf::from(args.needed("--dir")?),
        lease: lease(args)?,
        cwd: PathBuf::from(args.value("--cwd").map_or(Path::new("."), Path::new)),
        env: args
            .all("--env")
            .map(|pair| key_and_value(pair))
            .collect::<Result<_>>()?,
        listen: args.number("--listen")?,
        open_files: args.number("--nofile")?,
        argv: args.after.clone(),
    })
}

fn lease(args: &Args) -> Result<Duration> {
    let lease = Duration::from_millis(args.needed_number("--lease-ms")?);
    if lease.is_zero() || lease > LEASE_MAX {
        return Err(Fail(format!(
            "--lease-ms is from 1 to {}",
            LEASE_MAX.as_millis()
        )));
    }
    Ok(lease)
}

fn key_and_value(pair: &OsStr) -> Result<(OsString, OsString)> {
    let bytes = pair.as_bytes();
    let split = bytes
        .iter()
        .position(|byte| *byte == b'=')
        .filter(|at| *at > 0);
    let at = split.ok_or_else(|| Fail(format!("--env {} is not KEY=VALUE", pair.display())))?;
    Ok((
        OsString::from_vec(bytes[..at].to_vec()),
        OsString::from_vec(bytes[at + 1..].to_vec()),
    ))
}

fn mode(digits: &OsStr) -> Result<u32> {
    let mode = digits
        .to_str()
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Fail(format!("--mode {} is no octal mode", digits.display())))
}
