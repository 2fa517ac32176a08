//! The copies of one event's upload in a spool that another process may have: found by their names.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::SpoolError;
use crate::id::EventId;

/// A file in a spool that is one event's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolCopy {
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// Set aside as damaged, together with its reason: nobody will take it any more. Otherwise it waits for its turn.
    pub is_quarantined: bool,
}

impl SpoolCopy {
    /// Removes a copy that was set aside. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Io`]
    pub fn remove(&self) -> Result<(), SpoolError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(SpoolError::io("removing", &self.path)),
        }
    }
}

/// The files of an event in the spool of the data directory `data`, if there is one. Blocks on the disk.
///
/// # Errors
/// [`SpoolError::Io`]
pub fn copies_of(data: &Path, event: EventId) -> Result<Vec<SpoolCopy>, SpoolError> {
    let mut copies = Vec::new();
    // As `entry_name` has it, in a reason's name as well.
    let name_part = format!("-{event}.upload");
    for (place, is_quarantined) in [("ready", false), ("quarantine", true)] {
        let dir = data.join("spool").join(place);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(SpoolError::io("listing", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(SpoolError::io("listing", &dir))?;
            if !entry.file_name().to_string_lossy().contains(&name_part) {
                continue;
            }
            let path = entry.path();
            let bytes = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                found => found.map_err(SpoolError::io("looking at", &path))?.len(),
            };
            copies.push(SpoolCopy {
                path,
                bytes,
                is_quarantined,
            });
        }
    }
    Ok(copies)
}
