//! `multipart/form-data` as crash clients write it, parsed from pieces of any size without ever holding a part.
//!
//! Our own parser, because the known ones gather a whole preamble, a whole part head or everything a fast client has
//! sent, and because Breakpad forgets the line break before a boundary. Pure: bytes in, steps out.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use crate::limits::{BOUNDARY_BYTES_MAX, PART_HEAD_BYTES_MAX, PREAMBLE_BYTES_MAX};
use crate::part_head::PartHead;

/// What a part's head is gathered by; whatever follows the head in the last gathering is copied once more.
const HEAD_STRIDE_BYTES: usize = 512;

/// What of a head is searched again when more of it has come.
const HEAD_OVERLAP_BYTES: usize = 4;

/// Why a body is not `multipart/form-data`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The content type says multipart and names no boundary, or an impossible one.
    #[error(
        "expected a boundary of 1 to {BOUNDARY_BYTES_MAX} bytes in the content type, found {found:?}"
    )]
    MissingBoundary {
        /// The content type.
        found: String,
    },
    /// The boundary of the content type does not stand in the body.
    #[error(
        "expected the boundary {boundary:?} of the content type in the body, found none in the first {searched_bytes} bytes"
    )]
    BoundaryNotFound {
        /// The boundary.
        boundary: String,
        /// How far it was looked for.
        searched_bytes: usize,
    },
    /// The body ends before the closing boundary.
    #[error("expected the closing boundary, found the end of the body in {place}")]
    Cut {
        /// Where.
        place: &'static str,
    },
    /// Something other than a line end or `--` follows a boundary.
    #[error("expected a line end after a boundary, found something else")]
    BrokenBoundaryLine,
    /// A part's headers do not end.
    #[error("expected a part's headers within {PART_HEAD_BYTES_MAX} bytes, found no end of them")]
    PartHeadTooLong,
    /// A part's headers are not headers.
    #[error("expected a header `name: value` at the start of a part, found {found:?}")]
    BrokenPartHead {
        /// The line.
        found: String,
    },
}

impl MultipartError {
    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingBoundary { .. } => "missing_boundary",
            Self::BoundaryNotFound { .. } => "boundary_not_found",
            Self::Cut { .. } => "cut_multipart",
            Self::BrokenBoundaryLine | Self::PartHeadTooLong | Self::BrokenPartHead { .. } => {
                "broken_multipart"
            }
        }
    }
}

/// What the parser found next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A part begins.
    Part(PartHead),
    /// Bytes of it, never empty.
    Content(Bytes),
    /// It has ended.
    PartEnd,
    /// Everything pushed so far is used up.
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble {
        skipped: usize,
    },
    BoundaryLine,
    Head,
    Content,
    PartEnd,
    /// In what cannot be read, up to the next boundary.
    Broken,
    Epilogue,
}

/// The parser. Push a piece, then take steps until [`Step::More`]; [`Parser::finish`] after the last.
#[derive(Debug)]
pub struct Parser {
    /// `--` and the boundary.
    delimiter: Vec<u8>,
    finder: memmem::Finder<'static>,
    state: State,
    /// Bytes that stand before `input`: the possible start of a delimiter, or a head under way.
    held: BytesMut,
    input: Bytes,
    repaired: bool,
    /// Lines end with line feeds alone.
    line_feeds: bool,
    /// The first part that could not be read.
    fault: Option<MultipartError>,
}

/// Where a part's content ends.
#[derive(Debug, PartialEq, Eq)]
enum Scan {
    /// A delimiter: `content` bytes before it (and before its line break), `after` bytes up to its end.
    Delimiter {
        content: usize,
        after: usize,
        bare: bool,
    },
    /// None yet: so many bytes are content, whatever follows.
    Content(usize),
}

