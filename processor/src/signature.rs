//! The signature: one line that is equal for like crashes. Pure.
//!
//! The idea is Socorro's: walk down the crashing thread, skip what every crash of a kind has on top (abort, panic and
//! exception plumbing), keep but go past what is called from everywhere (`memcpy`, `operator new`), and stop at the
//! first function that says where the crash is.

use shared::report::{CrashDetails, Frame, Thread};

/// Frames looked at: deeper ones say how the thread was started, or were found by scanning a stack at random.
const FRAMES_EXAMINED_MAX: usize = 40;
/// Most parts of a signature.
const PARTS_MAX: usize = 4;
/// Most characters of a signature.
const CHARS_MAX: usize = 255;
/// Joins the parts.
const SEPARATOR: &str = " | ";
/// Stands for code that lies in no module: generated code, or a jump to nowhere.
const NO_MODULE: &str = "(no module)";

/// Functions that end a process or raise an exception on behalf of others: never in a signature. Prefixes.
const PLUMBING: [&str; 74] = [
    // C
    "abort",
    "__GI_abort",
    "raise",
    "__GI_raise",
    "gsignal",
    "pthread_kill",
    "__pthread_kill",
    "__GI___pthread_kill",
    "tgkill",
    "__assert",
    "__GI___assert",
    "__libc_",
    "__fortify_fail",
    "__chk_fail",
    "__stack_chk_fail",
    "malloc_printerr",
    "_exit",
    "exit",
    "__restore_rt",
    "_sigtramp",
    "__kernel_rt_sigreturn",
    // C++
    "std::terminate",
    "std::__terminate",
    "std::__throw_",
    "__cxxabiv1::",
    "__cxa_",
    "__gnu_cxx::__verbose_terminate_handler",
    "_Unwind_",
    "abort_message",
    "demangling_terminate_handler",
    // Rust
    "rust_panic",
    "rust_begin_unwind",
    "__rust_",
    "__rustc",
    "core::panicking::",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::result::unwrap_failed",
    "core::slice::index::slice_",
    "std::panicking::",
    "std::sys::",
    "std::process::abort",
    "alloc::alloc::handle_alloc_error",
    "panic_abort::",
    // Windows
    "RaiseException",
    "RtlRaise",
    "RtlDispatchException",
    "RtlFailFast",
    "RtlReportCriticalFailure",
    "RtlpHeapHandleError",
    "KiUserExceptionDispatch",
    "UnhandledExceptionFilter",
    "_CxxThrowException",
    "CxxThrowException",
    "_invoke_watson",
    "_invalid_parameter",
    "invalid_parameter",
    "terminate",
    "DbgBreakPoint",
    "DebugBreak",
    // macOS
    "mach_msg",
    "objc_exception_throw",
    "__exceptionPreprocess",
    "-[NSException raise]",
    // Chromium, V8 and Node, which Electron programs are made of
    "logging::LogMessage",
    "logging::CheckError",
    "logging::NotReachedError",
    "base::ImmediateCrash",
    "base::debug::",
    "base::internal::OnNoMemory",
    "partition_alloc::internal::OnNoMemory",
    "v8::base::OS::Abort",
    "V8_Fatal",
    "node::Abort",
];

/// Functions called from everywhere: they are kept, and the caller is wanted too. Prefixes.
const FROM_EVERYWHERE: [&str; 30] = [
    NO_MODULE,
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "__mem",
    "strlen",
    "strcmp",
    "strcpy",
    "strncpy",
    "__str",
    "malloc",
    "calloc",
    "realloc",
    "free",
    "je_",
    "operator new",
    "operator delete",
    "std::vector",
    "std::basic_string",
    "std::__",
    "std::unique_ptr",
    "std::shared_ptr",
    "core::ptr::",
    "core::ops::",
    "alloc::",
    "scoped_refptr",
    "base::internal::",
    "objc_msgSend",
    "v8::base::",
];

/// Modules that hold little but plumbing: without symbols, their frames are skipped. Prefixes of lower-case names.
const PLUMBING_MODULES: [&str; 18] = [
    "libc.so",
    "libc-2.",
    "libpthread",
    "libstdc++",
    "libc++abi",
    "ld-linux",
    "linux-gate.so",
    "linux-vdso.so",
    "ntdll.dll",
    "kernel32.dll",
    "kernelbase.dll",
    "ucrtbase.dll",
    "vcruntime140",
    "libsystem_kernel",
    "libsystem_c.",
    "libsystem_pthread",
    "libsystem_platform",
    "dyld",
];

