//! CrashReportClient's archive, parsed from pieces of any size without ever holding a file. Pure: bytes in, steps out.
//!
//! Two shapes, both little-endian. `CR1` (engine 4.22 and later) begins with that mark, then a header, then as many
//! files as it says. Older archives begin with a header whose numbers mean nothing, and repeat it, right, after the last
//! file; until then only what follows a file tells whether it was the last. The engine numbers files from 0 and fills
//! every name with NULs to 260 bytes, so the number of a file can never be taken for the length of a header's first name.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{UNREAL_FILES_MAX, UNREAL_NAME_BYTES_MAX};

/// What the newer shape begins with.
const MARK: &[u8] = b"CR1";
/// Bytes of a number or a length.
const NUMBER_BYTES: usize = 4;

/// Why bytes are not an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// A name is too long.
    #[error(
        "expected {place} to have names of at most {UNREAL_NAME_BYTES_MAX} bytes, found {found}"
    )]
    NameTooLong {
        /// Where.
        place: &'static str,
        /// Its length.
        found: u32,
    },
    /// There is a negative number of something.
    #[error("expected {what} of an Unreal archive, found {found}")]
    Negative {
        /// What is counted.
        what: &'static str,
        /// The number.
        found: i32,
    },
    /// No files, or more than an older archive can be read with.
    #[error("expected an Unreal archive of 1 to {UNREAL_FILES_MAX} files, found {found}")]
    FileCount {
        /// Files there are, by the header or so far.
        found: u32,
    },
    /// The header of an older archive counts other files than came.
    #[error(
        "expected the header at the end of an Unreal archive to count {files} files, found {found}"
    )]
    WrongCount {
        /// Files that came.
        files: u32,
        /// What the header says.
        found: u32,
    },
    /// Something follows the end.
    #[error("expected the end of an Unreal archive after {files} files, found more bytes")]
    Trailing {
        /// Files that came.
        files: u32,
    },
    /// The archive ends too early.
    #[error(
        "expected more of an Unreal archive, found its end in {place} after {files} whole files"
    )]
    Cut {
        /// Where.
        place: &'static str,
        /// Files that came whole.
        files: u32,
    },
}

impl ArchiveError {
    /// The reason's name, part of the interface.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NameTooLong { .. }
            | Self::Negative { .. }
            | Self::FileCount { .. }
            | Self::WrongCount { .. }
            | Self::Trailing { .. } => "broken_unreal_archive",
            Self::Cut { .. } => "cut_unreal_archive",
        }
    }
}

/// What an archive says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveHeader {
    /// The report's directory on the client, the crash's own name: `UE4CC-Windows-…_0000`.
    pub directory_name: String,
    /// The archive's name.
    pub file_name: String,
    /// Files in it.
    pub files: u32,
}

/// What the parser found next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A file begins.
    File {
        /// Its number in the archive, as the client counted.
        index: u32,
        /// Its name as the client wrote it.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// Bytes of it, never empty.
    Content(Bytes),
    /// It has ended.
    FileEnd,
    /// Everything pushed so far is used up.
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Mark,
    FirstHeader { counts: bool },
    Boundary,
    FileHead,
    Content { left: u32 },
    LastHeader,
    End,
}

/// The parser. Push a piece, then take steps until [`Step::More`]; [`Parser::finish`] after the last.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// The header that counts, once it is known.
    header: Option<ArchiveHeader>,
    /// Files that came whole.
    files: u32,
    /// The start of a header or of a file's head.
    held: BytesMut,
    input: Bytes,
}

/// Why a header cannot be read.
enum Stop {
    /// It takes at least so many bytes.
    Short(usize),
    Broken(ArchiveError),
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Mark,
            header: None,
            files: 0,
            held: BytesMut::new(),
            input: Bytes::new(),
        }
    }
}

