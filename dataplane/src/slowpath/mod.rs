//! The slow path: ARP, neighbors, ICMP and TCP resets; all that is not worth a worker's time.
//!
//! Workers punt packets to it ([`crate::types::PuntReason`] says what for); it hands complete
//! frames back, to be sent by a worker that serves their port. It owns the neighbor table and
//! publishes what workers need of it in [`NextHops`].
//!
//! # Threading
//! One thread owns a [`SlowPath`]. Every call is given the time and finishes without waiting;
//! there is no clock, no thread and no I/O in here.
//!
//! # Units
//! Time is [`Millis`] since start and does not go backwards (if it does, timers are late).
//!
//! # Invariant
//! Every punted packet ends in exactly one outcome ([`is_balanced`]):
//!
//! ```text
//! slow_path_taken = arp_replies + arp_learned + echo_replies + icmp_errors + tcp_resets
//!                 + neighbor_forwarded + neighbor_waiting + sum(dropped but inbox_full)
//! ```
//!
//! A packet that is answered is answered with one frame, and counts as answered whatever else it
//! taught. What becomes of the frame is the worker's to count; `inbox_full` counts frames that
//! came out of here and did not reach one.
//!
//! # Limits
//! Packets waiting: [`MAX_WAITING`] a neighbor, [`MAX_WAIT`] milliseconds each. Requests and
//! announcements leave in small batches. Nothing grows by what comes from the wire.
//!
//! # RFCs
//! RFC 826, 5227, 5494 (ARP); 4861 (neighbor states and timers); 1122, 1812, 792, 1191 (ICMP);
//! 9293 (TCP resets).
#![forbid(unsafe_code)]

mod announce;
mod arp;
mod icmp;
mod limit;
mod neighbor;
mod neighbors;
mod output;
mod own;
mod random;
mod time;

use std::sync::Arc;

pub use icmp::PathMtu;
pub use neighbors::{MAX_WAIT, MAX_WAITING, NeighborView};
pub use time::Millis;

use announce::Announcer;
use icmp::Icmp;
use neighbors::Neighbors;
use output::{Context, Outcome};
use own::Own;
use random::Random;

use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::icmpv4::Error;
use crate::snapshot::neighbors::{Links, NextHops};
use crate::stats::{Counts, DropReason, Event, Stats};
use crate::types::{PortId, Punt, PuntReason};

/// ARP, neighbors, ICMP and TCP resets.
///
/// `out(port, frame)` in its calls takes a complete frame, to be sent by a worker that serves
/// `port`.
pub struct SlowPath<B: PacketBuf, P: BufPool<B>> {
    pool: P,
    stats: Arc<Stats>,
    own: Own,
    neighbors: Neighbors<B>,
    announcer: Announcer,
    icmp: Icmp,
}

/// The surroundings of one call, borrowed beside the parts that do the work.
macro_rules! context {
    ($self:ident, $now:expr, $out:expr) => {
        Context { own: &$self.own, pool: &$self.pool, stats: &$self.stats, out: $out, now: $now }
    };
}

impl<B: PacketBuf, P: BufPool<B>> SlowPath<B, P> {
    /// A slow path with nothing configured. `pool` gives buffers for ARP requests, `seed` spreads
    /// timers. It is the one writer of `next_hops` and `stats`.
    pub fn new(pool: P, next_hops: Arc<NextHops>, stats: Arc<Stats>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let icmp = Icmp::new(&mut random);
        SlowPath {
            pool,
            stats,
            own: Own::default(),
            neighbors: Neighbors::new(next_hops, random),
            announcer: Announcer::new(),
            icmp,
        }
    }

    /// Takes up a new configuration. Neighbors that stay keep their state, others are asked for at
    /// once; addresses that are new are announced. Packets waiting for a neighbor that is gone are
    /// dropped (`neighbor_unresolved`).
    pub fn configure(&mut self, links: &Links, now: Millis, out: &mut impl FnMut(PortId, B)) {
        self.own = Own::of(links);
        let mut cx = context!(self, now, out);
        self.announcer.configure(&cx);
        self.neighbors.configure(&links.neighbors, &mut cx);
        self.poll(now, out);
    }

