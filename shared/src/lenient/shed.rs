//! What is left out of a document that is too large: long texts are shortened, the longest first, then the oldest breadcrumbs
//! and the largest fields go. An event's own short fields, user and tags go last.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::Value;

use super::Limits;
use super::repairs::{Fault, Repairs, quoted};
use crate::event::moment;
use crate::limits::{BREADCRUMBS_MAX, EVENT_TEXT_BYTES_KEPT};

/// What is left out of each kind by name; more is counted.
const NAMED_MAX: usize = 8;
/// What is told of a path.
const PATH_BYTES_MAX: usize = 300;
const BREADCRUMBS: &str = "breadcrumbs";
/// Sentry's place for a list within a field.
const VALUES: &str = "values";
/// Fields by which crashes are found; they go when nothing else is left.
const LAST: [&str; 4] = ["user", "tags", "fingerprint", "event_id"];

/// What was left out so far.
#[derive(Debug, Default)]
pub(super) struct Shed {
    /// Texts by their paths: how much is kept, and how long they were.
    texts: BTreeMap<String, (usize, u64)>,
    fields: Vec<String>,
    more: usize,
    breadcrumbs: usize,
}

/// Names and texts in bytes, and the number of values.
pub(super) fn cost(value: &Value) -> (usize, usize) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => (0, 1),
        Value::String(text) => (text.len(), 1),
        Value::Array(values) => values.iter().map(cost).fold((0, 1), add),
        Value::Object(fields) => {
            let costs = fields
                .iter()
                .map(|(name, value)| add((name.len(), 0), cost(value)));
            costs.fold((0, 1), add)
        }
    }
}

fn add(one: (usize, usize), other: (usize, usize)) -> (usize, usize) {
    (one.0 + other.0, one.1 + other.1)
}

/// A field that can be left out: of the document, or of an object in it.
struct Field {
    goes_last: bool,
    cost: (usize, usize),
    name: String,
    inner: Option<String>,
}

/// What is still too much.
struct Excess {
    held: (usize, usize),
    limits: Limits,
}

impl Excess {
    fn is_over(&self) -> bool {
        self.held.0 > self.limits.bytes || self.held.1 > self.limits.values
    }

    /// One measure of both.
    fn weight(&self, (bytes, values): (usize, usize)) -> usize {
        let bytes_a_value = self.limits.bytes / self.limits.values.max(1);
        bytes.saturating_add(values.saturating_mul(bytes_a_value))
    }

    fn take(&mut self, (bytes, values): (usize, usize)) {
        self.held.0 = self.held.0.saturating_sub(bytes);
        self.held.1 = self.held.1.saturating_sub(values);
    }
}

impl Shed {
    /// Leaves out of a document what is too much. The last element of any list is the one that may be open: it stays the last.
    pub(super) fn make_fit(&mut self, root: &mut Value, limits: Limits) {
        let mut excess = Excess {
            held: cost(root),
            limits,
        };
        let excess_bytes = excess.held.0.saturating_sub(limits.bytes);
        if excess_bytes > 0
            && let Some(shortest) = shortest_to_cut(root, excess_bytes)
        {
            self.shorten(root, &mut String::new(), shortest, &mut excess);
        }
        if !excess.is_over() {
            return;
        }
        let Value::Object(_) = root else {
            self.leave_out(String::new());
            *root = Value::Null;
            return;
        };
        self.shorten_breadcrumbs(root, &mut excess, BREADCRUMBS_MAX);
        let mut fields = fields(root);
        fields.sort_by_cached_key(|field| (field.goes_last, Reverse(excess.weight(field.cost))));
        for field in fields {
            if !excess.is_over() {
                break;
            }
            if field.name == BREADCRUMBS && field.inner.as_deref().is_none_or(|name| name == VALUES)
            {
                self.shorten_breadcrumbs(root, &mut excess, 1);
                continue;
            }
            let holder = match &field.inner {
                Some(_) => root.get_mut(&field.name),
                None => Some(&mut *root),
            };
            let name = field.inner.as_ref().unwrap_or(&field.name);
            if let Some(fields) = holder.and_then(Value::as_object_mut) {
                fields.remove(name);
            }
            excess.take(field.cost);
            let path = match &field.inner {
                Some(inner) => format!("{}.{}", quoted(&field.name), quoted(inner)),
                None => quoted(&field.name),
            };
            self.leave_out(path);
        }
        self.leave_out_rest(root, &mut excess);
    }

    /// Leaves out whole fields of the document: of very many, what is not in them is too much.
    fn leave_out_rest(&mut self, root: &mut Value, excess: &mut Excess) {
        let Value::Object(document) = root else {
            return;
        };
        document.retain(|name, value| {
            let is_kept = !excess.is_over();
            if !is_kept {
                let cost = add((name.len(), 0), cost(value));
                excess.take(cost);
                self.leave_out(quoted(name));
            }
            is_kept
        });
    }

    fn leave_out(&mut self, path: String) {
        if self.fields.len() >= NAMED_MAX {
            self.more += usize::from(!self.fields.contains(&path));
        } else if !self.fields.contains(&path) {
            self.fields.push(path);
        }
    }

