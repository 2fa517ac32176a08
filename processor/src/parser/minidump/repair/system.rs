//! What the dump says of the system, the process and the exception. Without system information rust-minidump reads no
//! dump; then the registers say the processor, and the modules the system. Pure.

use minidump::format::{ContextFlagsCpu, MINIDUMP_STREAM_TYPE as Kind};

use super::super::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use super::System;
use super::modules;
use super::patch::Patch;
use super::text::{self, Text};
use super::view::View;

/// Bytes of `MINIDUMP_EXCEPTION_STREAM`, and where in it the size and place of the registers are.
const EXCEPTION_BYTES: usize = 168;
const CONTEXT_SIZE_AT: usize = 160;
const CONTEXT_RVA_AT: usize = 164;
/// Of these a thread's id and an exception's code can be told: without them there is nothing to say.
const EXCEPTION_BYTES_MIN: usize = 12;
/// Bytes of `MINIDUMP_SYSTEM_INFO`, and where in it are: the system, the service pack's name.
const SYSTEM_BYTES: usize = 56;
const PLATFORM_AT: usize = 20;
const SERVICE_PACK_AT: usize = 24;
/// Bytes of the smallest `MINIDUMP_MISC_INFO`, of the part with the process id, and where its flags are.
const MISC_BYTES: usize = 24;
const MISC_ID_BYTES: usize = 12;
const MISC_FLAGS_AT: usize = 4;
/// The flag for a process id that is valid.
const MISC_PROCESS_ID: u32 = 1;
/// Modules looked at when the system is unknown: the program and its first libraries.
const MODULES_EXAMINED_MAX: usize = 64;

/// `processor_architecture` when it is unknown.
const UNKNOWN_ARCHITECTURE: u16 = 0xffff;
/// Values of `processor_architecture`, with their names, the flag in a thread's registers that says them, where in the
/// registers the flags are, and the bytes that registers have.
const ARCHITECTURES: [(u16, &str, ContextFlagsCpu, usize, usize); 6] = [
    (9, "amd64", ContextFlagsCpu::CONTEXT_AMD64, 48, 1232),
    (0, "x86", ContextFlagsCpu::CONTEXT_X86, 0, 716),
    (12, "arm64", ContextFlagsCpu::CONTEXT_ARM64, 0, 912),
    (0x8003, "arm64", ContextFlagsCpu::CONTEXT_ARM64_OLD, 0, 796),
    (5, "arm", ContextFlagsCpu::CONTEXT_ARM, 0, 368),
    (1, "mips", ContextFlagsCpu::CONTEXT_MIPS, 0, 600),
];
/// What paths of libraries say of the processor.
const ARCHITECTURE_PATHS: [(&str, u16); 8] = [
    ("x86_64", 9),
    ("x86-64", 9),
    ("amd64", 9),
    ("aarch64", 12),
    ("arm64", 12),
    ("i386", 0),
    ("i686", 0),
    ("gnueabi", 5),
];
/// Values of `platform_id`.
const WINDOWS: u32 = 2;
const MAC_OS: u32 = 0x8101;
const LINUX: u32 = 0x8201;
const ANDROID: u32 = 0x8203;
/// What names of modules say of the system; the first that is found counts.
const PLATFORM_PATHS: [(&str, u32); 10] = [
    (".dll", WINDOWS),
    (".exe", WINDOWS),
    (":\\", WINDOWS),
    ("/system/library/", MAC_OS),
    (".dylib", MAC_OS),
    (".app/contents/", MAC_OS),
    ("/data/app/", ANDROID),
    ("/system/lib", ANDROID),
    (".so", LINUX),
    ("linux-gate", LINUX),
];

/// What the exception stream says.
pub(super) struct Exception {
    pub(super) thread_id: u32,
    /// Size and place of the registers, when they lie in the dump.
    pub(super) context: Option<(u32, u32)>,
}

/// Repairs the exception.
pub(super) fn exception(patch: &mut Patch<'_>) -> Option<Exception> {
    let stream = patch.stream(Kind::ExceptionStream)?;
    let view = patch.view;
    if stream.len() < EXCEPTION_BYTES {
        patch.warnings.push(format!(
            "the exception is cut off: {} of {EXCEPTION_BYTES} bytes are there",
            stream.len()
        ));
        if stream.len() < EXCEPTION_BYTES_MIN {
            return None;
        }
        let mut padded = stream.to_vec();
        padded.resize(EXCEPTION_BYTES, 0);
        patch.replace(Kind::ExceptionStream, &padded);
    }
    let found = view.of(stream);
    let context = found
        .u32(CONTEXT_SIZE_AT)
        .zip(found.u32(CONTEXT_RVA_AT))
        .filter(|(size, rva)| *size > 0 && view.whole(*rva as usize, *size as usize).is_some());
    Some(Exception {
        thread_id: found.u32(0)?,
        context,
    })
}

/// Repairs the process's own information; says whether there is any.
pub(super) fn process(patch: &mut Patch<'_>) -> bool {
    let Some(stream) = patch.stream(Kind::MiscInfoStream) else {
        return false;
    };
    if stream.len() >= MISC_BYTES {
        return true;
    }
    patch.warnings.push(format!(
        "the process information is cut off: {} bytes are there",
        stream.len()
    ));
    if stream.len() < MISC_ID_BYTES {
        return false;
    }
    let view = patch.view;
    let flags = view.of(stream).u32(MISC_FLAGS_AT).unwrap_or_default();
    let mut padded = stream.to_vec();
    padded.resize(MISC_BYTES, 0);
    view.put_u32(&mut padded, MISC_FLAGS_AT, flags & MISC_PROCESS_ID);
    patch.replace(Kind::MiscInfoStream, &padded);
    true
}

