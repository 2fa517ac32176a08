//! One file for each endpoint.

pub(crate) mod attachments;
pub(crate) mod envelope;
pub(crate) mod event;
pub(crate) mod health;
pub(crate) mod minidump;
pub(crate) mod nowhere;
pub(crate) mod resumable;
pub(crate) mod submit;
pub(crate) mod unreal;
