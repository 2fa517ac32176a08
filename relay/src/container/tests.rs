//! Every container whole, cut, damaged and far larger than it looks.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use lzma_rust2::{XzOptions, XzWriter};
use shared::content::Segment;

use super::*;

const STREAMS: [Container; 4] = [
    Container::Gzip,
    Container::Xz,
    Container::Bzip2,
    Container::Zstd,
];

/// Nothing about it compresses, and none of it is the same twice.
fn dump(bytes: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    b"MDMP".iter().copied().chain(noise).take(bytes).collect()
}

fn pack(container: Container, plain: &[u8]) -> Vec<u8> {
    match container {
        Container::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain).expect("memory");
            encoder.finish().expect("memory")
        }
        Container::Xz => {
            let options = XzOptions::with_preset(1);
            let mut encoder = XzWriter::new(Vec::new(), options).expect("options");
            encoder.write_all(plain).expect("memory");
            encoder.finish().expect("memory")
        }
        Container::Bzip2 => {
            let level = bzip2::Compression::fast();
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).expect("memory");
            encoder.finish().expect("memory")
        }
        Container::Zstd => zstd::encode_all(plain, 1).expect("memory"),
        Container::Zip => Zip::deflated("crash.dmp", plain).archive(1),
    }
}

/// A zip archive's file as this test writes it.
struct Zip {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    bytes: u32,
    packed: Vec<u8>,
    comment: &'static [u8],
}

impl Zip {
    fn stored(name: &str, plain: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(plain);
        Self {
            name: name.into(),
            flags: 0,
            method: 0,
            crc: crc.sum(),
            bytes: plain.len() as u32,
            packed: plain.to_vec(),
            comment: b"",
        }
    }

    fn deflated(name: &str, plain: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).expect("memory");
        Self {
            method: 8,
            packed: encoder.finish().expect("memory"),
            ..Self::stored(name, plain)
        }
    }

    /// What both of its headers say, from the flags to the lengths.
    fn fields(&self, sizes: [u32; 2], extra: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        fields.extend(self.flags.to_le_bytes());
        fields.extend(self.method.to_le_bytes());
        fields.extend([0; 4]);
        fields.extend(self.crc.to_le_bytes());
        fields.extend(sizes[0].to_le_bytes());
        fields.extend(sizes[1].to_le_bytes());
        fields.extend((self.name.len() as u16).to_le_bytes());
        fields.extend((extra.len() as u16).to_le_bytes());
        fields
    }

    /// An archive that has it so many times.
    fn archive(&self, times: u16) -> Vec<u8> {
        let sizes = [self.packed.len() as u32, self.bytes];
        let (mut archive, mut directory) = (Vec::new(), Vec::new());
        for _ in 0..times {
            let at = archive.len() as u32;
            archive.extend(b"PK\x03\x04\x14\0");
            // Another extra field than in the directory, as Info-ZIP writes.
            archive.extend(self.fields(sizes, &[0; 4]));
            archive.extend(self.name.as_bytes());
            archive.extend([0x55, 0x54, 0, 0]);
            archive.extend(&self.packed);
            directory.extend(b"PK\x01\x02\x14\0\x14\0");
            directory.extend(self.fields(sizes, b""));
            directory.extend([0; 10]);
            directory.extend(at.to_le_bytes());
            directory.extend(self.name.as_bytes());
        }
        self.end(archive, &directory, times)
    }

    /// The same once, with every number that can be where 64-bit numbers are.
    fn archive64(&self) -> Vec<u8> {
        let mut archive = b"PK\x03\x04\x14\0".to_vec();
        archive.extend(self.fields([0; 2], b""));
        archive.extend(self.name.as_bytes());
        archive.extend(&self.packed);
        let start = archive.len() as u64;
        let mut extra = vec![0x55, 0x54, 1, 0, 9, 1, 0, 24, 0];
        for number in [u64::from(self.bytes), self.packed.len() as u64, 0] {
            extra.extend(number.to_le_bytes());
        }
        archive.extend(b"PK\x01\x02\x14\0\x14\0");
        archive.extend(self.fields([u32::MAX; 2], &extra));
        archive.extend([0; 10]);
        archive.extend(u32::MAX.to_le_bytes());
        archive.extend(self.name.as_bytes());
        archive.extend(&extra);
        let end = archive.len() as u64;
        archive.extend(b"PK\x06\x06");
        archive.extend([0; 28]);
        archive.extend(1_u64.to_le_bytes());
        archive.extend([0; 8]);
        archive.extend(start.to_le_bytes());
        archive.extend(b"PK\x06\x07\0\0\0\0");
        archive.extend(end.to_le_bytes());
        archive.extend([1, 0, 0, 0]);
        archive.extend(b"PK\x05\x06");
        archive.extend([0xff; 16]);
        archive.extend([0; 2]);
        archive
    }

    fn end(&self, mut archive: Vec<u8>, directory: &[u8], entries: u16) -> Vec<u8> {
        let at = archive.len() as u32;
        archive.extend(directory);
        archive.extend(b"PK\x05\x06\0\0\0\0");
        archive.extend(entries.to_le_bytes());
        archive.extend(entries.to_le_bytes());
        archive.extend((directory.len() as u32).to_le_bytes());
        archive.extend(at.to_le_bytes());
        archive.extend((self.comment.len() as u16).to_le_bytes());
        archive.extend(self.comment);
        archive
    }
}