/// What groups this crash with its like: the telling functions of the crashing thread, or `module+0xoffset` where
/// symbols are not known; `EMPTY: …` when there is nothing to go by.
#[must_use]
pub fn signature(details: &CrashDetails) -> String {
    let index = details.crash.as_ref().and_then(|crash| crash.thread);
    match index.and_then(|index| details.threads.get(index)) {
        None => "EMPTY: no crashing thread".into(),
        Some(thread) if thread.frames.is_empty() => "EMPTY: no frame of the crashing thread".into(),
        Some(thread) => of_thread(thread),
    }
}

fn of_thread(thread: &Thread) -> String {
    let mut parts: Vec<String> = Vec::new();
    for frame in thread.frames.iter().take(FRAMES_EXAMINED_MAX) {
        if is_plumbing(frame) {
            continue;
        }
        let part = label(frame);
        let goes_on = starts_with_any(&part, &FROM_EVERYWHERE);
        // Generated code is many frames; one mention is enough.
        if parts.last() != Some(&part) {
            parts.push(part);
        }
        if !goes_on || parts.len() == PARTS_MAX {
            break;
        }
    }
    if parts.is_empty() {
        parts.extend(thread.frames.first().map(label));
    }
    visible(&parts.join(SEPARATOR)).take(CHARS_MAX).collect()
}

/// Without what no reader sees and a terminal obeys: control characters, marks of direction, characters without width. A
/// dump's names are a stranger's.
fn visible(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|found| {
        !found.is_control()
            && !matches!(
                found,
                '\u{ad}'
                    | '\u{61c}'
                    | '\u{180e}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}'
                    | '\u{fff9}'..='\u{fffb}'
                    | '\u{e0000}'..='\u{e007f}'
            )
    })
}

fn is_plumbing(frame: &Frame) -> bool {
    match (&frame.function, &frame.module) {
        (Some(function), _) => starts_with_any(function, &PLUMBING),
        (None, Some(module)) => starts_with_any(&module.to_lowercase(), &PLUMBING_MODULES),
        (None, None) => false,
    }
}

fn label(frame: &Frame) -> String {
    match (&frame.function, &frame.module, &frame.module_offset) {
        (Some(function), ..) => without_arguments(without_hash(function)),
        (None, Some(module), Some(offset)) => format!("{module}+{offset}"),
        (None, Some(module), None) => module.clone(),
        (None, None, _) => NO_MODULE.into(),
    }
}

fn starts_with_any(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Drops the `::h0123456789abcdef` that rustc's legacy mangling ends names with: it differs from build to build.
fn without_hash(function: &str) -> &str {
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name
        }
        _ => function,
    }
}

/// `ns::f<int, long>(char const*) const` -> `ns::f<T>`: compilers disagree about how to write the rest.
fn without_arguments(function: &str) -> String {
    let mut kept = String::with_capacity(function.len());
    let mut rest = function;
    while let Some(next) = rest.chars().next() {
        let is_name = kept.is_empty() || kept.ends_with("operator");
        let (replacement, close) = match next {
            '<' if !is_name => ("<T>", '>'),
            '(' if !is_name && !rest.starts_with("(anonymous") => ("", ')'),
            _ => {
                kept.push(next);
                rest = &rest[next.len_utf8()..];
                continue;
            }
        };
        kept.push_str(replacement);
        rest = after_closing(rest, next, close);
    }
    let kept = kept.strip_suffix(" const").unwrap_or(&kept);
    kept.trim_end().to_owned()
}

