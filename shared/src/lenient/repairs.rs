//! What was wrong with a document, leaf by leaf, as warnings: bounded in number and length, without control characters.

use std::fmt;

/// Faults that are named; more are counted.
const NAMED_MAX: usize = 16;
/// Characters that are quoted of a name or a word.
const QUOTED_CHARS_MAX: usize = 40;

/// What can be wrong at one place of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A text or name with bytes that are not UTF-8.
    NotUtf8,
    /// Half of a UTF-16 surrogate pair.
    Surrogate,
    /// A control character that should have been escaped.
    ControlCharacter,
    /// An escape that there is none of.
    Escape,
    /// A number that is none, or infinite.
    NotFinite(String),
    /// A number larger than a double.
    OutOfRange(String),
    /// A number in a notation of another language.
    Notation(String),
    /// `None`, `undefined`, `True` and the like.
    Literal(String),
    /// A word without quotes.
    BareWord(String),
    /// Single quotes, or a name without any.
    Quotes,
    /// A comment.
    Comment,
    /// A comma or colon too many or too few.
    Separator,
    /// A name without a value.
    NoValue,
    /// A bracket that closes nothing, or something else.
    Bracket,
    /// Bytes that are no part of a value.
    Stray,
    /// A sign of markup that should have been escaped.
    Unescaped,
    /// Msgpack's byte that means nothing.
    Reserved,
    /// Bytes that are no text.
    Binary(u64),
    /// Containers nested too deep.
    TooDeep(usize),
    /// The document ends too early.
    Cut,
    /// Something stands behind the document's end.
    Trailing,
    /// Another document stands behind it.
    Another,
    /// It is written in UTF-16.
    Utf16,
    /// A text that was too long.
    Shortened {
        /// How much of it is kept.
        kept: usize,
        /// How long it was.
        bytes: u64,
    },
    /// A value that was too large.
    LeftOut,
    /// Breadcrumbs that were too many or too large.
    Breadcrumbs(usize),
    /// More of a kind than are kept.
    TooMany(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("bytes that are not UTF-8 were replaced"),
            Self::Surrogate => f.write_str("half of a surrogate pair was replaced"),
            Self::ControlCharacter => f.write_str("control characters were not escaped"),
            Self::Escape => f.write_str("unknown escapes were kept as text"),
            Self::NotFinite(word) => write!(
                f,
                "expected a finite number, found {word}; null was put in its place"
            ),
            Self::OutOfRange(word) => {
                write!(f, "the number {word} is out of range and was kept as text")
            }
            Self::Notation(word) => {
                write!(f, "the notation {word} was read as the number it means")
            }
            Self::Literal(word) => write!(f, "the word {word} was read as the value it means"),
            Self::BareWord(word) => write!(
                f,
                "expected a value, found the word {word}, which was kept as text"
            ),
            Self::Quotes => f.write_str("expected double quotes, found others or none"),
            Self::Comment => f.write_str("a comment was left out"),
            Self::Separator => f.write_str("a comma or colon was too many or missing"),
            Self::NoValue => f.write_str("expected a value, found none"),
            Self::Bracket => f.write_str("a bracket was missing or too many"),
            Self::Stray => f.write_str("what is no value was left out"),
            Self::Unescaped => f.write_str("signs that were not escaped were kept as text"),
            Self::Reserved => f.write_str("a byte that means nothing was left out"),
            Self::Binary(bytes) => write!(f, "only the beginning of {bytes} binary bytes was kept"),
            Self::TooDeep(levels) => {
                write!(
                    f,
                    "expected at most {levels} levels, found more; null was put in their place"
                )
            }
            Self::Cut => f.write_str("it ends too early; what was complete before was kept"),
            Self::Trailing => f.write_str("what stands behind its end was left out"),
            Self::Another => f.write_str("another document behind it was added"),
            Self::Utf16 => f.write_str("expected UTF-8, found UTF-16"),
            Self::Shortened { kept, bytes } => {
                write!(f, "too large: the first {kept} bytes of {bytes} were kept")
            }
            Self::LeftOut => f.write_str("too large: it was left out"),
            Self::Breadcrumbs(count) => write!(f, "too large: the oldest {count} were left out"),
            Self::TooMany(most) => write!(
                f,
                "expected at most {most}, found more, which were left out"
            ),
        }
    }
}

impl Fault {
    /// Whether something was lost that the original bytes still say.
    fn is_lossy(&self) -> bool {
        match self {
            Self::NotUtf8
            | Self::NoValue
            | Self::Stray
            | Self::Reserved
            | Self::Binary(_)
            | Self::TooDeep(_)
            | Self::Cut
            | Self::Trailing
            | Self::Shortened { .. }
            | Self::LeftOut
            | Self::Breadcrumbs(_)
            | Self::TooMany(_) => true,
            Self::Surrogate
            | Self::ControlCharacter
            | Self::Escape
            | Self::NotFinite(_)
            | Self::OutOfRange(_)
            | Self::Notation(_)
            | Self::Literal(_)
            | Self::BareWord(_)
            | Self::Quotes
            | Self::Comment
            | Self::Separator
            | Self::Bracket
            | Self::Unescaped
            | Self::Another
            | Self::Utf16 => false,
        }
    }
}

/// The faults of one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    named: Vec<(String, Fault)>,
    more: usize,
    is_lossy: bool,
}

impl Repairs {
    /// Notes a fault at a path; of one that was noted there already, nothing.
    pub fn note(&mut self, path: impl FnOnce() -> String, fault: Fault) {
        self.is_lossy |= fault.is_lossy();
        if self.named.len() >= NAMED_MAX {
            self.more += 1;
            return;
        }
        let noted = (path(), fault);
        if !self.named.contains(&noted) {
            self.named.push(noted);
        }
    }

    /// Counts faults that are not named.
    pub(super) fn count(&mut self, more: usize) {
        self.more += more;
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.more == 0
    }

    /// Whether something was lost that the original bytes still say.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    /// The faults as sentences about `what`.
    #[must_use]
    pub fn warnings(&self, what: &str) -> Vec<String> {
        let named = self.named.iter().map(|(path, fault)| match path.as_str() {
            "" => format!("{what}: {fault}"),
            path => format!("{what}: {path}: {fault}"),
        });
        let more =
            (self.more > 0).then(|| format!("{what}: {} more faults of the same kinds", self.more));
        named.chain(more).collect()
    }
}

/// As much of a name or word as a warning quotes, without control characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars
        .by_ref()
        .take(QUOTED_CHARS_MAX)
        .flat_map(|char| {
            let escaped = char.is_control().then(|| char.escape_unicode());
            let plain = (!char.is_control()).then_some(char);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}