impl Parser {
    /// A parser for the boundary that a content type names.
    ///
    /// # Errors
    /// [`MultipartError::MissingBoundary`].
    pub fn new(content_type: &str) -> Result<Self, MultipartError> {
        Self::with_boundary(boundary(content_type).unwrap_or_default()).map_err(|_| {
            MultipartError::MissingBoundary {
                found: content_type.chars().take(200).collect(),
            }
        })
    }

    /// A parser for a boundary that is known.
    ///
    /// # Errors
    /// [`MultipartError::MissingBoundary`] for an impossible one.
    pub fn with_boundary(boundary: &str) -> Result<Self, MultipartError> {
        if !(1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) {
            let found = boundary.chars().take(200).collect();
            return Err(MultipartError::MissingBoundary { found });
        }
        let delimiter = [b"--", boundary.as_bytes()].concat();
        Ok(Self {
            finder: memmem::Finder::new(&delimiter).into_owned(),
            delimiter,
            state: State::Preamble { skipped: 0 },
            held: BytesMut::new(),
            input: Bytes::new(),
            repaired: false,
            line_feeds: false,
            fault: None,
        })
    }

    /// What a part begins with: two hyphens and the boundary.
    #[must_use]
    pub fn delimiter(&self) -> &[u8] {
        &self.delimiter
    }