impl Parser {
    /// The next piece of the archive. Only after [`Step::More`].
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = piece;
    }

    /// The next step.
    ///
    /// # Errors
    /// [`ArchiveError`]; the parser is of no use after it.
    pub fn step(&mut self) -> Result<Step, ArchiveError> {
        loop {
            let step = match self.state {
                State::Mark => self.gathered(mark)?.map(|counts| {
                    self.state = State::FirstHeader { counts };
                    None
                }),
                State::FirstHeader { counts } => match self.gathered(header)? {
                    Some(found) => {
                        self.begin(counts, found)?;
                        Some(None)
                    }
                    None => None,
                },
                State::Boundary => self.boundary()?.map(|()| None),
                State::FileHead => match self.gathered(file_head)? {
                    Some(found) => Some(Some(self.file(found)?)),
                    None => None,
                },
                State::Content { left } => self.content(left).map(Some),
                State::LastHeader => match self.gathered(header)? {
                    Some(found) => {
                        self.end(found)?;
                        Some(None)
                    }
                    None => None,
                },
                State::End if self.input.is_empty() => None,
                State::End => return Err(ArchiveError::Trailing { files: self.files }),
            };
            match step {
                None => return Ok(Step::More),
                Some(None) => {}
                Some(Some(step)) => return Ok(step),
            }
        }
    }

    /// The archive has ended.
    ///
    /// # Errors
    /// [`ArchiveError::Cut`] when it was not at its end.
    pub fn finish(self) -> Result<ArchiveHeader, ArchiveError> {
        let place = match self.state {
            State::Mark | State::FirstHeader { .. } => "its header",
            State::Boundary => "the space between files",
            State::FileHead => "a file's head",
            State::Content { .. } => "a file",
            State::LastHeader => "the header at its end",
            State::End => "nothing",
        };
        match self.header {
            Some(header) if self.state == State::End => Ok(header),
            Some(_) | None => Err(ArchiveError::Cut {
                place,
                files: self.files,
            }),
        }
    }

    /// What `read` makes of the next bytes, gathering as many as it needs; `None` when they have not come.
    fn gathered<T>(
        &mut self,
        read: impl Fn(&mut Fields<'_>) -> Result<T, Stop>,
    ) -> Result<Option<T>, ArchiveError> {
        loop {
            let mut fields = Fields {
                bytes: &self.held,
                used: 0,
            };
            match read(&mut fields) {
                Ok(found) => {
                    let used = fields.used;
                    self.held.advance(used);
                    return Ok(Some(found));
                }
                Err(Stop::Broken(error)) => return Err(error),
                Err(Stop::Short(needed)) => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let missing = (needed - self.held.len()).min(self.input.len());
                    let piece = self.input.split_to(missing);
                    self.held.extend_from_slice(&piece);
                }
            }
        }
    }

    fn begin(&mut self, counts: bool, found: Header) -> Result<(), ArchiveError> {
        if counts {
            self.header = Some(found.checked()?);
        }
        self.state = State::Boundary;
        Ok(())
    }

    /// Whether another file follows.
    fn boundary(&mut self) -> Result<Option<()>, ArchiveError> {
        self.state = match &self.header {
            Some(header) if self.files == header.files => State::End,
            Some(_) => State::FileHead,
            None => {
                let index = self.files;
                match self.gathered(|fields| fields.peek_number())? {
                    None => return Ok(None),
                    Some(next) if next != index => State::LastHeader,
                    Some(_) if index >= UNREAL_FILES_MAX => {
                        return Err(ArchiveError::FileCount { found: index + 1 });
                    }
                    Some(_) => State::FileHead,
                }
            }
        };
        Ok(Some(()))
    }

    fn file(&mut self, found: FileHead) -> Result<Step, ArchiveError> {
        let index = not_negative("a file's number", found.index)?;
        let bytes = not_negative("a file's length", found.bytes)?;
        self.state = State::Content { left: bytes };
        Ok(Step::File {
            index,
            name: found.name,
            bytes: bytes.into(),
        })
    }

    fn content(&mut self, left: u32) -> Option<Step> {
        if left == 0 {
            self.files += 1;
            self.state = State::Boundary;
            return Some(Step::FileEnd);
        }
        if self.input.is_empty() {
            return None;
        }
        let bytes = (left as usize).min(self.input.len());
        self.state = State::Content {
            left: left - bytes as u32,
        };
        Some(Step::Content(self.input.split_to(bytes)))
    }

    fn end(&mut self, found: Header) -> Result<(), ArchiveError> {
        let header = found.checked()?;
        if header.files != self.files {
            return Err(ArchiveError::WrongCount {
                files: self.files,
                found: header.files,
            });
        }
        self.header = Some(header);
        self.state = State::End;
        Ok(())
    }
}

/// A header as it is written.
struct Header {
    directory_name: String,
    file_name: String,
    uncompressed_bytes: i32,
    files: i32,
}

impl Header {
    fn checked(self) -> Result<ArchiveHeader, ArchiveError> {
        not_negative("the uncompressed length", self.uncompressed_bytes)?;
        let files = not_negative("the number of files", self.files)?;
        if files == 0 {
            return Err(ArchiveError::FileCount { found: files });
        }
        Ok(ArchiveHeader {
            directory_name: self.directory_name,
            file_name: self.file_name,
            files,
        })
    }
}

