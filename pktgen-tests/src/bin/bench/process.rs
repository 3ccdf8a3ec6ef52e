//! A program under test: started, paused while another is measured, ended with us.

use std::ffi::OsStr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A child process that does not outlive this one.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
}

/// A command for `program` that is killed when this process ends, however it ends.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Process> {
        Ok(Process { child: command.spawn()? })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Stops it, all threads, where they are.
    pub(crate) fn pause(&self) -> Result<()> {
        Ok(kill(self.pid(), Signal::SIGSTOP)?)
    }

    pub(crate) fn resume(&self) -> Result<()> {
        Ok(kill(self.pid(), Signal::SIGCONT)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Measures two forwarders in turn, `pairs` times, each of them first as often as the other: so
/// neither always has the machine as the other left it. Million packets a second of both.
pub(crate) fn in_turn(
    pairs: usize,
    (ours, theirs): (&mut impl Forwarder, &mut impl Forwarder),
    warm_up: Duration,
    interval: Duration,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut values, mut baseline) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        if pair % 2 == 0 {
            baseline.push(theirs.measure(warm_up, interval)?);
            values.push(ours.measure(warm_up, interval)?);
        } else {
            values.push(ours.measure(warm_up, interval)?);
            baseline.push(theirs.measure(warm_up, interval)?);
        }
    }
    Ok((values, baseline))
}

/// Something that forwards and counts.
pub(crate) trait Forwarder {
    fn process(&self) -> &Process;
    /// Packets sent so far.
    fn sent(&mut self) -> Result<u64>;

    /// Million packets a second over `interval`, after `warm_up`; it runs for that time only.
    fn measure(&mut self, warm_up: Duration, interval: Duration) -> Result<f64> {
        self.process().resume()?;
        std::thread::sleep(warm_up);
        let (before, start) = (self.sent()?, Instant::now());
        std::thread::sleep(interval);
        let (after, end) = (self.sent()?, Instant::now());
        self.process().pause()?;
        Ok((after - before) as f64 / (end - start).as_secs_f64() / 1e6)
    }
}
