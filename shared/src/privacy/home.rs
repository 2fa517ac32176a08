//! Users' names in paths: what stands behind `/home/`, `/Users/`, `C:\Users\` becomes `~`.
//!
//! A path may be written with either slash, doubled as in C and JSON, or percent-encoded as in URLs. Where a name with
//! blanks has no slash behind it, nobody can tell where it ends: then what follows goes with it.

/// Instead of the name.
const NAMELESS: &str = "~";
/// Directories beside the users' own, on Windows and macOS.
const SHARED: [&str; 5] = ["public", "default", "default user", "all users", "shared"];
/// The parents of home directories on Windows, which does not mind case.
const WINDOWS_PARENTS: [&str; 3] = [
    "users",
    "documents and settings",
    "documents%20and%20settings",
];
/// On the other systems.
const UNIX_PARENTS: [&str; 2] = ["home", "Users"];

/// The text without names, and how many there were; `None` when there was none.
pub(super) fn without_names(text: &str) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let mut without = String::new();
    let (mut names, mut copied, mut at) = (0, 0, 0);
    while at < bytes.len() {
        let slash = slashes(bytes, at);
        if slash == 0 {
            at += 1;
            continue;
        }
        let is_windows = is_windows(bytes, at, slash);
        at += slash;
        let Some(parent) = parent(&text[at..], is_windows) else {
            continue;
        };
        let behind = slashes(bytes, at + parent);
        let begin = at + parent + behind;
        if behind == 0 {
            continue;
        }
        let name = name_bytes(&text[begin..], is_windows);
        at = begin + name;
        if is_a_users(&text[begin..begin + name]) {
            without.push_str(&text[copied..begin]);
            without.push_str(NAMELESS);
            copied = begin + name;
            names += 1;
        }
    }
    without.push_str(&text[copied..]);
    (names > 0).then_some((without, names))
}

/// Bytes of the slashes that begin at `at`, however they are written.
fn slashes(bytes: &[u8], at: usize) -> usize {
    let mut end = at;
    while let Some(slash) = slash(&bytes[end..]) {
        end += slash;
    }
    end - at
}

fn slash(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'/' | b'\\', ..] => Some(1),
        [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..] => Some(3),
        _ => None,
    }
}

/// Whether the slashes follow a drive, or are Windows' own.
fn is_windows(bytes: &[u8], at: usize, slash: usize) -> bool {
    let own = bytes[at..at + slash]
        .iter()
        .any(|byte| b"\\5".contains(byte));
    let before = &bytes[..at];
    let drive = before
        .strip_suffix(b":")
        .or_else(|| before.strip_suffix(b"%3A"))
        .or_else(|| before.strip_suffix(b"%3a"));
    // `https://users/…` is no path; `--dir=xC:/users/…` may be one.
    let url = bytes[at..].starts_with(b"//");
    own || drive.is_some_and(|drive| match drive {
        [.., before, letter] => {
            letter.is_ascii_alphabetic() && !(url && before.is_ascii_alphanumeric())
        }
        [letter] => letter.is_ascii_alphabetic(),
        [] => false,
    })
}

/// Bytes of the parent directory of users' own that `text` begins with.
fn parent(text: &str, is_windows: bool) -> Option<usize> {
    let windows = WINDOWS_PARENTS
        .iter()
        .filter(|_| is_windows)
        .find(|parent| {
            let start = text.get(..parent.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(parent))
        });
    let parent = windows.or_else(|| {
        UNIX_PARENTS
            .iter()
            .find(|parent| text.starts_with(**parent))
    });
    parent.map(|parent| parent.len())
}

/// Bytes of the name that `text` begins with.
fn name_bytes(text: &str, is_windows: bool) -> usize {
    let bytes = text.as_bytes();
    let ends = |(at, c): &(usize, char)| {
        let ends_any =
            matches!(c, '"' | '<' | '>' | '|' | '*' | '?' | ':' | ';' | '`') || c.is_control();
        let ends_unix = matches!(
            c,
            '\'' | ',' | '(' | ')' | '[' | ']' | '{' | '}' | '&' | '=' | '#'
        ) || c.is_whitespace();
        ends_any || (ends_unix && !is_windows) || slash(&bytes[*at..]).is_some()
    };
    let end = text.char_indices().find(ends);
    end.map_or(text.len(), |(at, _)| at)
}

fn is_a_users(name: &str) -> bool {
    let name = name.trim();
    let shared = SHARED
        .iter()
        .any(|shared| name.eq_ignore_ascii_case(shared));
    !name.is_empty() && !shared && name.contains(|c| c != '.' && c != '~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_go_from_paths_of_every_system() {
        for (written, without) in [
            ("/home/ada/app/x.log", "/home/~/app/x.log"),
            ("/home/ada", "/home/~"),
            ("/var/home/ada/x", "/var/home/~/x"),
            ("/Users/ada/Library", "/Users/~/Library"),
            (
                r"C:\Users\Ada Lovelace\AppData\a.dmp",
                r"C:\Users\~\AppData\a.dmp",
            ),
            (r"d:\users\ada\x", r"d:\users\~\x"),
            ("E:/Users/Ada B/x y/z", "E:/Users/~/x y/z"),
            (r"C:\\Users\\ada\\x", r"C:\\Users\\~\\x"),
            ("file:///C:/Users/Ada%20B/x", "file:///C:/Users/~/x"),
            ("file:///c%3A/users/ada/x", "file:///c%3A/users/~/x"),
            ("file:///home/ada/x", "file:///home/~/x"),
            ("C%3A%5CUsers%5CAda%20B%5Cx", "C%3A%5CUsers%5C~%5Cx"),
            (
                r"\Device\HarddiskVolume3\Users\A B\x",
                r"\Device\HarddiskVolume3\Users\~\x",
            ),
            (
                r"C:\Documents and Settings\ada\x",
                r"C:\Documents and Settings\~\x",
            ),
            ("/home/ada:/home/bob/bin:/bin", "/home/~:/home/~/bin:/bin"),
            (r#"open("/home/ada") failed"#, r#"open("/home/~") failed"#),
            ("/home/ada and /Users/bob", "/home/~ and /Users/~"),
            (r"C:\Users\Élodie\x", r"C:\Users\~\x"),
            ("/home/élodie/x", "/home/~/x"),
        ] {
            let found = without_names(written);
            assert_eq!(
                found.map(|(text, _)| text).as_deref(),
                Some(without),
                "{written}"
            );
        }
    }

    #[test]
    fn what_names_nobody_stays() {
        for text in [
            r"C:\Users\Public\x",
            "/Users/Shared/x",
            "/home/",
            "/home",
            "/home//",
            "home/ada",
            "/homes/ada",
            "https://example.com/users/12",
            r"C:\Users\..\x",
            "/home/~/x",
            "",
        ] {
            assert_eq!(without_names(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_found_twice(text in r"([/\\:%a-cCé ~.]|home|Users|%5C|%20|C:){0,24}") {
            if let Some((without, _)) = without_names(&text) {
                prop_assert_eq!(without_names(&without), None, "{}", text);
            }
        }

        #[test]
        fn a_name_between_slashes_never_stays(
            parent in prop::sample::select(vec!["/home/", "/Users/", r"C:\Users\", "c:/users/", r"C:\\Users\\"]),
            name in "[A-Z][a-z0-9._-]{1,12}",
            before in "[a-z =]{0,8}",
        ) {
            let text = format!("{before}{parent}{name}/x");
            let (without, names) = without_names(&text).expect("found");
            prop_assert_eq!(names, 1);
            prop_assert_eq!(without, format!("{before}{parent}~/x"));
        }
    }
}
