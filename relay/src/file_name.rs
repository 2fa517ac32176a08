//! File names of strangers, made safe: one path component, no control characters, a bounded length. Pure.

use shared::limits::FILE_NAME_BYTES_MAX;

/// The longest extension that a shortened name keeps, dot included.
const EXTENSION_BYTES_MAX: usize = 16;

/// The last component of a path as any system writes one; `fallback` when nothing is left of it.
#[must_use]
pub fn sanitize(written: &str, fallback: &str) -> String {
    let component = written.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = component
        .chars()
        .filter(|c| !c.is_control())
        .map(|c| {
            if matches!(c, ':' | '<' | '>' | '"' | '|' | '?' | '*') {
                '_'
            } else {
                c
            }
        })
        .collect();
    // Windows drops trailing dots and spaces, so names that differ in them alone would meet.
    let name = name.trim().trim_end_matches(['.', ' ']);
    match name {
        "" => fallback.to_owned(),
        name if name.len() <= FILE_NAME_BYTES_MAX => name.to_owned(),
        name => shorten(name),
    }
}

fn shorten(name: &str) -> String {
    let extension = name
        .rfind('.')
        .map(|dot| &name[dot..])
        .filter(|extension| extension.len() <= EXTENSION_BYTES_MAX)
        .unwrap_or_default();
    let stem_bytes = FILE_NAME_BYTES_MAX - extension.len();
    let end = name.floor_char_boundary(stem_bytes);
    format!("{}{extension}", &name[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_last_component_stays() {
        for (written, safe) in [
            (r"C:\Users\A B\AppData\Local\Temp\x.dmp", "x.dmp"),
            ("/tmp/../etc/passwd", "passwd"),
            ("..", "file"),
            (".", "file"),
            ("", "file"),
            ("a/..", "file"),
            (r"dir\", "file"),
            ("nul\0in\r\nside.txt", "nulinside.txt"),
            ("a\"b:c.log", "a_b_c.log"),
            (" spaced . ", "spaced"),
            ("größe.txt", "größe.txt"),
        ] {
            assert_eq!(sanitize(written, "file"), safe, "{written:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let long = sanitize(&format!("{}.dmp", "ü".repeat(300)), "file");
        assert!(long.len() <= FILE_NAME_BYTES_MAX && long.ends_with("ü.dmp"));
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_safe_component(written in "\\PC*|[./\\\\\0 a]{0,600}") {
            let name = sanitize(&written, "file");
            prop_assert!((1..=FILE_NAME_BYTES_MAX).contains(&name.len()));
            prop_assert!(!name.contains(['/', '\\', '\0', '\n']));
            prop_assert!(name != "." && name != "..");
        }
    }
}
