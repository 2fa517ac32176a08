//! Content encodings as clients apply them, by other libraries' encoders than the product's decoders are tested with.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// `Content-Encoding: gzip`.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("memory takes every byte");
    encoder.finish().expect("memory takes every byte")
}

/// `Content-Encoding: deflate`, which is zlib.
pub fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("memory takes every byte");
    encoder.finish().expect("memory takes every byte")
}

/// `Content-Encoding: br`.
pub fn brotli(body: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut encoder = brotli::CompressorWriter::new(&mut encoded, 64 * 1024, 4, 20);
    encoder.write_all(body).expect("memory takes every byte");
    drop(encoder);
    encoded
}

/// `Content-Encoding: zstd`.
pub fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 1).expect("memory takes every byte")
}