    /// Shortens every text of at least so many bytes. Recursion ends with the levels that a document may have.
    fn shorten(
        &mut self,
        value: &mut Value,
        path: &mut String,
        shortest: usize,
        excess: &mut Excess,
    ) {
        let path_bytes = path.len();
        match value {
            Value::String(text) if text.len() >= shortest => {
                let bytes = text.len();
                let kept = text.floor_char_boundary(EVENT_TEXT_BYTES_KEPT);
                text.truncate(kept);
                text.shrink_to_fit();
                excess.take((bytes - kept, 0));
                self.note_text(path, kept, bytes as u64);
            }
            Value::Array(values) => {
                for (at, value) in values.iter_mut().enumerate() {
                    path.push_str(&format!("[{at}]"));
                    self.shorten(value, path, shortest, excess);
                    path.truncate(path_bytes);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    if path_bytes > 0 {
                        path.push('.');
                    }
                    path.push_str(&quoted(name));
                    self.shorten(value, path, shortest, excess);
                    path.truncate(path_bytes);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Notes a shortened text: of one that was shortened before, how long it was at first.
    pub(super) fn note_text(&mut self, path: &str, kept: usize, bytes: u64) {
        let path = &path[..path.floor_char_boundary(PATH_BYTES_MAX)];
        if self.texts.len() < NAMED_MAX || self.texts.contains_key(path) {
            let noted = self.texts.entry(path.to_owned()).or_insert((kept, bytes));
            noted.0 = kept;
        } else {
            self.more += 1;
        }
    }

    /// Leaves out the oldest breadcrumbs down to as many as are kept of any event, or down to one while all is too much; a last one
    /// that is itself too much goes, too.
    fn shorten_breadcrumbs(&mut self, root: &mut Value, excess: &mut Excess, left_min: usize) {
        let Some(list) = root.get_mut(BREADCRUMBS) else {
            return;
        };
        let list = match list {
            Value::Object(fields) => fields.get_mut(VALUES),
            list @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => Some(list),
        };
        let Some(Value::Array(list)) = list else {
            return;
        };
        let Some(last) = list.pop() else { return };
        list.sort_by_cached_key(|breadcrumb| breadcrumb.get("timestamp").and_then(moment));
        let mut gone = 0;
        let is_excess = |excess: &Excess| excess.is_over() || left_min == BREADCRUMBS_MAX;
        while is_excess(excess) && list.len() + 1 - gone > left_min {
            excess.take(cost(&list[gone]));
            gone += 1;
        }
        list.drain(..gone);
        self.breadcrumbs += gone;
        if list.is_empty() && left_min == 1 && excess.is_over() {
            excess.take(cost(&last));
            self.breadcrumbs += 1;
        } else {
            list.push(last);
        }
    }

    /// Says what was left out.
    pub(super) fn tell(self, repairs: &mut Repairs) {
        for (path, (kept, bytes)) in self.texts {
            repairs.note(|| path, Fault::Shortened { kept, bytes });
        }
        if self.breadcrumbs > 0 {
            repairs.note(
                || BREADCRUMBS.to_owned(),
                Fault::Breadcrumbs(self.breadcrumbs),
            );
        }
        for path in self.fields {
            repairs.note(|| path, Fault::LeftOut);
        }
        repairs.count(self.more);
    }
}

/// The shortest of the texts that have to be shortened, the longest first, to save so many bytes; the shortest that can be when
/// that is not enough; `None` when none can be.
fn shortest_to_cut(root: &Value, excess_bytes: usize) -> Option<usize> {
    let mut lengths = Vec::new();
    long_texts(root, &mut lengths);
    lengths.sort_unstable_by_key(|bytes| Reverse(*bytes));
    let mut saved = 0;
    let needed = lengths.iter().take_while(|bytes| {
        let is_needed = saved < excess_bytes;
        saved += **bytes - EVENT_TEXT_BYTES_KEPT;
        is_needed
    });
    needed.last().copied()
}

fn long_texts(value: &Value, lengths: &mut Vec<usize>) {
    match value {
        Value::String(text) if text.len() > EVENT_TEXT_BYTES_KEPT => lengths.push(text.len()),
        Value::Array(values) => values.iter().for_each(|value| long_texts(value, lengths)),
        Value::Object(fields) => fields.values().for_each(|value| long_texts(value, lengths)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The fields of a document, those of its objects one by one.
fn fields(root: &Value) -> Vec<Field> {
    let Value::Object(document) = root else {
        return Vec::new();
    };
    let mut fields = Vec::new();
    for (name, value) in document {
        let is_scalar = !matches!(value, Value::Array(_) | Value::Object(_));
        let goes_last = is_scalar || LAST.contains(&name.as_str());
        match value {
            Value::Object(inner) => fields.extend(inner.iter().map(|(inner, value)| Field {
                goes_last,
                cost: add((inner.len(), 0), cost(value)),
                name: name.clone(),
                inner: Some(inner.clone()),
            })),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                fields.push(Field {
                    goes_last,
                    cost: add((name.len(), 0), cost(value)),
                    name: name.clone(),
                    inner: None,
                });
            }
        }
    }
    fields
}
