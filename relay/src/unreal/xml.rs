//! The fields of a crash context: texts, two elements deep. Read tag by tag out of pieces, so neither length nor nesting costs
//! memory or stack; what is no XML costs its field at most. Pure.
//!
//! Own code because XML readers end at the first fault, or hold a whole element. The engine writes plain elements, does not
//! always escape, and is interrupted by the crash.

mod tag;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use memchr::memchr2;
use shared::lenient::{Fault, Input, Repairs, quoted};
use shared::limits::{EVENT_DATA_BYTES_MAX, EVENT_TEXT_BYTES_KEPT};

use super::text::shortened;
use crate::limits::{
    UNREAL_CONTEXT_BYTES_MAX, UNREAL_FIELD_BYTES_MAX, UNREAL_FIELDS_MAX, UNREAL_NAME_BYTES_MAX,
};
use tag::{Tag, TagKind, referred};

/// The field of the game's data in which Sentry's plugin keeps an event of its own.
pub(super) const GAME_EVENT: &str = "__sentry";
/// A tag with its attributes.
const TAG_BYTES_MAX: usize = 2 * UNREAL_NAME_BYTES_MAX;
/// A reference to a character.
const REFERENCE_BYTES_MAX: usize = 12;
/// Levels whose elements are known by name.
const NAMED_LEVELS_MAX: usize = 16;
/// The levels on which sections and fields lie.
const SECTION: usize = 2;
const FIELD: usize = 3;

/// Fields by name.
pub(super) type Fields = BTreeMap<String, String>;

/// The sections that say something about a crash.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sections {
    /// What the engine knows of the program and the crash.
    pub(super) runtime: Fields,
    /// The same of the platform.
    pub(super) platform: Fields,
    /// What parts of the engine added.
    pub(super) engine: Fields,
    /// What the game added, but for its event.
    pub(super) game: Fields,
    /// The event that the game added: JSON.
    pub(super) game_event: Option<String>,
    /// What was damaged or left out.
    pub(super) repairs: Repairs,
}

#[derive(Debug, Clone, Copy)]
enum Section {
    Runtime,
    Platform,
    Engine,
    Game,
}

impl Section {
    fn of(name: &str) -> Option<Self> {
        match name {
            "RuntimeProperties" => Some(Self::Runtime),
            "PlatformProperties" => Some(Self::Platform),
            "EngineData" => Some(Self::Engine),
            "GameData" => Some(Self::Game),
            _ => None,
        }
    }
}

/// Reads the fields.
pub(super) fn sections(input: &mut Input<'_>) -> Sections {
    input.decode_utf_16();
    let mut found = Found::default();
    loop {
        let rest = input.rest();
        if rest.is_empty() {
            return found.finish();
        }
        let text = memchr2(b'<', b'&', rest).unwrap_or(rest.len());
        if text > 0 {
            found.text(&rest[..text]);
            input.pass(text);
        } else if rest[0] == b'<' {
            markup(input, &mut found);
        } else {
            reference(input, &mut found);
        }
    }
}

/// A tag, or what else begins like one.
fn markup(input: &mut Input<'_>, found: &mut Found) {
    let ahead = input.ahead(TAG_BYTES_MAX);
    if ahead.starts_with(b"<!--") {
        input.pass_through(b"-->", |_| {});
    } else if ahead.starts_with(CDATA) {
        input.pass(CDATA.len());
        input.pass_through(b"]]>", |text| found.text(text));
    } else if ahead.starts_with(b"<?") {
        input.pass_through(b"?>", |_| {});
    } else if ahead.starts_with(b"<!DOCTYPE") {
        input.pass_through(b">", |_| {});
    } else if let Some(tag) = Tag::read(ahead) {
        input.pass(tag.bytes);
        match tag.kind {
            TagKind::Start => found.begin(tag.name),
            TagKind::End => found.end(&tag.name),
            TagKind::Empty => {
                found.begin(tag.name.clone());
                found.end(&tag.name);
            }
        }
    } else {
        // A tag that the end of the text cuts is told as such.
        let is_cut = ahead.len() < TAG_BYTES_MAX && memchr2(b'<', b'>', &ahead[1..]).is_none();
        input.pass(1);
        if !is_cut {
            found.note(Fault::Unescaped);
        }
        found.text(b"<");
    }
}

