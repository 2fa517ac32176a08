//! What TOML's reader complains of, in words that quote nothing of the file: its lines hold passwords.

use toml::de::Error;

use super::Config;

/// Keys, and tables of keys, whose values may be secrets. What stands in the place of one of their tables may be one, too.
const SECRET: [&str; 7] = [
    "admin.token",
    "kafka.brokers",
    "kafka.options",
    "projects",
    "redis.url",
    "storage.options",
    "storage.url",
];

/// Why a file is no TOML: where, and what was expected.
pub(super) fn not_toml(error: &Error, text: &str) -> String {
    format!("{}{}", position(error, text), unquoted(error.message()))
}

/// Why a value is not of its key's kind: which, where in the file, and what was expected. `text` is the file's, in which
/// the environment may have changed what is wrong.
pub(super) fn wrong_value(error: &Error, text: &str) -> String {
    let message = error.message();
    let in_file = toml::from_str::<Config>(text).err();
    let in_file = in_file.filter(|in_file| in_file.message() == message);
    let position = in_file.map_or_else(String::new, |in_file| position(&in_file, text));
    let key = key(error);
    let shown = match &key {
        Some(key) if !may_be_secret(key) => message.to_owned(),
        Some(_) | None => unquoted(message),
    };
    let key = key.map_or_else(String::new, |key| format!("{key}: "));
    format!("{position}{key}{}", shown.trim_end())
}

/// `line 3, column 7: `, counted from 1; nothing when it is not known.
fn position(error: &Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = before else {
        return String::new();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: ")
}

/// The key that the error names in its last line.
fn key(error: &Error) -> Option<String> {
    let mut error = error.clone();
    error.set_input(None);
    let text = error.to_string();
    let line = text.lines().next_back()?;
    let key = line.strip_prefix("in `")?.strip_suffix('`')?;
    Some(key.to_owned())
}

fn may_be_secret(key: &str) -> bool {
    let holds = |outer: &str, inner: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
    };
    let mut secrets = SECRET.iter();
    secrets.any(|secret| holds(secret, key) || holds(key, secret))
}

/// The message without the value that it quotes: `invalid type: string "…", expected a map` without the text.
fn unquoted(message: &str) -> String {
    const QUOTES: [char; 2] = ['"', '`'];
    let message = message.lines().next().unwrap_or_default();
    // What was expected is ours and comes last; what was found may hold anything, quotes and the word itself as well.
    let (found, expected) = match message.rfind("expected ") {
        Some(at) => message.split_at(at),
        None => (message, ""),
    };
    let found = match (found.find(QUOTES), found.rfind(QUOTES)) {
        (Some(first), Some(last)) => format!("{}[redacted]{}", &found[..first], &found[last + 1..]),
        (_, _) => found.to_owned(),
    };
    // Ours say what was found last.
    let expected = expected
        .split_once(", found ")
        .map_or(expected, |(expected, _)| expected);
    format!("{found}{expected}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use toml::Table;

    use super::*;

    fn wrong(text: &str) -> String {
        let table: Table = text.parse().expect(text);
        let error = Config::deserialize(table).expect_err(text);
        wrong_value(&error, text)
    }

    #[test]
    fn a_wrong_value_is_named_by_key_and_place_and_a_secret_one_is_not_shown() {
        for (text, start) in [
            (
                "[admin]\ntoken = [\"hunter2\"]",
                "line 2, column 9: admin.token: ",
            ),
            (
                "[redis]\nurl = { x = \"hunter2\" }",
                "line 2, column 7: redis.url: ",
            ),
            (
                "redis = \"redis://:hunter2@h\"",
                "line 1, column 9: redis: ",
            ),
            ("projects = \"hunter2\"", "line 1, column 12: projects: "),
            (
                "[[projects]]\nid = 1\nkeys = [\"hunter2 \\\" expected x\"]",
                "line 3, column 9: projects",
            ),
            (
                "[storage]\nurl = [\"hunter2\"]",
                "line 2, column 7: storage.url: ",
            ),
            ("kafka = \"hunter2\"", "line 1, column 9: kafka: "),
        ] {
            let told = wrong(text);
            assert!(told.starts_with(start), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
            assert!(told.contains("expected"), "{told}");
        }
    }

    #[test]
    fn a_value_that_is_no_secret_is_shown() {
        let told = wrong("[limits]\nform = \"many\"");
        assert_eq!(
            told,
            "line 2, column 8: limits.form: expected a size like \"200MiB\", \"64KiB\" or \"1GiB\", found \"many\""
        );
    }

    #[test]
    fn what_is_no_toml_is_named_by_its_place_without_its_line() {
        for text in [
            "[admin]\ntoken = hunter2",
            "[admin]\ntoken = \"hunter2",
            "[redis]\nurl = redis://:hunter2@h",
            "[redis]\nurl = \"a\"\nurl = \"hunter2\"",
            "[redis\nurl = \"hunter2\"",
            "hunter2",
            "a = \"\\hunter2\"",
        ] {
            let error = text.parse::<Table>().expect_err(text);
            let told = not_toml(&error, text);
            assert!(told.starts_with("line "), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
