//! Turns an argv into the one line that SSH can carry.
//!
//! SSH hands a command to the user's shell as text. This is the only place that
//! writes such text, so quoting is right everywhere or nowhere. The line always
//! ends in `exec`, so that no shell stays between us and the program: its exit
//! status and its death by a signal are reported as they are.

use super::remote::Command;

/// The line for `sh -c` that becomes `command`, or why there is none.
pub fn line(command: &Command) -> Result<String, String> {
    let Some(program) = command.argv.first() else {
        return Err("the command is empty".into());
    };
    if program.is_empty() || program.starts_with('-') {
        // Some shells would take it for an option of `exec`.
        return Err(format!("{program:?} cannot be the name of a program"));
    }
    let mut line = String::new();
    for (name, value) in &command.env {
        if !is_name(name) {
            return Err(format!(
                "{name:?} cannot be the name of an environment variable"
            ));
        }
        line += &format!("export {name}={}; ", quote(value)?);
    }
    line += "exec";
    for word in &command.argv {
        line.push(' ');
        line += &quote(word)?;
    }
    Ok(line)
}

/// The command for a person to read: short, and words quoted only where needed.
pub fn readable(argv: &[String]) -> String {
    const CHARS_MAX: usize = 120;
    let words: Vec<String> = argv
        .iter()
        .map(|word| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("{word:?}")
            }
        })
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The command for a person to paste: every word arrives as it is.
pub fn pasteable(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
    let words = argv.iter().map(|word| match quote(word) {
        Ok(quoted) if word.is_empty() || !word.chars().all(plain) => quoted,
        _ => word.clone(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> Result<String, String> {
    if word.contains('\0') {
        return Err(format!("{word:?} holds a zero byte"));
    }
    // Nothing is special between single quotes but the single quote itself.
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_sh(command: &Command) -> Vec<u8> {
        let line = line(command).unwrap();
        let out = std::process::Command::new("/bin/sh")
            .args(["-c", &line])
            .output();
        out.unwrap().stdout
    }

    #[test]
    fn every_byte_survives_the_shell() {
        // 0x80 and up occur as parts of UTF-8 sequences.
        let every: String = (1..=0x24ff).filter_map(char::from_u32).collect();
        let words = [
            every.as_str(),
            "",
            "'",
            "''",
            "a b",
            "$HOME `id` \\ \"",
            "-n",
            "*",
            "~",
            "\n",
        ];
        for word in words {
            let said = through_sh(&Command::new(["printf", "%s|%s", word, word]));
            assert_eq!(said, format!("{word}|{word}").into_bytes(), "{word:?}");
        }
    }

    #[test]
    fn what_is_pasted_arrives_as_it_is() {
        let words = [
            "printf",
            "%s|",
            "/a b/c",
            "it's",
            "",
            "$HOME",
            "UserKnownHostsFile=\"/x\"",
        ];
        let line = pasteable(&words.map(str::to_owned));
        let out = std::process::Command::new("/bin/sh")
            .args(["-c", &line])
            .output();
        assert_eq!(
            out.unwrap().stdout,
            b"/a b/c|it's||$HOME|UserKnownHostsFile=\"/x\"|"
        );
        let plain = ["ssh", "-F", "/run/user/0/config", "a"].map(str::to_owned);
        assert_eq!(pasteable(&plain), "ssh -F /run/user/0/config a");
    }

    #[test]
    fn environment_reaches_the_program() {
        let mut command = Command::new(["sh", "-c", "printf %s \"$LEFT_A$LEFT_B\""]);
        command.env = vec![
            ("LEFT_A".into(), "it's".into()),
            ("LEFT_B".into(), " $X".into()),
        ];
        assert_eq!(through_sh(&command), b"it's $X");
    }

    #[test]
    fn no_shell_stays_in_between() {
        let said = through_sh(&Command::new(["sh", "-c", "ps -o comm= -p $PPID || true"]));
        assert_ne!(said, b"sh\n");
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        assert!(line(&Command::new(Vec::<String>::new())).is_err());
        assert!(line(&Command::new(["a\0b"])).is_err());
        assert!(line(&Command::new(["-c"])).is_err());
        let mut command = Command::new(["true"]);
        command.env = vec![("A;rm".into(), "x".into())];
        assert!(line(&command).unwrap_err().contains("A;rm"));
    }

    #[test]
    fn long_commands_are_cut_for_people() {
        let shown = readable(&["sh".into(), "ä ".repeat(300)]);
        assert!(shown.ends_with('…') && shown.chars().count() == 121);
        assert_eq!(
            readable(&["cat".into(), "a b".into(), String::new()]),
            r#"cat "a b" """#
        );
    }
}