const CDATA: &[u8] = b"<![CDATA[";

fn reference(input: &mut Input<'_>, found: &mut Found) {
    let ahead = input.ahead(REFERENCE_BYTES_MAX);
    let ahead = &ahead[..ahead.len().min(REFERENCE_BYTES_MAX)];
    let end = ahead.iter().position(|byte| *byte == b';');
    let referred = end.and_then(|end| referred(&ahead[1..end]));
    match (referred, end) {
        (Some(char), Some(end)) => {
            input.pass(end + 1);
            found.text(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
        // No other entities are defined here: it is text that was not escaped.
        (_, _) => {
            input.pass(1);
            found.note(Fault::Unescaped);
            found.text(b"&");
        }
    }
}

/// What was read so far, and what is open.
#[derive(Default)]
struct Found {
    sections: Sections,
    /// The names of open elements: the root, a section, a field, and what is in it.
    open: Vec<String>,
    /// Open elements below those.
    unnamed: u64,
    section: Option<Section>,
    field: Text,
    /// The open element within the field, and those before it: fields themselves, when the field's own end is missing.
    inner: Text,
    siblings: Vec<(String, Text)>,
    siblings_bytes: usize,
    /// How many fields each section has.
    counts: [usize; 4],
    bytes: usize,
}

/// A text that is being read.
#[derive(Default)]
struct Text {
    text: Vec<u8>,
    bytes: u64,
}

impl Text {
    fn push(&mut self, text: &[u8], bytes_max: usize) {
        self.bytes += text.len() as u64;
        let room = bytes_max.saturating_sub(self.text.len());
        self.text.extend_from_slice(&text[..text.len().min(room)]);
    }
}

impl Found {
    fn begin(&mut self, name: String) {
        if self.open.len() == NAMED_LEVELS_MAX {
            self.unnamed += 1;
            return;
        }
        self.open.push(name);
        match self.open.len() {
            SECTION => self.section = Section::of(&self.open[SECTION - 1]),
            FIELD => {
                self.field = Text::default();
                self.siblings_bytes = 0;
            }
            level if level == FIELD + 1 => self.inner = Text::default(),
            _ => {}
        }
    }

    /// An end closes its element and all that is open in it. One without a beginning closes the field it is in.
    fn end(&mut self, name: &str) {
        if self.unnamed > 0 {
            self.unnamed -= 1;
            return;
        }
        let level = self.open.iter().rposition(|open| open == name);
        match level {
            Some(level) if level + 1 == self.open.len() => self.close(true),
            Some(level) => {
                self.note(Fault::Bracket);
                while self.open.len() > level {
                    self.close(self.open.len() == level + 1);
                }
            }
            None => {
                self.note(Fault::Bracket);
                if self.open.len() >= FIELD {
                    self.close(true);
                }
            }
        }
    }

    /// Closes the innermost element, by its own end or by that of another.
    fn close(&mut self, has_end: bool) {
        let Some(name) = self.open.pop() else { return };
        match self.open.len() + 1 {
            SECTION => self.section = None,
            FIELD => {
                let field = std::mem::take(&mut self.field);
                let is_mixed = !field.text.trim_ascii().is_empty();
                let siblings = std::mem::take(&mut self.siblings);
                self.keep(name, field);
                if !has_end && is_mixed {
                    for (name, text) in siblings {
                        self.keep(name, text);
                    }
                }
            }
            level if level == FIELD + 1 => {
                let inner = std::mem::take(&mut self.inner);
                self.siblings_bytes += inner.text.len();
                if self.siblings.len() < UNREAL_FIELDS_MAX && !inner.text.trim_ascii().is_empty() {
                    self.siblings.push((name, inner));
                }
            }
            _ => {}
        }
    }

    /// Text of a field; that of elements in it is no part of it.
    fn text(&mut self, text: &[u8]) {
        match (self.section, self.open.len()) {
            (Some(_), FIELD) => {
                let bytes_max = if self.open[FIELD - 1] == GAME_EVENT {
                    EVENT_DATA_BYTES_MAX
                } else {
                    UNREAL_FIELD_BYTES_MAX
                };
                self.field.push(text, bytes_max);
            }
            (Some(_), level) if level == FIELD + 1 => {
                let room = UNREAL_FIELD_BYTES_MAX.saturating_sub(self.siblings_bytes);
                self.inner.push(text, room);
            }
            (_, _) => {}
        }
    }

    fn keep(&mut self, name: String, text: Text) {
        let Some(section) = self.section else { return };
        let count = &mut self.counts[section as usize];
        *count += 1;
        if *count > UNREAL_FIELDS_MAX && name != GAME_EVENT {
            let fault = Fault::TooMany(UNREAL_FIELDS_MAX);
            return self
                .sections
                .repairs
                .note(|| "fields of a section".to_owned(), fault);
        }
        let Text { text, bytes } = text;
        let is_odd = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
        if text.iter().any(is_odd) {
            self.note_field(&name, Fault::ControlCharacter);
        }
        let kept = text.len();
        let text = String::from_utf8(text).unwrap_or_else(|error| {
            // A cut at the bound may lie within a character.
            let is_cut = error.utf8_error().error_len().is_none() && bytes > kept as u64;
            if !is_cut {
                self.note_field(&name, Fault::NotUtf8);
            }
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        });
        if bytes > kept as u64 {
            self.note_field(&name, Fault::Shortened { kept, bytes });
        }
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if matches!(section, Section::Game) && name == GAME_EVENT {
            self.sections
                .game_event
                .get_or_insert_with(|| text.to_owned());
            return;
        }
        let bytes = name.len() + text.len();
        if let Entry::Vacant(field) = self.sections.of(section).entry(name) {
            field.insert(text.to_owned());
            self.bytes += bytes;
        }
        while self.bytes > UNREAL_CONTEXT_BYTES_MAX && self.shorten_longest() {}
    }

    /// Shortens the longest field; when none is long, the longest is left out. False when there is none.
    fn shorten_longest(&mut self) -> bool {
        let sections = &mut self.sections;
        let all = [
            &mut sections.runtime,
            &mut sections.platform,
            &mut sections.engine,
            &mut sections.game,
        ];
        let longest = all
            .into_iter()
            .filter_map(|fields| {
                let longest = fields.iter().max_by_key(|(_, text)| text.len());
                let (name, bytes) = longest.map(|(name, text)| (name.clone(), text.len()))?;
                Some((bytes, name, fields))
            })
            .max_by_key(|(bytes, _, _)| *bytes);
        let Some((bytes, name, fields)) = longest else {
            return false;
        };
        let fault = match fields.get_mut(&name) {
            Some(text) if bytes > EVENT_TEXT_BYTES_KEPT => {
                *text = shortened(text, EVENT_TEXT_BYTES_KEPT).to_owned();
                let kept = text.len();
                self.bytes -= bytes - kept;
                let bytes = bytes as u64;
                Fault::Shortened { kept, bytes }
            }
            Some(_) | None => {
                fields.remove(&name);
                self.bytes = self.bytes.saturating_sub(name.len() + bytes);
                Fault::LeftOut
            }
        };
        self.note_field(&name, fault);
        true
    }

    /// Notes a fault of what is open.
    fn note(&mut self, fault: Fault) {
        let innermost = self.open.get(..FIELD).unwrap_or(&self.open).last();
        let path = || innermost.map(|name| quoted(name)).unwrap_or_default();
        self.sections.repairs.note(path, fault);
    }

    fn note_field(&mut self, name: &str, fault: Fault) {
        self.sections.repairs.note(|| quoted(name), fault);
    }

    /// The field that the text ends in is not kept: more of it may have been meant.
    fn finish(mut self) -> Sections {
        if !self.open.is_empty() {
            self.note(Fault::Cut);
        }
        self.sections
    }
}

impl Sections {
    fn of(&mut self, section: Section) -> &mut Fields {
        match section {
            Section::Runtime => &mut self.runtime,
            Section::Platform => &mut self.platform,
            Section::Engine => &mut self.engine,
            Section::Game => &mut self.game,
        }
    }
}

#[cfg(test)]
mod tests;