    /// The link of a port came up: announces all its addresses again, and asks its neighbors.
    pub fn link_up(&mut self, port: PortId, now: Millis, out: &mut impl FnMut(PortId, B)) {
        let mut cx = context!(self, now, out);
        self.announcer.link_up(port, now);
        self.neighbors.link_up(port, &mut cx);
        self.poll(now, out);
    }

    /// One punted packet.
    pub fn punt(&mut self, punt: Punt<B>, now: Millis, out: &mut impl FnMut(PortId, B)) {
        let Punt { ingress, reason, buf } = punt;
        self.stats.event(Event::SlowPathTaken).add(1);
        let mut cx = context!(self, now, out);
        let cx = &mut cx;
        let outcome = match reason {
            PuntReason::Arp => {
                arp::receive(&mut self.neighbors, &mut self.announcer, ingress, buf, cx).into()
            }
            PuntReason::Ndp | PuntReason::Mld => Outcome::Dropped(DropReason::SlowPathUnknown),
            PuntReason::Echo => self.icmp.echo(ingress, buf, cx).into(),
            PuntReason::IcmpToDirector => Outcome::Dropped(self.icmp.note_message(&buf, &self.own)),
            PuntReason::Resolve { neighbor, port } => {
                self.neighbors.resolve(neighbor, port, buf, cx)
            }
            PuntReason::TtlExceeded => {
                self.icmp.error(Error::TimeExceeded, ingress, buf, cx).into()
            }
            PuntReason::FragmentationNeeded { mtu } => {
                self.icmp.error(Error::FragmentationNeeded { mtu }, ingress, buf, cx).into()
            }
            PuntReason::TcpReset => self.icmp.reset(ingress, buf, cx).into(),
        };
        match outcome {
            Outcome::Done(event) => self.stats.event(event).add(1),
            Outcome::Dropped(reason) => self.stats.dropped(reason).add(1),
            Outcome::Waits => {}
        }
        self.neighbors.poll(cx);
        self.count_waiting();
    }

    /// Does what is due: requests, probes, announcements, the end of waiting. To be called at
    /// [`SlowPath::next_deadline`]; early or late does no harm.
    pub fn poll(&mut self, now: Millis, out: &mut impl FnMut(PortId, B)) {
        let mut cx = context!(self, now, out);
        self.neighbors.poll(&mut cx);
        self.announcer.poll(&mut cx);
        self.count_waiting();
    }

    /// When [`SlowPath::poll`] next has something to do.
    pub fn next_deadline(&self) -> Option<Millis> {
        [self.neighbors.next_deadline(), self.announcer.next_deadline()].into_iter().flatten().min()
    }

    /// All neighbors, by slot.
    pub fn neighbors(&self) -> Vec<NeighborView> {
        self.neighbors.views()
    }

    /// How many packets wait for a neighbor now.
    pub fn waiting(&self) -> usize {
        self.neighbors.waiting()
    }

    /// Path MTUs to real servers heard of since the last call, each RIP once. Forged ones look
    /// the same; see [`PathMtu::real`].
    pub fn take_path_mtu_updates(&mut self) -> Vec<PathMtu> {
        self.icmp.take_path_mtus()
    }

    /// Drops all waiting packets, counted `shutdown`. More are not expected, but do no harm.
    pub fn shutdown(&mut self) {
        self.neighbors.shutdown(&self.stats);
        self.count_waiting();
    }

    fn count_waiting(&self) {
        self.stats.event(Event::NeighborWaiting).set(self.neighbors.waiting() as u64);
    }
}

/// Whether every punted packet has exactly one outcome: the module's invariant, for the slow
/// path's own counters. Between calls it always holds.
pub fn is_balanced(counts: &Counts) -> bool {
    const DONE: [Event; 7] = [
        Event::ArpReplies,
        Event::ArpLearned,
        Event::EchoReplies,
        Event::IcmpErrors,
        Event::TcpResets,
        Event::NeighborForwarded,
        Event::NeighborWaiting,
    ];
    let done: u64 = DONE.iter().map(|event| counts.event(*event)).sum();
    let dropped = counts.dropped_total() - counts.drops(DropReason::InboxFull);
    counts.event(Event::SlowPathTaken) == done + dropped
}
