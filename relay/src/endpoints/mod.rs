//! One file for each endpoint.

pub(crate) mod event;
pub(crate) mod minidump;
