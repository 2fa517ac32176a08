//! A configuration file under construction: sections, keys, and values as TOML writes them.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The key of project 1.
pub const KEY: &str = "5c0ff33a11ce4b0b8d1ce0ddba11f00d";
/// The key of project 2.
pub const OTHER_KEY: &str = "0123456789abcdef0123456789abcdef";

/// Of project 1: its key reads reports.
pub const PUBLIC: &str = "public_report = true";

/// Sections and their keys.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    /// More of project 1's configuration, as TOML.
    project: String,
}

impl Settings {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a text, size or time.
    pub fn text(&mut self, section: &str, key: &str, value: &str) {
        self.raw(section, key, &format!("{value:?}"));
    }

    /// Sets a value that is TOML already: a number, a table.
    pub fn raw(&mut self, section: &str, key: &str, value: &str) {
        let section = self.sections.entry(section.to_owned()).or_default();
        section.insert(key.to_owned(), value.to_owned());
    }

    /// Sets what else project 1 has, as TOML; `keys` of its own take the place of [`KEY`].
    pub fn project(&mut self, toml: &str) {
        self.project = toml.to_owned();
    }

    /// The file, with projects 1 and 2.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (section, keys) in &self.sections {
            writeln!(text, "[{section}]").expect("a string takes every line");
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").expect("a string takes every line");
            }
        }
        let keys = |key| format!("keys = [{key:?}]");
        let mut first = self.project.clone();
        if !first.contains("keys =") {
            first = format!("{}\n{first}", keys(KEY));
        }
        // Scenarios read reports as clients do.
        first = match first.split_once("privacy = {") {
            Some((before, after)) => format!("{before}privacy = {{ {PUBLIC}, {after}"),
            None => format!("{first}\nprivacy = {{ {PUBLIC} }}"),
        };
        for (id, project) in [(1, first), (2, keys(OTHER_KEY))] {
            writeln!(text, "[[projects]]\nid = {id}\n{project}")
                .expect("a string takes every line");
        }
        text
    }
}
