//! Log lines on stderr, and where that is a terminal, one line below them that
//! is drawn anew when something changes.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::termios::tcgetwinsize;

use crate::path::shown;

/// A terminal that does not say how wide it is.
const COLUMNS: usize = 80;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It ends.
    Error,
    /// Something stands in the way, or somebody should look.
    Warn,
    /// What goes on.
    Info,
    /// Each path.
    Debug,
}

impl Level {
    const ALL: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];

    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Level::Error => "\x1b[31m",
            Level::Warn => "\x1b[33m",
            Level::Info => "",
            Level::Debug => "\x1b[2m",
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| "it is one of error, warn, info, debug".to_owned())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What stderr can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Abilities {
    /// A line can be drawn anew.
    redraws: bool,
    colours: bool,
}

impl Abilities {
    fn of(is_terminal: bool, term: Option<&str>, no_color: Option<&str>) -> Self {
        let redraws = is_terminal && !matches!(term, None | Some("" | "dumb"));
        Self {
            redraws,
            colours: redraws && no_color.is_none_or(str::is_empty),
        }
    }

    fn of_stderr() -> Self {
        let variable = |name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
        Self::of(
            std::io::stderr().is_terminal(),
            variable("TERM").as_deref(),
            variable("NO_COLOR").as_deref(),
        )
    }
}

/// Where log lines go.
#[derive(Debug)]
pub struct Log {
    /// `None` logs nothing at all.
    most: Option<Level>,
    abilities: Abilities,
    /// The line that is drawn now.
    line: Mutex<String>,
}

impl Log {
    /// Logs to stderr what matters as much as this, and more.
    pub fn to_stderr(most: Level) -> Self {
        Self {
            most: Some(most),
            abilities: Abilities::of_stderr(),
            line: Mutex::default(),
        }
    }

    /// Logs nothing, for simulations.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self {
            most: None,
            abilities: Abilities::default(),
            line: Mutex::default(),
        }
    }

    /// Whether a line of this level is written.
    pub fn takes(&self, level: Level) -> bool {
        self.most.is_some_and(|most| level <= most)
    }

    /// One line, above the one that is drawn.
    pub fn write(&self, level: Level, text: &str) {
        if !self.takes(level) {
            return;
        }
        let drawn = lock(&self.line);
        let time = utc(SystemTime::now());
        put(&log_line(self.abilities, level, &time, text, &drawn));
    }

    /// Whether a line can be drawn.
    pub fn draws(&self) -> bool {
        self.abilities.redraws && self.most.is_some()
    }

    /// Draws a line in place of the last one; an empty one clears it.
    pub fn draw(&self, line: &str) {
        if !self.draws() {
            return;
        }
        let columns = tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        let line = fitted(line, if columns == 0 { COLUMNS } else { columns });
        let mut drawn = lock(&self.line);
        if *drawn != line {
            put(&format!("\r{line}\x1b[K"));
            *drawn = line;
        }
    }
}

/// A closed stderr must not end the daemon.
fn put(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// As it goes to stderr, with the drawn line after it.
fn log_line(abilities: Abilities, level: Level, time: &str, text: &str, drawn: &str) -> String {
    // It stays one line whatever is in it.
    let text = shown(text.as_bytes());
    let (colour, plain) = match level.colour() {
        "" => ("", ""),
        _ if !abilities.colours => ("", ""),
        colour => (colour, "\x1b[0m"),
    };
    let clear = if drawn.is_empty() { "" } else { "\r\x1b[K" };
    format!(
        "{clear}{time} {colour}{:<5}{plain} {text}\n{drawn}",
        level.name()
    )
}

/// Cut so that it does not reach the last column, where terminals wrap.
fn fitted(line: &str, columns: usize) -> String {
    let line = shown(line.as_bytes());
    line.chars().take(columns.saturating_sub(1)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A time as `2026-01-31T23:59:59.123Z`.
pub fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, secs) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Counted from 1 March of year 0, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_calendar_dates() {
        let at = |secs| utc(UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000Z");
    }

    #[test]
    fn a_log_line_is_one_line_above_the_drawn_one() {
        let plain = Abilities::default();
        let colours = Abilities::of(true, Some("xterm"), None);
        let at = "2026-01-31T23:59:59.123Z";
        let told = log_line(plain, Level::Info, at, "listening", "");
        assert_eq!(told, "2026-01-31T23:59:59.123Z info  listening\n");
        let told = log_line(colours, Level::Warn, at, "a\nb\x1b[2J", "42 %");
        assert_eq!(
            told,
            "\r\x1b[K2026-01-31T23:59:59.123Z \x1b[33mwarn \x1b[0m a\\nb\\u{1b}[2J\n42 %"
        );
    }

    #[test]
    fn only_a_terminal_that_can_is_drawn_to() {
        let check = |terminal, term, no_color, redraws, colours| {
            let found = Abilities::of(terminal, term, no_color);
            assert_eq!(found, Abilities { redraws, colours });
        };
        check(true, Some("xterm"), None, true, true);
        check(true, Some("xterm"), Some(""), true, true);
        check(true, Some("xterm"), Some("1"), true, false);
        check(true, Some("dumb"), None, false, false);
        check(true, None, None, false, false);
        check(false, Some("xterm"), None, false, false);
    }

    #[test]
    fn a_drawn_line_fits_into_the_terminal() {
        assert_eq!(fitted("transfer", 80), "transfer");
        assert_eq!(fitted("transfer", 5), "tran");
        assert_eq!(fitted("a\x1bb", 80), "a\\u{1b}b");
        assert_eq!(fitted("transfer", 1), "");
    }
}
