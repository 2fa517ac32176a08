//! Under which names command lines come.

/// Names of command lines and their parts, without case and punctuation: Unreal's and Windows' `CommandLine`, `cmdline`,
/// `sys.argv` of Sentry's SDKs.
const NAMES: [&str; 5] = ["commandline", "cmdline", "argv", "sysargv", "processargv"];
/// Chromium sends every argument as `switch-1`, `switch-2`, …, and how many there were
/// (`components/crash/core/common/crash_keys.cc`).
const SWITCH: &str = "switch-";
const SWITCHES: &str = "num-switches";

/// Whether an annotation or field of this name holds a command line.
pub(super) fn is_name(name: &str) -> bool {
    // Old Electron cuts long values into `name__1`, `name__2`, …
    let whole = match name.rsplit_once("__") {
        Some((whole, piece)) if is_number(piece) => whole,
        Some(_) | None => name,
    };
    let lower = whole.to_ascii_lowercase();
    if lower == SWITCHES || lower.strip_prefix(SWITCH).is_some_and(is_number) {
        return true;
    }
    let plain: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    NAMES.contains(&plain.as_str())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_known_by_name() {
        for name in [
            "switch-1",
            "switch-49",
            "Switch-2",
            "num-switches",
            "CommandLine",
            "command_line",
            "command-line",
            "cmdline",
            "sys.argv",
            "argv",
            "CommandLine__3",
            "switch-1__1",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "switch",
            "switch-",
            "switch-on",
            "switches",
            "num",
            "command",
            "line",
            "",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
