//! Form fields told apart: those that are Sentry's event data, whole, in pieces or nested, and annotations. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde_json::{Map, Value};
use shared::annotations::Annotations;
use shared::lenient::{Fault, Repairs, quoted};

use super::{Data, Notation, object};
use crate::limits::SENTRY_FIELD_LEVELS_MAX;

/// A form field: its name and its value's bytes.
pub type Field = (String, Vec<u8>);

/// The event as one JSON object.
const WHOLE: &str = "sentry";
/// Its parts from different places in the program, such as `sentry___initialScope`: JSON objects.
const NAMESPACE: &str = "sentry___";
/// The event cut into pieces that fit a crash key: `sentry__1`, `sentry__2`, …
const PIECE: &str = "sentry__";
/// One value of the event: `sentry[tags][name]`.
const NESTED: &str = "sentry[";
/// Between a name and the number of a piece of its value.
const PIECE_MARK: &str = "__";

/// Form fields, told apart.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// Events of Sentry's shape, the first wins.
    pub(super) events: Vec<Map<String, Value>>,
    /// Every other field under its name.
    pub(super) extra: Map<String, Value>,
    /// The same as texts.
    pub(super) annotations: Annotations,
    /// What was odd.
    pub(super) warnings: Vec<String>,
    repairs: Repairs,
}