/// Partly in memory, partly in a file.
fn content(bytes: &[u8]) -> Content {
    let (start, end) = bytes.split_at(bytes.len() / 3);
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(end).expect("written");
    let mut content = Content::from(start.to_vec());
    content.push(Segment::File {
        file: Arc::new(file),
        offset: 0,
        bytes: end.len() as u64,
    });
    content
}

fn unpack(container: Container, packed: &[u8]) -> Result<Vec<u8>, ContainerError> {
    let mut plain = Vec::new();
    let mut reader = open(container, content(packed))?;
    let read = reader.read_to_end(&mut plain);
    read.map_err(|error| cause(container, error))?;
    Ok(plain)
}

#[test]
fn every_container_gives_back_what_was_put_in() {
    for container in STREAMS.into_iter().chain([Container::Zip]) {
        for bytes in [0, 1, 300_000] {
            let dump = dump(bytes);
            let packed = pack(container, &dump);
            assert_eq!(sniff(&packed), Some(container), "{bytes}");
            let plain = unpack(container, &packed).expect("whole");
            assert!(plain == dump, "{container:?} of {bytes}");
        }
    }
}

#[test]
fn several_streams_in_a_row_are_one_dump() {
    let (first, second) = (dump(70_000), dump(5));
    for container in STREAMS {
        let packed = [pack(container, &first), pack(container, &second)].concat();
        let plain = unpack(container, &packed).expect("whole");
        assert!(plain == [&first[..], &second].concat(), "{container:?}");
    }
}

#[test]
fn a_cut_container_is_an_error_wherever_it_is_cut() {
    let dump = dump(2000);
    for container in STREAMS.into_iter().chain([Container::Zip]) {
        let packed = pack(container, &dump);
        for end in 1..packed.len() {
            let error = unpack(container, &packed[..end]).expect_err("cut");
            assert_eq!(error.reason(), "broken_container", "{container:?} at {end}");
            assert!(!error.is_ours());
        }
    }
}

#[test]
fn a_damaged_container_is_an_error_or_what_was_put_in() {
    let dump = dump(500);
    for container in STREAMS.into_iter().chain([Container::Zip]) {
        let packed = pack(container, &dump);
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x10;
            if let Ok(plain) = unpack(container, &damaged) {
                // A byte nobody looks at, such as a time stamp; or one of zstd, which here has no checksum.
                assert!(
                    plain == dump || container == Container::Zstd,
                    "{container:?} at {at}"
                );
            }
        }
    }
}

#[test]
fn a_bomb_comes_out_bit_by_bit() {
    let zeros = vec![0; 4 << 20];
    for container in STREAMS {
        // Hundreds of gigabytes, if anybody took them all.
        let member = Content::from(pack(container, &zeros));
        let mut bomb = Content::default();
        for _ in 0..50_000 {
            bomb.push(member.segments()[0].clone());
        }
        let mut reader = open(container, bomb).expect("whole");
        let mut piece = vec![1; 64 << 10];
        for _ in 0..200 {
            reader.read_exact(&mut piece).expect("more");
            assert!(piece.iter().all(|byte| *byte == 0), "{container:?}");
        }
    }
}

