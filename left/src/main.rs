//! The program: reads the command line, runs a daemon or asks about one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::Parser;

use left::cli::{Cli, Command, ConfirmArgs, RestoreArgs, StatusArgs};
use left::control::{self, Answer, Request};
use left::daemon::{Ended, INDEX_FILE, Settings, answer_from_disk, begin_again, run};
use left::index::Index;
use left::log::utc;
use left::path::{STATE_DIR, escape_bytes, shown, unescape_bytes};
use left::plan::copied_name;
use left::session::random;
use left::share::Share;
use left::status::STATUS_FILE;
use left::version::ReplicaId;

/// A heap that all threads share: what one gave back another one takes. With a
/// heap for each thread, a daemon grows by what its scanner needs after its engine
/// needed as much.
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Status(args)) => status(&args),
        Some(Command::Confirm(args)) => confirm(&args),
        Some(Command::Restore(args)) => restore(&args),
        Some(Command::Conflicts(args)) => conflicts(&args),
        Some(Command::Join(args)) => {
            let is_meant = args.yes;
            told(ask(&args.share, Request::Join { is_meant }), false)
        }
        Some(Command::ForgetPeer(args)) => told(ask(&args.share, Request::ForgetPeer), false),
        None => daemon(&cli),
    }
}

fn daemon(cli: &Cli) -> ExitCode {
    let Some(peer) = cli.run.ip else {
        return complain("--ip is missing", 2);
    };
    if !cli.run.insecure {
        return complain(
            "this version cannot encrypt or authenticate yet, so it starts only with --insecure.\n\
             With --insecure anybody on the way can read and change what is transferred, and only the\n\
             address given by --ip is let in. Use it on networks you trust, or through a tunnel.",
            2,
        );
    }
    let settings = Settings {
        peer,
        listen: cli.run.listen,
        share: cli.run.share.clone(),
        events: cli.run.events.clone(),
        log_level: cli.run.level(),
    };
    match run(&settings) {
        Ok(Ended::Told) => ExitCode::SUCCESS,
        Ok(Ended::ToBeginAgain) => {
            let error = begin_again();
            complain(&format!("cannot begin again: {error}"), 1)
        }
        Err(error) => complain(&error.to_string(), error.exit_code()),
    }
}

fn status(args: &StatusArgs) -> ExitCode {
    let shown = args.share.display();
    let running = match Share::is_locked(&args.share) {
        Ok(running) => running,
        Err(error) => return complain(&format!("cannot open share {shown}: {error}"), 1),
    };
    if !running {
        if args.json {
            say("{\"running\":false}\n");
        } else {
            say(&format!("no left runs on {shown}\n"));
        }
        return ExitCode::from(4);
    }
    let text = match control::ask(&args.share, &Request::Status) {
        Ok(Answer::Status { json, .. }) if args.json => json + "\n",
        Ok(Answer::Status { text, .. }) => text,
        // Where it cannot be asked, there is the file, of the last time that it could
        // be written.
        _ => match std::fs::read_to_string(args.share.join(STATE_DIR).join(STATUS_FILE)) {
            Ok(text) => text,
            Err(error) => {
                return complain(&format!("cannot read the status of {shown}: {error}"), 1);
            }
        },
    };
    say(&text);
    ExitCode::SUCCESS
}

fn confirm(args: &ConfirmArgs) -> ExitCode {
    let set = args.set.clone();
    told(ask(&args.share, Request::Confirm { set }), false)
}

fn restore(args: &RestoreArgs) -> ExitCode {
    let request = match &args.path {
        None => Request::Trash,
        Some(path) => {
            // A path that begins with the share's is meant to be in it.
            let path = path.strip_prefix(&args.share).unwrap_or(path);
            let path = escape_bytes(path.as_os_str().as_encoded_bytes());
            Request::Restore { path }
        }
    };
    told(ask(&args.share, request), args.json)
}

