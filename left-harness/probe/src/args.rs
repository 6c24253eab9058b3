//! The command line, taken apart by hand: no parser is worth its bytes here.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::fail::{Fail, Result};

/// What a verb was given.
#[derive(Debug, Default)]
pub struct Args {
    flags: Vec<&'static str>,
    options: Vec<(&'static str, OsString)>,
    plain: Vec<OsString>,
    /// Everything after `--`.
    pub after: Vec<OsString>,
}

impl Args {
    /// Sorts arguments by the names the verb knows.
    pub fn parse(
        mut given: impl Iterator<Item = OsString>,
        flags: &[&'static str],
        options: &[&'static str],
    ) -> Result<Self> {
        let mut args = Self::default();
        while let Some(one) = given.next() {
            if one == "--" {
                args.after.extend(given.by_ref());
            } else if let Some(name) = flags.iter().find(|name| one == **name) {
                args.flags.push(name);
            } else if let Some(name) = options.iter().find(|name| one == **name) {
                let value = given
                    .next()
                    .ok_or_else(|| Fail(format!("{name} needs a value")))?;
                args.options.push((name, value));
            } else if one.as_bytes().starts_with(b"--") {
                let known: Vec<_> = flags.iter().chain(options).copied().collect();
                return Err(Fail(format!(
                    "unknown option {} (known: {})",
                    one.display(),
                    known.join(", ")
                )));
            } else {
                args.plain.push(one);
            }
        }
        Ok(args)
    }

    /// The flag was given.
    pub fn has(&self, name: &str) -> bool {
        self.flags.contains(&name)
    }

    /// Every value of an option, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a OsString> {
        self.options
            .iter()
            .filter(move |(option, _)| *option == name)
            .map(|(_, value)| value)
    }

    /// The last value of an option.
    pub fn value(&self, name: &str) -> Option<&OsString> {
        self.options
            .iter()
            .rev()
            .find(|(option, _)| *option == name)
            .map(|(_, value)| value)
    }

    /// An option that must be there.
    pub fn needed(&self, name: &str) -> Result<&OsString> {
        self.value(name)
            .ok_or_else(|| Fail(format!("{name} is missing")))
    }

    /// An option that must be there and UTF-8.
    pub fn text(&self, name: &str) -> Result<&str> {
        self.needed(name)?
            .to_str()
            .ok_or_else(|| Fail(format!("{name} is not UTF-8")))
    }

    /// An option that is a number, if it is there.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let parsed = value.to_str().and_then(|text| text.parse().ok());
        parsed.map(Some).ok_or_else(|| {
            Fail(format!(
                "{name} {} is not a number in range",
                value.display()
            ))
        })
    }

    /// An option that is a number and must be there.
    pub fn needed_number<T: FromStr>(&self, name: &str) -> Result<T> {
        self.number(name)?
            .ok_or_else(|| Fail(format!("{name} is missing")))
    }

    /// The only plain argument.
    pub fn one(&self, what: &str) -> Result<PathBuf> {
        match self.plain.as_slice() {
            [only] => Ok(PathBuf::from(only)),
            [] => Err(Fail(format!("{what} is missing"))),
            [_, second, ..] => Err(Fail(format!(
                "{} is one argument too many",
                second.display()
            ))),
        }
    }

    /// The first plain argument and those that follow.
    pub fn first_and_rest(&self, what: &str) -> Result<(PathBuf, &[OsString])> {
        let (first, rest) = self
            .plain
            .split_first()
            .ok_or_else(|| Fail(format!("{what} is missing")))?;
        Ok((PathBuf::from(first), rest))
    }

    /// No plain argument is allowed.
    pub fn none(&self) -> Result<()> {
        match self.plain.first() {
            Some(extra) => Err(Fail(format!(
                "{} is one argument too many",
                extra.display()
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[&str]) -> Result<Args> {
        Args::parse(
            given.iter().map(OsString::from),
            &["--quick"],
            &["--skip", "--size"],
        )
    }

    #[test]
    fn options_and_names_mix() {
        let args = parse(&[
            "root", "--quick", "--skip", "a", "--skip", "b", "--size", "7", "--", "--x",
        ])
        .unwrap();
        assert!(args.has("--quick"));
        assert_eq!(args.all("--skip").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(args.number::<u64>("--size").unwrap(), Some(7));
        assert_eq!(args.one("ROOT").unwrap(), PathBuf::from("root"));
        assert_eq!(args.after, ["--x"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            parse(&["--fast"]).unwrap_err().0,
            "unknown option --fast (known: --quick, --skip, --size)"
        );
        assert_eq!(parse(&["--size"]).unwrap_err().0, "--size needs a value");
        let args = parse(&["--size", "-1"]).unwrap();
        assert_eq!(
            args.number::<u64>("--size").unwrap_err().0,
            "--size -1 is not a number in range"
        );
        assert_eq!(args.one("ROOT").unwrap_err().0, "ROOT is missing");
    }
}
