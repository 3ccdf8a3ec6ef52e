//! The flow table against the plainest model of it: a hash map, and the rules of the
//! documentation. Operations, and time, come at random.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use dataplane::flow::{
    Cause, Event, Flow, FlowFlags, Lookup, Packed, Passed, Removed, State, Swept, Table, TableKey,
    Timeouts, Transition,
};
use dataplane::hash::Seed;
use dataplane::types::{FlowKey, FlowKey6, Protocol, RealId, Tick};
use proptest::prelude::*;

/// The TCP flags of a SYN.
const SYN: u8 = 2;

/// Keys of the model are small numbers.
trait ModelKey: TableKey + std::fmt::Debug + Send + 'static {
    fn of(n: u8) -> Self;
    fn number(&self) -> u8;
}

impl ModelKey for FlowKey {
    fn of(n: u8) -> FlowKey {
        FlowKey {
            client: [10, 0, 0, n].into(),
            vip: [192, 0, 2, 1].into(),
            client_port: 1000 + u16::from(n),
            vip_port: 80,
            protocol: Protocol::Tcp,
        }
    }

    fn number(&self) -> u8 {
        self.client.octets()[3]
    }
}

impl ModelKey for FlowKey6 {
    fn of(n: u8) -> FlowKey6 {
        FlowKey6 {
            client: [0x2001, 0xdb8, 0, u16::from(n), 0, 0, 0, 1].into(),
            vip: [0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 1].into(),
            client_port: 1000 + u16::from(n),
            vip_port: 80,
            protocol: Protocol::Tcp,
        }
    }

    fn number(&self) -> u8 {
        self.client.octets()[7]
    }
}

/// A key that crowds: three first buckets, and few others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CrowdedKey(u8);

impl TableKey for CrowdedKey {
    type Addresses = ();

    fn pack(&self) -> Packed<()> {
        Packed { addresses: (), ports: u32::from(self.0 >> 1), bit: self.0 & 1 != 0 }
    }

    fn unpack(packed: Packed<()>) -> CrowdedKey {
        CrowdedKey((packed.ports as u8) << 1 | u8::from(packed.bit))
    }

    fn hash(&self, _: &Seed) -> u64 {
        let n = u64::from(self.0);
        (n % 3) << 62 | (n / 3 % 5) << 29 | (n / 15 % 3)
    }
}

impl ModelKey for CrowdedKey {
    fn of(n: u8) -> CrowdedKey {
        CrowdedKey(n)
    }

