//! A `multipart/form-data` body, written out by hand in the order the parts are added, as crash clients do.

/// The boundary, shaped like Crashpad's.
pub const BOUNDARY: &str = "---MultipartBoundary-x7Jx2MPnQh0ZgDYtLk3RvA9SeUcw5b81---";

/// A form under construction.
#[derive(Clone, Debug, Default)]
pub struct Form {
    body: Vec<u8>,
}

impl Form {
    /// An empty form.
    pub fn new() -> Self {
        Self::default()
    }

    /// A form with a minidump and nothing else.
    pub fn minidump(dump: &[u8]) -> Self {
        Self::new().file("upload_file_minidump", "crash.dmp", dump)
    }

    /// Adds a text field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.part(&format!("name=\"{name}\""), "", value.as_bytes());
        self
    }

    /// Adds a file.
    pub fn file(mut self, name: &str, filename: &str, content: &[u8]) -> Self {
        self.part(
            &format!("name=\"{name}\"; filename=\"{filename}\""),
            "Content-Type: application/octet-stream\r\n",
            content,
        );
        self
    }

    /// The value of the `Content-Type` header.
    pub fn content_type() -> String {
        format!("multipart/form-data; boundary={BOUNDARY}")
    }

    /// The body around one minidump whose content the caller sends in between: what comes before it and after it.
    pub fn around_minidump() -> (Vec<u8>, Vec<u8>) {
        const MARK: &[u8] = b"@@content@@";
        let body = Self::minidump(MARK).finish();
        let at = body
            .windows(MARK.len())
            .position(|window| window == MARK)
            .expect("the mark is in the body");
        (body[..at].to_vec(), body[at + MARK.len()..].to_vec())
    }

    /// The body with its closing boundary.
    pub fn finish(mut self) -> Vec<u8> {
        self.body
            .extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.body
    }

    fn part(&mut self, disposition: &str, more: &str, content: &[u8]) {
        let head =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n");
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(content);
        self.body.extend_from_slice(b"\r\n");
    }
}
