//! The slow path: ARP, neighbor discovery, neighbors, multicast listening, ICMP of both families
//! and TCP resets; all that is not worth a worker's time.
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
//! slow_path_taken = arp_replies + arp_learned + ndp_replies + ndp_learned + mld_queries
//!                 + echo_replies + icmp_errors + tcp_resets
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
//! RFC 826, 5227, 5494 (ARP); 4861 (neighbor discovery, neighbor states and timers); 4862
//! (duplicate address detection); 3810, 3590 (MLD); 1122, 1812, 792, 1191 (ICMP); 4443, 8201
//! (ICMPv6); 9293 (TCP resets).
#![forbid(unsafe_code)]

mod addresses;
mod answers;
mod arp;
mod limit;
mod mld;
mod ndp;
mod neighbors;
mod output;
mod own;
mod path_mtu;
mod timers;

use std::net::Ipv6Addr;
use std::sync::Arc;

pub use crate::types::Millis;
pub use neighbors::{MAX_WAIT, MAX_WAITING, NeighborView};
pub use path_mtu::{MAX_AGE, MIN_MTU4, PathMtu};

use addresses::Addresses;
use answers::{Answers, Problem};
use mld::Listener;
use neighbors::Neighbors;
use output::{Context, Outcome};
use own::{NotReady, Own};
use path_mtu::PathMtus;

use crate::hash::Random;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::snapshot::neighbors::{Links, NextHops};
use crate::stats::{Counts, DropReason, Event, Stats};
use crate::types::{PortId, Punt, PuntReason};
use crate::vocabulary::AddressState;

/// An IPv6 address of a port as listings show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressView {
    /// The port.
    pub port: PortId,
    /// A DIP, or the port's link-local address.
    pub address: Ipv6Addr,
    /// Whether it may be used.
    pub state: AddressState,
}

