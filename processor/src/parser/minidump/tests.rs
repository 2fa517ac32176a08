use std::time::Duration;

use proptest::prelude::*;
use shared::report::{RawJson, Symbols};

use super::*;

use super::dumps::{CRASHED_THREAD, SMALL, Shape, System};
use super::limits::{MODULES_MAX, THREADS_MAX};

pub(super) fn read(dump: &[u8]) -> Result<ParsedDump, Unreadable> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(parse(dump, &symbol_provider(), later()))
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn each_system_tells_what_crashed_and_where() {
    for system in System::ALL {
        let (os, arch, kind, reason) = match system {
            System::Linux => ("Linux", "amd64", "SIGSEGV", "SIGSEGV / SEGV_MAPERR"),
            System::Windows => (
                "Windows NT",
                "amd64",
                "EXCEPTION_ACCESS_VIOLATION",
                "EXCEPTION_ACCESS_VIOLATION_WRITE",
            ),
            System::MacOs => (
                "Mac OS X",
                "arm64",
                "EXC_BAD_ACCESS",
                "EXC_BAD_ACCESS / KERN_INVALID_ADDRESS",
            ),
        };
        let parsed = read(&dumps::crash(system, SMALL)).expect("readable");
        assert_eq!(parsed.warnings, Vec::<String>::new(), "{system:?}");
        let details = parsed.details;
        assert_eq!(details.os.expect("is told").name, os);
        assert_eq!(details.cpu.expect("is told").arch, arch);
        assert_eq!(details.process.pid, Some(4242));
        let crash = details.crash.expect("is told");
        assert_eq!((crash.kind.as_str(), crash.reason.as_str()), (kind, reason));
        assert_eq!(crash.address.as_deref(), Some("0x45"));
        assert_eq!(crash.thread, Some(1));

        let thread = &details.threads[1];
        assert_eq!(thread.id, CRASHED_THREAD);
        assert_eq!(thread.name.as_deref(), Some("worker 1"));
        assert!(thread.frames.len() > 1, "{system:?}: the stack was walked");
        let top = &thread.frames[0];
        assert_eq!(top.ip, "0x401230");
        assert_eq!(top.module.as_deref(), Some(file_name(system.program())));
        assert_eq!(top.module_offset.as_deref(), Some("0x1230"));
        assert_eq!(top.trust, "context");
        let expected = format!("{}+0x1230", file_name(system.program()));
        assert_eq!(details.signature, Some(expected));
    }
}

#[test]
fn modules_are_listed_by_address_with_their_ids() {
    let parsed = read(&dumps::crash(System::Windows, SMALL)).expect("readable");
    let modules = parsed.details.modules;
    assert_eq!(modules.len(), 2);
    assert_eq!(modules[0].name, System::Windows.program());
    assert_eq!(modules[0].base, "0x400000");
    assert_eq!(modules[0].size, u64::from(dumps::MODULE_BYTES));
    assert_eq!(modules[0].symbols, Symbols::Missing);
    assert_eq!(modules[0].code_id.as_deref(), Some("5a5a5a5a10000"));
    let debug_id = modules[0].debug_id.as_deref().expect("is told");
    assert_eq!(debug_id.len(), 33, "{debug_id}");
    assert_eq!(modules[1].base, "0x410000");
}

#[test]
fn annotations_are_those_crashpad_itself_would_send() {
    let parsed = read(&dumps::crash(System::Linux, SMALL)).expect("readable");
    let annotations: Vec<(&str, &str)> = parsed
        .details
        .annotations
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("channel", "nightly"),
        ("gpu", "none"),
        ("list_annotations", "first\nsecond"),
        ("ptype", "renderer"),
    ];
    assert_eq!(annotations, expected);
    assert_eq!(parsed.details.process.kind.as_deref(), Some("renderer"));
}

/// Our JSON of our walk, and the library's JSON of its own walk, of the same dump.
fn both_json(dump: &[u8]) -> Option<[serde_json::Value; 2]> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let container = Minidump::read(dump).ok()?;
    let symbols = symbol_provider();
    let process = minidump_processor::process_minidump(&container, &symbols);
    let state = runtime.block_on(process).ok()?;
    let mut theirs = Vec::new();
    state.print_json(&mut theirs, false).expect("is written");
    let gate = Gate::new(&symbols);
    let mut state = walk::unwalked(&container, &gate).expect("as before");
    let walk = runtime.block_on(walk::walk(&container, &mut state, &gate, later()));
    assert_eq!(walk.walked, state.threads.len());
    let ours = json::to_json(&mut state, usize::MAX).expect("is written");
    let ours = ours.expect("has no bound");
    let mut again = Vec::new();
    state.print_json(&mut again, false).expect("is written");
    assert!(again == theirs, "the state is as before");
    Some([ours, theirs].map(|json| serde_json::from_slice(&json).expect("JSON")))
}

