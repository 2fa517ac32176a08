//! The process's limit of open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::DESCRIPTORS_WANTED;

/// Raises the soft limit as far as it is of use and the hard one allows, and says what it is then. Distributions keep
/// the soft one at 1024 for the sake of programs that use `select`.
pub(crate) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let soft = limit.current.unwrap_or(u64::MAX);
    let wanted = hard.min(DESCRIPTORS_WANTED);
    if soft >= wanted {
        return soft;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, soft, "the limit of open files could not be raised");
            soft
        }
    }
}
