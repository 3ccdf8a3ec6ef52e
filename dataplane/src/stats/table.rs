//! All counters of one writer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Counter, DropReason, Event};
use crate::types::{PortId, RealId, ServiceId};

/// Counters of one port, as one worker sees it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: Counter,
    /// Bytes received.
    pub rx_bytes: Counter,
    /// Packets the transmit queue took.
    pub tx_packets: Counter,
    /// Bytes of those.
    pub tx_bytes: Counter,
    /// Packets the transmit queue did not take.
    pub tx_full: Counter,
}

/// Counters of one virtual service, as one worker sees it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServiceStats {
    /// Flows scheduled.
    pub connections: Counter,
    /// Packets forwarded: the sum of its real servers'.
    pub packets: Counter,
    /// Bytes of those, from the IP header on, as received.
    pub bytes: Counter,
    /// Packets for which no real server was there.
    pub no_real_server: Counter,
}

/// Counters of one real server of one virtual service, as one worker sees it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct RealStats {
    /// Flows scheduled to it.
    pub connections: Counter,
    /// Packets forwarded to it.
    pub packets: Counter,
    /// Bytes of those, from the IP header on, as received.
    pub bytes: Counter,
    /// Flows in the table that count as active (gauge).
    pub active: Counter,
    /// Flows in the table that count as inactive: closing or closed (gauge).
    pub inactive: Counter,
    /// Copies of another worker's flow, kept because it began with a fragment (gauge).
    pub replicas: Counter,
}

/// How long rounds of a poll loop took, in nanoseconds; gauges, a second each.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Rounds {
    /// The longest of the second that has not ended.
    pub this_second: Counter,
    /// The longest of the second before.
    pub last_second: Counter,
}

impl Rounds {
    /// The longest round of the last one to two seconds, in nanoseconds.
    pub fn longest_ns(&self) -> u64 {
        self.this_second.get().max(self.last_second.get())
    }
}

/// Counters by number, in cache lines of their own.
#[derive(Debug)]
#[repr(align(64))]
struct Lines<const N: usize>([Counter; N]);

impl<const N: usize> Lines<N> {
    fn zeroed() -> Box<Lines<N>> {
        Box::new(Lines(std::array::from_fn(|_| Counter::default())))
    }
}

/// Everything one worker, or the slow path, counts. Allocated once, at start.
///
/// # Threading
/// The worker writes; anybody reads. No two writers share a cache line.
#[derive(Debug)]
pub struct Stats {
    events: Box<Lines<{ Event::COUNT }>>,
    dropped: Box<Lines<{ DropReason::COUNT }>>,
    rounds: Box<Rounds>,
    ports: Box<[PortStats]>,
    services: Box<[ServiceStats]>,
    reals: Box<[RealStats]>,
}

fn zeroed<T: Default>(n: usize) -> Box<[T]> {
    (0..n).map(|_| T::default()).collect()
}

impl Stats {
    /// Room for so many ports, service slots and real server slots.
    pub fn new(ports: usize, services: usize, reals: usize) -> Stats {
        Stats {
            events: Lines::zeroed(),
            dropped: Lines::zeroed(),
            rounds: Box::default(),
            ports: zeroed(ports),
            services: zeroed(services),
            reals: zeroed(reals),
        }
    }

    /// The counter of an event.
    #[inline(always)]
    pub fn event(&self, event: Event) -> &Counter {
        &self.events.0[event as usize]
    }

    /// The counter of a drop reason.
    #[inline(always)]
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        &self.dropped.0[reason as usize]
    }

    /// How long rounds took; none of the slow path's.
    #[inline(always)]
    pub fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// A port's counters, if the slot exists.
    #[inline(always)]
    pub fn port(&self, port: PortId) -> Option<&PortStats> {
        self.ports.get(port.index())
    }

    /// A virtual service's counters, if the slot exists.
    #[inline(always)]
    pub fn service(&self, service: ServiceId) -> Option<&ServiceStats> {
        self.services.get(service.index())
    }

    /// A real server's counters, if the slot exists.
    #[inline(always)]
    pub fn real(&self, real: RealId) -> Option<&RealStats> {
        self.reals.get(real.index())
    }

    /// Asks for the cache line of a virtual service's counters.
    #[inline(always)]
    pub fn prefetch_service(&self, service: ServiceId) {
        crate::arch::prefetch_at(&self.services, service.index());
    }

    /// Asks for the cache line of a real server's counters.
    #[inline(always)]
    pub fn prefetch_real(&self, real: RealId) {
        crate::arch::prefetch_at(&self.reals, real.index());
    }

    /// How many real server slots there are.
    pub fn real_slots(&self) -> usize {
        self.reals.len()
    }

    /// How many service slots there are.
    pub fn service_slots(&self) -> usize {
        self.services.len()
    }

    /// All events and drop reasons now.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for &event in Event::ALL {
            counts.events.insert(event.name().to_owned(), self.event(event).get());
        }
        for &reason in DropReason::ALL {
            counts.dropped.insert(reason.name().to_owned(), self.dropped(reason).get());
        }
        counts
    }
}

/// Values read from one or several [`Stats`], by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events ([`Event`]).
    pub events: BTreeMap<String, u64>,
    /// Packets dropped ([`DropReason`]), zeroes included.
    pub dropped: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds another's values to these.
    pub fn add(&mut self, other: &Counts) {
        for (name, value) in &other.events {
            *self.events.entry(name.clone()).or_default() += value;
        }
        for (name, value) in &other.dropped {
            *self.dropped.entry(name.clone()).or_default() += value;
        }
    }

    /// One event's value.
    pub fn event(&self, event: Event) -> u64 {
        self.events.get(event.name()).copied().unwrap_or(0)
    }

    /// One drop reason's value.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason.name()).copied().unwrap_or(0)
    }

    /// Packets dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether every packet that came in has one verdict (see the module's invariant).
    pub fn is_balanced(&self) -> bool {
        self.event(Event::RxPackets) + self.event(Event::TakenOver)
            == self.event(Event::Forwarded)
                + self.event(Event::Punted)
                + self.event(Event::HandedOver)
                + self.event(Event::Held)
                + self.dropped_total()
    }
}

/// Connections, packets, bytes and flows of a virtual service or real server, over all workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Flows scheduled.
    pub connections: u64,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of those, from the IP header on, as received.
    pub bytes: u64,
    /// Flows in the table that count as active.
    pub active: u64,
    /// Flows in the table that count as inactive.
    pub inactive: u64,
}

impl Traffic {
    /// Adds another's values to these.
    pub fn add(&mut self, other: &Traffic) {
        self.connections += other.connections;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.active += other.active;
        self.inactive += other.inactive;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_needs_every_packet_in_one_verdict() {
        let stats = Stats::new(1, 1, 1);
        stats.event(Event::RxPackets).add(3);
        stats.event(Event::Forwarded).add(1);
        stats.dropped(DropReason::TxFull).add(1);
        assert!(!stats.counts().is_balanced());
        stats.event(Event::Punted).add(1);
        assert!(stats.counts().is_balanced());
    }
}
