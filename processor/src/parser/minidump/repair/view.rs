//! Bytes of a dump in its own byte order. Pure; nothing here can fail but by saying that there is nothing.

/// A dump, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// All of it.
    pub(super) bytes: &'a [u8],
    is_big: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(bytes: &'a [u8], is_big: bool) -> Self {
        Self { bytes, is_big }
    }

    /// Other bytes in the same order.
    pub(super) fn of<'b>(self, bytes: &'b [u8]) -> View<'b> {
        View {
            bytes,
            is_big: self.is_big,
        }
    }

    pub(super) fn is_big(self) -> bool {
        self.is_big
    }

    pub(super) fn u16(self, at: usize) -> Option<u16> {
        let raw = self.array(at)?;
        Some(match self.is_big {
            true => u16::from_be_bytes(raw),
            false => u16::from_le_bytes(raw),
        })
    }

    pub(super) fn u32(self, at: usize) -> Option<u32> {
        let raw = self.array(at)?;
        Some(match self.is_big {
            true => u32::from_be_bytes(raw),
            false => u32::from_le_bytes(raw),
        })
    }

    pub(super) fn u64(self, at: usize) -> Option<u64> {
        let raw = self.array(at)?;
        Some(match self.is_big {
            true => u64::from_be_bytes(raw),
            false => u64::from_le_bytes(raw),
        })
    }

    /// A `u32` as a size or a place.
    pub(super) fn size(self, at: usize) -> Option<usize> {
        self.u32(at).map(|size| size as usize)
    }

    /// `size` bytes at `at`, when all of them are there.
    pub(super) fn whole(self, at: usize, size: usize) -> Option<&'a [u8]> {
        self.bytes.get(at..at.checked_add(size)?)
    }

    /// What there is of `size` bytes at `at`.
    pub(super) fn part(self, at: usize, size: usize) -> &'a [u8] {
        let end = at.saturating_add(size).min(self.bytes.len());
        self.bytes.get(at..end).unwrap_or_default()
    }

    /// What there is of the bytes that a `MINIDUMP_LOCATION_DESCRIPTOR` at `at` names.
    pub(super) fn located<'b>(self, all: View<'b>, at: usize) -> Option<&'b [u8]> {
        let (size, rva) = (self.size(at)?, self.size(at + 4)?);
        Some(all.part(rva, size))
    }

    pub(super) fn u32_bytes(self, value: u32) -> [u8; 4] {
        match self.is_big {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        }
    }

    pub(super) fn u64_bytes(self, value: u64) -> [u8; 8] {
        match self.is_big {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        }
    }

    /// Writes a number over the bytes at `at`, which must be there.
    pub(super) fn put_u32(self, into: &mut [u8], at: usize, value: u32) {
        if let Some(place) = into.get_mut(at..at + 4) {
            place.copy_from_slice(&self.u32_bytes(value));
        }
    }

    /// Writes a number over the bytes at `at`, which must be there.
    pub(super) fn put_u64(self, into: &mut [u8], at: usize, value: u64) {
        if let Some(place) = into.get_mut(at..at + 8) {
            place.copy_from_slice(&self.u64_bytes(value));
        }
    }

    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.whole(at, N)?.try_into().ok()
    }
}
