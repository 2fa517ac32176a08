//! Minidumps of any exact size, each different, made without the parser's layouts.

use minidump_synth::{
    CrashpadInfo, DumpString, Exception, Memory, Module, SynthMinidump, SystemInfo, Thread,
    amd64_context,
};
use test_assembler::{Endian, Section};

/// `MINIDUMP_EXCEPTION` code of Windows' access violation.
const ACCESS_VIOLATION: u32 = 0xC000_0005;
const PROCESSOR_ARCHITECTURE_AMD64: u16 = 9;
const VER_PLATFORM_WIN32_NT: u32 = 2;

/// Address the synthetic crash touched.
pub const CRASH_ADDRESS: u64 = 0x45;
/// Name of the module the synthetic crash happened in.
pub const MODULE: &str = "editor.exe";
/// Offset of the crashing instruction in that module.
pub const MODULE_OFFSET: u64 = 0x1230;

const MODULE_BASE: u64 = 0x0040_0000;
const STACK_BASE: u64 = 0x0010_0000;
const THREAD_ID: u32 = 0x1111;

/// A small dump of a Windows program on amd64 that read address 0x45 in `editor.exe`.
pub fn small() -> Vec<u8> {
    let little = Endian::Little;
    let context = amd64_context(little, MODULE_BASE + MODULE_OFFSET, STACK_BASE);
    let stack = Memory::with_section(
        Section::with_endian(little).append_repeated(0, 512),
        STACK_BASE,
    );
    let thread = Thread::new(little, THREAD_ID, &stack, &context);
    let name = DumpString::new(MODULE, little);
    let module = Module::new(little, MODULE_BASE, 0x1_0000, &name, 0x5a5a_5a5a, 0, None);
    let mut system = SystemInfo::new(little)
        .set_processor_architecture(PROCESSOR_ARCHITECTURE_AMD64)
        .set_platform_id(VER_PLATFORM_WIN32_NT);
    system.major_version = 10;
    system.build_number = 19_045;
    let mut exception = Exception::new(little);
    exception.thread_id = THREAD_ID;
    exception.exception_record.exception_code = ACCESS_VIOLATION;
    exception.exception_record.exception_address = MODULE_BASE + MODULE_OFFSET;
    exception.exception_record.number_parameters = 2;
    exception.exception_record.exception_information[1] = CRASH_ADDRESS;
    let crashpad = CrashpadInfo::new(little).add_simple_annotation("channel", "nightly");
    SynthMinidump::with_endian(little)
        .add_system_info(system)
        .add_exception(exception)
        .add_thread(thread)
        .add_module(module)
        .add_memory(stack)
        .add(context)
        .add(name)
        .add_crashpad_info(crashpad)
        .finish()
        .expect("the synthetic dump is complete")
}

/// Insists that a report tells what [`small`] is about.
pub fn check_report(report: &serde_json::Value) {
    let crash = &report["crash"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(report["os"]["name"], "Windows NT", "{report}");
    assert_eq!(report["cpu"]["arch"], "amd64", "{report}");
    assert!(text(&crash["type"]).starts_with("EXCEPTION_ACCESS_VIOLATION"));
    assert!(text(&crash["reason"]).starts_with("EXCEPTION_ACCESS_VIOLATION"));
    assert_eq!(hex(&crash["address"]), CRASH_ADDRESS, "{crash}");
    let index = crash["thread"]
        .as_u64()
        .expect("the crashing thread is known");
    let thread = &report["threads"][usize::try_from(index).expect("an index")];
    assert_eq!(thread["id"], THREAD_ID);
    let frame = &thread["frames"][0];
    assert_eq!(frame["module"], MODULE, "{frame}");
    assert_eq!(hex(&frame["module_offset"]), MODULE_OFFSET, "{frame}");
    assert_eq!(report["modules"][0]["name"], MODULE);
}

/// The number in a `0x…` text.
pub fn hex(value: &serde_json::Value) -> u64 {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or_else(|| panic!("expected an address like 0x1f, found {value}"))
}

/// [`small`], followed by noise that differs with `seed`, up to exactly `bytes`.
pub fn sized(bytes: usize, seed: u64) -> Vec<u8> {
    let mut dump = small();
    assert!(
        dump.len() + 8 <= bytes,
        "a synthetic dump has at least {} bytes",
        dump.len() + 8
    );
    dump.reserve_exact(bytes - dump.len());
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while dump.len() < bytes {
        // xorshift64: cheap, and nothing compresses it.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        let take = word.len().min(bytes - dump.len());
        dump.extend_from_slice(&word[..take]);
    }
    dump
}

/// A dump nobody else sends: [`sized`] with a random seed, 4 KiB more than the smallest.
pub fn unique() -> Vec<u8> {
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    sized(small().len() + 4096, seed)
}

/// A dump nobody else sends, that ends with a hook for [`crate::environment::hooked_binary`].
pub fn hooked(hook: &str) -> Vec<u8> {
    with_hook(unique(), hook)
}

/// `dump`, and a hook behind it.
pub fn with_hook(mut dump: Vec<u8>, hook: &str) -> Vec<u8> {
    dump.extend_from_slice(format!("hook: {hook}").as_bytes());
    dump
}

/// A header that passes for a minidump's, with a stream directory far outside the file.
pub fn header_only() -> Vec<u8> {
    let mut header = Vec::new();
    header.extend_from_slice(b"MDMP");
    for word in [0x0000_a793_u32, 7, 0x7fff_0000, 0, 0x5b5b_5b5b, 0, 0] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header
}
