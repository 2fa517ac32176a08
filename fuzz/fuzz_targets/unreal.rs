//! What Unreal Engine's client sends, inflated: the archive, and the texts that are in one.
//!
//! The first byte of the input says how the archive is cut into pieces, and where the texts are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::unreal::archive::{ArchiveError, ArchiveHeader, Parser, Step};
use relay::unreal::context::event_from_context;
use relay::unreal::kind_of;
use shared::lenient::Input;

type Files = Vec<(String, Vec<u8>)>;

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else {
        return;
    };
    let choice = usize::from(*choice);
    let whole = read(rest, rest.len().max(1));
    assert_eq!(read(rest, choice + 1), whole);
    if let Ok((header, files)) = whole {
        assert_eq!(header.files as usize, files.len());
        for (name, content) in &files {
            drop(kind_of(name, content));
        }
    }
    let (context, log) = rest.split_at(rest.len() * choice / 255);
    let user = String::from_utf8_lossy(&log[..log.len().min(40)]);
    let pieces = context.chunks(choice + 1).map(|piece| Ok(piece.to_vec().into()));
    let (event, warnings) = event_from_context(&mut Input::new(pieces), Some(log), Some(&user));
    assert!(warnings.iter().all(|warning| !warning.contains(char::is_control)));
    assert!(event.is_object());
});

fn read(archive: &[u8], piece_bytes: usize) -> Result<(ArchiveHeader, Files), ArchiveError> {
    let mut parser = Parser::default();
    let mut files: Files = Vec::new();
    for piece in archive.chunks(piece_bytes) {
        parser.push(piece.to_vec().into());
        loop {
            match parser.step()? {
                Step::File { name, .. } => files.push((name, Vec::new())),
                Step::Content(bytes) => files.last_mut().expect("a file").1.extend(&bytes),
                Step::FileEnd => {}
                Step::More => break,
            }
        }
    }
    parser.finish().map(|header| (header, files))
}
