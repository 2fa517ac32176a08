//! Who may read the files: this user alone, whatever the shell's umask. They hold other people's memory, and keys.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use shared::config::Config;
use shared::storage::Storage;

/// What of a mode lets others in.
const OTHERS: u32 = 0o077;

/// From now on every file that this process makes is 0600 and every directory 0700: spool, state with its journal, storage,
/// scratch files, sockets, and what the parser processes make.
pub(crate) fn make_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Warns of what was made before, by other hands or versions, and others may read.
pub(crate) fn warn_of_loose_files(config: &Config, storage: &Storage) {
    for (path, mode) in loose(&places(&config.data.dir, storage.directory())) {
        let path = path.display();
        tracing::warn!(
            %path,
            mode = %format_args!("{mode:04o}"),
            "others on this machine may read this: take the right from them with `chmod -R go= {path}`"
        );
    }
}

/// What of ours is in the data directory, and the storage where it is somewhere else.
fn places(data: &Path, storage: Option<&Path>) -> Vec<PathBuf> {
    const NAMES: [&str; 11] = [
        "",
        "processor-id",
        "scratch",
        "spool",
        "spool/incoming",
        "spool/lock",
        "spool/quarantine",
        "spool/ready",
        "state.db",
        "state.db-shm",
        "state.db-wal",
    ];
    let own = NAMES.iter().map(|name| data.join(name));
    own.chain(storage.map(Path::to_owned)).collect()
}

fn loose(places: &[PathBuf]) -> Vec<(&Path, u32)> {
    let mode = |path: &Path| -> io::Result<u32> { Ok(fs::metadata(path)?.permissions().mode()) };
    let modes = places
        .iter()
        .filter_map(|path| Some((path.as_path(), mode(path).ok()?)));
    modes
        .map(|(path, mode)| (path, mode & 0o7777))
        .filter(|(_, mode)| mode & OTHERS != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_read_is_named_and_what_is_not_there_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let put = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, "").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        };
        put("state.db", 0o644);
        put("state.db-wal", 0o600);
        put("processor-id", 0o620);
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir.path(), private).expect("a mode");
        let places = places(dir.path(), None);
        let found = loose(&places);
        let found: Vec<(String, u32)> = found
            .iter()
            .map(|(path, mode)| {
                let name = path.file_name().expect("a name");
                (name.to_string_lossy().into_owned(), *mode)
            })
            .collect();
        let expected = [
            ("processor-id".to_owned(), 0o620),
            ("state.db".to_owned(), 0o644),
        ];
        assert_eq!(found, expected);
    }
}
