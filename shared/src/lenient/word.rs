//! Values without quotes: numbers, literals, and what other languages write in their place.

use serde_json::{Number, Value};

use super::repairs::{Fault, quoted};

/// Spellings of no number, and of an infinite one, among them those of Microsoft's C library.
const NOT_FINITE: [&str; 9] = [
    "nan", "nanq", "nans", "inf", "infinity", "1.#inf", "1.#qnan", "1.#snan", "1.#ind",
];

/// The value that a word means.
pub(super) fn value(word: &[u8]) -> (Value, Vec<Fault>) {
    let text = String::from_utf8_lossy(word);
    let found = || quoted(&text);
    match &*text {
        "true" => return (Value::Bool(true), vec![]),
        "false" => return (Value::Bool(false), vec![]),
        "null" => return (Value::Null, vec![]),
        _ => {}
    }
    if let Some(number) = number(&text) {
        return (Value::Number(number), vec![]);
    }
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "true" => return (Value::Bool(true), vec![Fault::Literal(found())]),
        "false" => return (Value::Bool(false), vec![Fault::Literal(found())]),
        "null" | "none" | "nil" | "undefined" => {
            return (Value::Null, vec![Fault::Literal(found())]);
        }
        _ => {}
    }
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(&lower);
    if NOT_FINITE.contains(&unsigned.trim_end_matches('0')) || unsigned.starts_with("nan(") {
        return (Value::Null, vec![Fault::NotFinite(found())]);
    }
    if let Some(number) = other_notation(&lower) {
        return (Value::Number(number), vec![Fault::Notation(found())]);
    }
    let mut faults = vec![if is_out_of_range(unsigned) {
        Fault::OutOfRange(found())
    } else {
        Fault::BareWord(found())
    }];
    if matches!(text, std::borrow::Cow::Owned(_)) {
        faults.push(Fault::NotUtf8);
    }
    (Value::String(text.into_owned()), faults)
}

fn number(text: &str) -> Option<Number> {
    let begins = text.starts_with(|char: char| char == '-' || char.is_ascii_digit());
    begins.then(|| serde_json::from_str(text).ok())?
}

/// `+1`, `007`, `.5`, `5.`, `0x1f`.
fn other_notation(lower: &str) -> Option<Number> {
    let (sign, unsigned) = match lower.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", lower.strip_prefix('+').unwrap_or(lower)),
    };
    if let Some(digits) = unsigned.strip_prefix("0x") {
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let unsigned = is_hex.then(|| u64::from_str_radix(digits, 16).ok())??;
        return number(&format!("{sign}{unsigned}"));
    }
    let digits = unsigned.trim_start_matches('0');
    let zero = if digits.starts_with(|char: char| char.is_ascii_digit()) {
        ""
    } else {
        "0"
    };
    let (whole, power) = match digits.split_once('e') {
        Some((whole, power)) => (whole, format!("e{power}")),
        None => (digits, String::new()),
    };
    let whole = whole.strip_suffix('.').unwrap_or(whole);
    let first = unsigned.strip_prefix('.').unwrap_or(unsigned);
    let begins = first.starts_with(|char: char| char.is_ascii_digit());
    begins.then(|| number(&format!("{sign}{zero}{whole}{power}")))?
}

/// Whether it is a number that no double holds.
fn is_out_of_range(unsigned: &str) -> bool {
    unsigned.starts_with(|char: char| char.is_ascii_digit())
        && unsigned
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte))
        && unsigned.parse::<f64>().is_ok_and(f64::is_infinite)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_mean_what_other_languages_mean_by_them() {
        for (word, expected) in [
            ("+1", json!(1)),
            ("007", json!(7)),
            ("-00.50", json!(-0.5)),
            (".5", json!(0.5)),
            ("5.", json!(5)),
            ("-.5e3", json!(-500.0)),
            ("1.e2", json!(100.0)),
            ("0x1F", json!(31)),
            ("-0x1", json!(-1)),
            ("0xffffffffffffffff", json!(u64::MAX)),
            ("True", json!(true)),
            ("FALSE", json!(false)),
            ("None", json!(null)),
            ("undefined", json!(null)),
            ("NaN", json!(null)),
            ("nan", json!(null)),
            ("-Infinity", json!(null)),
            ("+inf", json!(null)),
            ("-nan(ind)", json!(null)),
            ("1.#INF00", json!(null)),
            ("1e400", json!("1e400")),
            ("-1e400", json!("-1e400")),
            ("0x", json!("0x")),
            ("0x+1", json!("0x+1")),
            ("-", json!("-")),
            ("+", json!("+")),
            (".", json!(".")),
            ("e5", json!("e5")),
            ("1.2.3", json!("1.2.3")),
            ("hello", json!("hello")),
        ] {
            let (value, faults) = value(word.as_bytes());
            assert_eq!(value, expected, "{word}");
            assert_eq!(faults.len(), 1, "{word}: {faults:?}");
        }
    }

    #[test]
    fn sound_words_are_what_the_strict_reader_makes_of_them() {
        for word in [
            "0",
            "-0",
            "-0.0",
            "12",
            "1E5",
            "1e-400",
            "123456789012345678901234567890",
            "true",
            "null",
        ] {
            let strict: Value = serde_json::from_str(word).expect("JSON");
            assert_eq!(value(word.as_bytes()), (strict, vec![]), "{word}");
        }
    }
}
