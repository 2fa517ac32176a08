//! Strings of a dump, read as far as they make sense. A NUL ends one whatever its length says. Pure.

use std::char::DecodeUtf16Error;
use std::collections::HashMap;
use std::fmt::Display;

use super::super::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX, UTF16_BYTES_MAX};
use super::patch::Patch;
use super::view::View;

/// Stands for a name of which nothing can be read. The same everywhere, since names are parts of signatures.
pub(super) const UNREADABLE: &str = "(unreadable)";
/// Places that a warning names.
const PLACES_MAX: usize = 3;

/// A string of a dump.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Read, and needs no repair.
    Sound,
    /// What can be read of it.
    Mended(String),
    /// Nothing can.
    Unreadable,
}

/// Reads a `MINIDUMP_STRING` (its length in bytes, UTF-16) of which at most `bytes_max` bytes of UTF-8 are wanted.
pub(super) fn utf16(view: View<'_>, rva: usize, bytes_max: usize) -> Text {
    let Some((there, is_cut)) = utf16_units(view, rva) else {
        return Text::Unreadable;
    };
    let mut bytes = 0;
    let is_sound = decoded(view, there).all(|decoded| {
        bytes += decoded.as_ref().map_or(0, |found| found.len_utf8());
        decoded.is_ok_and(|found| found != '\0') && bytes <= bytes_max
    });
    match is_sound && !is_cut && there.len().is_multiple_of(2) {
        true => Text::Sound,
        false => Text::Mended(lossy(view, there, bytes_max)),
    }
}

/// Reads a `MINIDUMP_STRING` as far as it makes sense.
pub(super) fn read_utf16(view: View<'_>, rva: usize, bytes_max: usize) -> Option<String> {
    let (there, _) = utf16_units(view, rva)?;
    Some(lossy(view, there, bytes_max))
}

/// The bytes of a string that are there, and whether some are not.
fn utf16_units(view: View<'_>, rva: usize) -> Option<(&[u8], bool)> {
    let claimed = view.size(rva)?;
    let there = view.part(rva + 4, claimed);
    let is_cut = there.len() < claimed;
    let is_noise = is_cut && (claimed >= UTF16_BYTES_MAX || there.is_empty());
    (!is_noise).then_some((there, is_cut))
}

fn decoded<'a>(
    view: View<'_>,
    there: &'a [u8],
) -> impl Iterator<Item = Result<char, DecodeUtf16Error>> + use<'a> {
    let is_big = view.is_big();
    let units = there.chunks_exact(2).map(move |pair| match is_big {
        true => u16::from_be_bytes([pair[0], pair[1]]),
        false => u16::from_le_bytes([pair[0], pair[1]]),
    });
    char::decode_utf16(units)
}

fn lossy(view: View<'_>, there: &[u8], bytes_max: usize) -> String {
    let mut text = String::new();
    for found in decoded(view, there) {
        let found = found.unwrap_or(char::REPLACEMENT_CHARACTER);
        if found == '\0' || text.len() + found.len_utf8() > bytes_max {
            break;
        }
        text.push(found);
    }
    text
}

/// Reads text that should be UTF-8, up to a NUL or `bytes_max`; whether it had to be repaired. What was cut inside a
/// character loses that character; other bytes that are not UTF-8 become U+FFFD.
pub(super) fn utf8(raw: &[u8], bytes_max: usize) -> (String, bool) {
    // A character has four bytes at most: the cut below finds its end.
    let head = &raw[..raw.len().min(bytes_max + 4)];
    let end = head.iter().position(|byte| *byte == 0);
    let kept = &head[..end.unwrap_or(head.len())];
    let (mut text, mut is_repaired) = match std::str::from_utf8(kept) {
        Ok(text) => (text.to_owned(), false),
        Err(error) if error.error_len().is_none() => {
            let sound = &kept[..error.valid_up_to()];
            (String::from_utf8_lossy(sound).into_owned(), true)
        }
        Err(_) => (String::from_utf8_lossy(kept).into_owned(), true),
    };
    if text.len() > bytes_max {
        cut(&mut text, bytes_max);
        is_repaired = true;
    }
    (text, is_repaired)
}

/// What is wrong with several things of one kind, as one warning.
#[derive(Default)]
pub(super) struct Notes {
    places: Vec<String>,
    count: usize,
}

impl Notes {
    pub(super) fn add(&mut self, place: impl Display) {
        self.count += 1;
        if self.places.len() < PLACES_MAX {
            self.places.push(place.to_string());
        }
    }

