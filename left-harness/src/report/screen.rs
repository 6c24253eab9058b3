//! What the place that is written to can show.

use std::io::IsTerminal;

use super::text::Charset;

/// Columns where the terminal does not say.
const COLUMNS_DEFAULT: usize = 80;

/// Whether lines may be drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A terminal: bars that move, and colour.
    Live,
    /// A file, a pipe, or the user wants it quiet: lines, and nothing but lines.
    Plain,
}

/// How to write to one of the standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Live or plain.
    pub style: Style,
    /// Which characters.
    pub charset: Charset,
}

impl Screen {
    /// Of standard error.
    pub fn of_stderr() -> Self {
        Self::with(std::io::stderr().is_terminal(), env)
    }

    /// Of standard output.
    pub fn of_stdout() -> Self {
        Self::with(std::io::stdout().is_terminal(), env)
    }

    fn with(is_terminal: bool, env: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| env(name).filter(|value| !value.is_empty());
        let is_dumb = set("TERM").is_none_or(|term| term == "dumb");
        let style = if is_terminal && !is_dumb && set("NO_COLOR").is_none() {
            Style::Live
        } else {
            Style::Plain
        };
        // The first that is set decides, as in setlocale.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        let charset = if locale.contains("utf-8") || locale.contains("utf8") {
            Charset::Unicode
        } else {
            Charset::Ascii
        };
        Self { style, charset }
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Columns of the terminal behind standard error, now: it may be resized.
pub fn columns() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => COLUMNS_DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(is_terminal: bool, env: &[(&str, &str)]) -> (Style, Charset) {
        let get = |name: &str| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        };
        let screen = Screen::with(is_terminal, get);
        (screen.style, screen.charset)
    }

    #[test]
    fn only_a_willing_terminal_is_drawn_on() {
        let good = [("TERM", "xterm"), ("LANG", "de_CH.UTF-8")];
        assert_eq!(screen(true, &good), (Style::Live, Charset::Unicode));
        assert_eq!(screen(false, &good), (Style::Plain, Charset::Unicode));
        let quiet = [("TERM", "xterm"), ("NO_COLOR", "1")];
        assert_eq!(screen(true, &quiet).0, Style::Plain);
        let unset = [("TERM", "xterm"), ("NO_COLOR", "")];
        assert_eq!(screen(true, &unset).0, Style::Live);
        assert_eq!(screen(true, &[("TERM", "dumb")]).0, Style::Plain);
        assert_eq!(screen(true, &[]).0, Style::Plain);
    }

    #[test]
    fn first_locale_that_is_set_decides() {
        let charset = |env: &[(&str, &str)]| screen(true, env).1;
        assert_eq!(charset(&[]), Charset::Ascii);
        assert_eq!(
            charset(&[("LC_ALL", "C"), ("LANG", "x.utf8")]),
            Charset::Ascii
        );
        assert_eq!(
            charset(&[("LC_ALL", ""), ("LANG", "x.utf8")]),
            Charset::Unicode
        );
    }
}
