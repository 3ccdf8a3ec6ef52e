//! Each scheduler against a plain re-implementation, over histories of new flows, flows that end,
//! weights and thresholds that change, and time that goes by.
//!
//! The re-implementations look at every real server every time, keep whether one is full by each
//! single connection as the kernel does, and share nothing with the product but its input.
#![expect(clippy::unwrap_used, reason = "a test fails by panic, its helpers too")]

mod schedule_common;

use std::cell::Cell;
use std::net::Ipv4Addr;

use dataplane::schedule::{Cursor, Load, Loads, Member, Options, Scheduler, Thresholds};
use dataplane::types::{FlowKey, Protocol, Tick};
use dataplane::vocabulary::SchedulerKind;
use proptest::collection::vec;
use proptest::prelude::*;

const HOUR: u32 = 3_600_000;
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

/// What happens to a virtual service.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A flow of this client begins.
    Flow(u8),
    /// One of the flows, by any number, becomes inactive.
    Close(u8),
    /// One of the flows is gone.
    End(u8),
    Weight(u8, u32),
    Threshold(u8, u32, u32),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any::<u8>().prop_map(Step::Flow),
        3 => any::<u8>().prop_map(Step::Close),
        7 => any::<u8>().prop_map(Step::End),
        1 => (any::<u8>(), 0..6_u32).prop_map(|(i, w)| Step::Weight(i, w)),
        1 => (any::<u8>(), 0..6_u32, 0..6_u32)
            .prop_map(|(i, upper, lower)| Step::Threshold(i, upper, lower.min(upper))),
        1 => (1..30_u32).prop_map(|hours| Step::Wait(hours * HOUR)),
    ]
}

/// A virtual service, as both sides see it.
struct World {
    members: Vec<Member>,
    thresholds: Vec<Thresholds>,
    loads: Vec<Load>,
    now: Tick,
    /// The product's.
    marks: Vec<Cell<u32>>,
    /// The kernel's `IP_VS_DEST_F_OVERLOAD`.
    full: Vec<bool>,
}

impl Loads for World {
    fn load(&self, member: usize) -> Load {
        self.loads[member]
    }

    fn is_full(&self, member: usize) -> bool {
        let mark = &self.marks[member];
        mark.set(self.thresholds[member].mark(mark.get(), self.loads[member].total()));
        mark.get() != 0
    }

    fn now(&self) -> Tick {
        self.now
    }
}

impl World {
    fn new(weights: &[u32], thresholds: &[(u32, u32)]) -> World {
        let address = |i: usize| Ipv4Addr::new(10, 0, 0, (i * 5 % 8) as u8 + 1);
        let count = weights.len();
        World {
            members: (0..count)
                .map(|i| Member { address: address(i).into(), weight: weights[i] })
                .collect(),
            thresholds: (0..count)
                .map(|i| thresholds[i])
                .map(|(upper, lower)| Thresholds { upper, lower: lower.min(upper) })
                .collect(),
            loads: vec![Load::default(); count],
            now: Tick(u32::MAX - 40 * HOUR),
            marks: vec![Cell::new(0); count],
            full: vec![false; count],
        }
    }

    fn weight(&self, i: usize) -> u64 {
        u64::from(self.members[i].weight)
    }

    fn overhead(&self, i: usize) -> u64 {
        u64::from(self.loads[i].active) * 256 + u64::from(self.loads[i].inactive)
    }

    fn active(&self, i: usize) -> u64 {
        u64::from(self.loads[i].active)
    }