    /// `what` stands for the things with a verb: `module names cannot be read as they are`.
    pub(super) fn warn(self, what: &str, warnings: &mut Vec<String>) {
        let Self { places, count } = self;
        if count == 0 {
            return;
        }
        let more = match count - places.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        warnings.push(format!("{what}: {}{more}", places.join(", ")));
    }
}

/// The strings of one list; entries may share one.
#[derive(Default)]
pub(super) struct Names {
    mended: HashMap<u64, u32>,
    pub(super) notes: Notes,
}

impl Names {
    /// Where the name at `rva` is to be read instead; `None` when it is sound. An unreadable one becomes [`UNREADABLE`].
    pub(super) fn mend(
        &mut self,
        patch: &mut Patch<'_>,
        rva: u64,
        place: impl Display,
    ) -> Option<u32> {
        let mended = match self.mended.get(&rva) {
            Some(mended) => *mended,
            None => {
                let at = usize::try_from(rva).unwrap_or(usize::MAX);
                let text = match utf16(patch.view, at, NAME_BYTES_MAX) {
                    Text::Sound => return None,
                    Text::Mended(text) => text,
                    Text::Unreadable => UNREADABLE.to_owned(),
                };
                let mended = patch.append_utf16(&text);
                self.mended.insert(rva, mended);
                mended
            }
        };
        self.notes.add(place);
        Some(mended)
    }
}

/// Cuts a text that did not come out of a dump's own strings, such as a symbol's name.
pub(in super::super) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

/// A text file's lines, each cut to [`TEXT_BYTES_MAX`]; `None` when none is longer.
pub(super) fn cut_lines(file: &[u8]) -> Option<Vec<u8>> {
    let is_short = |line: &[u8]| line.len() <= TEXT_BYTES_MAX;
    if file.split(|byte| *byte == b'\n').all(is_short) {
        return None;
    }
    let lines = file.split(|byte| *byte == b'\n');
    let cut: Vec<&[u8]> = lines
        .map(|line| &line[..line.len().min(TEXT_BYTES_MAX)])
        .collect();
    Some(cut.join(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(length: u32, units: &[u16], bytes_max: usize) -> Text {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        utf16(View::new(&bytes, false), 0, bytes_max)
    }

    #[test]
    fn a_string_is_read_as_far_as_it_makes_sense() {
        let mended = |text: &str| Text::Mended(text.into());
        let ab = [0x61, 0x62];
        assert_eq!(read(4, &ab, 100), Text::Sound);
        assert_eq!(read(0, &[], 100), Text::Sound);
        assert_eq!(read(3, &ab, 100), mended("a"), "an odd length");
        assert_eq!(read(40, &ab, 100), mended("ab"), "cut off");
        assert_eq!(read(4, &[0x61, 0xd800], 100), mended("a\u{fffd}"));
        assert_eq!(read(6, &[0x61, 0, 0x62], 100), mended("a"), "a NUL inside");
        assert_eq!(read(4, &ab, 1), mended("a"), "too long");
        assert_eq!(read(4, &[0xe4, 0x62], 1), mended(""));
        assert_eq!(read(0x7fff_ffff, &ab, 100), Text::Unreadable);
        assert_eq!(read(4, &[], 100), Text::Unreadable);
        assert_eq!(utf16(View::new(&[], false), 9, 100), Text::Unreadable);
    }

    #[test]
    fn a_value_cut_inside_a_character_loses_that_character_alone() {
        let text = "日本語".as_bytes();
        assert_eq!(utf8(text, 100), ("日本語".into(), false));
        for cut in [7, 8] {
            assert_eq!(utf8(&text[..cut], 100), ("日本".into(), true));
        }
        assert_eq!(utf8(b"M\xfcller", 100), ("M\u{fffd}ller".into(), true));
        assert_eq!(utf8(b"a\0b", 100), ("a".into(), false));
        assert_eq!(utf8(text, 8), ("日本".into(), true));
        assert_eq!(utf8(b"abc", 3), ("abc".into(), false));
    }

    #[test]
    fn one_warning_names_the_first_places_and_counts_the_others() {
        let mut warnings = Vec::new();
        Notes::default().warn("nothing", &mut warnings);
        let mut notes = Notes::default();
        for place in 1..=5 {
            notes.add(place);
        }
        notes.warn("things are odd", &mut warnings);
        assert_eq!(warnings, ["things are odd: 1, 2, 3 and 2 more"]);
    }
}