    fn number(&self) -> u8 {
        self.0
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Insert(u8, State),
    Packet(u8, Event),
    Remove(u8),
    Advance(u32),
    Sweep { budget: usize, refuse: u32 },
    Timeouts(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let state = prop::sample::select(State::ALL.to_vec());
    let event = prop::sample::select(vec![
        Event::Syn,
        Event::Ack,
        Event::Fin,
        Event::Rst,
        Event::Other,
        Event::Datagram,
    ]);
    prop_oneof![
        16 => (any::<u8>(), state).prop_map(|(n, s)| Op::Insert(n, s)),
        8 => (any::<u8>(), event).prop_map(|(n, e)| Op::Packet(n, e)),
        2 => any::<u8>().prop_map(Op::Remove),
        2 => (0u32..2_000).prop_map(Op::Advance),
        1 => (0u32..400_000).prop_map(Op::Advance),
        2 => (0usize..80, 2u32..20).prop_map(|(budget, refuse)| Op::Sweep { budget, refuse }),
        1 => (1u64..2_000).prop_map(Op::Timeouts),
    ]
}

struct Model<K: TableKey, const N: usize> {
    table: Table<K, N>,
    flows: HashMap<u8, Flow<K>>,
    timeouts: Timeouts,
    now: Tick,
    /// Every insertion has its own, so that a removal names the insertion it ends.
    serial: u32,
}

impl<K: ModelKey, const N: usize> Model<K, N> {
    fn new(capacity: usize, start: u32) -> Self {
        Model {
            table: Table::new(capacity, Seed::new(7)).unwrap(),
            flows: HashMap::new(),
            timeouts: Timeouts::default(),
            now: Tick(start),
            serial: 0,
        }
    }

    fn span(&self, state: State) -> u32 {
        let t = &self.timeouts;
        let span = match state {
            State::SynReceived => t.tcp_syn,
            State::Established => t.tcp,
            State::Closing => t.tcp_fin,
            State::Closed => t.tcp_closed,
            State::Udp => t.udp,
        };
        span.as_millis() as u32
    }

    fn deadline(&self, state: State) -> Tick {
        self.now.after(self.span(state))
    }

    /// Smaller goes first: of newcomers the oldest, of others the one that ends first.
    fn rank(&self, flow: &Flow<K>) -> (u8, u32) {
        let left = flow.deadline.remaining(self.now);
        let young = i32::MAX as u32 - self.span(flow.state).saturating_sub(left);
        match flow.state {
            _ if flow.expired(self.now) => (0, 0),
            State::SynReceived => (1, left),
            State::Closing | State::Closed => (2, left),
            State::Udp if flow.proven => (5, left),
            State::Established if flow.proven => (6, left),
            _ if flow.flags.has(FlowFlags::REPLICA) => (1, young),
            State::Udp => (3, young),
            State::Established => (4, young),
        }
    }

    /// A flow left the table: it must have been in it, once, as it says.
    fn left(flows: &mut HashMap<u8, Flow<K>>, now: Tick, removed: &Removed<K>) -> Flow<K> {
        let flow = flows.remove(&removed.key.number()).expect("removed what was there");
        assert!(flow.key == removed.key);
        assert_eq!(
            (flow.real, flow.state, flow.proven, flow.flags),
            (removed.real, removed.state, removed.proven, removed.flags)
        );
        assert_eq!(flow.expired(now), removed.cause == Cause::Expired);
        flow
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Insert(n, state) => self.insert(n, state),
            Op::Packet(n, event) => self.packet(n, event),
            Op::Remove(n) => {
                let key = K::of(n);
                let hash = self.table.hash(&key);
                if let Lookup::Hit(flow) = self.lookup(n, hash) {
                    let removed = self.table.remove(flow).unwrap();
                    assert_eq!(removed.cause, Cause::Removed);
                    Self::left(&mut self.flows, self.now, &removed);
                    assert!(self.table.remove(flow).is_none());
                }
            }
            Op::Advance(millis) => self.now = self.now.after(millis),
            Op::Sweep { budget, refuse } => self.sweep(budget, refuse),
            Op::Timeouts(seconds) => {
                self.timeouts.tcp = std::time::Duration::from_secs(seconds);
                self.table.set_timeouts(&self.timeouts);
            }
        }
        self.check();
    }

    fn lookup(&mut self, n: u8, hash: u64) -> Lookup<K> {
        let found = self.table.find(&K::of(n), hash, self.now);
        // A glance never misses what is there; a SYN leaves nothing as it is, so it finds nothing.
        let key = K::of(n).pack();
        match self.table.pass(hash, &key.addresses, key.ports, SYN, self.now) {
            Passed::Unknown => {}
            Passed::Absent => assert!(!self.flows.contains_key(&n)),
            Passed::Real(real) => panic!("{real:?} by a SYN"),
        }
        let outcome = self.table.lookup(&K::of(n), hash, self.now);
        match (self.flows.get(&n).copied(), &outcome) {
            (None, Lookup::Miss) => assert!(found.is_none()),
            (Some(flow), Lookup::Hit(place)) => {
                assert!(!flow.expired(self.now));
                assert!(self.table.get(*place) == flow && found == Some(flow));
            }
            (Some(_), Lookup::Expired(removed)) => {
                assert_eq!(removed.cause, Cause::Expired);
                assert!(found.is_none());
                Self::left(&mut self.flows, self.now, removed);
            }
            (flow, outcome) => panic!("{flow:?} looked up as {outcome:?}"),
        }
        outcome
    }

    fn insert(&mut self, n: u8, state: State) {
        let key = K::of(n);
        let hash = self.table.hash(&key);
        self.serial += 1;
        let flow = Flow {
            key,
            real: RealId(self.serial),
            deadline: self.deadline(state),
            state,
            proven: false,
            flags: FlowFlags::from_bits(n),
        };
        let full = self.flows.len() == self.table.capacity();
        let inserted = self.table.insert(key, hash, flow.real, flow.state, flow.flags, self.now);
        match &inserted.evicted {
            None => assert!(!full && !self.flows.contains_key(&n)),
            Some(removed) => {
                if self.flows.contains_key(&n) {
                    assert!(removed.key == key);
                } else {
                    assert!(matches!(removed.cause, Cause::Evicted | Cause::Expired));
                    // A small table is searched as a whole.
                    if full && self.table.capacity() <= 16 {
                        let least = self.flows.values().map(|f| self.rank(f)).min();
                        let victim = &self.flows[&removed.key.number()];
                        assert_eq!(Some(self.rank(victim)), least);
                    }
                }
                Self::left(&mut self.flows, self.now, removed);
            }
        }
        assert!(self.table.get(inserted.flow) == flow);
        assert!(self.flows.insert(n, flow).is_none());
    }

    fn packet(&mut self, n: u8, event: Event) {
        let hash = self.table.hash(&K::of(n));
        let Lookup::Hit(place) = self.lookup(n, hash) else { return };
        let mut flow = self.flows[&n];
        let from = flow.state;
        let transition = self.table.touch(place, event, self.now);
        let (to, renewed) = match (from, event) {
            (State::Udp, _) => (State::Udp, true),
            (_, Event::Other | Event::Datagram) => (from, false),
            (_, Event::Rst) => (State::Closed, true),
            (State::Closed | State::Closing, Event::Syn) => {
                assert!(matches!(transition, Transition::NewConnection { .. }));
                assert!(self.table.get(place) == flow);
                return self.insert(n, State::SynReceived);
            }
            (State::Closed | State::Closing, _) => (from, true),
            (_, Event::Fin) => (State::Closing, true),
            (_, Event::Ack) => (State::Established, true),
            (_, Event::Syn) => (from, true),
        };
        flow.state = to;
        let mut expected =
            if from == to { Transition::Same } else { Transition::Changed { from, to } };
        let newcomer = matches!(to, State::Established | State::Udp) && !flow.proven;
        if renewed && from == to && newcomer {
            // Only time proves, and until then the timer goes on.
            let (span, left) = (self.span(to), flow.deadline.remaining(self.now));
            if left > span {
                flow.deadline = self.deadline(to);
            } else if event != Event::Syn && span - left >= (span / 4).min(1000) {
                (flow.proven, flow.deadline) = (true, self.deadline(to));
                expected = Transition::Proven;
            }
        } else if renewed {
            flow.deadline = self.deadline(to);
            flow.proven &= from == to;
        }
        assert!(self.table.get(place) == flow);
        assert_eq!(transition, expected);
        self.flows.insert(n, flow);
    }

    fn sweep(&mut self, budget: usize, refuse: u32) {
        let now = self.now;
        let flows = &mut self.flows;
        let before = flows.len();
        let swept: Swept = self.table.sweep(
            now,
            budget,
            |flow| {
                assert!(!flow.expired(now));
                flow.real.0 % refuse != 0
            },
            |removed| {
                let flow = Self::left(flows, now, &removed);
                if removed.cause != Cause::Expired {
                    assert_eq!(removed.cause, Cause::Removed);
                    assert_eq!(flow.real.0 % refuse, 0);
                }
            },
        );
        assert_eq!(swept.examined, budget.min(self.table.capacity()));
        assert_eq!(swept.removed, before - flows.len());
        if swept.examined == self.table.capacity() {
            assert!(flows.values().all(|f| !f.expired(now) && f.real.0 % refuse != 0));
        }
    }

    fn check(&self) {
        assert_eq!(self.table.len(), self.flows.len());
        let mut listed = HashMap::new();
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            cursor = self.table.scan(at, 13, |flow| {
                assert!(listed.insert(flow.key.number(), *flow).is_none(), "key twice");
            });
        }
        assert!(listed == self.flows);
        for (&n, flow) in &self.flows {
            let found = self.table.find(&K::of(n), self.table.hash(&K::of(n)), self.now);
            assert!(found == Some(*flow).filter(|f| !f.expired(self.now)));
        }
        let c = self.table.counters();
        let left = c.expired + c.replaced + c.removed + c.evicted.iter().sum::<u64>();
        assert_eq!(c.inserted, self.table.len() as u64 + left);
        assert_eq!(c.inserted, u64::from(self.serial));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_a_table(
        capacity in prop_oneof![1usize..17, 17usize..100, Just(300)],
        // Around the wrap of time, too.
        start in prop_oneof![any::<u32>(), (u32::MAX - 2_000_000)..],
        ops in prop::collection::vec(op(), 0..600),
    ) {
        let mut model = Model::<FlowKey, 3>::new(capacity, start);
        for op in ops {
            model.apply(op);
        }
    }

    #[test]
    fn any_history_of_a_table_for_ipv6(
        capacity in prop_oneof![1usize..17, 17usize..100, Just(300)],
        start in any::<u32>(),
        ops in prop::collection::vec(op(), 0..600),
    ) {
        let mut model = Model::<FlowKey6, 2>::new(capacity, start);
        for op in ops {
            model.apply(op);
        }
    }

    #[test]
    fn any_history_of_a_crowded_table(
        capacity in 40usize..300,
        start in any::<u32>(),
        ops in prop::collection::vec(op(), 0..1200),
    ) {
        let mut model = Model::<CrowdedKey, 3>::new(capacity, start);
        for op in ops {
            model.apply(op);
        }
    }
}