    fn takers(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|&i| self.weight(i) > 0).collect()
    }

    fn free(&self) -> Vec<usize> {
        self.takers().into_iter().filter(|&i| !self.full[i]).collect()
    }

    fn total(&self, i: usize) -> u32 {
        self.loads[i].active + self.loads[i].inactive
    }

    /// A connection of `i` has begun.
    fn begin(&mut self, i: usize) {
        self.loads[i].active += 1;
        let upper = self.thresholds[i].upper;
        self.full[i] |= upper > 0 && self.total(i) >= upper;
        self.is_full(i);
    }

    /// The kernel's test at the end of a connection.
    fn emptied(&mut self, i: usize) {
        let Thresholds { upper, lower } = self.thresholds[i];
        let enough = match (upper, lower) {
            (0, _) => true,
            (upper, 0) => self.total(i) * 4 < upper * 3,
            (_, lower) => self.total(i) < lower,
        };
        self.full[i] &= !enough;
    }

    /// The product looks before a pick, so it is asked before as well as after.
    fn threshold(&mut self, i: usize, new: Thresholds) {
        self.is_full(i);
        if new.upper == 0 || new.upper > self.thresholds[i].upper {
            self.full[i] = false;
        }
        self.thresholds[i] = new;
        self.emptied(i);
        self.full[i] |= new.upper > 0 && self.total(i) >= new.upper;
        self.is_full(i);
    }
}

/// What a plain scheduler remembers.
#[derive(Default)]
struct Plain {
    place: usize,
    pass: u64,
    /// `lblc` and `lblcr`: members, newest first; when used and changed.
    set: Vec<usize>,
    used: Option<Tick>,
    changed: Tick,
    /// `twos`: what its random numbers follow from.
    random: u64,
}

/// The first of the least, by exact fractions.
fn first_least(
    of: &[usize],
    overhead: impl Fn(usize) -> u64,
    w: &World,
    by_weight: bool,
) -> Option<usize> {
    let weight = |i: usize| if by_weight { u128::from(w.weight(i)) } else { 1 };
    let cost = |i: usize| u128::from(overhead(i));
    of.iter().copied().find(|&i| of.iter().all(|&j| cost(i) * weight(j) <= cost(j) * weight(i)))
}

impl Plain {
    /// Those that take new flows, beginning with whose turn it is.
    fn rotation(&self, w: &World) -> Vec<usize> {
        let mut takers = w.takers();
        if !takers.is_empty() {
            let place = self.place % takers.len();
            takers.rotate_left(place);
        }
        takers.retain(|&i| !w.full[i]);
        takers
    }

    /// Notes whose turn it was.
    fn turn(&mut self, w: &World, picked: Option<usize>) -> Option<usize> {
        if let Some(i) = picked {
            self.place = w.takers().iter().position(|&t| t == i).unwrap() + 1;
        }
        picked
    }

    fn pick(
        &mut self,
        kind: SchedulerKind,
        w: &World,
        key: &FlowKey,
        table: &[u16],
        falls_back: bool,
    ) -> Option<usize> {
        let least = |this: &Self, overhead: &dyn Fn(usize) -> u64, by_weight| {
            first_least(&this.rotation(w), overhead, w, by_weight)
        };
        match kind {
            SchedulerKind::Rr => {
                let next = self.rotation(w).first().copied();
                self.turn(w, next)
            }
            SchedulerKind::Wrr => self.wrr(w),
            SchedulerKind::Lc => {
                let next = least(self, &|i| w.overhead(i), false);
                self.turn(w, next)
            }
            SchedulerKind::Wlc => {
                let next = least(self, &|i| w.overhead(i), true);
                self.turn(w, next)
            }
            SchedulerKind::Sed => {
                let next = least(self, &|i| w.active(i) + 1, true);
                self.turn(w, next)
            }
            SchedulerKind::Nq => {
                let idle = self.rotation(w).into_iter().find(|&i| w.active(i) == 0);
                let next = idle.or_else(|| least(self, &|i| w.active(i) + 1, true));
                self.turn(w, next)
            }
            SchedulerKind::Fo => heaviest(w, &w.free()),
            SchedulerKind::Ovf => {
                let mut room = w.free();
                room.retain(|&i| w.active(i) <= w.weight(i));
                heaviest(w, &room)
            }
            SchedulerKind::Sh | SchedulerKind::Mh => {
                let c = key.client.octets();
                let hash = schedule_common::client([0; 16], c, 0);
                let start = ((u128::from(hash) * table.len() as u128) >> 64) as usize;
                let mut owners = (0..table.len().min(65))
                    .map(|n| usize::from(table[(start + n) % table.len()]))
                    .take(if falls_back { 65 } else { 1 });
                let near = owners.find(|&i| !w.full[i]);
                near.or_else(|| w.free().first().copied().filter(|_| falls_back))
            }
            SchedulerKind::Dh => {
                let v = key.vip.octets();
                let hash = schedule_common::vip([0; 16], v);
                let slot = ((u128::from(hash) * table.len() as u128) >> 64) as usize;
                table.get(slot).map(|&i| usize::from(i)).filter(|&i| !w.full[i])
            }
            SchedulerKind::Lblc => self.lblc(w),
            SchedulerKind::Lblcr => self.lblcr(w),
            SchedulerKind::Twos => self.twos(w),
        }
    }

