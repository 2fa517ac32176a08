//! The tolerant reader of msgpack (<https://github.com/msgpack/msgpack/blob/master/spec.md>). A length that is only claimed costs
//! nothing: what is there is taken, and no more.

use serde_json::{Number, Value};

use super::build::{Builder, Kind};
use super::input::Input;
use super::repairs::Fault;
use super::text::{Text, from_binary, from_utf_8};
use super::{Limits, Reading};

/// The name of a value whose own is a list or a map.
const NESTED_NAME: &str = "(a name that is no text)";

pub(super) struct Reader<'i, 'p> {
    input: &'i mut Input<'p>,
    builder: Builder,
    bytes_max: usize,
    /// What is still to come of each open container; of a map, names and values.
    left: Vec<u64>,
}

/// What a value begins with.
enum Head {
    Value(Value, Option<Fault>),
    Text(u64),
    Binary(u64),
    Extension(u64),
    List(u64),
    Map(u64),
}

impl<'i, 'p> Reader<'i, 'p> {
    pub(super) fn new(input: &'i mut Input<'p>, limits: Limits) -> Self {
        Self {
            input,
            builder: Builder::new(limits),
            bytes_max: limits.bytes,
            left: Vec::new(),
        }
    }

    /// Reads one value, and what maps behind it add to it.
    pub(super) fn read(mut self) -> Reading {
        self.value();
        loop {
            self.contents();
            let Some(next) = self.input.peek() else {
                return self.builder.finish();
            };
            let is_map = matches!(next, 0x80..=0x8f | 0xde | 0xdf);
            if !is_map || !self.builder.reopen() {
                self.builder.note_whole(Fault::Trailing);
                return self.builder.finish();
            }
            self.builder.note_whole(Fault::Another);
            match self.head() {
                Some(Head::Map(pairs)) => self.left.push(2 * pairs),
                Some(
                    Head::Value(..)
                    | Head::Text(_)
                    | Head::Binary(_)
                    | Head::Extension(_)
                    | Head::List(_),
                )
                | None => self.cut(),
            }
        }
    }

    /// Reads values to the end, as a list in an object.
    pub(super) fn read_list(mut self, name: &str) -> Reading {
        self.builder.begin(Kind::Object);
        self.builder.name(name.to_owned());
        self.builder.begin(Kind::List);
        let own = [u64::MAX, u64::MAX];
        self.left.extend(own);
        while self.input.peek().is_some() && self.builder.innermost().is_some() {
            self.value();
            self.contents_down_to(own.len());
        }
        self.builder.finish()
    }

    fn contents(&mut self) {
        self.contents_down_to(0);
    }

    /// Reads what is in the open containers, but for so many outer ones.
    fn contents_down_to(&mut self, outer: usize) {
        loop {
            let gone = self.builder.make_room();
            if gone > 0 {
                let gone = self.left.split_off(self.left.len().saturating_sub(gone));
                self.skip(gone.into_iter().fold(0, u64::saturating_add));
            }
            if self.left.len() <= outer {
                return;
            }
            match self.left.last_mut() {
                None => return,
                Some(0) => {
                    self.left.pop();
                    self.builder.end();
                }
                Some(left) => {
                    *left -= 1;
                    let is_name = self.builder.innermost() == Some(Kind::Object) && *left % 2 == 1;
                    if is_name {
                        self.name();
                    } else {
                        self.value();
                    }
                }
            }
        }
    }

    fn name(&mut self) {
        let Some(head) = self.head() else {
            return self.cut();
        };
        let text = match head {
            Head::Value(value, _) => Text {
                text: value.to_string(),
                faults: Vec::new(),
            },
            Head::Text(bytes) => {
                let Some(text) = self.take(bytes).map(from_utf_8) else {
                    return self.cut();
                };
                text
            }
            Head::Binary(bytes) => {
                let Some(text) = self.take(bytes).map(|taken| from_binary(taken, bytes)) else {
                    return self.cut();
                };
                text
            }
            Head::Extension(bytes) => {
                self.pass(bytes.saturating_add(1));
                nested_name()
            }
            Head::List(values) => {
                self.skip(values);
                nested_name()
            }
            Head::Map(pairs) => {
                self.skip(2 * pairs);
                nested_name()
            }
        };
        self.builder.name(text.text);
        for fault in text.faults {
            self.builder.note(fault);
        }
    }

    fn value(&mut self) {
        let Some(head) = self.head() else {
            return self.cut();
        };
        match head {
            Head::Value(value, fault) => {
                fault.into_iter().for_each(|fault| self.builder.note(fault));
                self.builder.put(value);
            }
            Head::Text(bytes) => match self.take(bytes) {
                Some(taken) => self.put(from_utf_8(taken), bytes),
                None => self.cut(),
            },
            Head::Binary(bytes) => match self.take(bytes) {
                Some(taken) => self.put(from_binary(taken, bytes), 0),
                None => self.cut(),
            },
            Head::Extension(bytes) => self.extension(bytes),
            Head::List(values) => self.begin(Kind::List, values),
            Head::Map(pairs) => self.begin(Kind::Object, 2 * pairs),
        }
    }

