//! One bucket: the flows themselves, so that what a lookup reads lies together.
//!
//! For IPv4 it is one cache line of three flows. Each field of all flows lies beside the same field
//! of the others, without padding, and the keys are compared without a branch. What a flow has of
//! state, protocol and marks is in one byte.

use super::hash::Packed;
use super::{Flow, FlowFlags, State, TableKey};
use crate::types::{RealId, Tick};

/// State, and what else is a bit or two, of a flow; 0 when there is none.
///
/// From the low end: the state's place (3 bits, [`State::place`]), the key's bit, whether the flow
/// is in another bucket than its first, the caller's marks (3 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Mark(u8);

impl Mark {
    pub(super) const VACANT: Mark = Mark(0);
    const STATE: u8 = 7;
    /// Bits of which every place has one, but that of Established and proven, which is 2.
    const CHEAP: u8 = 5;
    const BIT: u8 = 1 << 3;
    const AWAY: u8 = 1 << 4;
    const FLAGS: u32 = 5;

    #[inline(always)]
    pub(super) const fn new(
        state: State,
        proven: bool,
        flags: FlowFlags,
        bit: bool,
        away: bool,
    ) -> Mark {
        Mark(
            state.place(proven)
                | (bit as u8 * Mark::BIT)
                | (away as u8 * Mark::AWAY)
                | flags.bits() << Mark::FLAGS,
        )
    }

    #[inline(always)]
    pub(super) const fn live(self) -> bool {
        self.0 != 0
    }

    /// Whether there is a flow, and its key has this bit.
    #[inline(always)]
    pub(super) const fn is(self, bit: bool) -> bool {
        self.live() && (self.0 & Mark::BIT != 0) == bit
    }

    /// The state's place, 0 when there is no flow.
    #[inline(always)]
    pub(super) const fn place(self) -> usize {
        (self.0 & Mark::STATE) as usize
    }

    #[inline(always)]
    pub(super) const fn state(self) -> State {
        match self.0 & Mark::STATE {
            1 => State::SynReceived,
            2 | 6 => State::Established,
            3 => State::Closing,
            5 | 7 => State::Udp,
            _ => State::Closed,
        }
    }

    /// Whether the flow is one that can prove itself, and has.
    #[inline(always)]
    pub(super) const fn proven(self) -> bool {
        matches!(self.0 & Mark::STATE, 2 | 5)
    }

    /// Whether the flow is one that can prove itself, and has not.
    #[inline(always)]
    pub(super) const fn is_new(self) -> bool {
        self.0 & Mark::STATE >= 6
    }

    /// Whether there is a flow, and it is not established and proven.
    #[inline(always)]
    pub(super) const fn is_cheap(self) -> bool {
        self.0 & Mark::CHEAP != 0
    }

    #[inline(always)]
    pub(super) const fn with_state(self, state: State, proven: bool) -> Mark {
        Mark(self.0 & !Mark::STATE | state.place(proven))
    }

    #[inline(always)]
    pub(super) const fn bit(self) -> bool {
        self.0 & Mark::BIT != 0
    }

    #[inline(always)]
    pub(super) const fn away(self) -> bool {
        self.0 & Mark::AWAY != 0
    }

    #[inline(always)]
    pub(super) const fn flags(self) -> FlowFlags {
        FlowFlags::from_bits(self.0 >> Mark::FLAGS)
    }
}

/// `N` flows, and how many that are elsewhere would be here if there had been room.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Bucket<K: TableKey, const N: usize> {
    addresses: [K::Addresses; N],
    ports: [u32; N],
    reals: [RealId; N],
    pub(super) deadlines: [Tick; N],
    pub(super) marks: [Mark; N],
    beyond: u8,
}

impl<K: TableKey, const N: usize> Bucket<K, N> {
    pub(super) fn new() -> Self {
        Bucket {
            addresses: [K::Addresses::default(); N],
            ports: [0; N],
            reals: [RealId(0); N],
            deadlines: [Tick(0); N],
            marks: [Mark::VACANT; N],
            beyond: 0,
        }
    }

    /// The only slot that can hold this key, but for two keys that differ in their bit alone and
    /// keys of zeroes. To be compared in full.
    #[inline(always)]
    pub(super) fn likely(&self, addresses: &K::Addresses, ports: u32) -> usize {
        let mut slot = 0;
        for n in 1..N {
            if (self.addresses[n] == *addresses) & (self.ports[n] == ports) {
                slot = n;
            }
        }
        slot
    }

