//! The control socket: accepts connections and answers their requests.
//!
//! # Threading
//! One thread accepts, and each connection has its own; there are at most
//! [`ServerSettings::connections`]. None of them ever makes a worker wait.
//!
//! # Limits
//! A line has a length and a time, a silent connection is closed, an answer that is not read in
//! time is given up. A request that makes no sense is answered with an error and the connection
//! goes on.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::codec;
use super::controller::Controller;
use super::lines::{Line, LineLimits, LineReader};
use super::peer::{Peer, Shares};
use super::protocol::{Answer, Error, ErrorCode};
use super::socket::{Socket, failed};
use crate::config::Control;
use crate::vocabulary::clip;

/// Longest error of a request that is logged, in bytes.
const MAX_LOGGED: usize = 500;

/// Where the socket is, who may use it, and what a client is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Group whose members may use it, beside root and the daemon's own user.
    pub group: Option<String>,
    /// Most connections at once; one more is told `busy`. An eighth is kept for root, and no
    /// other user has more than a quarter.
    pub connections: usize,
    /// Longest line in bytes. `config.apply` carries a whole file.
    pub line_bytes: usize,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// How long a line may take from its first byte to its end.
    pub line: Duration,
    /// How long a client may take to read one answer.
    pub answer: Duration,
}

impl ServerSettings {
    /// The usual limits for a socket as configured.
    pub fn new(control: &Control) -> ServerSettings {
        ServerSettings {
            socket: control.socket.clone(),
            group: control.group.clone(),
            connections: 64,
            line_bytes: 8 << 20,
            idle: Duration::from_secs(60),
            line: Duration::from_secs(10),
            answer: Duration::from_secs(30),
        }
    }
}

/// Why the control socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another process has it.
    #[error(
        "another shuntd{} has the control socket {}; stop it, or set control.socket to another \
         path",
        .pid.map_or_else(String::new, |pid| format!(" (pid {pid})")), path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The other process, if it is known.
        pid: Option<u32>,
    },
    /// Strangers may put a file in the place of the socket.
    #[error(
        "control socket {}: its directory {} may be written by others (uid {owner}, mode \
         {mode:04o}), who could put something else in its place; set control.socket to a path in \
         a directory of its own, such as {}, which is created{}",
        path.display(), directory.display(), directory.join("shunt/control.sock").display(),
        // One with the sticky bit is everybody's, and is to stay so.
        if mode & 0o1000 == 0 { ", or let only root write there (chown root, chmod go-w)" } else { "" }
    )]
    OpenDirectory {
        /// The socket.
        path: PathBuf,
        /// Where it lies.
        directory: PathBuf,
        /// The directory's owner.
        owner: u32,
        /// The directory's mode.
        mode: u32,
    },
    /// Something else lies there.
    #[error("{} exists and is no socket; remove it, or change control.socket", .0.display())]
    NotASocket(PathBuf),
    /// A step failed.
    #[error("control socket {}: cannot {what}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Which step.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// A served control socket. Dropping it stops serving, as [`Server::shutdown`] does.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    listener: UnixListener,
    socket: Socket,
    settings: ServerSettings,
    controller: Arc<Controller>,
    stopping: AtomicBool,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, (UnixStream, JoinHandle<()>)>,
    shares: Shares,
}

impl Server {
    /// Takes the socket and begins to answer.
    pub fn start(
        controller: Arc<Controller>,
        settings: ServerSettings,
    ) -> Result<Server, ServerError> {
        let socket = Socket::open(&settings)?;
        Server::serve(controller, settings, socket)
    }

    /// Begins to answer on a socket that was taken before.
    pub fn serve(
        controller: Arc<Controller>,
        settings: ServerSettings,
        socket: Socket,
    ) -> Result<Server, ServerError> {
        let shared = Shared {
            listener: socket.listen().map_err(failed(&settings.socket, "listen on it"))?,
            socket,
            settings,
            controller,
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
        };
        let shared = Arc::new(shared);
        let accepting = {
            let accepting = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("control".to_owned())
                .spawn(move || accepting.accept_all())
                .map_err(failed(&shared.settings.socket, "start its thread"))?
        };
        Ok(Server { shared, accepting: Some(accepting) })
    }

