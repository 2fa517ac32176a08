//! Crashes for real: writes to address 0x42 after asking the dump server at the given socket to write its dump.

use crash_handler::{CrashContext, CrashEventResult, CrashHandler, make_crash_event};
use minidumper::{Client, SocketName};

fn main() {
    let mut words = std::env::args().skip(1);
    let socket = words
        .next()
        .expect("usage: crashing-child SOCKET SERVER-PID");
    let server: u32 = words
        .next()
        .and_then(|word| word.parse().ok())
        .expect("usage: crashing-child SOCKET SERVER-PID");
    let client = Client::with_name(SocketName::path(&socket)).expect("the dump server listens");
    #[expect(
        unsafe_code,
        reason = "a handler that runs after a crash is unsafe by nature"
    )]
    let event = unsafe {
        make_crash_event(move |context: &CrashContext| {
            CrashEventResult::Handled(client.request_dump(context).is_ok())
        })
    };
    let handler = CrashHandler::attach(event).expect("a crash handler can be attached");
    handler.set_ptracer(Some(server));
    save_the_document();
}

#[inline(never)]
fn save_the_document() {
    let address = std::hint::black_box(harness::crashing::CRASH_ADDRESS) as *mut u8;
    #[expect(unsafe_code, reason = "crashing is what this program is for")]
    unsafe {
        address.write_volatile(1);
    }
}
