//! Who this processor is to the cluster: the same after a restart, so that it takes over at once what it left.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use uuid::Uuid;

/// The name that the group and the transaction coordinator know this processor by. It is kept in the data directory, and
/// belongs to one process at a time: a second one on the same directory gets a name for its lifetime only.
#[derive(Debug)]
pub(crate) struct ProcessorIdentity {
    id: Uuid,
    /// Held open for its lock; `None` for a passing name.
    _file: Option<File>,
}

impl ProcessorIdentity {
    /// The identity kept in `dir`, made when there is none.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let options = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("processor-id"));
        let mut file = options?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Ok(Self {
                    id: Uuid::new_v4(),
                    _file: None,
                });
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let id = match text.trim().parse() {
            Ok(id) => id,
            Err(_) => {
                let id = Uuid::new_v4();
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{id}")?;
                file.sync_all()?;
                id
            }
        };
        Ok(Self {
            id,
            _file: Some(file),
        })
    }

    /// The name within `group`.
    pub(crate) fn name(&self, group: &str) -> String {
        format!("{group}-{}", self.id.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_keeps_the_name_and_a_second_process_gets_another() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = ProcessorIdentity::of(dir.path()).expect("made");
        let second = ProcessorIdentity::of(dir.path()).expect("made");
        assert_ne!(first.name("g"), second.name("g"));
        let name = first.name("g");
        drop((first, second));
        assert_eq!(
            ProcessorIdentity::of(dir.path()).expect("kept").name("g"),
            name
        );
    }
}