    /// The next piece of the body. Only after [`Step::More`].
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = piece;
    }

    /// Whether a boundary stood without the line break that belongs before it, as Breakpad on Windows writes.
    #[must_use]
    pub fn repaired(&self) -> bool {
        self.repaired
    }

    /// Why a part was left out, when one had to be.
    #[must_use]
    pub fn fault(&self) -> Option<&MultipartError> {
        self.fault.as_ref()
    }

    /// The next step.
    ///
    /// # Errors
    /// [`MultipartError`]; the parser is of no use after it.
    pub fn step(&mut self) -> Result<Step, MultipartError> {
        loop {
            match self.state {
                State::Preamble { skipped } => {
                    let Some(content) = self.content(false) else {
                        return Ok(Step::More);
                    };
                    self.skip_preamble(skipped + content.len())?;
                }
                State::BoundaryLine => {
                    if !self.boundary_line() {
                        return Ok(Step::More);
                    }
                }
                State::Head => match self.head() {
                    Some(head) => return Ok(Step::Part(head)),
                    None if self.state == State::Head => return Ok(Step::More),
                    None => {}
                },
                State::Broken => {
                    if self.content(false).is_none() {
                        return Ok(Step::More);
                    }
                }
                State::Content => match self.content(true) {
                    Some(content) if content.is_empty() => {}
                    Some(content) => return Ok(Step::Content(content)),
                    None => return Ok(Step::More),
                },
                State::PartEnd => {
                    self.state = State::BoundaryLine;
                    return Ok(Step::PartEnd);
                }
                State::Epilogue => {
                    self.held.clear();
                    self.input.clear();
                    return Ok(Step::More);
                }
            }
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`MultipartError`] when the closing boundary has not come.
    pub fn finish(&self) -> Result<(), MultipartError> {
        let place = match self.state {
            State::Preamble { skipped } => {
                return Err(self.boundary_not_found(skipped + self.held.len()));
            }
            State::BoundaryLine => "a boundary",
            State::Head => "a part's headers",
            State::Content | State::PartEnd => "a part's content",
            State::Broken => "a part that cannot be read",
            State::Epilogue => return Ok(()),
        };
        Err(MultipartError::Cut { place })
    }

    fn boundary_not_found(&self, searched_bytes: usize) -> MultipartError {
        let boundary = String::from_utf8_lossy(&self.delimiter[2..]).into_owned();
        MultipartError::BoundaryNotFound {
            boundary,
            searched_bytes,
        }
    }

    fn skip_preamble(&mut self, skipped: usize) -> Result<(), MultipartError> {
        if skipped > PREAMBLE_BYTES_MAX {
            return Err(self.boundary_not_found(skipped));
        }
        if let State::Preamble { skipped: state } = &mut self.state {
            *state = skipped;
        }
        Ok(())
    }

    /// Content up to the next delimiter, and past it; or as much as is content for sure. `None` when more is needed.
    fn content(&mut self, in_part: bool) -> Option<Bytes> {
        let in_held = !self.held.is_empty();
        if in_held {
            self.take(self.delimiter.len() + 8);
        }
        let window: &[u8] = if in_held { &self.held } else { &self.input };
        let scan = self.scan(window);
        let (content_bytes, skip) = match scan {
            Scan::Delimiter { content, after, .. } => (content, after - content),
            Scan::Content(content) => (content, 0),
        };
        let content = if in_held {
            let content = self.held.split_to(content_bytes).freeze();
            self.held.advance(skip);
            content
        } else {
            let content = self.input.split_to(content_bytes);
            self.input.advance(skip);
            content
        };
        match scan {
            Scan::Delimiter { bare, .. } => {
                self.repaired |= bare && in_part;
                self.state = if in_part {
                    State::PartEnd
                } else {
                    State::BoundaryLine
                };
                Some(content)
            }
            Scan::Content(_) => {
                if !in_held {
                    self.held.extend_from_slice(&self.input);
                    self.input.clear();
                }
                (!content.is_empty()).then_some(content)
            }
        }
    }

    /// Looks for a delimiter: with or without its line break, and followed by what follows one.
    fn scan(&self, window: &[u8]) -> Scan {
        let mut from = 0;
        while let Some(found) = self.finder.find(&window[from..]) {
            let start = from + found;
            let after = start + self.delimiter.len();
            let line_end = match &window[..start] {
                [.., b'\r', b'\n'] => 2,
                [.., b'\n'] if self.line_feeds => 1,
                [..] => 0,
            };
            let bare = line_end == 0;
            let content = start - line_end;
            let takes_line_feed = self.line_feeds || matches!(self.state, State::Preamble { .. });
            match window.get(after..after + 2) {
                None => return Scan::Content(content),
                Some(b"--" | b"\r\n" | [b' ' | b'\t', _]) => {
                    return Scan::Delimiter {
                        content,
                        after,
                        bare,
                    };
                }
                Some([b'\n', _]) if takes_line_feed => {
                    return Scan::Delimiter {
                        content,
                        after,
                        bare,
                    };
                }
                Some(_) => from = start + 1,
            }
        }
        Scan::Content(window.len() - self.possible_start(&window[from..]))
    }

    /// How many bytes at the end may be the start of a delimiter or of its line break.
    fn possible_start(&self, window: &[u8]) -> usize {
        let longest = (self.delimiter.len() + 1).min(window.len());
        let begins = |tail: &[u8]| match tail {
            [b'\r'] | [b'\r', b'\n'] => true,
            [b'\r', b'\n', rest @ ..] => self.delimiter.starts_with(rest),
            [b'\n', rest @ ..] if self.line_feeds => self.delimiter.starts_with(rest),
            _ => self.delimiter.starts_with(tail),
        };
        (1..=longest)
            .rev()
            .find(|bytes| begins(&window[window.len() - bytes..]))
            .unwrap_or(0)
    }

    /// Moves up to so many bytes from the input behind what is held.
    fn take(&mut self, bytes: usize) {
        let piece = self.input.split_to(bytes.min(self.input.len()));
        self.held.extend_from_slice(&piece);
    }

    /// What follows a boundary; false when more is needed. The line end stays, as the start of the head.
    fn boundary_line(&mut self) -> bool {
        loop {
            if self.held.len() < 2 {
                self.take(2 - self.held.len());
            }
            match &self.held[..] {
                [b' ' | b'\t', ..] => self.held.advance(1),
                [] | [_] => return false,
                [b'-', b'-', ..] => self.state = State::Epilogue,
                [b'\r', b'\n', ..] => self.state = State::Head,
                [b'\n', ..] => {
                    self.line_feeds = true;
                    self.state = State::Head;
                }
                [..] => self.give_up_part(MultipartError::BrokenBoundaryLine),
            }
            if self.state != State::BoundaryLine {
                return true;
            }
        }
    }

    /// A part's head, from the line end before it to the empty line after it; without that line, to where a dump begins.
    fn head(&mut self) -> Option<PartHead> {
        let end: &[u8] = if self.line_feeds {
            b"\n\n"
        } else {
            b"\r\n\r\n"
        };
        let mut searched = 0;
        loop {
            let found = memmem::find(&self.held[searched..], end);
            let found = found.map(|at| searched + at + end.len());
            let searched_end = found.unwrap_or(self.held.len());
            let dump = dump_line(&self.held[searched..searched_end]).map(|at| searched + at);
            if let Some(bytes) = dump.or(found) {
                let head = self.held.split_to(bytes);
                self.state = State::Content;
                return Some(PartHead::parse(&head));
            }
            searched = self.held.len().saturating_sub(HEAD_OVERLAP_BYTES);
            if self.held.len() > PART_HEAD_BYTES_MAX {
                self.give_up_part(MultipartError::PartHeadTooLong);
                return None;
            }
            if self.input.is_empty() {
                return None;
            }
            self.take(HEAD_STRIDE_BYTES);
        }
    }

    fn give_up_part(&mut self, error: MultipartError) {
        self.fault.get_or_insert(error);
        self.state = State::Broken;
    }
}

