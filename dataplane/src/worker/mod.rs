//! The poll loop: one thread per lcore that never waits.
//!
//! A round is: take up a new snapshot if there is one, receive a burst from each port, handle what
//! other threads sent, pay off a part of the sweep. No lock, no allocation, no system call (but
//! for sleeping, where that is configured), no log line; one TSC read a round.
#![forbid(unsafe_code)]

mod channels;
mod clock;
mod idle;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;

pub use channels::{Channels, ControlEnd, SlowEnd, ToSend, WorkerEnd};
pub use clock::Clock;
pub use idle::Idle;
pub use watch::Watch;

use crate::dpdk::{Mbuf, Mempool, RxQueue, TxQueue, free_bulk};
use crate::pipeline::{BURST, Env, Output, PeerMessage, Pipeline};
use crate::snapshot::Snapshot;
use crate::snapshot::neighbors::NextHops;
use crate::snapshot::publish::Reader;
use crate::stats::{DropReason, Event};
use crate::types::{PortId, Punt, WorkerId};
use crate::vocabulary::IdleMode;

/// Messages of other workers handled in one round: a bound on the gap between bursts.
const MESSAGES: usize = 32;
/// Frames of the slow path sent in one round: the same, apart from it, so that no stream of
/// messages keeps an ARP answer or a neighbor's probe from leaving.
const FRAMES: usize = 32;

/// The queue pairs of one worker, in the order of the ports.
pub type Queues = Vec<(RxQueue, TxQueue)>;

/// Everything one poll loop owns.
pub struct Worker {
    pipeline: Pipeline<Mbuf>,
    rx: Vec<RxQueue>,
    out: WorkerOutput,
    reader: Reader<Snapshot>,
    hops: Arc<NextHops>,
    pool: Mempool,
    clock: Clock,
    watch: Watch,
    idle: Idle,
    stop: Arc<AtomicBool>,
}

struct WorkerOutput {
    tx: Vec<TxQueue>,
    channels: WorkerEnd,
}

impl Output<Mbuf> for WorkerOutput {
    #[inline]
    fn transmit(&mut self, port: PortId, frames: &mut ArrayVec<Mbuf, BURST>) {
        if let Some(queue) = self.tx.get_mut(port.index()) {
            queue.burst(frames);
        }
    }

    #[inline(always)]
    fn discard(&mut self, frames: &mut ArrayVec<Mbuf, BURST>) {
        free_bulk(frames);
    }

    fn punt(&mut self, punt: Punt<Mbuf>) -> Result<(), Punt<Mbuf>> {
        self.channels.punt(punt)
    }

    fn tell(&mut self, to: WorkerId, message: PeerMessage<Mbuf>) -> Result<(), PeerMessage<Mbuf>> {
        self.channels.tell(to, message)
    }
}

impl Worker {
    /// Puts a worker together.
    #[expect(clippy::too_many_arguments, reason = "the composition root is the only caller")]
    pub fn new(
        pipeline: Pipeline<Mbuf>,
        queues: Queues,
        channels: WorkerEnd,
        reader: Reader<Snapshot>,
        hops: Arc<NextHops>,
        pool: Mempool,
        clock: Clock,
        idle: IdleMode,
        stop: Arc<AtomicBool>,
    ) -> Worker {
        let (rx, tx) = queues.into_iter().unzip();
        let out = WorkerOutput { tx, channels };
        let (watch, idle) = (Watch::new(&clock), Idle::new(idle));
        Worker { pipeline, rx, out, reader, hops, pool, clock, watch, idle, stop }
    }

    /// Polls until told to stop. Packets that wait then are dropped and counted.
    pub fn run(mut self) {
        self.pipeline.configure(self.reader.current());
        while !self.stop.load(Ordering::Relaxed) {
            self.turn();
        }
        self.pipeline.shutdown();
        while let Some(message) = self.out.channels.next_message() {
            if let PeerMessage::Seek(packet) = message {
                self.pipeline.stats().event(Event::TakenOver).add(1);
                self.pipeline.stats().dropped(DropReason::Shutdown).add(1);
                drop(packet);
            }
        }
    }

    /// One turn of the loop, for those who drive it themselves: a new snapshot if there is one, a
    /// round, and rest if there was nothing to do.
    #[inline(always)]
    pub fn turn(&mut self) {
        if self.reader.refresh() {
            self.pipeline.configure(self.reader.current());
        }
        let work = self.round();
        if work > 0 {
            self.pipeline.stats().event(Event::PollsBusy).add(1);
            self.idle.busy();
        } else {
            self.pipeline.stats().event(Event::PollsIdle).add(1);
            self.idle.idle();
        }
    }

    /// One round; returns how much there was to do.
    #[inline(always)]
    fn round(&mut self) -> usize {
        let now = self.clock.now();
        self.watch.mark(self.clock.tsc(), self.pipeline.stats().rounds());
        let mut env = Env {
            snapshot: self.reader.current(),
            hops: &self.hops,
            pool: &self.pool,
            out: &mut self.out,
            now,
        };
        let mut work = 0;
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        for (port, queue) in self.rx.iter_mut().enumerate() {
            let received = queue.burst(&mut burst);
            if received > 0 {
                work += received;
                self.pipeline.burst(&mut env, PortId(port as u16), &mut burst);
            }
        }
        work += Self::messages(&mut self.pipeline, &mut env);
        self.pipeline.maintain(&mut env);
        self.pipeline.sweep(&env);
        work
    }

    /// What other threads sent: the slow path's frames first, which are few and cannot wait, then
    /// messages of workers, each up to its own bound.
    #[inline]
    fn messages(pipeline: &mut Pipeline<Mbuf>, env: &mut Env<'_, Mempool, WorkerOutput>) -> usize {
        if env.out.channels.is_wanted() { Self::hear(pipeline, env) } else { 0 }
    }

    #[inline(never)]
    fn hear(pipeline: &mut Pipeline<Mbuf>, env: &mut Env<'_, Mempool, WorkerOutput>) -> usize {
        let (mut frames, mut messages, mut queries) = (0, 0, 0);
        while frames < FRAMES {
            match env.out.channels.next_frame() {
                Some(ToSend::Frame(port, frame)) => pipeline.send_for_slow_path(env, port, frame),
                Some(ToSend::Inject(real, frame)) => pipeline.inject(env, real, frame),
                None => break,
            }
            frames += 1;
        }
        while messages < MESSAGES {
            let Some(message) = env.out.channels.next_message() else { break };
            pipeline.peer(env, message);
            messages += 1;
        }
        pipeline.finish(env);
        if let Some((ticket, query)) = env.out.channels.next_query() {
            let reply = pipeline.query(env, query);
            env.out.channels.answer(ticket, reply);
            queries += 1;
        }
        if frames == FRAMES || messages == MESSAGES {
            env.out.channels.leave_some();
        }
        frames + messages + queries
    }
}
