//! System calls without a safe wrapper among our dependencies: the one place with unsafe code.

use std::io;
use std::os::fd::RawFd;

use libc::{c_int, c_uint, c_ulong};

/// `_LINUX_CAPABILITY_VERSION_3`: two words a set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// More capabilities than there will be.
const CAPABILITIES_MAX: c_ulong = 64;
/// Descriptors closed one by one where the kernel cannot close a range (before 5.9).
const DESCRIPTORS_MAX: RawFd = 4096;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    process: c_int,
}

/// Closes all descriptors from `first` on. Only for a process that has just begun and has opened none itself.
pub(super) fn close_from(first: RawFd) -> io::Result<()> {
    let from = c_uint::try_from(first).map_err(io::Error::other)?;
    #[expect(
        unsafe_code,
        reason = "neither std nor rustix closes a range of descriptors"
    )]
    // SAFETY: the call takes numbers. Descriptors from `first` on were inherited, and nothing here owns one of them.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, from, c_uint::MAX, 0) };
    if closed == 0 {
        return Ok(());
    }
    for descriptor in first..DESCRIPTORS_MAX {
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: as above; a number that is no descriptor is an error that changes nothing.
        let _not_open = unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Gives up all capabilities of this thread and those it will start, and the means to get them back.
pub(super) fn drop_capabilities() -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "neither std nor our rustix speaks of capabilities"
    )]
    // SAFETY: prctl with these options takes numbers only. A capability that is unknown, or that cannot be taken out of
    // the bounding set because none is held, is an error that changes nothing.
    unsafe {
        for capability in 0..CAPABILITIES_MAX {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
    }
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        process: 0,
    };
    // Effective, permitted, inheritable; twice.
    let none = [0_u32; 6];
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: header and sets have the layout that this version asks for, and outlive the call.
    let dropped = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    match dropped {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
