//! Free loopback ports, from below the range the kernel hands to outgoing connections, so that a port stays free
//! while the process that had it is being restarted.

use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 15_000;
const COUNT: u16 = 15_000;

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A loopback port on which nothing listens, never handed out twice in a run: each is a file in the run's own directory
/// for temporary files, because test binaries run side by side.
pub fn free() -> u16 {
    // Starting elsewhere in each process keeps it off ports that are still closing.
    let start = (std::process::id() % 500) as u16 * 30;
    for _ in 0..COUNT {
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(step)) % COUNT;
        let taken = std::env::temp_dir().join(format!("crashferry-test-port-{port}"));
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && File::create_new(taken).is_ok() {
            return port;
        }
    }
    panic!(
        "no loopback port is free between {FIRST} and {}",
        FIRST + COUNT
    );
}
