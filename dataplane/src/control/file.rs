//! The daemon's configuration file, which may be on a file system that hangs.
//!
//! # Threading
//! It is read and written in a thread of its own, at most one at a time. Whoever waits for that
//! thread holds no lock, gives up after a while, and at once when the daemon stops. A thread that
//! hangs stays behind, alone: until it is done, nobody else's begins.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::protocol::{Error, ErrorCode};

/// How long reading or writing the file may take, with the wait for whoever came before.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The file, and whose turn it is.
#[derive(Debug)]
pub(super) struct OwnFile {
    path: Arc<Path>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    /// Somebody's turn it is.
    taken: bool,
    stopping: bool,
}

impl State {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read or write the file, and what must be in the order of that: to use what was
/// read. Shared with the thread that does it, so that it ends when both have.
#[derive(Debug)]
pub(super) struct Turn(Arc<State>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.now().taken = false;
        self.0.changed.notify_all();
    }
}

impl OwnFile {
    pub(super) fn new(path: PathBuf) -> OwnFile {
        OwnFile { path: path.into(), state: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody waits for the file any more.
    pub(super) fn stop(&self) {
        self.state.now().stopping = true;
        self.state.changed.notify_all();
    }

    /// Waits for one's turn.
    pub(super) fn turn(&self, patience: Duration) -> Result<Arc<Turn>, Error> {
        let until = Instant::now() + patience;
        let mut now = self.state.now();
        while now.taken || now.stopping {
            now = self.wait(now, until, "is still being read or written for another request")?;
        }
        now.taken = true;
        Ok(Arc::new(Turn(Arc::clone(&self.state))))
    }

    /// Does `job` with the path, in a thread of its own, and waits for that.
    pub(super) fn run<T: Send + 'static>(
        &self,
        turn: &Arc<Turn>,
        patience: Duration,
        job: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let until = Instant::now() + patience;
        let outcome = Arc::new(Mutex::new(None));
        let thread = {
            let (path, turn) = (Arc::clone(&self.path), Arc::clone(turn));
            let outcome = Arc::clone(&outcome);
            move || {
                let done = job(&path);
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                // Under the lock that waiters look under, lest one goes to sleep just now.
                drop(turn.0.now());
                turn.0.changed.notify_all();
            }
        };
        std::thread::Builder::new().name("config-file".to_owned()).spawn(thread).map_err(
            |error| self.error(ErrorCode::Internal, format_args!("needs a thread: {error}")),
        )?;
        let mut now = self.state.now();
        loop {
            let done = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(done) = done {
                return Ok(done);
            }
            now = self.wait(now, until, "has not been read or written in time")?;
        }
    }

    fn wait<'n>(
        &self,
        now: MutexGuard<'n, Now>,
        until: Instant,
        what: &str,
    ) -> Result<MutexGuard<'n, Now>, Error> {
        if now.stopping {
            return Err(self.error(ErrorCode::Busy, "is not waited for, as shuntd is stopping"));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let why = "does its file system hang? What was begun may still be done";
            return Err(self.error(ErrorCode::Busy, format_args!("{what}; {why}")));
        }
        let waited = self.state.changed.wait_timeout(now, left);
        Ok(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn error(&self, code: ErrorCode, what: impl fmt::Display) -> Error {
        Error::new(code, format_args!("{}: the file {what}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    /// A file whose reading ends when the sender says so, or is gone.
    fn hangs(file: &OwnFile) -> (std::sync::mpsc::Sender<()>, Result<bool, Error>) {
        let (sender, hang) = channel();
        let turn = file.turn(LONG).unwrap();
        (sender, file.run(&turn, SOON, move |_| hang.recv().is_ok()))
    }

    #[test]
    fn whoever_hangs_is_given_up_and_nobody_hangs_beside_it() {
        let file = OwnFile::new("/etc/shunt/shunt.toml".into());
        let (sender, outcome) = hangs(&file);
        let error = outcome.unwrap_err();
        assert_eq!(error.code, ErrorCode::Busy);
        assert!(error.message.contains("does its file system hang?"), "{}", error.message);
        let error = file.turn(SOON).unwrap_err();
        assert!(error.message.contains("for another request"), "{}", error.message);
        // Once it is done, the next one is served.
        sender.send(()).unwrap();
        let turn = file.turn(LONG).unwrap();
        assert_eq!(file.run(&turn, LONG, Path::to_owned).unwrap(), file.path());
    }

    #[test]
    fn a_turn_lasts_until_it_is_given_up() {
        let file = OwnFile::new("x".into());
        let turn = file.turn(LONG).unwrap();
        assert_eq!(file.run(&turn, LONG, |_| 1).unwrap(), 1);
        assert!(file.turn(SOON).is_err());
        drop(turn);
        assert!(file.turn(LONG).is_ok());
    }

    #[test]
    fn nobody_is_waited_for_when_the_daemon_stops() {
        let file = Arc::new(OwnFile::new("x".into()));
        let (_sender, hang) = channel::<()>();
        let waiting = {
            let file = Arc::clone(&file);
            std::thread::spawn(move || {
                let turn = file.turn(LONG)?;
                file.run(&turn, LONG, move |_| hang.recv().is_ok())
            })
        };
        file.stop();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(error.message.contains("shuntd is stopping"), "{}", error.message);
        assert!(file.turn(LONG).is_err());
    }
}
