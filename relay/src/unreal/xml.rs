//! The fields of a crash context: texts, two elements deep. Read event by event, so nesting costs no stack, and what
//! stands before damage is kept. Pure.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

use super::text::shortened;
use crate::limits::{UNREAL_FIELD_BYTES_MAX, UNREAL_FIELDS_MAX, UNREAL_NAME_BYTES_MAX};

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
    /// What the game added.
    pub(super) game: Fields,
    /// What was damaged or left out.
    pub(super) warnings: Vec<String>,
}

/// An element whose text is a field.
struct Open {
    section: Section,
    name: String,
    text: String,
    cut: bool,
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

/// Reads the fields, as far as the text is sound.
pub(super) fn sections(xml: &str) -> Sections {
    let mut reader = Reader::from_str(xml);
    let config = reader.config_mut();
    // The engine forgets to escape at times.
    config.allow_dangling_amp = true;
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    let mut found = Found::default();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => found.begin(element.name().as_ref()),
            Ok(Event::Empty(element)) => {
                found.begin(element.name().as_ref());
                found.end();
            }
            Ok(Event::End(_)) => found.end(),
            Ok(Event::Text(text)) => found.text(&text.into_inner()),
            Ok(Event::CData(text)) => found.text(&text.into_inner()),
            Ok(Event::GeneralRef(reference)) => found.reference(&reference),
            Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => {}
            Ok(Event::Eof) if found.depth == 0 => break,
            Ok(Event::Eof) => {
                found.warn("expected the end of the crash context, found its text cut".into());
                break;
            }
            Err(error) => {
                let at = reader.error_position();
                found.warn(format!(
                    "the crash context is damaged from byte {at} on: {error}"
                ));
                break;
            }
        }
    }
    found.sections
}

#[derive(Default)]
struct Found {
    sections: Sections,
    /// Elements that are open: the root, a section, a field, and what is in it.
    depth: usize,
    section: Option<Section>,
    open: Option<Open>,
    fields: usize,
}

impl Found {
    fn begin(&mut self, name: &str) {
        self.depth += 1;
        match (self.depth, self.section) {
            (2, _) => self.section = Section::of(name),
            (3, Some(section)) => {
                self.open = Some(Open {
                    section,
                    name: shortened(name, UNREAL_NAME_BYTES_MAX).to_owned(),
                    text: String::new(),
                    cut: false,
                });
            }
            (_, Some(_) | None) => {}
        }
    }

    fn end(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        match self.depth {
            1 => self.section = None,
            2 => self.keep(),
            _ => {}
        }
    }

    /// Text of a field; that of elements in it is no part of it.
    fn text(&mut self, text: &str) {
        if self.depth != 3 {
            return;
        }
        if let Some(open) = &mut self.open {
            let room = UNREAL_FIELD_BYTES_MAX - open.text.len();
            let kept = shortened(text, room);
            open.cut |= kept.len() < text.len();
            open.text.push_str(kept);
        }
    }

    fn reference(&mut self, reference: &BytesRef<'_>) {
        match reference.resolve_char_ref() {
            Ok(Some(character)) => self.text(character.encode_utf8(&mut [0; 4])),
            Ok(None) | Err(_) => match resolve_predefined_entity(reference) {
                Some(text) => self.text(text),
                // No other entities are defined here: it is text that was not escaped.
                None => self.text(&format!("&{};", &**reference)),
            },
        }
    }

    fn keep(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        self.fields += 1;
        if self.fields > UNREAL_FIELDS_MAX {
            if self.fields == UNREAL_FIELDS_MAX + 1 {
                self.warn(format!(
                    "the crash context has more than {UNREAL_FIELDS_MAX} fields; the rest was left out"
                ));
            }
            return;
        }
        if open.cut {
            let name = shortened(&open.name, 80);
            self.warn(format!(
                "the crash context's {name} was cut at {UNREAL_FIELD_BYTES_MAX} bytes"
            ));
        }
        let text = open.text.trim();
        if text.is_empty() {
            return;
        }
        let fields = match open.section {
            Section::Runtime => &mut self.sections.runtime,
            Section::Platform => &mut self.sections.platform,
            Section::Engine => &mut self.sections.engine,
            Section::Game => &mut self.sections.game,
        };
        fields.entry(open.name).or_insert_with(|| text.to_owned());
    }

    fn warn(&mut self, warning: String) {
        self.sections.warnings.push(warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(xml: &str) -> Option<String> {
        let xml = format!("<C><RuntimeProperties><F>{xml}</F></RuntimeProperties></C>");
        sections(&xml).runtime.remove("F")
    }

    #[test]
    fn texts_are_read_as_they_were_meant() {
        for (xml, text) in [
            ("a &lt;b&gt; &amp; &quot;c&apos;", Some("a <b> & \"c'")),
            ("&#65;&#x42;", Some("AB")),
            ("a & b && c", Some("a & b && c")),
            ("&unknown;", Some("&unknown;")),
            ("&#0;x", Some("&#0;x")),
            ("<![CDATA[<raw> & ]]>", Some("<raw> &")),
            ("before<x>in</x>after", Some("beforeafter")),
            ("<!-- c -->x", Some("x")),
            ("  \n ", None),
            ("", None),
        ] {
            assert_eq!(field(xml).as_deref(), text, "{xml}");
        }
    }

    #[test]
    fn what_stands_before_damage_is_kept_and_the_damage_told() {
        let start = "<?xml version=\"1.0\"?><C><RuntimeProperties><A>1</A>";
        for rest in [
            "<B>2",
            "<B>2</B",
            "<B>2</B></RuntimeProperties>",
            "<",
            "<B <",
            "<![CDATA[",
        ] {
            let found = sections(&format!("{start}{rest}"));
            assert_eq!(found.runtime["A"], "1", "{rest}");
            assert_eq!(found.warnings.len(), 1, "{rest}: {found:?}");
        }
    }

    #[test]
    fn sections_are_told_apart_and_the_first_value_stays() {
        let found = sections(
            "<C><RuntimeProperties><A>1</A><A>2</A><E/></RuntimeProperties><Other><A>3</A></Other>\
             <PlatformProperties><A>4</A></PlatformProperties><EngineData><A.B>5</A.B></EngineData>\
             <GameData><A>6</A></GameData></C>",
        );
        assert_eq!(found.runtime, Fields::from([("A".into(), "1".into())]));
        assert_eq!(found.platform["A"], "4");
        assert_eq!(found.engine["A.B"], "5");
        assert_eq!(found.game["A"], "6");
        assert!(found.warnings.is_empty());
    }

    #[test]
    fn depth_number_and_size_are_bounded() {
        let deep = "<n>".repeat(300_000);
        assert_eq!(field(&deep), None);
        let many: String = (0..=UNREAL_FIELDS_MAX)
            .map(|at| format!("<f{at}>x</f{at}>"))
            .collect();
        let many = sections(&format!("<C><GameData>{many}</GameData></C>"));
        assert_eq!(
            (many.game.len(), many.warnings.len()),
            (UNREAL_FIELDS_MAX, 1)
        );
        let long = "ü".repeat(UNREAL_FIELD_BYTES_MAX);
        assert_eq!(
            field(&long).map(|text| text.len()),
            Some(UNREAL_FIELD_BYTES_MAX)
        );
    }
}
