//! Minidumps made without the parser's layouts: of Linux, Windows and macOS programs, and damaged ones.

use minidump_synth::{
    AnnotationValue, CrashpadInfo, DumpString, Exception, Memory, MiscFieldsProcessTimes,
    MiscStream, Module, ModuleCrashpadInfo, SynthMinidump, SystemInfo, Thread, ThreadName,
    amd64_context, arm64_context,
};
use test_assembler::{Endian, Section};

const LITTLE: Endian = Endian::Little;
const STACK_BASE: u64 = 0x0010_0000;
/// Where the program lies.
const MODULE_BASE: u64 = 0x0040_0000;
/// Its size.
pub(crate) const MODULE_BYTES: u32 = 0x1_0000;
/// Where in it the crash is.
const MODULE_OFFSET: u64 = 0x1230;
/// What it touched.
const CRASH_ADDRESS: u64 = 0x45;
/// Which thread it was; it is the second one.
pub(crate) const CRASHED_THREAD: u32 = 0x1111;

/// Left empty behind the header, so that tests may move the stream directory there, where clients have it.
pub(crate) const DIRECTORY_ROOM_BYTES: usize = 12 * 16;

/// Where the program ran.
#[derive(Clone, Copy, Debug)]
pub(crate) enum System {
    /// `SIGSEGV / SEGV_MAPERR` on amd64
    Linux,
    /// `EXCEPTION_ACCESS_VIOLATION_WRITE` on amd64
    Windows,
    /// `EXC_BAD_ACCESS / KERN_INVALID_ADDRESS` on arm64
    MacOs,
}

impl System {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Linux, Self::Windows, Self::MacOs];

    /// `MINIDUMP_SYSTEM_INFO`'s architecture and platform.
    fn numbers(self) -> (u16, u32) {
        match self {
            Self::Linux => (9, 0x8201),
            Self::Windows => (9, 2),
            Self::MacOs => (12, 0x8101),
        }
    }

    /// The program's path.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Linux => "/opt/editor/editor",
            Self::Windows => r"C:\Program Files\Editor\editor.exe",
            Self::MacOs => "/Applications/Editor.app/Contents/MacOS/Editor",
        }
    }

    fn exception(self) -> Exception {
        let mut exception = Exception::new(LITTLE);
        exception.thread_id = CRASHED_THREAD;
        let record = &mut exception.exception_record;
        record.exception_address = CRASH_ADDRESS;
        match self {
            Self::Linux => (record.exception_code, record.exception_flags) = (11, 1),
            Self::Windows => {
                record.exception_code = 0xC000_0005;
                record.exception_address = MODULE_BASE + MODULE_OFFSET;
                record.number_parameters = 2;
                record.exception_information[0] = 1;
                record.exception_information[1] = CRASH_ADDRESS;
            }
            Self::MacOs => (record.exception_code, record.exception_flags) = (1, 1),
        }
        exception
    }
}

/// What else a dump holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Threads besides the one that crashed.
    pub(crate) other_threads: u32,
    /// Modules besides the program.
    pub(crate) other_modules: u32,
    /// Stack of each thread; every 16th word looks like a return address.
    pub(crate) stack_words: u32,
}

/// Two threads, one library, a short stack.
pub(crate) const SMALL: Shape = Shape {
    other_threads: 1,
    other_modules: 1,
    stack_words: 64,
};

/// A crash of a desktop program, with Crashpad's annotations.
pub(crate) fn crash(system: System, shape: Shape) -> Vec<u8> {
    let (architecture, platform) = system.numbers();
    let mut info = SystemInfo::new(LITTLE)
        .set_processor_architecture(architecture)
        .set_platform_id(platform);
    (info.major_version, info.minor_version, info.build_number) = (10, 2, 19_045);
    let mut misc = MiscStream::new(LITTLE);
    misc.process_id = Some(4242);
    misc.process_times = Some(MiscFieldsProcessTimes::default());
    let room = Section::with_endian(LITTLE).append_repeated(0, DIRECTORY_ROOM_BYTES);
    let mut dump = SynthMinidump::with_endian(LITTLE)
        .add(Memory::with_section(room, 0))
        .add_system_info(info)
        .add_exception(system.exception())
        .add_stream(misc)
        .add_crashpad_info(crashpad());
    for n in 0..=shape.other_threads {
        // The one that crashed is the second, so that its index is not the default.
        let id = if n == 1.min(shape.other_threads) {
            CRASHED_THREAD
        } else {
            0x2000 + n
        };
        dump = with_thread(dump, system, id, n, shape);
    }
    dump = with_module(dump, system.program(), MODULE_BASE);
    for n in 0..shape.other_modules {
        let base = MODULE_BASE + u64::from(n + 1) * u64::from(MODULE_BYTES);
        dump = with_module(dump, &format!("/usr/lib/lib{n}.so"), base);
    }
    dump.finish().expect("the synthetic dump is complete")
}

fn with_thread(
    dump: SynthMinidump,
    system: System,
    id: u32,
    n: u32,
    shape: Shape,
) -> SynthMinidump {
    let stack_bytes = u64::from(shape.stack_words) * 8;
    let base = STACK_BASE + u64::from(n) * (stack_bytes + 4096);
    let mut section = Section::with_endian(LITTLE);
    for word in 0..u64::from(shape.stack_words) {
        section = section.D64(if word % 16 == 15 {
            MODULE_BASE + 0x100 + word * 4 % u64::from(MODULE_BYTES - 0x200)
        } else {
            0
        });
    }
    let stack = Memory::with_section(section, base);
    let ip = MODULE_BASE + MODULE_OFFSET;
    let context = match system {
        System::Linux | System::Windows => amd64_context(LITTLE, ip, base),
        System::MacOs => arm64_context(LITTLE, ip, base),
    };
    let thread = Thread::new(LITTLE, id, &stack, &context);
    let name = DumpString::new(&format!("worker {n}"), LITTLE);
    dump.add_thread(thread)
        .add_thread_name(ThreadName::new(LITTLE, id, Some(&name)))
        .add(name)
        .add(context)
        .add_memory(stack)
}

fn with_module(dump: SynthMinidump, name: &str, base: u64) -> SynthMinidump {
    let name = DumpString::new(name, LITTLE);
    // A CodeView record of the kind PDB 7.0: signature, GUID, age, file name.
    let debug = Section::with_endian(LITTLE)
        .D32(0x5344_5352)
        .append_bytes(&base.to_le_bytes())
        .append_bytes(&[7; 8])
        .D32(1)
        .append_bytes(b"editor.pdb\0");
    let module =
        Module::new(LITTLE, base, MODULE_BYTES, &name, 0x5a5a_5a5a, 0, None).cv_record(&debug);
    dump.add_module(module).add(name).add(debug)
}

fn crashpad() -> CrashpadInfo {
    let module = ModuleCrashpadInfo::new(0, LITTLE)
        .add_simple_annotation("channel", "of the module")
        .add_simple_annotation("gpu", "none")
        .add_list_annotation("first")
        .add_list_annotation("second")
        .add_annotation_object("ptype", AnnotationValue::String("renderer".into()))
        .add_annotation_object("blob", AnnotationValue::Custom(0x8001, vec![1, 2]));
    CrashpadInfo::new(LITTLE)
        .add_simple_annotation("channel", "nightly")
        .add_module(module)
}
