//! What keeps a parser process from doing anything but parse: limits everywhere; on Linux Landlock and a filter of
//! system calls besides. What it has not been forbidden by one of them, the others forbid.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
mod linux;

/// The kernel's measure for whom to kill first when memory is short: the highest there is.
#[cfg(target_os = "linux")]
const OUT_OF_MEMORY_SCORE: (&str, &str) = ("/proc/self/oom_score_adj", "1000");

/// Which of the protections besides the limits a parser process has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Landlock: no file can be opened, no TCP connection made, no foreign process signalled.
    pub landlock: Protection,
    /// A seccomp filter: no file, no socket, no process, no memory to execute.
    pub system_calls: Protection,
    /// It has no capabilities, whatever its parent has.
    pub capabilities: Protection,
}

/// Whether a protection is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// It is.
    On,
    /// The system has not got it, or not all of it.
    Off {
        /// What was expected and what was found.
        why: String,
    },
}

impl Confinement {
    /// Each protection by its name.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Protection); 3] {
        [
            ("landlock", &self.landlock),
            ("system_calls", &self.system_calls),
            ("capabilities", &self.capabilities),
        ]
    }
}

/// First of all: closes what the parent may have left open by mistake, all but the three standard descriptors.
pub(super) fn close_inherited() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    linux::close_inherited()?;
    Ok(())
}

/// What is in force before the system calls are filtered.
pub(super) struct Early {
    pub(super) landlock: Protection,
    pub(super) capabilities: Protection,
}

/// Before any thread is started: bounds what this process may take, and takes files, network and privileges from it.
pub(super) fn before_threads(memory_bytes_max: u64) -> io::Result<Early> {
    limit(Resource::As, memory_bytes_max)?;
    limit(Resource::Core, 0)?;
    // Not where that cannot be said: then the kernel chooses by size, which may be the processor.
    #[cfg(target_os = "linux")]
    drop(std::fs::write(OUT_OF_MEMORY_SCORE.0, OUT_OF_MEMORY_SCORE.1));
    limit(Resource::Fsize, 0)?;
    #[cfg(target_os = "linux")]
    return Ok(Early {
        landlock: linux::restrict_files_and_network(),
        capabilities: linux::drop_capabilities(),
    });
    #[cfg(not(target_os = "linux"))]
    Ok(Early {
        landlock: not_linux(),
        capabilities: not_linux(),
    })
}

/// After all threads and files are there: no more of either, and for every thread only the system calls that parsing
/// needs. Of descriptors it can read the standard input and write `outputs`.
pub(super) fn after_threads(outputs: [RawFd; 3]) -> io::Result<Protection> {
    limit(Resource::Nofile, 0)?;
    limit(Resource::Nproc, 0)?;
    #[cfg(target_os = "linux")]
    return Ok(linux::filter_system_calls(outputs));
    #[cfg(not(target_os = "linux"))]
    {
        let _ = outputs;
        Ok(not_linux())
    }
}

/// From here on this process may use the processor for `time` more, in whole seconds, plus one. The system ends it then
/// (SIGXCPU): where the parent is too starved, or stopped, to look at its clock.
pub(super) fn limit_processor_time(time: Duration) -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let most = used
        .saturating_add(time.as_secs())
        .saturating_add(u64::from(time.subsec_nanos() > 0))
        .saturating_add(1);
    let hard = getrlimit(Resource::Cpu).maximum;
    let limit = Rlimit {
        current: Some(hard.map_or(most, |hard| most.min(hard))),
        maximum: hard,
    };
    Ok(setrlimit(Resource::Cpu, limit)?)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}

#[cfg(not(target_os = "linux"))]
fn not_linux() -> Protection {
    Protection::Off {
        why: format!("expected Linux, found {}", std::env::consts::OS),
    }
}
