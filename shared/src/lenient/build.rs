//! A document under construction: its open containers, what it holds, and the path of what comes next.

use serde_json::{Map, Value};

use super::repairs::{Fault, Repairs, quoted};
use super::shed::{Shed, cost};
use super::{Limits, Reading};
use crate::event::fill_value;

/// Names of a path that are shown at its beginning and at its end.
const PATH_NAMES_SHOWN: usize = 4;

/// Containers that are open, and what is in them.
pub(super) struct Builder {
    limits: Limits,
    frames: Vec<Frame>,
    root: Option<Value>,
    bytes: usize,
    values: usize,
    shed: Shed,
    repairs: Repairs,
}

enum Frame {
    Object {
        fields: Map<String, Value>,
        /// The field whose value comes next, or is open.
        name: Option<String>,
    },
    List(Vec<Value>),
}

/// The kinds of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
}

impl Kind {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Object(_) => Some(Self::Object),
            Value::Array(_) => Some(Self::List),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }
}

impl Frame {
    fn put(&mut self, value: Value) {
        match self {
            Self::Object { fields, name } => {
                let Some(name) = name.take() else { return };
                match fields.get_mut(&name) {
                    // A name that comes again adds what its first value lacks.
                    Some(has) => fill_value(has, value),
                    None => {
                        fields.insert(name, value);
                    }
                }
            }
            Self::List(values) => values.push(value),
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Object { fields, .. } => fields.into(),
            Self::List(values) => values.into(),
        }
    }

    /// Takes the container out that was open within this one, to go on with it; `None` when it was left out.
    fn reopen(&mut self, kind: Kind) -> Option<Self> {
        let value = match self {
            Self::Object { fields, name } => {
                let held = name.as_ref().and_then(|name| fields.get_mut(name));
                match held.filter(|value| Kind::of(value) == Some(kind)) {
                    Some(value) => value.take(),
                    None => {
                        *name = None;
                        return None;
                    }
                }
            }
            Self::List(values) => {
                let last = values.last();
                let is_held = last.is_some_and(|value| Kind::of(value) == Some(kind));
                is_held.then(|| values.pop())??
            }
        };
        Self::open(value, kind)
    }

    fn open(value: Value, kind: Kind) -> Option<Self> {
        match (value, kind) {
            (Value::Object(fields), Kind::Object) => Some(Self::Object { fields, name: None }),
            (Value::Array(values), Kind::List) => Some(Self::List(values)),
            (
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_)
                | Value::Object(_),
                Kind::Object | Kind::List,
            ) => None,
        }
    }
}

