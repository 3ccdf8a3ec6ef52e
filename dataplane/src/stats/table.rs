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

/// What every packet is counted in: four of them share a cache line, so that those of ten thousand
/// real servers stay close to the processor.
#[derive(Debug, Default)]
#[repr(align(16))]
pub struct Forwarded {
    /// Packets forwarded.
    pub packets: Counter,
    /// Bytes of those, from the IP header on, as received.
    pub bytes: Counter,
}

impl Forwarded {
    /// Counts packets, of so many bytes.
    #[inline(always)]
    pub fn add(&self, packets: u64, bytes: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
    }
}

/// What a virtual service counts itself; see [`Accounts`](super::Accounts) for its packets.
#[derive(Debug, Default)]
#[repr(align(16))]
struct ServiceSlot {
    connections: Counter,
    no_real_server: Counter,
}

/// The other counters of a real server.
#[derive(Debug, Default)]
#[repr(align(16))]
struct RealRest {
    connections: Counter,
    replicas: Counter,
}

/// A gauge that is half of a counter, below 2^32: two that are wanted together are read at once.
#[derive(Debug, Clone, Copy)]
pub struct Half<'a> {
    word: &'a Counter,
    shift: u32,
}

impl<'a> Half<'a> {
    fn upper(word: &'a Counter) -> Half<'a> {
        Half { word, shift: 32 }
    }

    fn lower(word: &'a Counter) -> Half<'a> {
        Half { word, shift: 0 }
    }

    /// Adds `n`; only by its one writer.
    #[inline(always)]
    pub fn add(self, n: u64) {
        self.word.add(n << self.shift);
    }

    /// Takes `n` off, which is not more than is there; only by its one writer.
    #[inline(always)]
    pub fn sub(self, n: u64) {
        self.word.sub(n << self.shift);
    }

    /// The value now.
    #[inline(always)]
    pub fn get(self) -> u64 {
        self.word.get() >> self.shift & u64::from(u32::MAX)
    }
}

/// Counters of one virtual service, as one worker sees it.
#[derive(Debug, Clone, Copy)]
pub struct ServiceStats<'a> {
    /// Flows scheduled.
    pub connections: &'a Counter,
    /// Packets for which no real server was there.
    pub no_real_server: &'a Counter,
}

/// Counters of one real server of one virtual service, as one worker sees it.
#[derive(Debug, Clone, Copy)]
pub struct RealStats<'a> {
    /// Flows scheduled to it.
    pub connections: &'a Counter,
    /// Packets forwarded to it.
    pub packets: &'a Counter,
    /// Bytes of those, from the IP header on, as received.
    pub bytes: &'a Counter,
    /// Flows in the table that count as active (gauge).
    pub active: Half<'a>,
    /// Flows in the table that count as inactive: closing or closed (gauge).
    pub inactive: Half<'a>,
    /// Copies of another worker's flow, kept because it began with a fragment (gauge).
    pub replicas: &'a Counter,
}

/// Counters by slot, in cache lines that no other writer has.
#[derive(Debug)]
struct Slots<T>(Vec<T>);

impl<T: Default> Slots<T> {
    /// A cache line's worth in front that is not used, and as much room behind: a line that this
    /// shared with another allocation would be another worker's too.
    const SPARE: usize = 64 / size_of::<T>();

    fn new(n: usize) -> Slots<T> {
        let mut slots = Vec::with_capacity(n + 2 * Self::SPARE);
        slots.extend((0..n + Self::SPARE).map(|_| T::default()));
        Slots(slots)
    }

    #[inline(always)]
    fn get(&self, slot: usize) -> Option<&T> {
        self.0.get(slot + Self::SPARE)
    }

    #[inline(always)]
    fn all(&self) -> &[T] {
        self.0.get(Self::SPARE..).unwrap_or_default()
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() - Self::SPARE
    }

    #[inline(always)]
    fn prefetch(&self, slot: usize) {
        crate::arch::prefetch_at(&self.0, slot.wrapping_add(Self::SPARE));
    }
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
    services: Slots<ServiceSlot>,
    reals: Slots<Forwarded>,
    reals_rest: Slots<RealRest>,
    /// Active flows in the upper half, inactive ones in the lower: schedulers look at those of many
    /// real servers for one new flow, and eight share a cache line.
    reals_flows: Slots<Counter>,
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
            services: Slots::new(services),
            reals: Slots::new(reals),
            reals_rest: Slots::new(reals),
            reals_flows: Slots::new(reals),
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
    pub fn service(&self, service: ServiceId) -> Option<ServiceStats<'_>> {
        let ServiceSlot { connections, no_real_server } = self.services.get(service.index())?;
        Some(ServiceStats { connections, no_real_server })
    }

    /// A real server's counters, if the slot exists.
    #[inline(always)]
    pub fn real(&self, real: RealId) -> Option<RealStats<'_>> {
        let Forwarded { packets, bytes } = self.reals.get(real.index())?;
        let RealRest { connections, replicas } = self.reals_rest.get(real.index())?;
        let (active, inactive) = self.flows_of(real)?;
        Some(RealStats { connections, packets, bytes, active, inactive, replicas })
    }

    /// Of these, active and inactive flows.
    #[inline(always)]
    pub fn flows_of(&self, real: RealId) -> Option<(Half<'_>, Half<'_>)> {
        let flows = self.reals_flows.get(real.index())?;
        Some((Half::upper(flows), Half::lower(flows)))
    }

    /// Active flows, in the upper 32 bits, and inactive ones of each real server slot.
    #[inline(always)]
    pub fn flows(&self) -> &[Counter] {
        self.reals_flows.all()
    }

    /// What is counted of each packet to a real server, by slot.
    #[inline(always)]
    pub fn forwarded(&self) -> &[Forwarded] {
        self.reals.all()
    }

    /// Asks for the cache line of [`Stats::forwarded`].
    #[inline(always)]
    pub fn prefetch_real(&self, real: RealId) {
        self.reals.prefetch(real.index());
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
        self.event(Event::RxPackets) + self.event(Event::TakenOver) + self.event(Event::Injected)
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
    fn both_gauges_of_a_word_are_each_their_own() {
        let stats = Stats::new(0, 0, 3);
        let real = stats.real(RealId(1)).expect("a slot");
        real.active.add(5);
        real.inactive.add(u64::from(u32::MAX));
        real.active.sub(1);
        assert_eq!((real.active.get(), real.inactive.get()), (4, u64::from(u32::MAX)));
        real.inactive.sub(u64::from(u32::MAX));
        assert_eq!((real.active.get(), real.inactive.get()), (4, 0));
        let words: Vec<_> = stats.flows().iter().map(Counter::get).collect();
        assert_eq!(words, [0, 4 << 32, 0]);
    }

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