#[test]
fn our_json_is_the_librarys() {
    let shapes = [
        SMALL,
        Shape {
            other_threads: 0,
            other_modules: 0,
            stack_words: 1024,
        },
    ];
    for (system, shape) in System::ALL
        .iter()
        .flat_map(|system| shapes.map(|shape| (system, shape)))
    {
        let [ours, theirs] = both_json(&dumps::crash(*system, shape)).expect("readable");
        assert!(theirs["crashing_thread"]["frames"][0]["registers"].is_object());
        assert_eq!(ours, theirs);
    }
}

#[test]
fn the_librarys_own_json_comes_along() {
    let parsed = read(&dumps::crash(System::Linux, SMALL)).expect("readable");
    let text = String::from_utf8(parsed.json).expect("UTF-8");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["crash_info"]["type"], "SIGSEGV / SEGV_MAPERR");
    assert!(RawJson::new(text).is_ok());
}

#[test]
fn an_endless_stack_is_cut() {
    let shape = Shape {
        stack_words: 20 * FRAMES_PER_THREAD_MAX as u32,
        ..SMALL
    };
    let parsed = read(&dumps::crash(System::Linux, shape)).expect("readable");
    let threads = &parsed.details.threads;
    assert_eq!(threads[1].frames.len(), FRAMES_PER_THREAD_MAX);
    assert!(
        parsed.warnings[0].contains("frames"),
        "{:?}",
        parsed.warnings
    );
}

#[test]
fn a_dump_has_only_so_many_frames_threads_and_modules() {
    let shape = Shape {
        other_threads: 5000,
        other_modules: 5000,
        stack_words: 20 * 16,
    };
    let dump = dumps::crash(System::Linux, shape);
    let parsed = read(&dump).expect("readable");
    let threads = &parsed.details.threads;
    assert_eq!(threads.len(), THREADS_MAX);
    assert_eq!(parsed.details.modules.len(), MODULES_MAX);
    let frames: usize = threads.iter().map(|thread| thread.frames.len()).sum();
    assert!((FRAMES_MAX..FRAMES_MAX + threads.len()).contains(&frames));
    assert!(
        threads[1].frames.len() > 15,
        "the crashed thread's are kept"
    );
    assert_eq!(threads[4095].frames.len(), 1);
    assert!(threads[4095].frames[0].module.is_some());
    for (warning, what) in parsed
        .warnings
        .iter()
        .zip(["threads", "modules", "frames", "JSON"])
    {
        assert!(warning.contains(what), "{:?}", parsed.warnings);
    }
    assert_eq!(parsed.warnings.len(), 4, "{:?}", parsed.warnings);
    assert_eq!(parsed.partial, None, "nothing was a matter of time");
}

#[test]
fn without_time_each_thread_has_its_first_frame() {
    let dump = dumps::crash(System::Linux, SMALL);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let parsed = runtime.block_on(parse(&dump, &symbol_provider(), Instant::now()));
    let parsed = parsed.expect("readable");
    let partial = parsed.partial.expect("not all of it");
    assert_eq!((partial.threads_walked, partial.threads), (0, 2));
    let details = parsed.details;
    assert_eq!(details.crash.expect("is told").kind, "SIGSEGV");
    assert_eq!(details.signature.as_deref(), Some("editor+0x1230"));
    for thread in &details.threads {
        assert_eq!(thread.frames.len(), 1);
    }
}

#[test]
fn what_cannot_be_read_is_said_in_words() {
    let whole = dumps::crash(System::Linux, SMALL);
    let mut foreign = whole.clone();
    foreign[..4].copy_from_slice(b"ELF!");
    let mut later = whole.clone();
    later[4..6].copy_from_slice(&[1, 2]);
    let mut no_directory = whole[..32].to_vec();
    no_directory[8..12].copy_from_slice(&3_u32.to_le_bytes());
    let mut empty_directory = whole[..32].to_vec();
    empty_directory[8..12].copy_from_slice(&0_u32.to_le_bytes());
    for (dump, expected) in [
        (&b""[..], "header of 32 bytes, found 0 bytes"),
        (&whole[..31], "header of 32 bytes, found 31 bytes"),
        (&foreign, "\"MDMP\", found \"ELF!\""),
        (&later, "version"),
        (&no_directory, "stream directory lies outside the 32 bytes"),
        (&empty_directory, "nothing of the crash can be read"),
    ] {
        let error = read(dump).expect_err(expected).error;
        assert!(
            error.contains(expected),
            "expected {expected}, found {error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_dump_never_panics(
        system in proptest::sample::select(&System::ALL[..]),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0_u8..8), 1..20),
    ) {
        let mut dump = dumps::crash(system, SMALL);
        for (index, bit) in flips {
            let at = index.index(dump.len());
            dump[at] ^= 1 << bit;
        }
        if let Some([ours, theirs]) = both_json(&dump) {
            prop_assert_eq!(ours, theirs);
        }
        if let Ok(parsed) = read(&dump) {
            prop_assert!(parsed.details.signature.is_some());
            let text = String::from_utf8(parsed.json).expect("UTF-8");
            prop_assert!(RawJson::new(text).is_ok());
        }
    }
}
