//! Descriptors, capabilities, Landlock and seccomp.

mod raw;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, RestrictionStatus, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};
use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};

use super::Protection;

/// The oldest Landlock that forbids all of it: files (and devices' controls), TCP, signals to others. Linux 6.12.
const LANDLOCK: ABI = ABI::V6;

/// The system calls that are allowed whatever their arguments: memory, locks, clocks, random keys of hash maps, one's
/// own signal handlers (the standard library's, which tell of a stack overflow), the end.
const ALLOWED: [c_long; 24] = [
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_close,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Closes all descriptors but the standard ones.
pub(super) fn close_inherited() -> io::Result<()> {
    raw::close_from(libc::STDERR_FILENO + 1)
}

/// Takes all capabilities from this thread and those it will start.
pub(super) fn drop_capabilities() -> Protection {
    match raw::drop_capabilities() {
        Ok(()) => Protection::On,
        Err(error) => Protection::Off {
            why: format!("expected no capabilities, found them kept: {error}"),
        },
    }
}

/// Takes all files and the network from this thread and those it will start.
pub(super) fn restrict_files_and_network() -> Protection {
    match restrict() {
        Ok(RestrictionStatus {
            ruleset: RulesetStatus::FullyEnforced,
            ..
        }) => Protection::On,
        Ok(status) => Protection::Off {
            why: format!(
                "expected Landlock {LANDLOCK} in full, found {:?}, {:?}",
                status.landlock, status.ruleset
            ),
        },
        Err(error) => Protection::Off {
            why: error.to_string(),
        },
    }
}

fn restrict() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .restrict_self()
}

/// Refuses every thread of this process all other system calls (EPERM). Refusing is enough: what cannot open, connect,
/// fork or execute can only compute, and a library that merely asks for something gets an answer it knows.
pub(super) fn filter_system_calls(outputs: [RawFd; 3]) -> Protection {
    let filtered = filter(outputs)
        .map_err(|error| error.to_string())
        .and_then(|program| apply_filter_all_threads(&program).map_err(|error| error.to_string()));
    match filtered {
        Ok(()) => Protection::On,
        Err(why) => Protection::Off { why },
    }
}

fn filter(outputs: [RawFd; 3]) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.map(|call| (call, Vec::new())).into();
    // A descriptor that was left open on the way here must not be of use.
    rules.insert(libc::SYS_read, vec![first_is(libc::STDIN_FILENO)?]);
    for call in [libc::SYS_write, libc::SYS_writev] {
        let outputs = outputs.map(first_is).into_iter();
        rules.insert(call, outputs.collect::<Result<_, _>>()?);
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![not_executable()?]);
    }
    // Its own limit of processor time, which every dump gets anew, and its own abort; not another process's.
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let own_processor_time = vec![is(0, 0)?, is(1, u64::from(libc::RLIMIT_CPU))?];
    let own_processor_time = SeccompRule::new(own_processor_time)?;
    rules.insert(libc::SYS_prlimit64, vec![own_processor_time]);
    rules.insert(libc::SYS_tgkill, vec![first_is(own)?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let here = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, here)?.try_into()
}

fn first_is(value: i32) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![is(0, value.unsigned_abs().into())?])
}

/// The argument has this value.
fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    let length = SeccompCmpArgLen::Dword;
    SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value)
}

fn not_executable() -> Result<SeccompRule, BackendError> {
    let execute = u64::from(libc::PROT_EXEC.unsigned_abs());
    let without = SeccompCmpOp::MaskedEq(execute);
    SeccompRule::new(vec![SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        without,
        0,
    )?])
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The filter hides it from the worker's tests; on a thread of its own it stands alone.
    #[test]
    fn landlock_by_itself_takes_files_and_network() {
        let restricted = std::thread::spawn(|| {
            if let Protection::Off { why } = restrict_files_and_network() {
                return Err(why);
            }
            let file = std::env::temp_dir().join("crashferry-landlock");
            Ok([
                std::fs::read("/etc/passwd").map(drop),
                std::fs::read_dir("/").map(drop),
                std::fs::write(file, "x"),
                TcpListener::bind("127.0.0.1:0").map(drop),
                TcpStream::connect("127.0.0.1:9").map(drop),
            ])
        });
        match restricted.join().expect("does not panic") {
            Ok(tries) => {
                for tried in tries {
                    let error = tried.expect_err("is refused");
                    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                }
            }
            Err(why) => assert!(why.contains("expected Landlock"), "{why}"),
        }
    }
}
