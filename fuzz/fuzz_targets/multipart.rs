//! The repair of multipart bodies: any files, with and without the line breaks that belong behind them, come out byte
//! by byte as they went in, however the body is cut. Every input is also read as a body of its own.
//!
//! The first byte says which line breaks are left out, the second how the body is cut; the rest is the files, each
//! ended by 0xff.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::multipart::{MultipartError, Parser, Step};

const CONTENT_TYPE: &str = "multipart/form-data; boundary=---M-x---";
const BOUNDARY: &[u8] = b"-----M-x---";

fuzz_target!(|input: &[u8]| {
    let [breaks, piece_bytes, rest @ ..] = input else {
        return;
    };
    let piece_bytes = usize::from(*piece_bytes) + 1;
    drop(files(rest, piece_bytes));

    // What a boundary stands in is cut there, be it that its end is the start of the true one.
    let is_whole = |file: &&[u8]| {
        let followed = [file, BOUNDARY].concat();
        let mut windows = followed.windows(BOUNDARY.len());
        windows.position(|window| window == BOUNDARY) == Some(file.len())
    };
    let sent: Vec<&[u8]> = rest.split(|byte| *byte == 0xff).filter(is_whole).collect();
    let mut body = Vec::new();
    for (at, file) in sent.iter().enumerate() {
        body.extend(BOUNDARY);
        body.extend(b"\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\n");
        body.extend(*file);
        // A last line break is taken for the boundary's.
        if breaks >> (at % 8) & 1 == 1 || file.ends_with(b"\r\n") {
            body.extend(b"\r\n");
        }
    }
    body.extend(BOUNDARY);
    body.extend(b"--");
    let found = files(&body, piece_bytes).expect("a sound body");
    assert_eq!(found, sent);
});

fn files(body: &[u8], piece_bytes: usize) -> Result<Vec<Vec<u8>>, MultipartError> {
    let mut parser = Parser::new(CONTENT_TYPE)?;
    let mut files: Vec<Vec<u8>> = Vec::new();
    for piece in body.chunks(piece_bytes) {
        parser.push(piece.to_vec().into());
        loop {
            match parser.step()? {
                Step::Part(_) => files.push(Vec::new()),
                Step::Content(bytes) => files.last_mut().expect("a part").extend(&bytes),
                Step::PartEnd => {}
                Step::More => break,
            }
        }
    }
    parser.finish().map(|()| files)
}