struct FileHead {
    index: i32,
    name: String,
    bytes: i32,
}

fn mark(fields: &mut Fields<'_>) -> Result<bool, Stop> {
    let marked = fields.bytes.get(..MARK.len()).map(|start| start == MARK);
    match marked {
        None => Err(Stop::Short(MARK.len())),
        Some(true) => fields.take(MARK.len()).map(|_| true),
        Some(false) => Ok(false),
    }
}

fn header(fields: &mut Fields<'_>) -> Result<Header, Stop> {
    Ok(Header {
        directory_name: fields.name("a header")?,
        file_name: fields.name("a header")?,
        uncompressed_bytes: fields.number()?.cast_signed(),
        files: fields.number()?.cast_signed(),
    })
}

fn file_head(fields: &mut Fields<'_>) -> Result<FileHead, Stop> {
    Ok(FileHead {
        index: fields.number()?.cast_signed(),
        name: fields.name("a file")?,
        bytes: fields.number()?.cast_signed(),
    })
}

fn not_negative(what: &'static str, found: i32) -> Result<u32, ArchiveError> {
    u32::try_from(found).map_err(|_| ArchiveError::Negative { what, found })
}

/// Fields one after the other, at the start of some bytes.
struct Fields<'b> {
    bytes: &'b [u8],
    used: usize,
}