    /// Stops accepting, ends every connection once its request in progress is done, and removes
    /// the socket.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        let shared = &self.shared;
        shared.stopping.store(true, Ordering::SeqCst);
        shared.socket.remove();
        // Wakes the blocked accept.
        if let Err(error) = nix::sys::socket::shutdown(
            shared.listener.as_raw_fd(),
            nix::sys::socket::Shutdown::Both,
        ) {
            log::warn!("cannot stop listening on the control socket: {error}");
        }
        let _ = accepting.join();
        let open = std::mem::take(&mut shared.connections().open);
        for (stream, _) in open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for (_, thread) in open.into_values() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept_all(self: &Arc<Self>) {
        while !self.stopping.load(Ordering::SeqCst) {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream),
                Err(_) if self.stopping.load(Ordering::SeqCst) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of file descriptors, most likely: it passes, and must not spin.
                    log::warn!("control socket: cannot accept a connection: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// Gives the connection a thread, or refuses it.
    fn admit(self: &Arc<Self>, stream: UnixStream) {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                log::warn!("control socket: cannot tell who connects: {error}");
                return;
            }
        };
        let user = self.socket.access.user(peer);
        let mut connections = self.connections();
        if let Err(message) = connections.shares.take(user, self.settings.connections) {
            // A new socket's buffer has room for this line, so nobody waits here.
            self.answer(&stream, &Value::Null, &Err(Error::new(ErrorCode::Busy, message)));
            return;
        }
        let number = connections.next;
        connections.next += 1;
        let shared = Arc::clone(self);
        let started = stream.try_clone().and_then(|kept| {
            let thread =
                std::thread::Builder::new().name("control-conn".to_owned()).spawn(move || {
                    shared.serve(&stream, peer);
                    // Waits for `admit` to have stored it; dropping its handle detaches.
                    let mut connections = shared.connections();
                    connections.open.remove(&number);
                    connections.shares.give_back(user);
                })?;
            Ok((kept, thread))
        });
        match started {
            Ok(entry) => {
                connections.open.insert(number, entry);
            }
            Err(error) => {
                connections.shares.give_back(user);
                log::warn!("control socket: cannot serve a connection: {error}");
            }
        }
    }

    /// Answers one connection's requests until it ends.
    fn serve(&self, stream: &UnixStream, peer: Peer) {
        if let Err(refusal) = self.socket.access.check(peer) {
            log::warn!("control socket: {refusal}");
            self.answer(stream, &Value::Null, &Err(Error::new(ErrorCode::Permission, refusal)));
            return;
        }
        let limits = LineLimits {
            bytes: self.settings.line_bytes,
            idle: self.settings.idle,
            line: self.settings.line,
        };
        let mut reader = LineReader::new(stream, limits);
        while !self.stopping.load(Ordering::SeqCst) {
            match reader.next_line() {
                Line::Text(line) if line.trim_ascii().is_empty() => {}
                Line::Text(line) => {
                    if !self.request(stream, peer, &line) {
                        return;
                    }
                }
                Line::TooLong => {
                    let message = format!(
                        "the line is longer than the {} bytes allowed",
                        self.settings.line_bytes
                    );
                    let error = Error::new(ErrorCode::TooLarge, message);
                    if self.answer(stream, &Value::Null, &Err(error)) {
                        let _ = stream.shutdown(Shutdown::Write);
                        reader.drain();
                    }
                    return;
                }
                Line::Slow => {
                    let message = format!(
                        "the line was not finished within {} s",
                        self.settings.line.as_secs_f32()
                    );
                    let error = Error::new(ErrorCode::Invalid, message);
                    self.answer(stream, &Value::Null, &Err(error));
                    return;
                }
                Line::End => return,
            }
        }
    }

    /// Carries out one line; false when the answer could not be delivered.
    fn request(&self, stream: &UnixStream, peer: Peer, line: &[u8]) -> bool {
        let (id, request) = codec::decode(line);
        let result = request.and_then(|request| {
            let (op, change) = (request.op(), request.is_change());
            let result = self.controller.handle(request);
            match &result {
                Ok(_) if change => log::info!("{op} by uid {}: done", peer.uid),
                Err(error) if change => {
                    let error = clip(&error.to_string(), MAX_LOGGED);
                    log::info!("{op} by uid {}: {error}", peer.uid);
                }
                _ => {}
            }
            result
        });
        self.answer(stream, &id, &result)
    }

    fn answer(&self, stream: &UnixStream, id: &Value, result: &Result<Answer, Error>) -> bool {
        let writer = DeadlineWriter { stream, deadline: Instant::now() + self.settings.answer };
        codec::encode(id, result, BufWriter::with_capacity(64 << 10, writer)).is_ok()
    }
}

/// Writes until a deadline, however little the reader takes at a time.
struct DeadlineWriter<'s> {
    stream: &'s UnixStream,
    deadline: Instant,
}

impl Write for DeadlineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_write_timeout(Some(left))?;
        let mut stream = self.stream;
        stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
