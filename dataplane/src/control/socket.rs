//! The control socket's place in the file system: taken before anything else is started.
//!
//! A daemon takes the lock beside the socket, and then binds the socket with its final mode and
//! group; it listens only once there is somebody to answer. So of two daemons that start at once
//! one gives up before it has touched a device, and no thread needs a right to change files later.
//!
//! # Whose directory
//! The directory must be one that only root and this user may write. Then nobody else can put a
//! link, or a file of a third party, in the place of a name that is looked up here, and what lies
//! there after a bind is what was bound. Names are looked up in the directory that was checked,
//! by its descriptor.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket,
};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, stat, umask};
use nix::unistd::{Gid, UnlinkatFlags, fchownat, geteuid, unlinkat};

use super::peer::Access;
use super::server::{ServerError, ServerSettings};

/// Who may use the socket, as the file system has it; [`Access`] has the last word.
const MODE: Mode = Mode::from_bits_truncate(0o660);

/// A socket that is this daemon's: locked, bound, with its mode and group. Nobody can connect
/// before it is served. Dropping it takes it away.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    place: Place,
    /// Device and inode of the socket file: what is there later may be another's.
    file: (u64, u64),
    pub(super) access: Access,
    lock: Lock,
}

/// Keeps other daemons from the socket, until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Lock {
    _file: Arc<Flock<File>>,
}

impl Socket {
    /// Takes the socket: creates its directory, locks it against other daemons, removes what a
    /// dead one has left, and binds. To be called before anything is started that another daemon
    /// may be doing already, and best while there is one thread: for a moment it sets the umask.
    pub fn open(settings: &ServerSettings) -> Result<Socket, ServerError> {
        // The umask is the whole process's: another one that opens must not make its directory
        // under it.
        static UMASK: Mutex<()> = Mutex::new(());
        let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
        let path = settings.socket.as_path();
        let access =
            Access::new(settings.group.as_deref()).map_err(failed(path, "use its group"))?;
        let place = Place::open(path)?;
        let lock = place.lock()?;
        if place.has_dead_socket()? {
            log::info!("removing the control socket {} of a dead shuntd", path.display());
            place.remove().map_err(failed(path, "remove the old socket"))?;
        }
        let (descriptor, file) = place.bind(access.gid())?;
        Ok(Socket { descriptor, place, file, access, lock })
    }

    /// What keeps other daemons away. To be held until all has ended that another may not do
    /// beside this one.
    pub fn lock(&self) -> Lock {
        self.lock.clone()
    }

    /// From now on clients may connect.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        listen(&self.descriptor, Backlog::MAXCONN)?;
        Ok(UnixListener::from(self.descriptor.try_clone()?))
    }

    /// Takes the socket file away, if it is this one's still.
    pub(super) fn remove(&self) {
        if self.place.stat().is_ok_and(|found| identity(&found) == self.file) {
            let _ = self.place.remove();
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.remove();
    }
}

pub(super) fn failed<E: Into<io::Error>>(
    path: &Path,
    what: &'static str,
) -> impl FnOnce(E) -> ServerError {
    let path = path.to_owned();
    move |error| ServerError::Io { path, what, error: error.into() }
}

fn identity(file: &FileStat) -> (u64, u64) {
    (file.st_dev, file.st_ino)
}