    /// Step by step through the cycle, heaviest first in each pass.
    fn wrr(&mut self, w: &World) -> Option<usize> {
        let mut sorted = w.takers();
        sorted.sort_by_key(|&i| std::cmp::Reverse(w.weight(i)));
        let gcd = (1..=6).rev().find(|d| sorted.iter().all(|&i| w.weight(i) % d == 0)).unwrap();
        let passes = w.weight(*sorted.first()?) / gcd;
        let before = (self.place, self.pass);
        self.pass %= passes;
        // Two cycles, or nobody is free.
        for _ in 0..2 * (passes as usize + 1) * (sorted.len() + 1) {
            if self.place >= sorted.len() {
                (self.place, self.pass) = (0, (self.pass + 1) % passes);
            }
            let i = sorted[self.place];
            let is_in_pass = w.weight(i) / gcd >= passes - self.pass;
            if is_in_pass && !w.full[i] {
                self.place += 1;
                return Some(i);
            }
            self.place += 1;
        }
        (self.place, self.pass) = before;
        None
    }

    /// Two are drawn by walks along the list; the second takes the flow if it costs less.
    fn twos(&mut self, w: &World) -> Option<usize> {
        if w.takers().is_empty() {
            return None;
        }
        let (first, second) = (self.draw_one(w)?, self.draw_one(w)?);
        let less = w.overhead(second) * w.weight(first) < w.overhead(first) * w.weight(second);
        Some(if less { second } else { first })
    }

    /// Sixteen tries among all, then one among those that have room.
    fn draw_one(&mut self, w: &World) -> Option<usize> {
        for _ in 0..16 {
            let i = self.walk(w, &w.takers())?;
            if !w.full[i] {
                return Some(i);
            }
        }
        self.walk(w, &w.free())
    }

    fn walk(&mut self, w: &World, of: &[usize]) -> Option<usize> {
        let sum: u64 = of.iter().map(|&i| w.weight(i)).sum();
        let drawn = u128::from(self.splitmix()) * u128::from(sum) / (1 << 64);
        let mut left = drawn as i64;
        of.iter().copied().find(|&i| {
            left -= w.weight(i) as i64;
            left < 0
        })
    }

    /// SplitMix64, as published.
    fn splitmix(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e3779b97f4a7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
        z ^ (z >> 31)
    }

    fn is_overloaded(w: &World, i: usize) -> bool {
        w.active(i) > w.weight(i) && w.takers().iter().any(|&j| w.active(j) * 2 < w.weight(j))
    }

    fn forget(&mut self, now: Tick) {
        if self.used.is_some_and(|used| now.since(used) > 24 * HOUR) {
            self.set.clear();
        }
        self.used = Some(now);
    }

    fn lblc(&mut self, w: &World) -> Option<usize> {
        self.forget(w.now);
        let kept = self.set.first().copied();
        if let Some(i) = kept.filter(|i| w.free().contains(i) && !Self::is_overloaded(w, *i)) {
            return Some(i);
        }
        let next = first_least(&w.free(), |i| w.overhead(i), w, true)?;
        self.set = vec![next];
        Some(next)
    }

