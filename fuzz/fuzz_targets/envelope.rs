//! Sentry's envelopes: however a body is cut into pieces, the same comes out of it, and nothing of its items is lost or
//! doubled.
//!
//! The first byte of the input says how the body is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::items::{EnvelopeHeader, ItemHead, Parser, Step};

fuzz_target!(|input: &[u8]| {
    let [piece_bytes, body @ ..] = input else {
        return;
    };
    let whole = items(body, body.len().max(1));
    assert_eq!(items(body, usize::from(*piece_bytes) + 1), whole);
    let content: usize = whole.1.iter().map(|(_, content)| content.len()).sum();
    assert!(content <= body.len());
});

type Items = Vec<(ItemHead, Vec<u8>)>;

/// The header and the items; those whose frames are wrong are read once more.
fn items(body: &[u8], piece_bytes: usize) -> (Option<EnvelopeHeader>, Items) {
    let mut parser = Parser::default();
    let (mut header, mut items): (_, Items) = (None, Vec::new());
    let mut pieces: Vec<Vec<u8>> = body.chunks(piece_bytes).map(<[u8]>::to_vec).collect();
    pieces.reverse();
    loop {
        let piece = pieces.pop();
        let ended = piece.is_none();
        match piece {
            Some(piece) => parser.push(piece.into()),
            None => parser.finish(),
        }
        loop {
            match parser.step() {
                Step::More if ended => return (header, items),
                Step::More => break,
                Step::Header(found) => assert!(header.replace(found).is_none()),
                Step::Item(head) => items.push((head, Vec::new())),
                Step::Content(bytes) => items.last_mut().expect("an item").1.extend(&bytes),
                Step::ItemEnd => {}
                Step::Misframed(_) => {
                    let content = std::mem::take(&mut items.last_mut().expect("an item").1);
                    pieces.extend([parser.rescan(0).to_vec(), content]);
                    break;
                }
            }
        }
    }
}