impl Builder {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            frames: Vec::new(),
            root: None,
            bytes: 0,
            values: 0,
            shed: Shed::default(),
            repairs: Repairs::default(),
        }
    }

    /// The innermost open container.
    pub(super) fn innermost(&self) -> Option<Kind> {
        self.frames.last().map(|frame| match frame {
            Frame::Object { .. } => Kind::Object,
            Frame::List(_) => Kind::List,
        })
    }

    /// Whether a container of this kind is open.
    pub(super) fn has_open(&self, kind: Kind) -> bool {
        self.frames.iter().any(|frame| match frame {
            Frame::Object { .. } => kind == Kind::Object,
            Frame::List(_) => kind == Kind::List,
        })
    }

    /// Names the value that comes next.
    pub(super) fn name(&mut self, text: String) {
        self.bytes += text.len();
        if let Some(Frame::Object { name, .. }) = self.frames.last_mut() {
            *name = Some(text);
        }
    }

    /// There is no such value.
    pub(super) fn drop_name(&mut self) {
        if let Some(Frame::Object { name, .. }) = self.frames.last_mut() {
            *name = None;
        }
    }

    pub(super) fn put(&mut self, value: Value) {
        self.values += 1;
        if let Value::String(text) = &value {
            self.bytes += text.len();
        }
        self.place(value);
    }

    fn place(&mut self, value: Value) {
        match self.frames.last_mut() {
            Some(frame) => frame.put(value),
            None => self.root = Some(value),
        }
    }

    /// Opens a container; false, and null in its place, when it would lie too deep.
    pub(super) fn begin(&mut self, kind: Kind) -> bool {
        if self.frames.len() >= self.limits.levels {
            self.note(Fault::TooDeep(self.limits.levels));
            self.put(Value::Null);
            return false;
        }
        self.values += 1;
        self.frames.push(match kind {
            Kind::Object => Frame::Object {
                fields: Map::new(),
                name: None,
            },
            Kind::List => Frame::List(Vec::new()),
        });
        true
    }

    /// Closes the innermost container.
    pub(super) fn end(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.place(frame.into_value());
        }
    }

    /// Goes on with the document behind its end; false when it is no object.
    pub(super) fn reopen(&mut self) -> bool {
        match self.root.take() {
            Some(Value::Object(fields)) => {
                self.frames.push(Frame::Object { fields, name: None });
                true
            }
            root => {
                self.root = root;
                false
            }
        }
    }

    /// Makes room when what is held has become twice what may be kept. Returns how many of the innermost containers were left
    /// out with it: they are closed, and what is still to come of them has to be skipped.
    pub(super) fn make_room(&mut self) -> usize {
        if self.bytes <= 2 * self.limits.bytes && self.values <= 2 * self.limits.values {
            return 0;
        }
        let trail: Vec<(Kind, Option<String>)> = self
            .frames
            .iter()
            .map(|frame| match frame {
                Frame::Object { name, .. } => (Kind::Object, name.clone()),
                Frame::List(_) => (Kind::List, None),
            })
            .collect();
        while self.frames.len() > 1 {
            self.end();
        }
        let root = self.frames.pop().map(Frame::into_value);
        let mut root = root.or(self.root.take()).unwrap_or_default();
        self.shed.make_fit(&mut root, self.limits);
        (self.bytes, self.values) = cost(&root);
        self.open_again(root, trail)
    }

    fn open_again(&mut self, root: Value, trail: Vec<(Kind, Option<String>)>) -> usize {
        let open = trail.len();
        let mut trail = trail.into_iter();
        let Some((kind, name)) = trail.next() else {
            self.root = Some(root);
            return 0;
        };
        let Some(mut frame) = Frame::open(root, kind) else {
            self.root = Some(Value::Null);
            return open;
        };
        let mut name = name;
        for (kind, inner_name) in trail {
            if let Frame::Object { name: at, .. } = &mut frame {
                *at = name;
            }
            let inner = frame.reopen(kind);
            self.frames.push(frame);
            match inner {
                Some(inner) => frame = inner,
                None => return open - self.frames.len(),
            }
            name = inner_name;
        }
        if let Frame::Object { name: at, .. } = &mut frame {
            *at = name;
        }
        self.frames.push(frame);
        0
    }

    /// Notes a fault of the value that comes next.
    pub(super) fn note(&mut self, fault: Fault) {
        let frames = &self.frames;
        self.repairs.note(|| path(frames), fault);
    }

    /// Notes that the text that comes next is only the beginning of one.
    pub(super) fn note_shortened(&mut self, kept: usize, bytes: u64) {
        self.shed.note_text(&path(&self.frames), kept, bytes);
    }

    /// Notes a fault of the document as a whole.
    pub(super) fn note_whole(&mut self, fault: Fault) {
        self.repairs.note(String::new, fault);
    }

    /// Closes what is open; what is too much is left out.
    pub(super) fn finish(mut self) -> Reading {
        while !self.frames.is_empty() {
            self.end();
        }
        let mut value = self.root.unwrap_or_default();
        let (bytes, values) = cost(&value);
        if bytes > self.limits.bytes || values > self.limits.values {
            self.shed.make_fit(&mut value, self.limits);
        }
        self.shed.tell(&mut self.repairs);
        let (_, values) = cost(&value);
        Reading {
            value,
            repairs: self.repairs,
            values,
        }
    }
}

/// Where the next value lies: `extra.list[3].name`.
fn path(frames: &[Frame]) -> String {
    let hidden = PATH_NAMES_SHOWN..frames.len().saturating_sub(PATH_NAMES_SHOWN);
    let mut path = String::new();
    for (at, frame) in frames.iter().enumerate() {
        if at == hidden.start && !hidden.is_empty() {
            path.push('…');
        }
        if hidden.contains(&at) {
            continue;
        }
        match frame {
            Frame::List(values) => path.push_str(&format!("[{}]", values.len())),
            Frame::Object { name: None, .. } => {}
            Frame::Object {
                name: Some(name), ..
            } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&quoted(name));
            }
        }
    }
    path
}