    /// Whether a slot has a key of this bit and these words.
    #[inline(always)]
    pub(super) fn has(&self, slot: usize, addresses: &K::Addresses, ports: u32) -> bool {
        (self.addresses[slot] == *addresses) & (self.ports[slot] == ports)
    }

    /// The slot of a key.
    #[inline(always)]
    pub(super) fn find(&self, key: &Packed<K::Addresses>) -> Option<usize> {
        let slot = self.likely(&key.addresses, key.ports);
        if !self.has(slot, &key.addresses, key.ports) {
            return None;
        }
        if self.marks[slot].is(key.bit) {
            return Some(slot);
        }
        (0..N).find(|&n| self.has(n, &key.addresses, key.ports) && self.marks[n].is(key.bit))
    }

    /// An empty slot.
    #[inline(always)]
    pub(super) fn vacancy(&self) -> Option<usize> {
        // Without a branch for each: how many are in use nobody can foresee.
        let marks = self.marks.iter().enumerate();
        let empty = marks.fold(0u32, |all, (n, mark)| all | u32::from(!mark.live()) << n);
        if empty != 0 { Some(empty.trailing_zeros() as usize) } else { None }
    }

    /// The slots in use.
    #[inline(always)]
    pub(super) fn occupied(&self) -> impl Iterator<Item = usize> {
        (0..N).filter(|&n| self.marks[n].live())
    }

    /// Whether a flow is not established and proven.
    #[inline(always)]
    pub(super) fn has_cheap(&self) -> bool {
        Mark(self.marks.iter().fold(0, |all, mark| all | mark.0)).is_cheap()
    }

    /// The real server of a slot.
    #[inline(always)]
    pub(super) fn real(&self, slot: usize) -> RealId {
        self.reals[slot]
    }

    /// The flow of a slot in use.
    #[inline(always)]
    pub(super) fn flow(&self, slot: usize) -> Option<Flow<K>> {
        let mark = *self.marks.get(slot)?;
        let (addresses, ports, bit) = (self.addresses[slot], self.ports[slot], mark.bit());
        mark.live().then(|| Flow {
            key: K::unpack(Packed { addresses, ports, bit }),
            real: self.reals[slot],
            deadline: self.deadlines[slot],
            state: mark.state(),
            proven: mark.proven(),
            flags: mark.flags(),
        })
    }

    /// Puts a flow into a slot; `away` if this is not its first bucket.
    #[inline(always)]
    pub(super) fn put(
        &mut self,
        slot: usize,
        key: &Packed<K::Addresses>,
        flow: &Flow<K>,
        away: bool,
    ) {
        if slot < N {
            self.addresses[slot] = key.addresses;
            self.ports[slot] = key.ports;
            self.reals[slot] = flow.real;
            self.deadlines[slot] = flow.deadline;
            self.marks[slot] = Mark::new(flow.state, flow.proven, flow.flags, key.bit, away);
        }
    }

    /// Empties a slot. Nothing of the key stays behind, as [`likely`](Bucket::likely) wants.
    #[inline(always)]
    pub(super) fn clear(&mut self, slot: usize) {
        if slot < N {
            self.addresses[slot] = K::Addresses::default();
            self.ports[slot] = 0;
            self.marks[slot] = Mark::VACANT;
        }
    }

    /// How many flows went on from here to another bucket; [`u8::MAX`] when that many have ever
    /// been at once.
    #[inline(always)]
    pub(super) fn beyond(&self) -> u8 {
        self.beyond
    }

    /// One more went on.
    pub(super) fn pass_over(&mut self) {
        self.beyond = self.beyond.saturating_add(1);
    }

