//! The other end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::control::protocol::{Error, Request, VERSION};

/// How long the daemon may take to answer. It gives its workers a few seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the daemon.
pub(super) struct Client {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
    id: u64,
}

impl Client {
    /// Connects; the failure says what to do next.
    pub(super) fn connect(socket: &Path) -> Result<Client, Failure> {
        let stream = UnixStream::connect(socket).map_err(|error| cannot_connect(socket, &error))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream), socket: socket.to_owned(), id: 0 })
    }

    /// Sends a request and returns the `ok` of its answer.
    pub(super) fn call(&mut self, request: &Request) -> Result<Value, Failure> {
        self.ask(request)?.map_err(|error| Failure::Refused(error.message))
    }

    /// Sends a request and returns its answer; the failure is that there is none.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Result<Value, Error>, Failure> {
        self.id += 1;
        let mut line = json!({"v": VERSION, "id": self.id});
        let body = serde_json::to_value(request).map_err(|e| self.broken(&e))?;
        if let (Value::Object(line), Value::Object(body)) = (&mut line, body) {
            line.extend(body);
        }
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        match self.stream.get_mut().write_all(&bytes) {
            // The daemon may have answered and closed before it read all.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.map_err(|e| self.broken(&e))?,
        }
        let mut answer = Vec::new();
        self.stream.read_until(b'\n', &mut answer).map_err(|e| self.broken(&e))?;
        if answer.is_empty() {
            return Err(self.broken(&"it closed the connection"));
        }
        let mut answer: Value = serde_json::from_slice(&answer).map_err(|e| self.broken(&e))?;
        if let Some(error) = answer.get_mut("error") {
            let error: Error = serde_json::from_value(error.take()).map_err(|e| self.broken(&e))?;
            return Ok(Err(error));
        }
        match answer.get_mut("ok") {
            Some(ok) => Ok(Ok(ok.take())),
            None => Err(self.broken(&"the answer has neither ok nor error")),
        }
    }

    /// As [`Client::call`], with the answer's type.
    pub(super) fn call_for<T: DeserializeOwned>(
        &mut self,
        request: &Request,
    ) -> Result<T, Failure> {
        let ok = self.call(request)?;
        typed(ok)
    }

    fn broken(&self, reason: &dyn std::fmt::Display) -> Failure {
        Failure::Refused(format!("no answer from shuntd on {}: {reason}", self.socket.display()))
    }
}

/// An answer as its type.
pub(super) fn typed<T: DeserializeOwned>(ok: Value) -> Result<T, Failure> {
    serde_json::from_value(ok).map_err(|error| {
        Failure::Refused(format!(
            "the daemon's answer is not understood ({error}); compare `shunt version`"
        ))
    })
}

fn cannot_connect(socket: &Path, error: &io::Error) -> Failure {
    let path = socket.display();
    Failure::Refused(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no shuntd answers on {path}\n\
             start it (`systemctl start shuntd`, or `shuntd --config /etc/shunt/shunt.toml`), or\n\
             name its socket with --socket PATH or the environment variable SHUNT_SOCKET"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "no permission to use {path}\n\
             run this as root, or as a member of the group in control.group of the daemon's\n\
             configuration (`ls -l {path}` shows it)"
        ),
        _ => format!("cannot connect to {path}: {error}"),
    })
}
