//! Reading lines from a client that may be slow, silent, or endless.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a client is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineLimits {
    /// Longest line in bytes, without its end.
    pub(super) bytes: usize,
    /// How long it may be silent between lines.
    pub(super) idle: Duration,
    /// How long a line may take from its first byte to its end.
    pub(super) line: Duration,
}

/// How reading a line ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end. The last one may lack a newline.
    Text(Vec<u8>),
    /// The line is longer than allowed; the rest of it is still to come.
    TooLong,
    /// It was begun and not finished in time.
    Slow,
    /// The client closed, or was silent for too long.
    End,
}

const CHUNK: usize = 64 << 10;

/// Reads line by line; holds at most one line and one chunk.
pub(super) struct LineReader<'s> {
    stream: &'s UnixStream,
    limits: LineLimits,
    buffer: Vec<u8>,
}

impl<'s> LineReader<'s> {
    pub(super) fn new(stream: &'s UnixStream, limits: LineLimits) -> LineReader<'s> {
        LineReader { stream, limits, buffer: Vec::new() }
    }

    /// The next line. An error of the stream is its end.
    pub(super) fn next_line(&mut self) -> Line {
        let mut searched = 0;
        let mut deadline = None;
        let idle_until = Instant::now() + self.limits.idle;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return if line.len() > self.limits.bytes {
                    Line::TooLong
                } else {
                    Line::Text(line)
                };
            }
            searched = self.buffer.len();
            if searched > self.limits.bytes {
                self.buffer = Vec::new();
                return Line::TooLong;
            }
            if searched > 0 && deadline.is_none() {
                deadline = Some(Instant::now() + self.limits.line);
            }
            match self.fill(deadline.unwrap_or(idle_until)) {
                Ok(0) if self.buffer.is_empty() => return Line::End,
                Ok(0) => return Line::Text(std::mem::take(&mut self.buffer)),
                Ok(_) => {}
                Err(e) if is_timeout(&e) && !self.buffer.is_empty() => return Line::Slow,
                Err(_) => return Line::End,
            }
        }
    }

    /// Reads and forgets what the client still sends, until it stops or the line time is over,
    /// so that it gets to read its answer.
    pub(super) fn drain(&mut self) {
        let deadline = Instant::now() + self.limits.line;
        while matches!(self.fill(deadline), Ok(n) if n > 0) {
            self.buffer.clear();
        }
    }

    /// Appends one chunk, waiting for it until the deadline.
    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let start = self.buffer.len();
            self.buffer.resize(start + CHUNK, 0);
            let mut stream = self.stream;
            let result = stream.read(&mut self.buffer[start..]);
            self.buffer.truncate(start + result.as_ref().copied().unwrap_or(0));
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMITS: LineLimits = LineLimits {
        bytes: 100_000,
        idle: Duration::from_millis(300),
        line: Duration::from_millis(100),
    };

    fn text(text: &str) -> Line {
        Line::Text(text.into())
    }

    #[test]
    fn splits_lines_and_takes_a_last_one_without_end() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"one\n\ntwo\nthree").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reader = LineReader::new(&server, LIMITS);
        for expected in [text("one"), text(""), text("two"), text("three"), Line::End] {
            assert_eq!(reader.next_line(), expected);
        }
    }

    #[test]
    fn a_line_may_have_just_the_longest_length() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || {
            let mut line = vec![b'x'; LIMITS.bytes];
            line.push(b'\n');
            client.write_all(&line).unwrap();
            client.write_all(&vec![b'y'; LIMITS.bytes + 1]).unwrap();
            client
        });
        let mut reader = LineReader::new(&server, LIMITS);
        assert!(matches!(reader.next_line(), Line::Text(line) if line.len() == LIMITS.bytes));
        assert_eq!(reader.next_line(), Line::TooLong);
        drop(writer.join());
    }

    #[test]
    fn silence_between_lines_and_within_one_ends_differently() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut reader = LineReader::new(&server, LIMITS);
        assert_eq!(reader.next_line(), Line::End);
        client.write_all(b"half").unwrap();
        let start = Instant::now();
        assert_eq!(reader.next_line(), Line::Slow);
        assert!(start.elapsed() >= LIMITS.line);
    }

    #[test]
    fn a_client_that_drips_is_cut_off_all_the_same() {
        let (mut client, server) = UnixStream::pair().unwrap();
        // The line has begun, however late the thread.
        client.write_all(b"x").unwrap();
        let dripping = std::thread::spawn(move || {
            while client.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        assert_eq!(LineReader::new(&server, LIMITS).next_line(), Line::Slow);
        drop(server);
        dripping.join().unwrap();
    }
}
