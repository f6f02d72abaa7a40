//! Opens files for reading.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The flags of `open` for a path that may name a FIFO or a terminal.
pub(crate) const NONBLOCKING: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();

/// What a path may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    /// Also a pipe, as of a shell's process substitution. Opening and reading it may block.
    Any,
    /// Only a regular file. Neither opening nor reading it blocks, except on a dead mount.
    RegularFile,
}

/// Opens the file for reading.
///
/// # Errors
/// The operating system's error. `InvalidInput` if it is a kind of file that is not accepted.
pub(crate) fn open(path: &Path, accept: Accept) -> io::Result<File> {
    if accept == Accept::Any {
        return File::open(path);
    }
    // Opening a device or a FIFO may have an effect on it or on its writer, so look first.
    check(&fs::metadata(path)?)?;
    // Another file may have taken its place.
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCKING).open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(metadata: &Metadata) -> io::Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn opens_only_a_regular_file_and_never_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "x").unwrap();
        symlink(path("file"), path("link")).unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlink("/dev/ptmx", path("terminal")).unwrap();
        symlink(path("missing"), path("dangling")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        for (name, expected) in [
            ("file", None),
            ("link", None),
            ("fifo", Some(io::ErrorKind::InvalidInput)),
            ("terminal", Some(io::ErrorKind::InvalidInput)),
            ("socket", Some(io::ErrorKind::InvalidInput)),
            ("directory", Some(io::ErrorKind::InvalidInput)),
            ("dangling", Some(io::ErrorKind::NotFound)),
        ] {
            let opened = open(&path(name), Accept::RegularFile);
            assert_eq!(opened.err().map(|error| error.kind()), expected, "{name}");
        }
    }
}