/// ARP, neighbor discovery, neighbors, multicast listening, ICMP and TCP resets.
///
/// `out(port, frame)` in its calls takes a complete frame, to be sent by a worker that serves
/// `port`.
pub struct SlowPath<B: PacketBuf, P: BufPool<B>> {
    pool: P,
    stats: Arc<Stats>,
    own: Own,
    neighbors: Neighbors<B>,
    addresses: Addresses,
    listener: Listener,
    answers: Answers,
    path_mtus: PathMtus,
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
        let answers = Answers::new(&mut random);
        let listener = Listener::new(Random::new(random.between(0, u64::MAX)));
        SlowPath {
            pool,
            stats,
            own: Own::default(),
            neighbors: Neighbors::new(next_hops, random),
            addresses: Addresses::new(),
            listener,
            answers,
            path_mtus: PathMtus::default(),
        }
    }

    /// Takes up a new configuration, by what differs from the one before. Neighbors that stay keep
    /// their state, others are asked for at once, and those that failed when the addresses to ask
    /// from are others; addresses that are new are announced, IPv6 addresses of ports once they were probed.
    /// Packets waiting for a neighbor that is gone are dropped (`neighbor_unresolved`).
    pub fn configure(&mut self, links: &Links, now: Millis, out: &mut impl FnMut(PortId, B)) {
        let before = std::mem::replace(&mut self.own, Own::of(links, NotReady::new()));
        self.path_mtus.configure(&self.own);
        self.addresses.configure(&mut self.own, now);
        let mut cx = context!(self, now, out);
        // Before the probes, which are answered to a group (RFC 4862 5.4.2).
        self.listener.configure(&cx);
        self.listener.poll(&mut cx);
        if !cx.own.announces_as(&before) {
            self.addresses.announce(&cx);
        }
        self.neighbors.configure(&links.neighbors, &mut cx);
        if !cx.own.asks_as(&before) {
            self.neighbors.addresses_changed(&mut cx);
        }
        self.poll(now, out);
    }

    /// The link of a port came up: probes its IPv6 addresses again, announces the others, tells its
    /// groups, and asks its neighbors.
    pub fn link_up(&mut self, port: PortId, now: Millis, out: &mut impl FnMut(PortId, B)) {
        self.addresses.probe_again(port, &mut self.own, now);
        self.listener.report_again(port, now);
        let mut cx = context!(self, now, out);
        self.listener.poll(&mut cx);
        self.addresses.announce_again(port, &cx);
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
                arp::receive(&mut self.neighbors, &mut self.addresses, ingress, buf, cx).into()
            }
            PuntReason::Ndp => {
                let (neighbors, addresses) = (&mut self.neighbors, &mut self.addresses);
                let mut parts = ndp::Parts { neighbors, addresses };
                ndp::receive(&mut parts, ingress, buf, cx).into()
            }
            PuntReason::Mld => self.listener.receive(ingress, &buf, cx).into(),
            PuntReason::Echo => self.answers.echo(ingress, buf, cx).into(),
            PuntReason::IcmpToDirector => {
                let told = answers::read_message(&buf, cx.own);
                if let Ok(Some(found)) = told {
                    self.path_mtus.note(found, now);
                }
                Outcome::Dropped(told.err().unwrap_or(DropReason::IcmpToDirector))
            }
            // Whoever awaits one takes it before it comes here.
            PuntReason::Awaited => Outcome::Dropped(DropReason::SlowPathUnknown),
            PuntReason::Resolve { neighbor, port } => {
                self.neighbors.resolve(neighbor, port, buf, cx)
            }
            PuntReason::TtlExceeded => {
                self.answers.error(Problem::TimeExceeded, ingress, buf, cx).into()
            }
            PuntReason::FragmentationNeeded { mtu } => {
                self.answers.error(Problem::TooLong { mtu }, ingress, buf, cx).into()
            }
            PuntReason::NoRealServer => {
                self.answers.error(Problem::Unserved, ingress, buf, cx).into()
            }
            PuntReason::TcpReset => self.answers.reset(ingress, buf, cx).into(),
        };
        match outcome {
            Outcome::Done(event) => self.stats.event(event).add(1),
            Outcome::Dropped(reason) => self.stats.dropped(reason).add(1),
            Outcome::Waits => {}
        }
        self.neighbors.poll(cx);
        if reason == PuntReason::Ndp {
            // An address may be another's by now.
            self.addresses.tell(&mut self.own);
        }
        self.count_waiting();
    }

    /// Does what is due: requests, probes, announcements, reports, the end of waiting and of path
    /// MTUs. To be called at [`SlowPath::next_deadline`]; early or late does no harm.
    pub fn poll(&mut self, now: Millis, out: &mut impl FnMut(PortId, B)) {
        let mut cx = context!(self, now, out);
        if self.addresses.poll_probes(&mut cx) {
            self.addresses_ready(now, out);
        }
        let mut cx = context!(self, now, out);
        self.listener.poll(&mut cx);
        self.neighbors.poll(&mut cx);
        self.addresses.poll_announcements(&mut cx);
        self.path_mtus.poll(now);
        self.count_waiting();
    }

    /// Addresses were found to be nobody else's: they are announced, groups told by those ports
    /// that had no address to tell them from, and neighbors asked that could not be.
    fn addresses_ready(&mut self, now: Millis, out: &mut impl FnMut(PortId, B)) {
        let had = self.own.link_locals();
        self.addresses.tell(&mut self.own);
        for port in self.own.link_locals().difference(&had) {
            self.listener.report_again(*port, now);
        }
        self.addresses.announce(&context!(self, now, out));
        self.neighbors.addresses_ready(&mut context!(self, now, out));
    }

    /// When [`SlowPath::poll`] next has something to do.
    pub fn next_deadline(&self) -> Option<Millis> {
        let parts = [
            self.neighbors.next_deadline(),
            self.addresses.next_deadline(),
            self.listener.next_deadline(),
            self.path_mtus.next_deadline(),
        ];
        parts.into_iter().flatten().min()
    }

    /// The IPv6 addresses of all ports, by port.
    pub fn addresses(&self) -> Vec<AddressView> {
        let view = |((port, address), state)| AddressView { port, address, state };
        self.addresses.all().map(view).collect()
    }

    /// All neighbors, by slot.
    pub fn neighbors(&self) -> Vec<NeighborView> {
        self.neighbors.views()
    }

    /// How many packets wait for a neighbor now.
    pub fn waiting(&self) -> usize {
        self.neighbors.waiting()
    }

    /// Path MTUs to real servers behind tunnels, by RIP, as routers have told them in the last ten
    /// minutes.
    pub fn path_mtus(&self) -> Vec<PathMtu> {
        self.path_mtus.all().collect()
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
    const DONE: [Event; 10] = [
        Event::ArpReplies,
        Event::ArpLearned,
        Event::NdpReplies,
        Event::NdpLearned,
        Event::MldQueries,
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
