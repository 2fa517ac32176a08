//! Forms with a whole dump in them and everything wrong that a writer can do to their frames.

use super::chance::Chance;
use super::envelopes::dump;

/// A form: its content type, its body, the dump in it.
pub(super) struct Sample {
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
    pub(super) dump: Vec<u8>,
    pub(super) faults: Vec<&'static str>,
}

/// The headers of the part that holds the dump, as they may be written.
const DUMP_HEADS: [&str; 10] = [
    "Content-Disposition: form-data; name=\"upload_file_minidump\"; filename=\"a.dmp\"\r\nContent-Type: application/octet-stream",
    "Content-Disposition: form-data; name=\"upload_file_minidump\";\r\n filename=\"data taken from.dmp\"",
    "Content-Type: application/octet-stream;\r\n\tname=\"a.dmp\"\r\nContent-Disposition: form-data;\r\n\tname=\"upload_file_minidump\"; filename=\"a.dmp\"",
    "Content-Disposition: form-data; name=\"=?UTF-8?Q?upload=5Ffile=5Fminidump?=\"; filename=\"=?UTF-8?B?R3LDtsOfZS5kbXA=?=\"",
    "Content-Disposition: form-data; name*=UTF-8''upload_file_minidump; filename*0=\"a\"; filename*1=\".dmp\"",
    "Content-Disposition: form-data; name='upload_file_minidump'; filename='a.dmp'",
    "Content-Disposition: form-data; name=\"file\"; filename=\"a.dmp\"",
    "Content-Disposition: form-data; name=\"minidump\"",
    "Content-Disposition: form-data; name=\"__sentry-event\"; filename=\"a.dmp\"",
    "no header at all",
];

/// A form with up to three faults.
pub(super) fn sample(seed: u64) -> Sample {
    let mut chance = Chance::new(seed);
    let mut faults = Vec::new();
    let dump = dump(&mut chance, false);
    let mut content_type = "multipart/form-data; boundary=-bnd".to_owned();
    let head = chance.pick(&DUMP_HEADS);
    let mut parts = vec![part(head, &dump)];
    for other in [
        part("Content-Disposition: form-data; name=\"prod\"", b"Editor"),
        part(
            "Content-Disposition: form-data; name=\"log\"; filename=\"C:\\x.log\"",
            b"a log\r\n",
        ),
        part(
            "Content-Disposition: form-data; name=\"sentry\"",
            b"{\"release\":\"r@1\"}",
        ),
    ] {
        let at = chance.below(parts.len() + 1);
        parts.insert(at, other);
    }
    if chance.once_in(8) {
        faults.push("many files");
        let at = chance.below(2) * parts.len();
        for _ in 0..40 {
            parts.insert(
                at,
                part(
                    "Content-Disposition: form-data; name=\"f\"; filename=\"f\"",
                    b"x",
                ),
            );
        }
    }
    if chance.once_in(20) {
        faults.push("large fields");
        let large = vec![b'x'; 1 << 20];
        parts.insert(
            0,
            part("Content-Disposition: form-data; name=\"comments\"", &large),
        );
    }
    if chance.once_in(4) {
        faults.push("another boundary in the content type");
        content_type = chance
            .pick(&[
                "multipart/form-data",
                "multipart/form-data; boundary=other",
                "multipart/form-data; boundary=",
            ])
            .to_owned();
    }
    let garbled = chance.once_in(2).then(|| chance.below(parts.len()));
    let mut body = Vec::new();
    for (at, (mut head, content)) in parts.into_iter().enumerate() {
        if garbled == Some(at) {
            faults.push("a garbled head");
            chance.garble(&mut head);
        }
        body.extend(b"---bnd");
        body.extend(head);
        body.extend(content);
        if chance.once_in(40) {
            faults.push("no line end before a boundary");
        } else {
            body.extend(b"\r\n");
        }
    }
    match chance.below(6) {
        0 => faults.push("no end"),
        1 => {
            faults.push("something behind the end");
            body.extend(b"---bnd--garbage\r\n---bnd\r\n");
        }
        _ => body.extend(b"---bnd--\r\n"),
    }
    Sample {
        content_type,
        body,
        dump,
        faults,
    }
}

fn part(head: &str, content: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (format!("\r\n{head}\r\n\r\n").into_bytes(), content.to_vec())
}
