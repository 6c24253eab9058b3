//! The program: reads the command line, runs a daemon or asks about one.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use left::cli::{Cli, Command, StatusArgs};
use left::daemon::{Ended, Settings, begin_again, run};
use left::path::STATE_DIR;
use left::share::Share;
use left::status::{STATUS_FILE, Status};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Status(args)) => status(&args),
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
    };
    match run(&settings) {
        Ok(Ended::Told) => ExitCode::SUCCESS,
        Ok(Ended::ToBeginAgain) => {
            let error = begin_again();
            complain(
                &format!("cannot begin again after the index failed: {error}"),
                1,
            )
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
    let status = match read_status(&args.share) {
        Ok(status) => status,
        Err(error) => return complain(&format!("cannot read the status of {shown}: {error}"), 1),
    };
    if args.json {
        let mut value = serde_json::json!(status);
        value["running"] = true.into();
        say(&format!("{value}\n"));
        return ExitCode::SUCCESS;
    }
    let Status {
        state,
        pid,
        replica,
        peer,
        connected,
        entries,
        wanted,
        withheld,
        ..
    } = &status;
    let connection = if *connected {
        "connected"
    } else {
        "not connected"
    };
    say(&format!(
        "state:     {state}\nprocess:   {pid}\nreplica:   {replica}\npeer:      {peer} ({connection}, INSECURE: nothing is encrypted)\n\
         entries:   {entries}, of the peer's still to be taken {wanted}, of those withheld deletions {withheld}\n\
         received:  {} bytes\nsent:      {} bytes\n",
        status.received_bytes, status.sent_bytes,
    ));
    let looked = ["initialization", "scanning", "termination"];
    if !status.watching && !looked.contains(&state.as_str()) {
        say("changes:   found by looking at everything in turn, not by watching\n");
    }
    for problem in &status.problems {
        say(&format!(
            "problem:   {}\n",
            left::path::shown(problem.as_bytes())
        ));
    }
    ExitCode::SUCCESS
}

fn read_status(share: &Path) -> std::io::Result<Status> {
    let text = std::fs::read(share.join(STATE_DIR).join(STATUS_FILE))?;
    Ok(serde_json::from_slice(&text)?)
}

/// A closed stdout is no reason to panic.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "left: {text}");
    ExitCode::from(code)
}
