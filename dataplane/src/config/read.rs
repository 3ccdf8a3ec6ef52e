//! Reading a file that may be anything: a pipe, a device, or endless.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Longest configuration file read, in bytes: 64 MiB, some 700,000 real servers.
pub const MAX_FILE: u64 = 64 << 20;

/// The text of a regular file of at most [`MAX_FILE`] bytes. Anything else is an error and is not
/// waited for: a named pipe without a writer would block whoever opens it, and a device may do
/// anything. A file system that hangs still hangs the caller.
pub fn regular(path: &Path) -> io::Result<String> {
    // Looked at before it is opened, for opening a device may do something.
    refuse_irregular(fs::metadata(path)?.file_type())?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)?;
    // It may be another file by now.
    let metadata = file.metadata()?;
    refuse_irregular(metadata.file_type())?;
    if metadata.len() > MAX_FILE {
        return Err(too_long());
    }
    bounded(file)
}

/// The text of whatever a user names on a command line, a pipe of the shell's too, of at most
/// [`MAX_FILE`] bytes.
pub fn any(path: &Path) -> io::Result<String> {
    bounded(File::open(path)?)
}

/// All of `from`, of at most [`MAX_FILE`] bytes.
pub fn bounded(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    if from.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
        return Err(too_long());
    }
    Ok(text)
}

/// An error unless it is a regular file.
pub(super) fn refuse_irregular(found: FileType) -> io::Result<()> {
    let found = match found {
        found if found.is_file() => return Ok(()),
        found if found.is_dir() => "a directory",
        found if found.is_fifo() => "a named pipe",
        found if found.is_socket() => "a socket",
        _ => "a device",
    };
    let message = format!("it is {found}, expected a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn too_long() -> io::Error {
    let message = format!("it is longer than the {} MiB allowed", MAX_FILE >> 20);
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        regular(path).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let pipe = path("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink(&pipe, path("link")).unwrap();
        let expected = "expected a regular file";
        assert_eq!(refusal(&pipe), format!("it is a named pipe, {expected}"));
        assert_eq!(refusal(&path("link")), format!("it is a named pipe, {expected}"));
        assert_eq!(refusal(&path("socket")), format!("it is a socket, {expected}"));
        assert_eq!(refusal(directory.path()), format!("it is a directory, {expected}"));
        assert_eq!(refusal(Path::new("/dev/zero")), format!("it is a device, {expected}"));
        std::fs::write(path("plain"), "text").unwrap();
        std::os::unix::fs::symlink(path("plain"), path("good-link")).unwrap();
        assert_eq!(regular(&path("good-link")).unwrap(), "text");
    }

    #[test]
    fn no_more_is_read_than_is_allowed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_FILE).unwrap();
        assert_eq!(regular(file.path()).unwrap().len() as u64, MAX_FILE);
        file.as_file().set_len(MAX_FILE + 1).unwrap();
        assert_eq!(refusal(file.path()), "it is longer than the 64 MiB allowed");
        let endless = any(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(endless.to_string(), "it is longer than the 64 MiB allowed");
    }
}
