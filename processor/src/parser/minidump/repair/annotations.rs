//! Crashpad's annotations, of every layout: the process's, and of each module the simple ones, the nameless ones, the
//! typed objects. One that cannot be read costs itself only; rust-minidump gives up all of them. Pure.
//!
//! Formats: Crashpad's `minidump/minidump_extensions.h`. As its uploader does (`minidump_to_upload_parameters.cc`), the
//! first of a name counts, nameless ones are joined, and the client's id goes by the name of `guid`.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::limits::{
    ANNOTATION_BYTES_MAX, ANNOTATIONS_READ_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX,
};
use super::text::{Notes, utf8};
use super::view::View;

/// Where Crashpad puts the annotations that have no name of their own, and the client's id.
const LIST_ANNOTATIONS: &str = "list_annotations";
const CLIENT_ID: &str = "guid";
/// Where in `MinidumpCrashpadInfo` are: the client's id, the simple annotations, the modules. The first versions end
/// before the modules, later ones go on.
const CLIENT_ID_AT: usize = 20;
const SIMPLE_AT: usize = 36;
const MODULES_AT: usize = 44;
/// Where in `MinidumpModuleCrashpadInfo` are: the nameless annotations, the simple ones, the objects. The first version
/// has 20 bytes and no objects.
const MODULE_LIST_AT: usize = 4;
const MODULE_SIMPLE_AT: usize = 12;
const MODULE_OBJECTS_AT: usize = 20;
/// Bytes of entries: a string's place; two of them; name, type, value; a module's number and a location.
const STRING_BYTES: usize = 4;
const PAIR_BYTES: usize = 8;
const OBJECT_BYTES: usize = 12;
const LINK_BYTES: usize = 12;
/// The type of an object whose value is a string.
const STRING_OBJECT: u16 = 1;

/// Reads the stream `info` of the dump `all`.
pub(super) fn annotations(
    all: View<'_>,
    info: &[u8],
    warnings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut reader = Reader {
        all,
        found: BTreeMap::new(),
        listed: Vec::new(),
        left: ANNOTATIONS_READ_MAX,
        bytes_left: ANNOTATION_BYTES_MAX,
        damaged: Notes::default(),
    };
    let info = all.of(info);
    if info.bytes.len() < MODULES_AT {
        reader.damaged.add("the list itself is cut off");
    }
    reader.client_id(info);
    reader.simple(info, SIMPLE_AT, "of the process");
    let links = reader.entries(info, MODULES_AT, LINK_BYTES, "of modules");
    for link in links.chunks_exact(LINK_BYTES) {
        if reader.left == 0 {
            break;
        }
        reader.left -= 1;
        let module = all.of(link).located(all, 4).unwrap_or_default();
        let module = all.of(module);
        if module.bytes.len() < MODULE_OBJECTS_AT {
            reader.damaged.add("of a module");
        }
        reader.simple(module, MODULE_SIMPLE_AT, "of a module");
        reader.objects(module);
        reader.list(module);
    }
    reader.finish(warnings)
}

struct Reader<'a> {
    all: View<'a>,
    found: BTreeMap<String, String>,
    listed: Vec<String>,
    /// How many more may be read.
    left: usize,
    /// Bytes of them that may be kept.
    bytes_left: usize,
    damaged: Notes,
}

impl<'a> Reader<'a> {
    fn client_id(&mut self, info: View<'_>) {
        let first = info.u32(CLIENT_ID_AT);
        let words = [4, 6].map(|offset| info.u16(CLIENT_ID_AT + offset));
        let last = info.whole(CLIENT_ID_AT + 8, 8);
        let (Some(first), [Some(second), Some(third)], Some(last)) = (first, words, last) else {
            return;
        };
        let mut fourth = [0; 8];
        fourth.copy_from_slice(last);
        let id = Uuid::from_fields(first, second, third, &fourth);
        if !id.is_nil() {
            self.keep(CLIENT_ID.into(), id.to_string());
        }
    }