/// Repairs the system information. `contexts` are sizes and places of registers, the crashed thread's first.
pub(super) fn system(patch: &mut Patch<'_>, contexts: &[(u32, u32)]) -> System {
    let view = patch.view;
    let stream = patch.stream(Kind::SystemInfoStream).unwrap_or_default();
    let told = view.of(stream).u16(0);
    let is_known = told.is_some_and(is_known);
    if stream.len() >= SYSTEM_BYTES && is_known {
        service_pack(patch, stream);
        return System::Told;
    }
    let mut info = stream.to_vec();
    info.resize(info.len().max(SYSTEM_BYTES), 0);
    let names = module_names(patch);
    let mut missing = Vec::new();
    if !is_known {
        let (architecture, said) = architecture(view, contexts, &names);
        let raw = view.u32_bytes(architecture.into());
        let raw = match view.is_big() {
            true => &raw[2..],
            false => &raw[..2],
        };
        info[..2].copy_from_slice(raw);
        missing.push(said);
    }
    if stream.len() < PLATFORM_AT + 4 {
        let (platform, said) = platform(patch, &names);
        view.put_u32(&mut info, PLATFORM_AT, platform);
        missing.push(said);
    }
    if stream.len() < SERVICE_PACK_AT + 4 {
        view.put_u32(&mut info, SERVICE_PACK_AT, 0);
    }
    let what = match patch.stream(Kind::SystemInfoStream) {
        None => "the dump has no system information",
        Some(_) => "the system information is damaged",
    };
    let said = match missing.is_empty() {
        true => String::new(),
        false => format!(": {}", missing.join(", ")),
    };
    patch.warnings.push(format!("{what}{said}"));
    patch.replace(Kind::SystemInfoStream, &info);
    match stream.len() < PLATFORM_AT + 4 {
        true => System::Guessed,
        false => System::Told,
    }
}

/// The service pack's name; rust-minidump does without an unreadable one.
fn service_pack(patch: &mut Patch<'_>, stream: &[u8]) {
    let view = patch.view;
    let rva = view.of(stream).size(SERVICE_PACK_AT).unwrap_or_default();
    if rva == 0 {
        return;
    }
    match text::utf16(view, rva, NAME_BYTES_MAX) {
        Text::Sound | Text::Unreadable => {}
        Text::Mended(name) => {
            let rva = patch.append_utf16(&name);
            let mut info = stream.to_vec();
            view.put_u32(&mut info, SERVICE_PACK_AT, rva);
            patch.replace(Kind::SystemInfoStream, &info);
        }
    }
}

/// Whether rust-minidump knows the value.
fn is_known(architecture: u16) -> bool {
    matches!(architecture, 0..=10 | 12 | 0x8001..=0x8004)
}

fn architecture(view: View<'_>, contexts: &[(u32, u32)], names: &[String]) -> (u16, String) {
    for (size, rva) in contexts {
        let context = view.of(view.part(*rva as usize, *size as usize));
        for (value, name, flag, flags_at, bytes) in ARCHITECTURES {
            let flags = context.u32(flags_at).map(ContextFlagsCpu::from_flags);
            if context.bytes.len() >= bytes && flags == Some(flag) {
                return (value, format!("its registers are of {name}"));
            }
        }
    }
    for (part, value) in ARCHITECTURE_PATHS {
        if names.iter().any(|name| name.contains(part)) {
            return (value, format!("its modules are of {part}"));
        }
    }
    (UNKNOWN_ARCHITECTURE, "its processor is unknown".into())
}

fn platform(patch: &Patch<'_>, names: &[String]) -> (u32, String) {
    let found = PLATFORM_PATHS
        .iter()
        .find(|(part, _)| names.iter().any(|name| name.contains(part)));
    if let Some((part, platform)) = found {
        return (*platform, format!("a module has {part:?} in its name"));
    }
    let linux = [
        Kind::LinuxMaps,
        Kind::LinuxProcStatus,
        Kind::LinuxCpuInfo,
        Kind::LinuxLsbRelease,
    ];
    match linux.iter().any(|kind| patch.stream(*kind).is_some()) {
        true => (LINUX, "it has files of Linux".into()),
        false => (0, "its system is unknown".into()),
    }
}

/// The first modules' names, in lower case.
fn module_names(patch: &Patch<'_>) -> Vec<String> {
    let names = modules::names(patch, MODULES_EXAMINED_MAX);
    names.iter().map(|name| name.to_lowercase()).collect()
}

/// Cuts the text of macOS's boot arguments.
pub(super) fn boot_arguments(patch: &mut Patch<'_>) {
    const RVA_AT: usize = 4;
    let Some(stream) = patch.stream(Kind::MozMacosBootargsStream) else {
        return;
    };
    let view = patch.view;
    let rva = view.of(stream).u64(RVA_AT).unwrap_or_default();
    let rva = usize::try_from(rva).unwrap_or(usize::MAX);
    if let Text::Mended(text) = text::utf16(view, rva, TEXT_BYTES_MAX) {
        let mut mended = stream.to_vec();
        let rva = patch.append_utf16(&text);
        view.put_u64(&mut mended, RVA_AT, rva.into());
        patch.replace(Kind::MozMacosBootargsStream, &mended);
    }
}
