//! Broken dumps: cut, flipped, filled with nonsense; as many as one likes, the same ones for the same seed.

use systems::{SMALL, Shape, System};

use crate::dumps;

#[path = "../../processor/tests/dumps/mod.rs"]
mod systems;

#[path = "../../processor/tests/hostile/mod.rs"]
mod small;

/// Magic and format version: without them the relay refuses an upload.
const UNTOUCHED: usize = 8;
/// Where the header keeps its time: each dump has its own, so that none is a repeat of another.
const TIME: std::ops::Range<usize> = 20..24;
const HEADER: usize = 32;
/// Counts, sizes and offsets that parsers stumble over.
const AWKWARD: [u32; 8] = [
    0,
    1,
    3,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0xffff_fff0,
    u32::MAX,
];

/// Makes broken dumps out of whole ones.
pub struct Breaker {
    state: u64,
    whole: Vec<Vec<u8>>,
    made: u32,
}

/// A crash of a Linux program with this many threads.
pub fn crash_with_threads(threads: u32) -> Vec<u8> {
    let shape = Shape {
        other_threads: threads - 1,
        ..SMALL
    };
    systems::crash(System::Linux, shape)
}

/// A dump of some 10 kB that is to become something huge; `n` chooses its kind and its time.
pub fn hostile(n: u32) -> Vec<u8> {
    small::hostile(n)
}

impl Breaker {
    /// Everything it will make derives from `seed`.
    pub fn new(seed: u64) -> Self {
        let busy = Shape {
            other_threads: 40,
            other_modules: 60,
            stack_words: 256,
        };
        let overflowed = Shape {
            other_threads: 3,
            other_modules: 3,
            stack_words: 1 << 17,
        };
        let mut whole = vec![dumps::small(), dumps::sized(100_000, seed)];
        for system in System::ALL {
            for shape in [SMALL, busy, overflowed] {
                whole.push(systems::crash(system, shape));
            }
        }
        Self {
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            whole,
            made: 0,
        }
    }

    /// The next one.
    pub fn dump(&mut self) -> Vec<u8> {
        let index = self.below(self.whole.len());
        let mut dump = self.whole[index].clone();
        match self.below(4) {
            0 => self.cut(&mut dump),
            1 => self.flip(&mut dump),
            2 => self.mislead(&mut dump),
            _ => self.scramble(&mut dump),
        }
        dump[TIME].copy_from_slice(&self.made.to_le_bytes());
        self.made += 1;
        dump
    }

    /// The end is lost.
    fn cut(&mut self, dump: &mut Vec<u8>) {
        dump.truncate(HEADER + self.below(dump.len() - HEADER));
    }

    /// Bits turned over, anywhere.
    fn flip(&mut self, dump: &mut [u8]) {
        for _ in 0..=self.below(64) {
            let at = UNTOUCHED + self.below(dump.len() - UNTOUCHED);
            dump[at] ^= 1 << self.below(8);
        }
    }

    /// Words that may be counts, sizes or offsets say something else; most of them near the end, where the streams and
    /// their directory are.
    fn mislead(&mut self, dump: &mut [u8]) {
        let words = dump.len() / 4;
        for _ in 0..=self.below(16) {
            let reach = match self.below(4) {
                0 => words - UNTOUCHED / 4,
                _ => 512.min(words - UNTOUCHED / 4),
            };
            let at = (words - 1 - self.below(reach)) * 4;
            let value = match self.below(3) {
                0 => self.below(dump.len()) as u32,
                _ => AWKWARD[self.below(AWKWARD.len())],
            };
            dump[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Noise behind a header that passes.
    fn scramble(&mut self, dump: &mut Vec<u8>) {
        let bytes = HEADER + self.below(20_000);
        dump.resize(bytes, 0);
        for byte in &mut dump[HEADER..] {
            *byte = self.next() as u8;
        }
        let streams = self.below(20) as u32;
        let directory = self.below(bytes) as u32;
        dump[8..12].copy_from_slice(&streams.to_le_bytes());
        dump[12..16].copy_from_slice(&directory.to_le_bytes());
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn next(&mut self) -> u64 {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
