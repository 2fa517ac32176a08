//! Bounds of what is read of a dump and told of it. Units last.

/// Threads kept: several times what a desktop program has at its worst.
pub(super) const THREADS_MAX: usize = 4096;
/// Modules kept: a browser has some three hundred, a large game under a thousand.
pub(super) const MODULES_MAX: usize = 4096;
/// Unloaded modules kept; Windows itself remembers 64.
pub(super) const UNLOADED_MODULES_MAX: usize = 4096;
/// Handles kept: a busy Windows program has some thousands.
pub(super) const HANDLES_MAX: usize = 16_384;
/// Links of one handle's chain of object information; Windows writes fewer than ten.
pub(super) const HANDLE_LINKS_MAX: usize = 16;
/// Memory regions kept of each list; Linux allows a process 65,530 mappings.
pub(super) const REGIONS_MAX: usize = 1 << 17;
/// Bytes of a name: of a module, thread, function, annotation, handle.
pub(super) const NAME_BYTES_MAX: usize = 1 << 10;
/// Bytes of any other text: an annotation's value, a source path, a line of a Linux file.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 10;
/// A `MINIDUMP_STRING` holds a `UNICODE_STRING`, whose length is a `u16`. A longer one that does not fit the dump is noise.
pub(super) const UTF16_BYTES_MAX: usize = 1 << 16;
/// Bytes of a module's CodeView record: the largest fixed part and a path.
pub(super) const DEBUG_RECORD_BYTES_MAX: usize = 24 + NAME_BYTES_MAX;
/// Annotations read of one dump, whatever becomes of them: dictionaries may share their entries.
pub(super) const ANNOTATIONS_READ_MAX: usize = 1 << 14;
/// Bytes of all annotations of a dump.
pub(super) const ANNOTATION_BYTES_MAX: usize = 1 << 20;
/// Bytes of a text file of Linux in a dump, such as `/proc/cpuinfo`.
pub(super) const LINUX_FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of `/proc/PID/maps` in a dump: 65,530 mappings with paths.
pub(super) const LINUX_MAPS_BYTES_MAX: usize = 16 << 20;
/// Bytes of the dump writer's own list of errors, which is JSON.
pub(super) const SOFT_ERRORS_BYTES_MAX: usize = 64 << 10;
/// Bytes of the names of unloaded modules told of all frames.
pub(super) const FRAME_UNLOADED_BYTES_MAX: usize = 8 << 20;
/// Bytes of all that is told of a dump, as JSON: the details and rust-minidump's own JSON together. A report has 16 MiB;
/// what the client said takes one of them.
pub(super) const TOLD_BYTES_MAX: usize = 15 << 20;
/// Warnings about one dump.
pub(super) const WARNINGS_MAX: usize = 64;
