use std::borrow::Cow;

use shared::report::CrashDetails;

use super::super::ParsedDump;
use super::super::dumps::{self, DIRECTORY_ROOM_BYTES, SMALL, System as Program};
use super::super::hostile::{KINDS, Raw, hostile, words};
use super::super::limits::TOLD_BYTES_MAX;
use super::super::tests::read;
use super::*;

const ENTRY_BYTES: usize = 12;

fn word(dump: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(dump[at..at + 4].try_into().expect("four bytes"))
}

fn put(dump: &mut [u8], at: usize, value: u32) {
    dump[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A dump whose directory lies behind its header, as those of all clients do.
fn directory_first(system: Program) -> Vec<u8> {
    let mut dump = dumps::crash(system, SMALL);
    let (count, from) = (word(&dump, 8) as usize, word(&dump, 12) as usize);
    assert!(count * ENTRY_BYTES <= DIRECTORY_ROOM_BYTES);
    let directory = dump[from..from + count * ENTRY_BYTES].to_vec();
    dump.truncate(from);
    dump[HEADER_BYTES..HEADER_BYTES + directory.len()].copy_from_slice(&directory);
    put(&mut dump, 12, HEADER_BYTES as u32);
    dump
}

/// Where the directory's entries are.
fn entries(dump: &[u8]) -> Vec<usize> {
    let directory = word(dump, 12) as usize;
    let count = word(dump, 8) as usize;
    (0..count).map(|n| directory + n * ENTRY_BYTES).collect()
}

/// Where a stream begins.
fn stream(dump: &[u8], kind: Kind) -> usize {
    let entry = entries(dump)
        .into_iter()
        .find(|at| word(dump, *at) == kind as u32);
    word(dump, entry.expect("there is one") + 8) as usize
}

fn parsed(dump: &[u8]) -> ParsedDump {
    read(dump).expect("something is told")
}

fn warned(parsed: &ParsedDump, what: &str) {
    let found = parsed.warnings.iter().any(|warning| warning.contains(what));
    assert!(found, "expected {what:?}, found {:?}", parsed.warnings);
}

fn crashed_frame(details: &CrashDetails) -> Option<&str> {
    let crash = details.crash.as_ref()?;
    let frame = details.threads.get(crash.thread?)?.frames.first()?;
    frame.module.as_deref()
}

#[test]
fn a_sound_dump_is_left_as_it_is() {
    for system in Program::ALL {
        for dump in [dumps::crash(system, SMALL), directory_first(system)] {
            let repaired = repair(&dump).expect("is sound");
            assert!(matches!(repaired.bytes, Cow::Borrowed(_)), "{system:?}");
            assert_eq!(repaired.warnings, Vec::<String>::new());
            assert_eq!(repaired.system, System::Told);
            assert_eq!(repaired.time, 1_262_805_309);
        }
    }
}

#[test]
fn a_dump_cut_anywhere_tells_what_is_left() {
    let telling = [
        Kind::ThreadListStream,
        Kind::ModuleListStream,
        Kind::ExceptionStream,
        Kind::SystemInfoStream,
        Kind::MiscInfoStream,
    ];
    let whole = directory_first(Program::Linux);
    let ends = telling.map(|kind| {
        let entry = entries(&whole)
            .into_iter()
            .find(|at| word(&whole, *at) == kind as u32);
        let entry = entry.expect("there is one");
        word(&whole, entry + 4) as usize + word(&whole, entry + 8) as usize
    });
    let mut told = 0;
    for cut in (0..=whole.len()).step_by(3).chain(ends) {
        let result = read(&whole[..cut]);
        if ends.iter().any(|end| *end <= cut) {
            assert!(result.is_ok(), "cut at {cut}: {result:?}");
            told += 1;
        }
    }
    assert!(told > 100, "{told}");
}

#[test]
fn a_stream_that_lies_elsewhere_costs_itself_only() {
    for system in Program::ALL {
        let whole = directory_first(system);
        let length = whole.len() as u32;
        let others: Vec<u32> = entries(&whole)
            .iter()
            .map(|at| word(&whole, at + 8))
            .collect();
        for entry in entries(&whole) {
            let size = word(&whole, entry + 4);
            let rvas = [0, 1, 33, length - 4, length, u32::MAX];
            let rvas = rvas.into_iter().chain(others.iter().copied());
            let sizes = [0, 1, 4, 7, 12, size - 1, size / 2, size + 4, u32::MAX];
            let broken = rvas.map(|rva| (8, rva)).chain(sizes.map(|size| (4, size)));
            for (field, value) in broken {
                let mut dump = whole.clone();
                put(&mut dump, entry + field, value);
                let parsed = read(&dump);
                let kind = word(&whole, entry);
                let parsed = parsed.unwrap_or_else(|error| panic!("{kind:#x} {value:#x}: {error}"));
                let is_unchanged = dump == whole;
                assert!(parsed.details.signature.is_some());
                assert!(is_unchanged || parsed.details.os.is_some());
            }
        }
    }
}

#[test]
fn without_threads_the_exceptions_registers_are_a_thread() {
    let mut dump = hostile(0);
    let entry = entries(&dump)[2];
    assert_eq!(word(&dump, entry), Kind::ThreadListStream as u32);
    put(&mut dump, entry, 0x1234);
    let parsed = parsed(&dump);
    warned(&parsed, "no thread list");
    let details = parsed.details;
    assert_eq!(details.threads.len(), 1);
    assert!(
        details.threads[0].frames.len() > 1,
        "its stack is found and walked"
    );
    assert_eq!(crashed_frame(&details), Some("editor"));
    assert_eq!(details.signature.as_deref(), Some("editor+0x1230"));
}

#[test]
fn without_system_information_registers_and_modules_say_what_it_was() {
    for (system, os, arch) in [
        (Program::Linux, "Linux", "amd64"),
        (Program::Windows, "Windows NT", "amd64"),
        (Program::MacOs, "Mac OS X", "arm64"),
    ] {
        let mut dump = directory_first(system);
        // macOS and Linux have libraries of the same name here.
        let at = stream(&dump, Kind::ModuleListStream);
        put(&mut dump, at, 1);
        let entry = entries(&dump)
            .into_iter()
            .find(|at| word(&dump, *at) == Kind::SystemInfoStream as u32);
        let entry = entry.expect("there is one");
        if matches!(system, Program::Linux) {
            // Nothing in this program's name says so.
            let at = stream(&dump, Kind::ModuleListStream);
            put(&mut dump, at, 2);
        }
        put(&mut dump, entry, 0x1234);
        let parsed = parsed(&dump);
        warned(&parsed, "no system information");
        let found = parsed.details.os.expect("is guessed");
        assert_eq!((found.name.as_str(), found.version), (os, None));
        let cpu = parsed.details.cpu.expect("is found");
        assert_eq!((cpu.arch.as_str(), cpu.info), (arch, None));
        assert!(parsed.details.threads[1].frames.len() > 1, "walked");
    }
}

#[test]
fn one_bad_name_or_record_costs_itself_only() {
    let whole = directory_first(Program::Windows);
    let first = stream(&whole, Kind::ModuleListStream) + 4;
    let name = word(&whole, first + 20) as usize;
    type Damage = fn(&mut Vec<u8>, usize, usize);
    let damages: [(Damage, &str, &str); 6] = [
        (
            |dump, first, _| put(dump, first + 20, u32::MAX),
            "(unreadable)",
            "names",
        ),
        (
            |dump, first, _| put(dump, first + 20, 0),
            "(unreadable)",
            "names",
        ),
        (|dump, _, name| put(dump, name, 5), "C:", "names"),
        (
            |dump, _, name| dump[name + 8..name + 10].fill(0),
            "C:",
            "names",
        ),
        (
            |dump, _, name| dump[name + 4..name + 6].copy_from_slice(&[0, 0xd8]),
            "\u{fffd}:\\Program Files\\Editor\\editor.exe",
            "names",
        ),
        (
            |dump, first, _| put(dump, first + 80, u32::MAX),
            r"C:\Program Files\Editor\editor.exe",
            "debug records",
        ),
    ];
    for (damage, expected, what) in damages {
        let mut dump = whole.clone();
        damage(&mut dump, first, name);
        let parsed = parsed(&dump);
        warned(&parsed, what);
        let modules = &parsed.details.modules;
        assert_eq!(modules.len(), 2, "{expected}");
        assert_eq!(modules[0].name, expected);
        assert_eq!(modules[0].debug_id.is_some(), what == "names");
        assert_eq!(modules[1].name, "/usr/lib/lib0.so");
    }
}

#[test]
fn lists_that_claim_too_much_keep_what_is_whole() {
    for kind in [
        Kind::ThreadListStream,
        Kind::ModuleListStream,
        Kind::MemoryListStream,
        Kind::ThreadNamesStream,
    ] {
        let mut dump = directory_first(Program::Linux);
        let at = stream(&dump, kind);
        put(&mut dump, at, 1_000_000);
        let parsed = parsed(&dump);
        warned(&parsed, "it says 1000000 entries, and 2 are whole");
        let details = parsed.details;
        assert_eq!((details.threads.len(), details.modules.len()), (2, 2));
        assert_eq!(details.threads[1].name.as_deref(), Some("worker 1"));
        assert!(details.threads[1].frames.len() > 1, "{kind:?}");
    }
}

#[test]
fn a_bad_thread_name_costs_itself_only() {
    let mut dump = directory_first(Program::Linux);
    let first = stream(&dump, Kind::ThreadNamesStream) + 4;
    put(&mut dump, first + 4, 0xffff_fff0);
    let parsed = parsed(&dump);
    warned(&parsed, "names of threads are damaged: thread");
    let names = parsed.details.threads.into_iter().map(|thread| thread.name);
    let expected = ["(unreadable)", "worker 1"].map(|name| Some(name.to_owned()));
    assert_eq!(names.collect::<Vec<_>>(), expected);
}

#[test]
fn a_handle_chain_without_an_end_ends() {
    let parsed = parsed(&hostile(3));
    warned(&parsed, "object information of handles has no end");
    let json: serde_json::Value = serde_json::from_slice(&parsed.json).expect("JSON");
    let handles = json["handles"].as_array().expect("a list");
    assert_eq!(handles.len(), 100);
    assert_eq!(handles[0]["object_name"].as_str().map(str::len), Some(1024));
}

#[test]
fn big_dumps_of_few_bytes_stay_small() {
    for kind in 0..KINDS {
        let dump = hostile(kind);
        assert!(dump.len() < 20_000, "{kind}: {}", dump.len());
        let parsed = parsed(&dump);
        let told = serde_json::to_vec(&parsed.details).expect("JSON").len();
        let json = parsed.json.len();
        assert!(told + json <= TOLD_BYTES_MAX, "{kind}: {told} and {json}");
        assert!(parsed.warnings.len() <= 65, "{kind}");
        assert!(parsed.details.crash.is_some(), "{kind}");
        assert_eq!(
            crashed_frame(&parsed.details).is_some(),
            kind != 5,
            "{kind}"
        );
    }
}

/// Crashpad's annotations of a process, and of a module in the layout with or without objects.
fn with_annotations(process: &[(&str, &[u8])], module: &[(&str, &[u8])], layout: u32) -> Vec<u8> {
    let mut raw = Raw::new(1_790_000_000);
    let mut system = vec![0; 56];
    system[0] = 9;
    raw.stream(Kind::SystemInfoStream as u32, &system);
    let dictionary = |raw: &mut Raw, pairs: &[(&str, &[u8])]| {
        let places = pairs
            .iter()
            .flat_map(|(name, value)| [raw.utf8(name.as_bytes()), raw.utf8(value)]);
        let all: Vec<u32> = [pairs.len() as u32].into_iter().chain(places).collect();
        [all.len() as u32 * 4, raw.put(&words(&all))]
    };
    let [simple_bytes, simple] = dictionary(&mut raw, process);
    let [own_bytes, own] = dictionary(&mut raw, module);
    let object = [raw.utf8(b"object"), 1, raw.utf8("日本語".as_bytes())];
    let objects = raw.put(&words(&[&[1][..], &object].concat()));
    let listed = [1, raw.utf8(b"nameless")];
    let listed = raw.put(&words(&listed));
    let info = [1, 8, listed, own_bytes, own, 16, objects];
    let info = raw.put(&words(&info[..layout as usize / 4]));
    let links = raw.put(&words(&[1, 0, layout, info]));
    let mut stream = vec![1, 0, 0, 0, 0, 1, 2, 3, 4];
    stream.extend([simple_bytes, simple, 16, links]);
    raw.stream(Kind::CrashpadInfoStream as u32, &words(&stream));
    raw.finish()
}

#[test]
fn annotations_of_every_layout_are_read_and_a_bad_one_costs_itself_only() {
    let cut = &"日本語".as_bytes()[..8];
    let process: [(&str, &[u8]); 4] = [
        ("prod", b"Editor"),
        ("title", cut),
        ("user", b"M\xfcller"),
        ("nul", b"a\0b"),
    ];
    let module: [(&str, &[u8]); 2] = [("prod", b"other"), ("ptype", b"renderer")];
    for layout in [20, 28] {
        let dump = with_annotations(&process, &module, layout);
        let parsed = parsed(&dump);
        warned(&parsed, "annotations are damaged: title, user");
        let annotations = parsed.details.annotations;
        let get = |name: &str| annotations.get(name).map(String::as_str);
        assert_eq!(get("prod"), Some("Editor"), "the process's counts");
        assert_eq!(get("title"), Some("日本"));
        assert_eq!(get("user"), Some("M\u{fffd}ller"));
        assert_eq!(get("nul"), Some("a"));
        assert_eq!(get("ptype"), Some("renderer"));
        assert_eq!(get("list_annotations"), Some("nameless"));
        let object = (layout == 28).then_some("日本語");
        assert_eq!(get("object"), object);
        assert_eq!(get("guid"), Some("00000001-0002-0000-0300-000004000000"));
    }
}

#[test]
fn a_dump_without_anything_to_read_is_hopeless() {
    let mut raw = Raw::new(1);
    raw.stream(0x1234, b"nobody reads this");
    let unknown = raw.finish();
    assert_eq!(repair(&unknown).unwrap_err(), Hopeless::Nothing);
    let mut outside = directory_first(Program::Linux);
    for entry in entries(&outside) {
        put(&mut outside, entry + 8, 0x7fff_ffff);
    }
    assert_eq!(repair(&outside).unwrap_err(), Hopeless::Nothing);
    assert_eq!(repair(b"MDMP").unwrap_err(), Hopeless::Container);
    let error = read(&unknown).expect_err("nothing is told").error;
    assert!(
        error.contains("nothing of the crash can be read"),
        "{error}"
    );
}