    /// Puts a text that had so many bytes.
    fn put(&mut self, text: Text, bytes: u64) {
        let Text { text, faults } = text;
        faults
            .into_iter()
            .for_each(|fault| self.builder.note(fault));
        if bytes > self.bytes_max as u64 {
            self.builder.note_shortened(text.len(), bytes);
        }
        self.builder.put(Value::String(text));
    }

    /// An extension becomes a list of its type and its bytes.
    fn extension(&mut self, bytes: u64) {
        let Some(kind) = self.number(1) else {
            return self.cut();
        };
        let Some(taken) = self.take(bytes) else {
            return self.cut();
        };
        if self.builder.begin(Kind::List) {
            self.builder.put((kind as u8 as i8).into());
            self.put(from_binary(taken, bytes), 0);
            self.builder.end();
        }
    }

    fn begin(&mut self, kind: Kind, contents: u64) {
        if self.builder.begin(kind) {
            self.left.push(contents);
        } else {
            self.skip(contents);
        }
    }

    /// The input ends here.
    fn cut(&mut self) {
        self.builder.note(Fault::Cut);
        self.builder.drop_name();
        while self.builder.innermost().is_some() {
            self.builder.end();
        }
        self.left.clear();
    }

    /// Skips so many values with all that is in them.
    fn skip(&mut self, mut values: u64) {
        while values > 0 {
            values -= 1;
            match self.head() {
                None => return,
                Some(Head::Value(..)) => {}
                Some(Head::Text(bytes) | Head::Binary(bytes)) => self.pass(bytes),
                Some(Head::Extension(bytes)) => self.pass(bytes.saturating_add(1)),
                Some(Head::List(more)) => values = values.saturating_add(more),
                Some(Head::Map(pairs)) => values = values.saturating_add(2 * pairs),
            }
        }
    }

    fn pass(&mut self, mut bytes: u64) {
        while bytes > 0 {
            let rest = self.input.rest().len();
            if rest == 0 {
                return;
            }
            let passed = bytes.min(rest as u64);
            self.input.pass(passed as usize);
            bytes -= passed;
        }
    }

    /// The next bytes, as many of them as may be kept; `None` when there are not as many.
    fn take(&mut self, mut bytes: u64) -> Option<Vec<u8>> {
        let mut taken = Vec::new();
        while bytes > 0 {
            let rest = self.input.rest();
            if rest.is_empty() {
                return None;
            }
            let passed = bytes.min(rest.len() as u64) as usize;
            let kept = passed.min(self.bytes_max - taken.len());
            taken.extend_from_slice(&rest[..kept]);
            self.input.pass(passed);
            bytes -= passed as u64;
        }
        Some(taken)
    }

    /// A big-endian number.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let mut number = 0;
        for _ in 0..bytes {
            number = number << 8 | u64::from(self.input.next()?);
        }
        Some(number)
    }

    fn head(&mut self) -> Option<Head> {
        let marker = self.input.next()?;
        let low = |mask: u8| u64::from(marker & mask);
        Some(match marker {
            0x00..=0x7f => integer(u64::from(marker)),
            0x80..=0x8f => Head::Map(low(0x0f)),
            0x90..=0x9f => Head::List(low(0x0f)),
            0xa0..=0xbf => Head::Text(low(0x1f)),
            0xc0 => Head::Value(Value::Null, None),
            0xc1 => Head::Value(Value::Null, Some(Fault::Reserved)),
            0xc2 | 0xc3 => Head::Value(Value::Bool(marker == 0xc3), None),
            0xc4..=0xc6 => Head::Binary(self.number(1 << (marker - 0xc4))?),
            0xc7..=0xc9 => Head::Extension(self.number(1 << (marker - 0xc7))?),
            0xca => float(f64::from(f32::from_bits(self.number(4)? as u32))),
            0xcb => float(f64::from_bits(self.number(8)?)),
            0xcc..=0xcf => integer(self.number(1 << (marker - 0xcc))?),
            0xd0 => signed(i64::from(self.number(1)? as u8 as i8)),
            0xd1 => signed(i64::from(self.number(2)? as u16 as i16)),
            0xd2 => signed(i64::from(self.number(4)? as u32 as i32)),
            0xd3 => signed(self.number(8)? as i64),
            0xd4..=0xd8 => Head::Extension(1 << (marker - 0xd4)),
            0xd9..=0xdb => Head::Text(self.number(1 << (marker - 0xd9))?),
            0xdc | 0xdd => Head::List(self.number(2 << (marker - 0xdc))?),
            0xde | 0xdf => Head::Map(self.number(2 << (marker - 0xde))?),
            0xe0..=0xff => signed(i64::from(marker as i8)),
        })
    }
}

fn nested_name() -> Text {
    Text {
        text: NESTED_NAME.to_owned(),
        faults: Vec::new(),
    }
}

fn integer(number: u64) -> Head {
    Head::Value(number.into(), None)
}

fn signed(number: i64) -> Head {
    Head::Value(number.into(), None)
}

/// JSON has neither infinity nor what is not a number.
fn float(number: f64) -> Head {
    match Number::from_f64(number) {
        Some(number) => Head::Value(Value::Number(number), None),
        None => Head::Value(Value::Null, Some(Fault::NotFinite(number.to_string()))),
    }
}