/// Tells fields apart. Event data that cannot be read, or not all of it, stays among the other fields.
pub(super) fn sort(fields: Vec<Field>, values_left: &mut usize) -> Form {
    let mut form = Form::default();
    let (mut whole, mut namespaces, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
    let mut nested = Map::new();
    let mut others = Vec::new();
    for (name, bytes) in join_pieces(fields) {
        if name == WHOLE {
            whole.push((name, bytes));
        } else if name.len() > NAMESPACE.len() && name.starts_with(NAMESPACE) {
            namespaces.push((name, bytes));
        } else if let Some(number) = name.strip_prefix(PIECE).and_then(number) {
            pieces.push((number, (name, bytes)));
        } else if name.starts_with(NESTED) {
            match path(&name) {
                Some(path) if form.place(&mut nested, &name, &path, &bytes) => {}
                Some(_) => others.push((name, bytes)),
                None => {
                    form.warnings.push(format!(
                        "a field is kept as it came: expected sentry[name] of at most {SENTRY_FIELD_LEVELS_MAX} names, found {:?}",
                        quoted(&name)
                    ));
                    others.push((name, bytes));
                }
            }
        } else {
            others.push((name, bytes));
        }
    }
    for (name, bytes) in whole.into_iter().chain(namespaces) {
        let what = format!("the field {:?}", quoted(&name));
        let bytes = Bytes::from(bytes);
        if !form.read_event(&what, bytes.clone(), values_left) {
            others.push((name, bytes.into()));
        }
    }
    others.extend(form.read_pieces(pieces, values_left));
    if !nested.is_empty() {
        form.events.push(nested);
    }
    others.into_iter().for_each(|field| form.keep(field));
    form.warnings.extend(form.repairs.warnings("a form field"));
    form
}

impl Form {
    /// Reads an event; false when not all of it was read.
    fn read_event(&mut self, what: &str, bytes: Bytes, values_left: &mut usize) -> bool {
        let reading = Data::from(bytes).read(Notation::Json, values_left);
        let event = object(what, reading, &mut self.warnings);
        event.is_some_and(|(event, is_whole)| {
            self.events.push(event);
            is_whole
        })
    }

    /// Puts a text where the path leads; false when something else is there or in the way.
    fn place(
        &mut self,
        mut map: &mut Map<String, Value>,
        name: &str,
        path: &[&str],
        bytes: &[u8],
    ) -> bool {
        let Some((last, above)) = path.split_last() else {
            return false;
        };
        for name in above {
            let inner = map.entry(*name).or_insert_with(|| Map::new().into());
            match inner.as_object_mut() {
                Some(inner) => map = inner,
                None => return false,
            }
        }
        if map.contains_key(*last) {
            return false;
        }
        map.insert((*last).to_owned(), self.text(name, bytes.to_vec()).into());
        true
    }

    /// A field's value.
    fn text(&mut self, name: &str, bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap_or_else(|error| {
            self.repairs.note(|| quoted(name), Fault::NotUtf8);
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    }

    /// Joins the event's pieces in the order of their numbers; returns those that are of no use.
    fn read_pieces(
        &mut self,
        mut pieces: Vec<(u32, Field)>,
        values_left: &mut usize,
    ) -> Vec<Field> {
        pieces.sort_by_key(|(number, _)| *number);
        let mut numbers = HashSet::new();
        let (pieces, repeats): (Vec<_>, Vec<_>) = pieces
            .into_iter()
            .partition(|(number, _)| numbers.insert(*number));
        let Some((first, _)) = pieces.first() else {
            return Vec::new();
        };
        // Numbers begin at 1; older SDKs began at 0.
        let begin = (*first).min(1);
        let is_whole = (begin..)
            .zip(&pieces)
            .all(|(expected, (found, _))| expected == *found);
        if !is_whole {
            self.warnings.push(format!(
                "pieces of the field \"sentry\" are missing: found {}, numbered up to {}",
                pieces.len(),
                pieces.last().map_or(0, |(last, _)| *last)
            ));
        }
        if !repeats.is_empty() {
            let repeats = repeats.len();
            self.warnings.push(format!(
                "{repeats} pieces of the field \"sentry\" came again"
            ));
        }
        // Behind a hole nobody knows what a piece is a piece of.
        let together = pieces
            .iter()
            .zip(begin..)
            .take_while(|((found, _), expected)| found == expected);
        let joined: Vec<u8> = together
            .flat_map(|((_, (_, bytes)), _)| bytes)
            .copied()
            .collect();
        let mut unused: Vec<Field> = repeats.into_iter().map(|(_, field)| field).collect();
        let is_read = !joined.is_empty()
            && self.read_event("the field \"sentry\" in pieces", joined.into(), values_left);
        if !is_read || !is_whole {
            unused.extend(pieces.into_iter().map(|(_, field)| field));
        }
        unused
    }

    /// A field that is an annotation. One that comes again makes a list; the first is the annotation.
    fn keep(&mut self, (name, bytes): Field) {
        if name.is_empty() {
            self.warnings
                .push("a form field without a name was left out".into());
            return;
        }
        let text = self.text(&name, bytes);
        match self.extra.get_mut(&name) {
            None => {
                self.annotations.insert(name.clone(), text.clone());
                self.extra.insert(name, text.into());
            }
            Some(Value::Array(values)) => values.push(text.into()),
            Some(first) => *first = Value::Array(vec![first.take(), text.into()]),
        }
    }
}

/// Joins values that Breakpad in old Electron and Chromium cuts into `name__1`, `name__2`, …: it numbers even a single
/// one (`components/crash/core/common/crash_key_breakpad.cc`). Sentry's own pieces are left to be told apart from others.
fn join_pieces(fields: Vec<Field>) -> Vec<Field> {
    let mut pieces: HashMap<String, BTreeMap<u32, Vec<usize>>> = HashMap::new();
    for (at, (name, _)) in fields.iter().enumerate() {
        if let Some((whole, piece)) = name.rsplit_once(PIECE_MARK)
            && let Some(piece) = number(piece)
            && !whole.is_empty()
            && whole != WHOLE
        {
            let numbered = pieces.entry(whole.to_owned()).or_default();
            numbered.entry(piece).or_default().push(at);
        }
    }
    for (name, _) in &fields {
        pieces.remove(name);
    }
    pieces.retain(|_, numbered| {
        let each_once = numbered.values().all(|at| at.len() == 1);
        each_once
            && (1..)
                .zip(numbered.keys())
                .all(|(expected, found)| expected == *found)
    });
    let mut fields: Vec<Option<Field>> = fields.into_iter().map(Some).collect();
    for (whole, numbered) in pieces {
        let at: Vec<usize> = numbered.into_values().flatten().collect();
        let values = at.iter().filter_map(|at| Some(fields[*at].take()?.1));
        let joined = values.collect::<Vec<_>>().concat();
        if let Some(first) = at.first() {
            fields[*first] = Some((whole, joined));
        }
    }
    fields.into_iter().flatten().collect()
}

/// The names in `sentry[a][b]`.
fn path(name: &str) -> Option<Vec<&str>> {
    let names = name.strip_prefix(NESTED)?.strip_suffix(']')?;
    let names: Vec<&str> = names.split("][").collect();
    let is_name = |name: &&str| !name.is_empty() && !name.contains(['[', ']']);
    let fits = names.len() <= SENTRY_FIELD_LEVELS_MAX;
    (fits && names.iter().all(is_name)).then_some(names)
}

fn number(text: &str) -> Option<u32> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok())?
}
