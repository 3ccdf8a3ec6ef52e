//! Floods at the full speed of a core: packets made inside `shuntd`, by a plug-in of the EAL.
//!
//! No second process on a machine of two processors sends as fast as a worker receives. So
//! `source.c` stands between the workers and the driver of the first port, and fills whatever room
//! a worker's burst has left. Everything else passes: the lab's own traffic, and what the director
//! says to its neighbors. `source.c` tells how; [`kinds`] is the list of floods.

pub mod frames;
pub mod kinds;
mod station;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use frames::Template;
pub use station::{Fragments, Lost, Report, Station};

/// As in `source.c`.
const QUEUES: usize = 8;
const TEMPLATES: usize = 8;
const HONEST: usize = 4;
const NUMBERS: usize = 65_536;
const HEAD: usize = 64;
const QUEUE_LEN: usize = 64;
const COUNTERS: usize = HEAD + (TEMPLATES + HONEST) * frames::LEN;
const ARRIVED: usize = COUNTERS + QUEUES * QUEUE_LEN;
const LEN: usize = ARRIVED + (HONEST + 1) * NUMBERS;

/// What is sent.
#[derive(Debug, Clone, Default)]
pub struct Flood {
    /// In turn; all of one turn are made with the same drawn bytes, at most eight.
    pub templates: Vec<Template>,
    /// Bytes are drawn from a number that counts from 0, for known clients; else at random.
    pub numbered: bool,
    /// Turns of each queue; 0 is without end.
    pub turns: u32,
    /// Nanoseconds between two turns of a queue; 0 is as fast as the worker asks.
    pub interval_ns: u32,
    /// Honest fragmented datagrams beside it: nanoseconds between two, 0 is none.
    pub honest_ns: u32,
}

/// The plug-in of one `shuntd`, and the file that steers it.
#[derive(Debug)]
pub struct Source {
    file: File,
    plugin: PathBuf,
    generation: u32,
}

/// What one queue has done, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets made.
    pub made: u64,
    /// Bursts for which the pool had no buffers.
    pub no_mbufs: u64,
    /// Packets that the director sent on, and that ended in the plug-in.
    pub ended: u64,
    /// Packets received from the driver.
    pub passed: u64,
    /// Other packets that the driver did not take.
    pub stray: u64,
}

impl Source {
    /// Compiles the plug-in into a directory.
    ///
    /// # Panics
    /// With the compiler's words when it does not compile.
    pub fn build(dir: &Path) -> Source {
        let (control, plugin) = (dir.join("source.control"), dir.join("source.so"));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&control).expect("a file");
        file.set_len(LEN as u64).expect("room for it");
        let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/flood/source.c");
        // The flags of pkg-config are words for a shell.
        let compile = r#"cc -O3 -shared -fPIC -Wall -Werror -DCONTROL="\"$1\"" \
            $(pkg-config --cflags libdpdk) -o "$2" "$3" $(pkg-config --libs libdpdk)"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", compile, "sh"]).arg(&control).arg(&plugin).arg(code);
        let out = shell.output().expect("a shell");
        assert!(out.status.success(), "source.c: {}", String::from_utf8_lossy(&out.stderr));
        Source { file, plugin, generation: 0 }
    }

    /// EAL arguments that load it.
    pub fn eal(&self) -> [String; 2] {
        ["-d".into(), self.plugin.to_string_lossy().into_owned()]
    }

    fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, at as u64).expect("the control file");
        bytes
    }

    fn read32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.read(at))
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, at as u64).expect("the control file");
    }

    #[track_caller]
    fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "the packet source: {what}: not within a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Steps in between, once `shuntd` runs.
    ///
    /// # Panics
    /// When the plug-in does not answer.
    pub fn arm(&self) {
        self.write(0, &1u32.to_ne_bytes());
        self.wait("steps in", || self.read32(4) == 1);
    }

    /// How many queues the port has.
    pub fn queues(&self) -> usize {
        self.read32(32) as usize
    }

    fn queue(&self, queue: usize) -> usize {
        COUNTERS + queue * QUEUE_LEN
    }

    /// Every worker looks anew.
    fn next_generation(&mut self) {
        self.generation += 1;
        self.write(8, &self.generation.to_ne_bytes());
        let taken = |queue| self.read32(self.queue(queue) + 48) == self.generation;
        self.wait("every queue takes a change up", || (0..self.queues()).all(taken));
    }

    /// Sends nothing any more.
    pub fn stop(&mut self) {
        self.write(12, &[0; 4]);
        self.write(28, &[0; 4]);
        self.next_generation();
    }

    /// Sends this from now on, in place of what was sent.
    ///
    /// # Panics
    /// When there are too many templates.
    pub fn start(&mut self, flood: &Flood, honest: &[Template]) {
        assert!(flood.templates.len() <= TEMPLATES && honest.len() <= HONEST);
        self.stop();
        let all = flood.templates.iter().enumerate();
        let all = all.chain(honest.iter().enumerate().map(|(n, t)| (TEMPLATES + n, t)));
        for (n, template) in all {
            self.write(HEAD + n * frames::LEN, &template.bytes());
        }
        self.write(ARRIVED, &vec![0; (HONEST + 1) * NUMBERS]);
        let numbers = [u32::from(flood.numbered), flood.turns, flood.interval_ns, flood.honest_ns];
        for (n, number) in numbers.into_iter().enumerate() {
            self.write(16 + 4 * n, &number.to_ne_bytes());
        }
        self.write(12, &(flood.templates.len() as u32).to_ne_bytes());
        self.next_generation();
    }

    /// Sends so many turns, waits for the last of them, and stops.
    pub fn run(&mut self, flood: &Flood) {
        self.start(flood, &[]);
        let done = |queue| self.read32(self.queue(queue) + 32) == 1;
        self.wait("sends all", || (0..self.queues()).all(done));
        self.stop();
    }

    /// The sum over all queues.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for queue in 0..self.queues() {
            let at = |n: usize| u64::from_ne_bytes(self.read(self.queue(queue) + 8 * n));
            sum.made += at(0);
            sum.no_mbufs += at(1);
            sum.ended += at(2);
            sum.passed += at(3);
            sum.stray += at(5);
        }
        sum
    }

    /// Where the fragments of honest datagrams went that were sent since the last start. Those are
    /// left out that were due while a worker was kept from running: they say nothing of it.
    pub fn honest(&self) -> Vec<Arrived> {
        let sent = (0..self.queues()).map(|queue| self.read32(self.queue(queue) + 52)).min();
        let sent = sent.unwrap_or(0) as usize;
        let places = [0, 1, 2, 3, 4].map(|place| {
            let mut bytes = vec![0; sent];
            let at = (ARRIVED + place * NUMBERS) as u64;
            self.file.read_exact_at(&mut bytes, at).expect("the control file");
            bytes
        });
        let of = |n: usize| Arrived {
            v4: [places[0][n], places[1][n]],
            v6: [places[2][n], places[3][n]],
        };
        (0..sent).filter(|n| places[4][*n] == 0).map(of).collect()
    }
}

/// Which real server got the first and the later fragment of a datagram, by the last byte of its
/// Ethernet address; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Of the IPv4 datagram.
    pub v4: [u8; 2],
    /// Of the IPv6 datagram.
    pub v6: [u8; 2],
}

/// Whether both fragments came, and to one real server.
pub fn is_whole(fragments: [u8; 2]) -> bool {
    fragments[0] != 0 && fragments[0] == fragments[1]
}