    fn lblcr(&mut self, w: &World) -> Option<usize> {
        self.forget(w.now);
        let free: Vec<_> = self.set.iter().copied().filter(|i| w.free().contains(i)).collect();
        let kept = first_least(&free, |i| w.overhead(i), w, true);
        if self.set.len() > 1 && w.now.since(self.changed) > 24 * HOUR {
            let able: Vec<_> = self.set.iter().copied().filter(|i| w.weight(*i) > 0).collect();
            let most = able.iter().copied().find(|&i| {
                able.iter().all(|&j| w.overhead(i) * w.weight(j) >= w.overhead(j) * w.weight(i))
            });
            if let Some(most) = most {
                self.set.retain(|&i| i != most);
                self.changed = w.now;
            }
        }
        if let Some(i) = kept.filter(|&i| !Self::is_overloaded(w, i)) {
            return Some(i);
        }
        let next = first_least(&w.free(), |i| w.overhead(i), w, true)?;
        if !self.set.contains(&next) {
            self.set.insert(0, next);
            self.changed = w.now;
        }
        Some(next)
    }
}

/// The first of the highest weight.
fn heaviest(w: &World, of: &[usize]) -> Option<usize> {
    of.iter().copied().find(|&i| of.iter().all(|&j| w.weight(i) >= w.weight(j)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn histories_are_those_of_the_plain_schedulers(
        kind in prop::sample::select(SchedulerKind::ALL),
        weights in vec(0..6_u32, 1..8),
        thresholds in vec(prop_oneof![Just((0, 0)), (1..6_u32, 0..6_u32)], 8),
        fallback in any::<bool>(),
        steps in vec(step(), 1..150),
    ) {
        let mut world = World::new(&weights, &thresholds);
        let options = Options { maglev_size: 251, fallback, ..Options::default() };
        let build = |world: &World| Scheduler::build(kind, &world.members, &options).unwrap();
        let mut scheduler = build(&world);
        let (mut cursor, mut plain) = (Cursor::default(), Plain::default());
        let mut flows: Vec<(usize, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Flow(client) => {
                    let key = FlowKey {
                        client: Ipv4Addr::new(198, 51, 100, client),
                        vip: VIP,
                        client_port: 5,
                        vip_port: 80,
                        protocol: Protocol::Tcp,
                    };
                    let table = scheduler.table().unwrap_or_default();
                    let wanted = plain.pick(kind, &world, &key, table, fallback);
                    let picked = scheduler.pick(&key, &mut cursor, &world);
                    prop_assert_eq!(picked, wanted, "{} with {:?}", kind, world.loads);
                    if let Some(i) = picked {
                        world.begin(i);
                        flows.push((i, true));
                    }
                }
                Step::Close(n) if !flows.is_empty() => {
                    let at = usize::from(n) % flows.len();
                    let (i, active) = &mut flows[at];
                    if std::mem::take(active) {
                        world.loads[*i].active -= 1;
                        world.loads[*i].inactive += 1;
                    }
                }
                Step::End(n) if !flows.is_empty() => {
                    let (i, active) = flows.swap_remove(usize::from(n) % flows.len());
                    let load = &mut world.loads[i];
                    if active { load.active -= 1 } else { load.inactive -= 1 }
                    world.emptied(i);
                }
                Step::Close(_) | Step::End(_) => {}
                Step::Weight(n, weight) => {
                    let at = usize::from(n) % weights.len();
                    world.members[at].weight = weight;
                    scheduler = build(&world);
                }
                Step::Threshold(n, upper, lower) => {
                    world.threshold(usize::from(n) % weights.len(), Thresholds { upper, lower });
                }
                Step::Wait(millis) => world.now = world.now.after(millis),
            }
        }
    }
}