#[test]
fn what_asks_for_too_much_memory_is_refused_before_it_gets_it() {
    let mut wide = pack(Container::Xz, &dump(100));
    // The dictionary's size in the first block's header, and the header's checksum.
    let header_bytes = 4 * usize::from(wide[12]);
    wide[16] = 40;
    let mut crc = flate2::Crc::new();
    crc.update(&wide[12..12 + header_bytes]);
    wide[12 + header_bytes..16 + header_bytes].copy_from_slice(&crc.sum().to_le_bytes());
    let window = 17 << 3;
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0, window, 9, 0, 0, b'x'];
    for (container, packed) in [(Container::Xz, &wide[..]), (Container::Zstd, &zstd)] {
        let error = unpack(container, packed).expect_err("refused");
        assert!(matches!(error, ContainerError::TooWide { .. }), "{error}");
    }
    let narrow = [&zstd[..5], &[8 << 3], &zstd[6..]].concat();
    assert_eq!(unpack(Container::Zstd, &narrow).expect("whole"), b"x");
}

#[test]
fn archives_are_read_as_others_write_them() {
    let dump = dump(5000);
    let mut commented = Zip::stored("a.dmp", &dump);
    commented.comment = b"made by PK\x05\x06 somebody, in a text of more than 22 bytes";
    for archive in [
        Zip::stored("C:\\crash.dmp", &dump).archive(1),
        commented.archive(1),
        Zip::deflated("x", &dump).archive64(),
    ] {
        assert!(unpack(Container::Zip, &archive).expect("an archive") == dump);
    }
}

#[test]
fn archives_of_anything_but_one_plain_file_are_refused_with_what_they_are() {
    let file = || Zip::deflated("crash.dmp", b"MDMP");
    let encrypted = Zip { flags: 1, ..file() };
    let odd = Zip {
        method: 9,
        ..file()
    };
    let longer = Zip { bytes: 3, ..file() };
    let shorter = Zip { bytes: 5, ..file() };
    let other = Zip { crc: 5, ..file() };
    let directory = Zip::stored("dumps/", b"");
    for (archive, found) in [
        (file().archive(0), "none"),
        (file().archive(3), "3 entries"),
        (directory.archive(1), "the directory \"dumps/\""),
        (encrypted.archive(1), "the encrypted file \"crash.dmp\""),
        (odd.archive(1), "compression method 9"),
        (longer.archive(1), "longer"),
        (shorter.archive(1), "shorter"),
        (other.archive(1), "checksum"),
    ] {
        let error = unpack(Container::Zip, &archive).expect_err(found);
        assert_eq!(error.reason(), "broken_container");
        assert!(error.to_string().contains(found), "{error}");
    }
}

#[test]
fn a_disk_that_fails_is_not_the_clients_fault() {
    for container in STREAMS.into_iter().chain([Container::Zip]) {
        let packed = pack(container, &dump(3000));
        // The file is shorter than the spool thinks.
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let mut content = Content::from(packed[..6].to_vec());
        content.push(Segment::File {
            file,
            offset: 0,
            bytes: packed.len() as u64 - 6,
        });
        let error = match open(container, content) {
            Ok(mut reader) => {
                let error = reader.read_to_end(&mut Vec::new()).expect_err("unreadable");
                cause(container, error)
            }
            Err(error) => error,
        };
        assert!(error.is_ours(), "{container:?}: {error}");
    }
}

#[test]
fn a_name_loses_what_compression_added() {
    for (name, container, expected) in [
        ("crash.dmp.gz", Container::Gzip, "crash.dmp"),
        ("crash.dmp.GZ", Container::Gzip, "crash.dmp"),
        ("crash.dmp.xz", Container::Xz, "crash.dmp"),
        ("crash.dmp.bz2", Container::Bzip2, "crash.dmp"),
        ("crash.dmp.zst", Container::Zstd, "crash.dmp"),
        ("crash.zip", Container::Zip, "crash"),
        ("crash.dmp", Container::Gzip, "crash.dmp"),
        ("crash.gz", Container::Xz, "crash.gz"),
        (".gz", Container::Gzip, ".gz"),
        ("ü", Container::Gzip, "ü"),
        ("", Container::Zip, ""),
    ] {
        assert_eq!(stem(name, container), expected);
    }
    assert_eq!(sniff(b"MDMP\x93\xa7"), None);
    assert_eq!(sniff(b"BZhello"), None);
}