impl<'b> Fields<'b> {
    fn take(&mut self, bytes: usize) -> Result<&'b [u8], Stop> {
        let end = self.used + bytes;
        let field = self.bytes.get(self.used..end).ok_or(Stop::Short(end))?;
        self.used = end;
        Ok(field)
    }

    fn number(&mut self) -> Result<u32, Stop> {
        let field = self.take(NUMBER_BYTES)?;
        Ok(field
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn peek_number(&mut self) -> Result<u32, Stop> {
        let number = self.number()?;
        self.used = 0;
        Ok(number)
    }

    /// A length and as many bytes of a name, filled up with NULs.
    fn name(&mut self, place: &'static str) -> Result<String, Stop> {
        let bytes = self.number()?;
        if bytes as usize > UNREAL_NAME_BYTES_MAX {
            let found = bytes;
            return Err(Stop::Broken(ArchiveError::NameTooLong { place, found }));
        }
        let name = self.take(bytes as usize)?;
        let end = name.iter().position(|byte| *byte == 0);
        let name = &name[..end.unwrap_or(name.len())];
        Ok(String::from_utf8_lossy(name).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An archive as the engine writes it, both shapes.
    fn archive(newer: bool, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let count = i32::try_from(files.len()).expect("few");
        let mut archive = Vec::new();
        if newer {
            archive.extend(b"CR1");
            write_header(&mut archive, 0, count);
        } else {
            // What the engine leaves there: whatever was in memory.
            write_header(&mut archive, 174, -7);
        }
        for (index, (name, content)) in (0_i32..).zip(files) {
            archive.extend(index.to_le_bytes());
            write_name(&mut archive, name);
            archive.extend(i32::try_from(content.len()).expect("short").to_le_bytes());
            archive.extend(content);
        }
        if !newer {
            let bytes = i32::try_from(archive.len()).expect("short");
            write_header(&mut archive, bytes, count);
        }
        archive
    }

    fn write_header(archive: &mut Vec<u8>, bytes: i32, count: i32) {
        write_name(archive, "UECC-Windows-1_0000");
        write_name(archive, "UECC-Windows-1_0000.uecrash");
        archive.extend(bytes.to_le_bytes());
        archive.extend(count.to_le_bytes());
    }

    fn write_name(archive: &mut Vec<u8>, name: &str) {
        let mut padded = name.as_bytes().to_vec();
        padded.resize(260, 0);
        archive.extend(260_u32.to_le_bytes());
        archive.extend(padded);
    }

    type Files = Vec<(String, Vec<u8>)>;

    /// The header and the files, read in pieces of so many bytes.
    fn read(archive: &[u8], piece_bytes: usize) -> Result<(ArchiveHeader, Files), ArchiveError> {
        let mut parser = Parser::default();
        let mut files: Files = Vec::new();
        let mut left = None;
        for piece in archive.chunks(piece_bytes) {
            parser.push(Bytes::copy_from_slice(piece));
            loop {
                match parser.step()? {
                    Step::File { index, name, bytes } => {
                        assert_eq!(index as usize, files.len());
                        assert!(left.replace(bytes).is_none());
                        files.push((name, Vec::new()));
                    }
                    Step::Content(bytes) => {
                        assert!(!bytes.is_empty());
                        files.last_mut().expect("a file").1.extend(&bytes);
                    }
                    Step::FileEnd => {
                        let content = &files.last().expect("a file").1;
                        assert_eq!(left.take(), Some(content.len() as u64));
                    }
                    Step::More => break,
                }
            }
        }
        parser.finish().map(|header| (header, files))
    }

    /// Files with all in them that could be taken for the archive's own.
    fn files() -> Vec<(&'static str, Vec<u8>)> {
        let mut nasty = b"CR1".to_vec();
        write_header(&mut nasty, 5, 4);
        nasty.extend(4_i32.to_le_bytes());
        vec![
            ("CrashContext.runtime-xml", b"<x/>".to_vec()),
            ("empty.log", Vec::new()),
            ("UEMinidump.dmp", nasty),
            ("C:\\odd\\name.txt", vec![0; 700]),
        ]
    }

    #[test]
    fn both_shapes_are_read_wherever_they_are_cut() {
        let files = files();
        let expected: Files = files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.clone()))
            .collect();
        for newer in [true, false] {
            let archive = archive(newer, &files);
            for piece_bytes in [1, 2, 3, 5, 64, 259, 260, 268, archive.len()] {
                let (header, found) = read(&archive, piece_bytes).expect("an archive");
                assert_eq!(header.directory_name, "UECC-Windows-1_0000");
                assert_eq!(header.file_name, "UECC-Windows-1_0000.uecrash");
                assert_eq!(header.files, 4);
                assert_eq!(found, expected, "newer {newer}, by {piece_bytes}");
            }
        }
    }

    #[test]
    fn an_archive_cut_anywhere_is_no_archive() {
        for newer in [true, false] {
            let archive = archive(newer, &files());
            for end in 0..archive.len() {
                let error = read(&archive[..end], 512).expect_err("cut");
                assert_eq!(error.reason(), "cut_unreal_archive", "at {end}: {error}");
            }
            let more = [&archive[..], b"x"].concat();
            let files = 4;
            assert_eq!(read(&more, 99), Err(ArchiveError::Trailing { files }));
        }
    }

    #[test]
    fn lengths_and_counts_that_cannot_be_are_refused() {
        let archive = archive(true, &files());
        let count = 3 + 2 * 264 + 4;
        let altered = |at: usize, number: i32| {
            let mut altered = archive.clone();
            altered[at..at + 4].copy_from_slice(&number.to_le_bytes());
            read(&altered, 1000).expect_err("refused")
        };
        for (at, number, found) in [
            (3, 1025, "1025"),
            (3, -1, "4294967295"),
            (count - 4, -5, "-5"),
            (count, -1, "-1"),
            (count, 0, "0"),
            (count, 3, "more bytes"),
            (count + 4, -2, "-2"),
            (count + 8, i32::MAX, "2147483647"),
            (count + 8 + 264, -3, "-3"),
        ] {
            let error = altered(at, number);
            assert_eq!(error.reason(), "broken_unreal_archive");
            assert!(error.to_string().contains(found), "{at}: {error}");
        }
        assert_eq!(altered(count, 5).reason(), "cut_unreal_archive");
    }

    #[test]
    fn an_older_archive_counts_its_files_at_its_end() {
        let mut wrong = archive(false, &files());
        let at = wrong.len() - 4;
        wrong[at] = 3;
        let error = ArchiveError::WrongCount { files: 4, found: 3 };
        assert_eq!(read(&wrong, 1000), Err(error));
        let many = vec![("x", Vec::new()); UNREAL_FILES_MAX as usize + 1];
        let found = UNREAL_FILES_MAX + 1;
        let error = read(&archive(false, &many), 1000);
        assert_eq!(error, Err(ArchiveError::FileCount { found }));
        for (newer, files) in [(false, &many[1..]), (true, &many[..])] {
            let most = archive(newer, files);
            let read = read(&most, 1000).expect("an archive");
            assert_eq!(read.0.files as usize, files.len());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_hold_much(bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..2000), marked: bool, piece_bytes in 1_usize..600) {
            let start: &[u8] = if marked { MARK } else { b"" };
            let bytes = [start, &bytes].concat();
            let mut parser = Parser::default();
            for piece in bytes.chunks(piece_bytes) {
                parser.push(Bytes::copy_from_slice(piece));
                loop {
                    match parser.step() {
                        Ok(Step::More) => break,
                        Ok(Step::File { .. } | Step::Content(_) | Step::FileEnd) => {}
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(parser.held.len() <= 2 * UNREAL_NAME_BYTES_MAX + 16);
            }
        }
    }
}