/// Asks the daemon on a share; where none runs, looks itself.
fn ask(share: &Path, request: Request) -> Result<Answer, String> {
    let shown = shown(share.as_os_str().as_encoded_bytes());
    match Share::is_locked(share) {
        Ok(true) => control::ask(share, &request)
            .map_err(|error| format!("cannot ask the left that runs on {shown}: {error}")),
        Ok(false) => {
            let index = share.join(STATE_DIR).join(INDEX_FILE);
            if !index.exists() {
                return Err(format!("{shown} was never kept the same with another"));
            }
            let opened = Share::open(share).map_err(|error| error.to_string())?;
            // As the daemon opens it: a state that was copied, say, is another replica.
            let fresh = (ReplicaId(random()), random());
            let (index, aside) = Index::open(&index, fresh).map_err(|error| error.to_string())?;
            if let Some(aside) = aside {
                let kept = aside.path.display();
                return Err(format!(
                    "{}; it is kept as {kept}, and the next left that runs on {shown} builds it anew",
                    aside.why
                ));
            }
            Ok(answer_from_disk(&opened, &index, request))
        }
        Err(error) => Err(format!("cannot open share {shown}: {error}")),
    }
}

fn told(answer: Result<Answer, String>, json: bool) -> ExitCode {
    match answer {
        Ok(Answer::Done(text)) => {
            say(&format!("{text}\n"));
            ExitCode::SUCCESS
        }
        Ok(Answer::Refused(text)) => complain(&text, 5),
        Ok(Answer::Status { .. }) => complain("another question was answered", 1),
        Ok(Answer::Trash(items)) if json => {
            say(&format!("{}\n", serde_json::json!(items)));
            ExitCode::SUCCESS
        }
        Ok(Answer::Trash(items)) => {
            if items.is_empty() {
                say("nothing lies in the trash\n");
            }
            for item in items {
                let path = unescape_bytes(&item.path).unwrap_or_default();
                let removed = utc(UNIX_EPOCH + Duration::from_secs(item.removed));
                say(&format!("{removed}  {:>14}  {}\n", item.size, shown(&path)));
            }
            ExitCode::SUCCESS
        }
        Err(text) => complain(&text, 1),
    }
}

fn conflicts(args: &StatusArgs) -> ExitCode {
    let mut found = match find_copies(&args.share) {
        Ok(found) => found,
        Err(error) => {
            let shown = shown(args.share.as_os_str().as_encoded_bytes());
            return complain(&format!("cannot look through {shown}: {error}"), 1);
        }
    };
    found.sort();
    if args.json {
        let all: Vec<_> = found
            .iter()
            .map(|(path, copy)| {
                serde_json::json!({"path": escape_bytes(path), "copy": escape_bytes(copy)})
            })
            .collect();
        say(&format!("{}\n", serde_json::json!(all)));
        return ExitCode::SUCCESS;
    }
    if found.is_empty() {
        say("there are no conflict copies\n");
    }
    for (path, copy) in found {
        say(&format!("{}\n  {}\n", shown(&path), shown(&copy)));
    }
    ExitCode::SUCCESS
}

/// Each conflict copy in a share, with the path that it is a copy of.
fn find_copies(share: &Path) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    // By their names and not one in the other, as a deep tree has more folders than a
    // process may have open.
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(share.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if path == Path::new(STATE_DIR) {
                continue;
            }
            if let Some(original) = copied_name(entry.file_name().as_encoded_bytes()) {
                let mut of = folder.as_os_str().as_encoded_bytes().to_vec();
                if !of.is_empty() {
                    of.push(b'/');
                }
                of.extend(original);
                found.push((of, path.as_os_str().as_encoded_bytes().to_vec()));
            }
            // Not through a link.
            if entry.file_type()?.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

/// A closed stdout is no reason to panic.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "left: {text}");
    ExitCode::from(code)
}