/// The process that holds a lock, as it has written. It may be about to.
fn holder(mut file: File) -> Option<u32> {
    for _ in 0..50 {
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
        if let Ok(pid) = text.trim().parse() {
            return Some(pid);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// A name in a directory that strangers cannot write.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    directory: OwnedFd,
    name: PathBuf,
}

impl Place {
    fn open(path: &Path) -> Result<Place, ServerError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(failed(path, "create its directory"))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory =
            open(parent, flags, Mode::empty()).map_err(failed(path, "open its directory"))?;
        let found = fstat(&directory).map_err(failed(path, "look at its directory"))?;
        let mode = found.st_mode & 0o7777;
        let owner = found.st_uid;
        if mode & 0o022 != 0 || (owner != 0 && owner != geteuid().as_raw()) {
            let directory = parent.to_owned();
            return Err(ServerError::OpenDirectory {
                path: path.to_owned(),
                directory,
                owner,
                mode,
            });
        }
        Ok(Place { path: path.to_owned(), directory, name })
    }

    /// Locks a file beside the socket, and writes the process's number into it. The file stays:
    /// two daemons may hold two locks on one name if it is ever removed. Only its owner may open it,
    /// for who can read a file can lock it, and would keep the daemon from starting.
    fn lock(&self) -> Result<Lock, ServerError> {
        let mut name = self.name.clone().into_os_string();
        name.push(".lock");
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(&self.directory, name.as_os_str(), flags, mode)
            .map_err(failed(&self.path, "open the lock beside it"))?;
        fchmod(&file, mode).map_err(failed(&self.path, "set the mode of the lock beside it"))?;
        match Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let written = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                written.map_err(failed(&self.path, "write the lock beside it"))?;
                Ok(Lock { _file: Arc::new(file) })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(ServerError::InUse { path: self.path.clone(), pid: holder(file) })
            }
            Err((_, error)) => Err(failed(&self.path, "lock the file beside it")(error)),
        }
    }

    fn stat(&self) -> nix::Result<FileStat> {
        fstatat(&self.directory, &self.name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn remove(&self) -> nix::Result<()> {
        unlinkat(&self.directory, &self.name, UnlinkatFlags::NoRemoveDir)
    }

    /// Whether a socket is there that nobody answers on. One that somebody does, without a lock,
    /// or something else, is an error.
    fn has_dead_socket(&self) -> Result<bool, ServerError> {
        let path = &self.path;
        let found = match self.stat() {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(false),
            Err(error) => return Err(failed(path, "look at what is there")(error)),
        };
        if found.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFSOCK.bits() {
            return Err(ServerError::NotASocket(path.clone()));
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(failed(path, "make it"))?;
        let in_use = |pid| Err(ServerError::InUse { path: path.clone(), pid });
        match connect(probe.as_raw_fd(), &self.address()?) {
            Err(Errno::ECONNREFUSED) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            // Whoever listens takes no connection now. It is not waited for: it may hang.
            Err(Errno::EAGAIN) => in_use(None),
            Err(error) => Err(failed(path, "tell whether another shuntd uses it")(error)),
            Ok(()) => {
                let peer = getsockopt(&probe, PeerCredentials).ok();
                in_use(peer.and_then(|peer| u32::try_from(peer.pid()).ok()).filter(|p| *p != 0))
            }
        }
    }

    fn address(&self) -> Result<UnixAddr, ServerError> {
        UnixAddr::new(self.path.as_os_str().as_bytes()).map_err(failed(&self.path, "use its path"))
    }

    /// Binds a socket that has its mode from the first moment, and gives it to the group.
    fn bind(&self, group: Option<Gid>) -> Result<(OwnedFd, (u64, u64)), ServerError> {
        let path = &self.path;
        let kind = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
        let made =
            socket(AddressFamily::Unix, kind.0, kind.1, None).map_err(failed(path, "make it"))?;
        let address = self.address()?;
        // Linux gives the file the mode of the unbound socket, less the umask.
        fchmod(&made, MODE).map_err(failed(path, "set its mode"))?;
        let before = umask(Mode::S_IRWXO);
        let bound = bind(made.as_raw_fd(), &address);
        umask(before);
        bound.map_err(failed(path, "bind it"))?;
        // The path led to the directory that was checked, unless somebody moves its parents about.
        let here = self.stat().map_err(failed(path, "find it in its directory"))?;
        let there = stat(path).map_err(failed(path, "find it by its path"))?;
        if identity(&here) != identity(&there) {
            let error = io::Error::other("its directory was replaced meanwhile");
            return Err(failed(path, "bind it")(error));
        }
        fchownat(&self.directory, &self.name, None, group, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(failed(path, "give it to its group"))?;
        Ok((made, identity(&here)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::config::Control;

    fn settings(socket: &Path) -> ServerSettings {
        ServerSettings::new(&Control { socket: socket.to_owned(), group: None })
    }

    #[test]
    fn the_socket_has_its_mode_from_the_start_and_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        let socket = Socket::open(&settings(&path)).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o660);
        let refused = UnixStream::connect(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "not yet");
        let _listener = socket.listen().unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn nobody_else_can_hold_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (path, lock) = (dir.path().join("control.sock"), dir.path().join("control.sock.lock"));
        let mode = || fs::metadata(&lock).unwrap().mode() & 0o7777;
        drop(Socket::open(&settings(&path)).unwrap());
        assert_eq!(mode(), 0o600, "who can read it can lock it");
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
        drop(Socket::open(&settings(&path)).unwrap());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn the_second_is_told_who_the_first_is_for_as_long_as_the_lock_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let first = Socket::open(&settings(&path)).unwrap();
        let lock = first.lock();
        let me = std::process::id();
        let error = Socket::open(&settings(&path)).unwrap_err();
        assert!(error.to_string().contains(&format!("another shuntd (pid {me})")), "{error}");
        assert!(path.exists(), "the first one's socket stays");
        drop(first);
        assert!(Socket::open(&settings(&path)).is_err(), "the first one has not ended yet");
        drop(lock);
        Socket::open(&settings(&path)).unwrap();
    }

    #[test]
    fn one_that_listens_and_answers_nobody_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let hung = Place::open(&path).unwrap().bind(None).unwrap().0;
        listen(&hung, Backlog::new(0).unwrap()).unwrap();
        // Its queue is full with this one.
        let _waiting = UnixStream::connect(&path).unwrap();
        let error = Socket::open(&settings(&path)).unwrap_err().to_string();
        assert!(error.contains("another shuntd has the control socket"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused_whoever_owns_it() {
        let dir = tempfile::tempdir().unwrap();
        let public = dir.path().join("public");
        fs::create_dir(&public).unwrap();
        for mode in [0o777, 0o1777, 0o775, 0o757] {
            fs::set_permissions(&public, fs::Permissions::from_mode(mode)).unwrap();
            let error = Socket::open(&settings(&public.join("control.sock"))).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("mode {mode:04o}")), "{text}");
            // Nobody shall take /tmp from all others.
            assert_eq!(text.contains("chmod go-w"), mode & 0o1000 == 0, "{text}");
            assert_eq!(fs::read_dir(&public).unwrap().count(), 0, "nothing was created");
        }
        // Its own directory below is created, and is good.
        Socket::open(&settings(&public.join("shunt/control.sock"))).unwrap();
        if geteuid().is_root() {
            fs::set_permissions(&public, fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(&public, Some(4242), None).unwrap();
            let error = Socket::open(&settings(&public.join("control.sock"))).unwrap_err();
            assert!(error.to_string().contains("uid 4242"), "{error}");
        }
    }

    #[test]
    fn a_link_in_place_of_the_socket_or_its_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("control.sock"), dir.path().join("victim"));
        fs::write(&victim, "theirs").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o604)).unwrap();
        for name in ["control.sock", "control.sock.lock"] {
            let link = dir.path().join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(&victim, &link).unwrap();
            Socket::open(&settings(&path)).unwrap_err();
            assert_eq!(fs::read(&victim).unwrap(), b"theirs");
            assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o7777, 0o604);
            fs::remove_file(&link).unwrap();
        }
    }
}