    /// One of those left the table. A count that was once full is not known any more, and stays.
    pub(super) fn come_back(&mut self) {
        if self.beyond < u8::MAX {
            self.beyond = self.beyond.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{FlowKey, FlowKey6, Protocol};

    fn key(n: u8, protocol: Protocol) -> FlowKey {
        FlowKey {
            client: [10, 0, 0, n].into(),
            vip: [192, 0, 2, 1].into(),
            client_port: 1000,
            vip_port: 53,
            protocol,
        }
    }

    #[test]
    fn is_one_cache_line_or_two() {
        assert_eq!((size_of::<Bucket<FlowKey, 3>>(), align_of::<Bucket<FlowKey, 3>>()), (64, 64));
        assert_eq!(
            (size_of::<Bucket<FlowKey6, 2>>(), align_of::<Bucket<FlowKey6, 2>>()),
            (128, 64)
        );
    }

    #[test]
    fn a_mark_keeps_what_it_is_made_of() {
        let states = || State::ALL.into_iter().flat_map(|state| [(state, false), (state, true)]);
        for (state, proven) in states() {
            for flags in (0..8).map(FlowFlags::from_bits) {
                for (bit, away) in [(false, false), (false, true), (true, false), (true, true)] {
                    let mark = Mark::new(state, proven, flags, bit, away);
                    assert!(mark.live() && mark.is(bit) && !mark.is(!bit));
                    assert_eq!(mark.place(), usize::from(state.place(proven)));
                    assert_eq!(mark.is_cheap(), (state, proven) != (State::Established, true));
                    let provable = matches!(state, State::Established | State::Udp);
                    assert_eq!(mark.proven(), provable && proven);
                    assert_eq!(mark.is_new(), provable && !proven);
                    assert_eq!(
                        (mark.state(), mark.flags(), mark.bit(), mark.away()),
                        (state, flags, bit, away)
                    );
                    for (next, proven) in states() {
                        assert_eq!(
                            mark.with_state(next, proven),
                            Mark::new(next, proven, flags, bit, away)
                        );
                    }
                }
            }
        }
        assert!(!Mark::VACANT.live() && !Mark::VACANT.is(false) && !Mark::VACANT.is(true));
        assert!(Mark::VACANT.place() == 0 && !Mark::VACANT.is_cheap());
    }

    #[test]
    fn slots_fill_and_clear() {
        let mut bucket = Bucket::<FlowKey, 3>::new();
        let flow = |n: u8, protocol| Flow {
            key: key(n, protocol),
            real: RealId(n.into()),
            deadline: Tick(n.into()),
            state: State::Udp,
            proven: n == 1,
            flags: FlowFlags::BOUND,
        };
        // Two of them differ in their protocol alone.
        let flows = [flow(1, Protocol::Tcp), flow(2, Protocol::Udp), flow(1, Protocol::Udp)];
        for (n, flow) in flows.iter().enumerate() {
            assert_eq!(bucket.vacancy(), Some(n));
            assert_eq!(bucket.find(&flow.key.pack()), None);
            bucket.put(n, &flow.key.pack(), flow, n == 1);
            assert_eq!(bucket.marks[n].away(), n == 1);
        }
        assert_eq!(bucket.vacancy(), None);
        for (n, flow) in flows.iter().enumerate() {
            let key = flow.key.pack();
            assert_eq!(bucket.find(&key), Some(n));
            assert!(bucket.has(
                bucket.likely(&key.addresses, key.ports),
                &key.addresses,
                key.ports
            ));
            assert_eq!(bucket.flow(n), Some(*flow));
        }
        bucket.clear(2);
        assert_eq!((bucket.find(&flows[2].key.pack()), bucket.flow(2)), (None, None));
        assert_eq!(bucket.find(&flows[0].key.pack()), Some(0));
        assert_eq!(bucket.occupied().collect::<Vec<_>>(), [0, 1]);
        // What is no slot is nothing.
        bucket.put(3, &flows[0].key.pack(), &flows[0], false);
        bucket.clear(3);
        assert_eq!((bucket.flow(3), bucket.vacancy()), (None, Some(2)));
    }

    #[test]
    fn a_count_that_was_full_stays() {
        let mut bucket = Bucket::<FlowKey, 3>::new();
        for n in 1..u8::MAX {
            bucket.pass_over();
            assert_eq!(bucket.beyond(), n);
        }
        for n in (0..u8::MAX - 1).rev() {
            bucket.come_back();
            assert_eq!(bucket.beyond(), n);
        }
        bucket.come_back();
        assert_eq!(bucket.beyond(), 0);
        for _ in 0..300 {
            bucket.pass_over();
        }
        bucket.come_back();
        assert_eq!(bucket.beyond(), u8::MAX);
    }
}