/// Where a line begins as a minidump does.
fn dump_line(head: &[u8]) -> Option<usize> {
    let starts = |magic: &[u8]| memmem::find(head, magic).map(|at| at + 1);
    starts(b"\nMDMP").or_else(|| starts(b"\nPMDM"))
}

/// The boundary parameter of a multipart content type.
fn boundary(content_type: &str) -> Option<&str> {
    let (media_type, mut parameters) = content_type.split_once(';')?;
    if !media_type
        .trim()
        .get(..10)?
        .eq_ignore_ascii_case("multipart/")
    {
        return None;
    }
    loop {
        let (name, rest) = parameters.split_once('=')?;
        let rest = rest.trim_start();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(';').unwrap_or((rest, "")),
        };
        if name
            .trim()
            .trim_start_matches(';')
            .trim()
            .eq_ignore_ascii_case("boundary")
        {
            return Some(value.trim());
        }
        parameters = rest.trim_start_matches([';', ' ']);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each part's name and content, from the body in pieces of so many bytes.
    fn parts(
        content_type: &str,
        body: &[u8],
        piece_bytes: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, MultipartError> {
        let mut parser = Parser::new(content_type)?;
        let mut parts = Vec::new();
        let mut open = None;
        for piece in body.chunks(piece_bytes) {
            parser.push(Bytes::copy_from_slice(piece));
            loop {
                match parser.step()? {
                    Step::Part(head) => {
                        open = Some((head.name.unwrap_or_default(), Vec::new()));
                    }
                    Step::Content(bytes) => {
                        let part: &mut (String, Vec<u8>) = open.as_mut().expect("in a part");
                        part.1.extend_from_slice(&bytes);
                    }
                    Step::PartEnd => parts.extend(open.take()),
                    Step::More => break,
                }
            }
        }
        parser.finish().map(|()| parts)
    }

    fn part(name: &str, content: &str) -> (String, Vec<u8>) {
        (name.into(), content.into())
    }

    const HEAD: &str = "Content-Disposition: form-data; name=";

    #[test]
    fn odd_and_allowed_shapes_are_read() {
        let shapes = [
            format!("--b\r\n{HEAD}x\r\n\r\n1\r\n--b--"),
            format!("--b\r\n{HEAD}x\r\n\r\n1\r\n--b--\r\n"),
            format!("a preamble\r\n--b\r\n{HEAD}x\r\n\r\n1\r\n--b--\r\nan epilogue --b\r\n"),
            format!("\r\n--b \t\r\n{HEAD}x\r\n\r\n1\r\n--b-- \r\n"),
            format!("--b\r\nX: y\r\n{HEAD}x\r\nContent-Type: a/b\r\n\r\n1--b--"),
        ];
        for body in shapes {
            for piece_bytes in 1..body.len() {
                let parts = parts(
                    "multipart/form-data; boundary=b",
                    body.as_bytes(),
                    piece_bytes,
                );
                assert_eq!(parts, Ok(vec![part("x", "1")]), "{body:?} by {piece_bytes}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_boundary_is_content() {
        let content = "\r\n--bb\r\n--b\r--b-\r\n\r\n--";
        let body = format!("--b\r\n{HEAD}x\r\n\r\n{content}\r\n--b\r\n{HEAD}y\r\n\r\n\r\n--b--");
        for piece_bytes in 1..body.len() {
            let parts = parts(
                "multipart/form-data; boundary=b",
                body.as_bytes(),
                piece_bytes,
            );
            assert_eq!(parts, Ok(vec![part("x", content), part("y", "")]));
        }
    }

    #[test]
    fn the_boundary_may_be_written_as_clients_write_it() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            (
                "Multipart/Form-Data;Boundary=\"a b;c\"; charset=utf-8",
                Some("a b;c"),
            ),
            (
                "multipart/form-data; charset=utf-8; boundary=---x---",
                Some("---x---"),
            ),
            (
                "multipart/form-data; charset=\"a;b\"; boundary = x ",
                Some("x"),
            ),
            ("multipart/form-data; boundary=x; y", Some("x")),
            (
                "multipart/form-data; BOUNDARY=\"a;b=c, d\"; x=\"boundary=e\"",
                Some("a;b=c, d"),
            ),
            (
                "multipart/form-data; x=\"boundary=e\"; boundary=----=_Part_1_2.3",
                Some("----=_Part_1_2.3"),
            ),
            ("multipart/form-data;boundary=\"unclosed", Some("unclosed")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary", None),
            ("text/plain; boundary=x", None),
            ("m\u{fc}ltipart/x; boundary=x", None),
        ] {
            assert_eq!(boundary(content_type), expected, "{content_type}");
        }
    }

    /// A body as clients write it, parts without the line break that belongs behind them among it.
    fn body(boundary: &str, parts: &[(&str, &[u8], bool)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, content, line_break) in parts {
            let head = format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"C:\\x\\{name}\"\r\n\
                 content-type: application/octet-stream\r\n\r\n"
            );
            body.extend(head.bytes());
            body.extend(*content);
            if *line_break {
                body.extend(b"\r\n");
            }
        }
        body.extend(format!("--{boundary}--\r\n").bytes());
        body
    }

    #[test]
    fn line_breaks_that_breakpad_leaves_out_cost_no_byte() {
        // What a dump may end with and what a boundary may look like, together.
        let ends: [&[u8]; 8] = [b"", b"\r", b"\n", b"-", b"--", b"\r\n--", b"\n\r", b"\0"];
        for boundary in [
            "---------------------------0000004100003D6C",
            "---M-x---",
            "b",
        ] {
            for end in ends {
                let dump = [b"MDMP\r\n--\r\n-----\n", end].concat();
                // Windows: none before the last boundary. macOS: none between the dump and the log.
                for breaks in [[true, false], [false, true], [false, false]] {
                    let files = [("dump", &dump[..], breaks[0]), ("log", &dump, breaks[1])];
                    let body = body(boundary, &files);
                    let expected =
                        files.map(|(name, content, _)| (name.to_owned(), content.to_vec()));
                    let content_type = format!("multipart/form-data; boundary={boundary}");
                    for piece_bytes in [1, 2, 7, body.len()] {
                        let found = parts(&content_type, &body, piece_bytes);
                        assert_eq!(found.as_deref(), Ok(&expected[..]), "{end:?} {breaks:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_repair_is_told() {
        for (line_break, repaired) in [(true, false), (false, true)] {
            let mut parser = Parser::new("multipart/form-data; boundary=b").expect("a boundary");
            parser.push(body("b", &[("x", b"1", line_break)]).into());
            while parser.step().expect("sound") != Step::More {}
            assert_eq!(parser.repaired(), repaired);
        }
    }

    proptest! {
        #[test]
        fn content_is_exact_with_and_without_its_line_breaks(
            files in prop::collection::vec(("[\r\n b-]{0,20}", any::<bool>()), 1..5),
            piece_bytes in 1_usize..80,
        ) {
            // A dump that ends with a line break of its own cannot be told from one that is followed by one.
            let files: Vec<(&str, &[u8], bool)> = files
                .iter()
                .filter(|(content, line_break)| {
                    !content.contains("--b") && (*line_break || !content.ends_with("\r\n"))
                })
                .map(|(content, line_break)| ("x", content.as_bytes(), *line_break))
                .collect();
            let body = body("b", &files);
            let expected: Vec<_> = files.iter().map(|(name, content, _)| ((*name).to_owned(), content.to_vec())).collect();
            let found = parts("multipart/form-data; boundary=b", &body, piece_bytes);
            prop_assert_eq!(found, Ok(expected));
        }
    }

    #[test]
    fn nothing_unbounded_is_gathered() {
        let long_head = format!("--b\r\nX: {}", "y".repeat(PART_HEAD_BYTES_MAX + 1000));
        let error = parts("multipart/a; boundary=b", long_head.as_bytes(), 700);
        let place = "a part that cannot be read";
        assert_eq!(error, Err(MultipartError::Cut { place }));
        let preamble = vec![b'-'; PREAMBLE_BYTES_MAX + 1000];
        let error = parts("multipart/a; boundary=b", &preamble, 700).expect_err("refused");
        assert_eq!(error.reason(), "boundary_not_found");
        let error = parts("multipart/a; boundary=b", b"--b \t x\r\n", 1);
        assert_eq!(error, Err(MultipartError::Cut { place }));
    }

    #[test]
    fn a_part_that_cannot_be_read_costs_no_other() {
        let long = format!("--b\r\nX: {}", "y".repeat(PART_HEAD_BYTES_MAX + 1000));
        let sound = "\r\n--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--";
        for before in [long.as_str(), "--b  garbage"] {
            for piece_bytes in [1, 700, 1 << 20] {
                let body = [before, sound].concat();
                let parts = parts("multipart/a; boundary=b", body.as_bytes(), piece_bytes);
                assert_eq!(
                    parts,
                    Ok(vec![("a".to_owned(), b"x".to_vec())]),
                    "{piece_bytes}"
                );
            }
        }
    }

    #[test]
    fn line_feeds_alone_and_heads_without_an_end_are_read() {
        let head = "Content-Disposition: form-data; name=a";
        let feeds = format!("--b\n{head}\n\nx\r\ny\n--b\n{head}\n\nz\n--b--\n");
        let expected = [
            ("a".to_owned(), b"x\r\ny".to_vec()),
            ("a".to_owned(), b"z".to_vec()),
        ];
        let no_end = format!("--b\r\n{head}\r\nMDMP\r\n\r\nx\r\n--b--\r\n");
        for piece_bytes in [1, 3, 1 << 20] {
            let found = parts("multipart/a; boundary=b", feeds.as_bytes(), piece_bytes);
            assert_eq!(found, Ok(expected.to_vec()), "{piece_bytes}");
            let found = parts("multipart/a; boundary=b", no_end.as_bytes(), piece_bytes);
            assert_eq!(found, Ok(vec![("a".to_owned(), b"MDMP\r\n\r\nx".to_vec())]));
        }
    }
}
