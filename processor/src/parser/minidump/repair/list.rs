//! Lists of entries of one size, read as far as they are whole. Pure.

use super::view::View;

/// Bytes of a count.
const COUNT_BYTES: usize = 4;
/// Some writers align the entries of a list behind its count to 8 bytes.
const PADDED_COUNT_BYTES: usize = 8;
/// Bytes of the shortest head of an extended list: its own size, an entry's, the number of entries.
const EXTENDED_HEAD_BYTES: usize = 12;

/// Whole entries of a list, one behind another.
pub(super) struct Entries<'a> {
    pub(super) bytes: &'a [u8],
    /// Bytes of one.
    pub(super) stride: usize,
    /// How many the list says it has.
    pub(super) claimed: usize,
    /// rust-minidump takes it as it is.
    pub(super) is_sound: bool,
}

impl Entries<'_> {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.stride
    }

    /// What is to be said of a list that has fewer entries than it says.
    pub(super) fn shortage(&self, name: &str) -> Option<String> {
        let Self { claimed, .. } = self;
        let found = self.len();
        (found < *claimed).then(|| {
            format!("the {name} is damaged: it says {claimed} entries, and {found} are whole")
        })
    }
}

/// A count, and so many entries of `stride` bytes.
pub(super) fn counted<'a>(stream: View<'a>, stride: usize) -> Entries<'a> {
    let bytes = stream.bytes;
    let claimed = stream.size(0).unwrap_or_default();
    let exact = claimed.saturating_mul(stride);
    let behind = |head: usize| bytes.len().checked_sub(head);
    let is_padded = behind(PADDED_COUNT_BYTES) == Some(exact);
    let is_sound = is_padded || behind(COUNT_BYTES) == Some(exact);
    // Of a list without its end only this is left to go by.
    let looks_padded = behind(COUNT_BYTES) < Some(exact)
        && behind(PADDED_COUNT_BYTES).is_some_and(|rest| rest.is_multiple_of(stride))
        && stream.u32(COUNT_BYTES) == Some(0);
    let head = match is_padded || looks_padded {
        true => PADDED_COUNT_BYTES,
        false => COUNT_BYTES,
    };
    Entries {
        bytes: whole(bytes.get(head..).unwrap_or_default(), claimed, stride),
        stride,
        claimed,
        is_sound,
    }
}

/// An extended list: its head says how large head and entries are. `None` when its entries are smaller than the smallest
/// of `strides`; the entries of another size are as long as it says, and not sound.
pub(super) fn extended<'a>(
    stream: View<'a>,
    strides: &[usize],
    usual_head: usize,
) -> Option<Entries<'a>> {
    let [Some(head), Some(stride), Some(claimed)] = [0, 4, 8].map(|at| stream.size(at)) else {
        return None;
    };
    let bytes = stream.bytes;
    let smallest = strides.iter().min().copied().unwrap_or(1).max(1);
    if stride < smallest {
        return None;
    }
    let is_head = (EXTENDED_HEAD_BYTES..=bytes.len()).contains(&head);
    let begin = if is_head { head } else { usual_head };
    let rest = bytes.get(begin..).unwrap_or_default();
    let is_sound =
        is_head && strides.contains(&stride) && claimed.saturating_mul(stride) <= rest.len();
    Some(Entries {
        bytes: whole(rest, claimed, stride),
        stride,
        claimed,
        is_sound,
    })
}

fn whole(rest: &[u8], claimed: usize, stride: usize) -> &[u8] {
    let count = claimed.min(rest.len() / stride);
    &rest[..count * stride]
}

/// A counted list of these entries.
pub(super) fn write_counted(view: View<'_>, entries: &[u8], stride: usize) -> Vec<u8> {
    let mut list = view.u32_bytes((entries.len() / stride) as u32).to_vec();
    list.extend_from_slice(entries);
    list
}

/// An extended list of these entries, its head `head` bytes long.
pub(super) fn write_extended(
    view: View<'_>,
    entries: &[u8],
    stride: usize,
    head: usize,
) -> Vec<u8> {
    let mut list = Vec::with_capacity(head + entries.len());
    for word in [head, stride, entries.len() / stride] {
        list.extend_from_slice(&view.u32_bytes(word as u32));
    }
    list.resize(head, 0);
    list.extend_from_slice(entries);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_list_keeps_its_whole_entries() {
        for (words, expected, is_sound) in [
            (&[2, 10, 11, 20, 21][..], 2, true),
            (&[2, 0, 10, 11, 20, 21], 2, true),
            (&[3, 10, 11, 20, 21], 2, false),
            (&[3, 0, 10, 11, 20, 21], 2, false),
            (&[1, 10, 11, 20, 21], 1, false),
            (&[u32::MAX, 10, 11], 1, false),
            (&[1], 0, false),
            (&[0], 0, true),
            (&[], 0, false),
        ] {
            let bytes = stream(words);
            let entries = counted(View::new(&bytes, false), 8);
            assert_eq!(entries.len(), expected, "{words:?}");
            assert_eq!(entries.is_sound, is_sound, "{words:?}");
            if expected > 0 {
                assert_eq!(entries.bytes[0], 10, "{words:?}");
            }
        }
    }

    #[test]
    fn an_extended_list_may_have_longer_entries_and_a_longer_head() {
        for (words, expected, stride, is_sound) in [
            (&[12, 8, 1, 10, 11][..], 1, 8, true),
            (&[16, 8, 1, 0, 10, 11], 1, 8, true),
            (&[12, 12, 1, 10, 11, 12], 1, 12, false),
            (&[12, 8, 9, 10, 11], 1, 8, false),
            (&[u32::MAX, 8, 1, 10, 11], 1, 8, false),
        ] {
            let bytes = stream(words);
            let entries = extended(View::new(&bytes, false), &[8], 12).expect("is a list");
            assert_eq!((entries.len(), entries.stride), (expected, stride));
            assert_eq!(entries.is_sound, is_sound, "{words:?}");
            assert_eq!(entries.bytes[0], 10);
        }
        let small = stream(&[12, 4, 1, 10]);
        assert!(extended(View::new(&small, false), &[8], 12).is_none());
        assert!(extended(View::new(&small[..9], false), &[8], 12).is_none());
    }
}
