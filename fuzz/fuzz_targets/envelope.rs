//! Sentry's envelopes: however a body is cut into pieces, the same comes out of it.
//!
//! The first byte of the input says how the body is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::items::{ItemsError, Parser, Step};

fuzz_target!(|input: &[u8]| {
    let [piece_bytes, body @ ..] = input else {
        return;
    };
    let whole = steps(body, body.len().max(1));
    assert_eq!(steps(body, usize::from(*piece_bytes) + 1), whole);
    if let Ok(steps) = whole {
        assert!(matches!(steps.first(), Some(Step::Header(_))));
    }
});

/// All steps, with adjacent content joined.
fn steps(body: &[u8], piece_bytes: usize) -> Result<Vec<Step>, ItemsError> {
    let mut parser = Parser::default();
    let mut steps = Vec::new();
    for piece in body.chunks(piece_bytes) {
        parser.push(piece.to_vec().into());
        loop {
            match parser.step()? {
                Step::More => break,
                step @ (Step::Header(_) | Step::Item(_) | Step::Content(_) | Step::ItemEnd) => {
                    add(&mut steps, step);
                }
            }
        }
    }
    for step in parser.finish()? {
        add(&mut steps, step);
    }
    Ok(steps)
}

fn add(steps: &mut Vec<Step>, step: Step) {
    match (steps.last_mut(), step) {
        (Some(Step::Content(old)), Step::Content(new)) => {
            *old = [&old[..], &new[..]].concat().into();
        }
        (_, step) => steps.push(step),
    }
}