/// What follows the bracket that closes the one `text` starts with; nothing when none does.
fn after_closing(text: &str, open: char, close: char) -> &str {
    let mut depth = 0_usize;
    for (at, found) in text.char_indices() {
        if found == open {
            depth += 1;
        } else if found == close {
            depth -= 1;
            if depth == 0 {
                return &text[at + close.len_utf8()..];
            }
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use shared::report::Crash;

    use super::*;

    fn function(name: &str) -> Frame {
        Frame {
            function: Some(name.into()),
            ..bare(Some("program"), 0x10)
        }
    }

    fn bare(module: Option<&str>, offset: u64) -> Frame {
        Frame {
            ip: "0x1000".into(),
            module: module.map(str::to_owned),
            module_offset: module.map(|_| format!("{offset:#x}")),
            function: None,
            file: None,
            line: None,
            trust: "scan".into(),
        }
    }

    fn crashed(frames: Vec<Frame>) -> CrashDetails {
        CrashDetails {
            crash: Some(Crash {
                kind: "SIGABRT".into(),
                address: None,
                reason: "SIGABRT".into(),
                thread: Some(0),
            }),
            threads: vec![Thread {
                id: 1,
                name: None,
                frames,
            }],
            ..CrashDetails::default()
        }
    }

    fn of(frames: Vec<Frame>) -> String {
        signature(&crashed(frames))
    }

    #[test]
    fn plumbing_is_skipped_and_the_first_telling_function_ends_it() {
        let frames = ["raise", "abort", "Editor::Save(int)", "main"];
        assert_eq!(of(frames.map(function).into()), "Editor::Save");
        let frames = [
            "rust_panic",
            "core::panicking::panic_fmt::h0123456789abcdef",
            "editor::save::hfedcba9876543210",
        ];
        assert_eq!(of(frames.map(function).into()), "editor::save");
    }

    #[test]
    fn a_function_called_from_everywhere_brings_its_caller() {
        let frames = ["memcpy", "operator new(unsigned long)", "Load", "main"];
        assert_eq!(
            of(frames.map(function).into()),
            "memcpy | operator new | Load"
        );
    }

    #[test]
    fn without_symbols_module_and_offset_stand_in() {
        let frames = vec![
            bare(Some("libc.so.6"), 0x8a3c4),
            bare(Some("NTDLL.dll"), 0x1),
            bare(Some("editor"), 0x1230),
        ];
        assert_eq!(of(frames), "editor+0x1230");
        let only_plumbing = vec![bare(Some("libc.so.6"), 0x8a3c4)];
        assert_eq!(of(only_plumbing), "libc.so.6+0x8a3c4");
    }

    #[test]
    fn generated_code_is_named_once_and_without_its_address() {
        let frames = vec![
            bare(None, 0),
            bare(None, 0),
            bare(Some("electron.exe"), 0x77),
        ];
        assert_eq!(of(frames), "(no module) | electron.exe+0x77");
    }

    #[test]
    fn nothing_to_go_by_says_so() {
        assert_eq!(
            signature(&CrashDetails::default()),
            "EMPTY: no crashing thread"
        );
        assert_eq!(of(vec![]), "EMPTY: no frame of the crashing thread");
        let mut lost = crashed(vec![]);
        lost.threads.clear();
        assert_eq!(signature(&lost), "EMPTY: no crashing thread");
    }

    #[test]
    fn names_lose_what_differs_between_builds() {
        for (written, expected) in [
            ("f", "f"),
            ("ns::f<int, std::pair<a, b>>(char const*) const", "ns::f<T>"),
            ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
            (
                "a::(anonymous namespace)::f()",
                "a::(anonymous namespace)::f",
            ),
            ("S::operator()(int) const", "S::operator()"),
            ("S::operator<(S const&)", "S::operator<"),
            (
                "<editor::Doc as core::ops::Drop>::drop",
                "<editor::Doc as core::ops::Drop>::drop",
            ),
            ("unclosed<a(b", "unclosed<T>"),
            ("é<ü>ß", "é<T>ß"),
        ] {
            assert_eq!(without_arguments(written), expected, "{written}");
        }
    }

    #[test]
    fn what_no_reader_sees_is_in_no_signature() {
        let marked = "Load\u{0}\u{1b}[31m\u{7f}\u{85}\u{202e}\u{2066}\u{200f}\u{61c}\n::é\u{fffd}";
        assert_eq!(of(vec![function(marked)]), "Load[31m::é\u{fffd}");
        assert_eq!(of(vec![bare(Some("e\u{202e}d"), 0x10)]), "ed+0x10");
        for found in (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32) {
            assert_eq!(of(vec![function(&format!("a{found}b"))]), "ab", "{found:?}");
        }
    }

    #[test]
    fn a_signature_has_an_end() {
        let long = "x".repeat(10_000);
        assert_eq!(of(vec![function(&long)]).chars().count(), CHARS_MAX);
    }
}