    /// The entries of the list at the location at `at`.
    fn entries(
        &mut self,
        holder: View<'_>,
        at: usize,
        entry_bytes: usize,
        place: &'static str,
    ) -> &'a [u8] {
        let Some(list) = holder.located(self.all, at) else {
            return &[];
        };
        let claimed = self.all.of(list).size(0).unwrap_or_default();
        let entries = list.get(4..).unwrap_or_default();
        let count = claimed.min(entries.len() / entry_bytes);
        let is_announced = holder.u32(at).is_some_and(|bytes| bytes > 0);
        if count < claimed || (is_announced && list.len() < 4) {
            self.damaged.add(format_args!("a list {place}"));
        }
        &entries[..count * entry_bytes]
    }

    fn simple(&mut self, holder: View<'_>, at: usize, place: &'static str) {
        let entries = self.entries(holder, at, PAIR_BYTES, place);
        for entry in entries.chunks_exact(PAIR_BYTES) {
            let entry = self.all.of(entry);
            self.read(entry.size(0), entry.size(4));
        }
    }

    fn objects(&mut self, module: View<'_>) {
        let entries = self.entries(module, MODULE_OBJECTS_AT, OBJECT_BYTES, "of objects");
        for entry in entries.chunks_exact(OBJECT_BYTES) {
            let entry = self.all.of(entry);
            if entry.u16(4) == Some(STRING_OBJECT) {
                self.read(entry.size(0), entry.size(8));
            }
        }
    }

    fn list(&mut self, module: View<'_>) {
        let entries = self.entries(module, MODULE_LIST_AT, STRING_BYTES, "of nameless ones");
        for entry in entries.chunks_exact(STRING_BYTES) {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            match self.string(self.all.of(entry).size(0), TEXT_BYTES_MAX) {
                Some((text, is_repaired)) => {
                    if is_repaired {
                        self.damaged.add("a nameless one");
                    }
                    if self.has_room(text.len()) {
                        self.listed.push(text);
                    }
                }
                None => self.damaged.add("a nameless one"),
            }
        }
    }

    fn read(&mut self, name: Option<usize>, value: Option<usize>) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let Some((name, name_is_repaired)) = self.string(name, NAME_BYTES_MAX) else {
            return self.damaged.add("one without a name");
        };
        if self.found.contains_key(&name) {
            return;
        }
        match self.string(value, TEXT_BYTES_MAX) {
            Some((value, is_repaired)) => {
                if is_repaired || name_is_repaired {
                    self.damaged.add(&name);
                }
                self.keep(name, value);
            }
            None => self.damaged.add(&name),
        }
    }

    /// A length in bytes, and UTF-8.
    fn string(&self, rva: Option<usize>, bytes_max: usize) -> Option<(String, bool)> {
        let rva = rva?;
        let claimed = self.all.size(rva)?;
        let there = self.all.part(rva + 4, claimed);
        if there.is_empty() && claimed > 0 {
            return None;
        }
        let (text, is_repaired) = utf8(there, bytes_max);
        Some((text, is_repaired || there.len() < claimed))
    }

    fn keep(&mut self, name: String, value: String) {
        if self.has_room(name.len() + value.len()) {
            self.found.entry(name).or_insert(value);
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.unwrap_or_default();
        left.is_some()
    }

    fn finish(mut self, warnings: &mut Vec<String>) -> BTreeMap<String, String> {
        if self.left == 0 || self.bytes_left == 0 {
            warnings.push(format!(
                "the dump has too many annotations: {} are kept",
                self.found.len()
            ));
        }
        self.damaged.warn("annotations are damaged", warnings);
        if !self.listed.is_empty() {
            let joined = self.listed.join("\n");
            self.found.entry(LIST_ANNOTATIONS.into()).or_insert(joined);
        }
        self.found
    }
}
