//! Locality-based least connections, without and with replication: `lblc` and `lblcr`.
//!
//! Made for clusters of caches: what is asked of one destination address is kept together on one
//! real server (`lblc`), or on a set of them that grows under load and shrinks with time
//! (`lblcr`). A virtual service has one VIP and LVS keeps an entry for each destination address, so
//! with direct server return there is one entry for each virtual service; an LVS service by
//! firewall mark, which has many addresses, is what these were made for.
//!
//! # An entry
//! - Without one, the member with the least overhead for its weight is taken, as by `wlc`, and
//!   remembered.
//! - A member that is drained, removed or full does not count. One is overloaded when it has more
//!   active connections than its weight while another has less than half of its own; then a member
//!   is chosen anew, and takes the place of the old one (`lblc`) or joins it (`lblcr`).
//! - An entry is forgotten when no flow was scheduled by it for 24 hours
//!   (`net.ipv4.vs.lblc_expiration`). A set of more than one member that was the same for 24 hours
//!   (`net.ipv4.vs.lblcr_expiration`) loses its most loaded member.
//!
//! # Against LVS
//! Follows `ip_vs_lblc.c` and `ip_vs_lblcr.c`. There, entries are looked through every half hour,
//! and those unused for 6 minutes go when a table has more than 16384; here one is looked at when
//! it is used, and there are never that many. A set has at most 10 members, of which the most
//! loaded makes room for a new one. Each worker has an entry of its own; all of them begin with the
//! first of equal members, so that they agree as long as they see the same loads.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use super::input::{Taker, in_order};
use super::load::{Cost, least};
use super::{Cursor, Loads, Member};
use crate::hash::mix::GOLDEN;
use crate::types::Tick;

/// How long an entry is kept unused, and a set unchanged, in milliseconds.
const EXPIRATION: u32 = 24 * 60 * 60 * 1000;

/// Most members of a set: with them, a cursor is one cache line.
const MOST: usize = 10;

/// No member is known by this: none has the address 0.0.0.0.
const NOBODY: u32 = 0;

/// What each member is known by: an IPv4 address as it is, an IPv6 address folded to as many bits.
/// Of two that fold alike, the higher address gets the next number that is free, which it may lose
/// when the other goes.
fn names(members: &[Member]) -> Vec<u32> {
    let mut taken = HashSet::from([NOBODY]);
    let mut names = vec![NOBODY; members.len()];
    let mut order: Vec<_> = members.iter().map(|m| m.address).zip(&mut names).collect();
    order.sort_unstable_by_key(|(address, _)| *address);
    for (address, name) in order {
        *name = match address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => fold(address),
        };
        while !taken.insert(*name) {
            *name = name.wrapping_add(1);
        }
    }
    names
}

fn fold(address: Ipv6Addr) -> u32 {
    let bits = address.to_bits();
    let word = (bits >> 64) as u64 ^ (bits as u64).rotate_left(17);
    (word.wrapping_mul(GOLDEN) >> 32) as u32
}

/// The members one virtual service's flows are kept together on, known by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Locality {
    used: Tick,
    changed: Tick,
    /// In the order they joined, then [`NOBODY`].
    set: [u32; MOST],
}

impl Default for Locality {
    fn default() -> Locality {
        Locality::NONE
    }
}

impl Locality {
    /// No entry.
    pub(super) const NONE: Locality =
        Locality { used: Tick(0), changed: Tick(0), set: [NOBODY; MOST] };

    /// Takes note of a use. An entry that was not used for too long is forgotten.
    fn touch(&mut self, now: Tick) {
        if now.since(self.used) > EXPIRATION {
            *self = Locality::NONE;
        }
        self.used = now;
    }

    fn len(&self) -> usize {
        self.set.iter().take_while(|address| **address != NOBODY).count()
    }

    fn remove(&mut self, at: usize, now: Tick) {
        if let Some(from) = self.set.get_mut(at..) {
            from.rotate_left(1);
            self.set[MOST - 1] = NOBODY;
            self.changed = now;
        }
    }
}

/// The members that take new flows.
#[derive(Debug)]
struct Members {
    /// In the order configured.
    takers: Box<[Place]>,
    /// Indices of `takers`, by ascending address.
    by_address: Box<[u16]>,
}

/// A member that takes new flows, with what it is known by.
#[derive(Debug)]
struct Place {
    address: u32,
    taker: Taker,
}

impl Place {
    #[inline(always)]
    const fn index(&self) -> usize {
        self.taker.index()
    }

    fn cost(&self, loads: &(impl Loads + ?Sized)) -> Cost {
        let weight = u64::from(self.taker.weight);
        Cost { overhead: loads.load(self.index()).overhead(), weight }
    }
}

impl Members {
    fn build(members: &[Member]) -> Members {
        let names = names(members);
        let address = |t: &Taker| names.get(t.index()).copied().unwrap_or(NOBODY);
        let place = |taker: &Taker| Place { address: address(taker), taker: *taker };
        let takers: Box<[Place]> = in_order(members).iter().map(place).collect();
        let mut by_address: Vec<(u32, u16)> =
            takers.iter().map(|place| place.address).zip(0..=u16::MAX).collect();
        by_address.sort_unstable();
        Members { takers, by_address: by_address.into_iter().map(|(_, at)| at).collect() }
    }

    fn find(&self, address: u32) -> Option<&Place> {
        let place = |at: &u16| self.takers.get(usize::from(*at));
        let known = |at: &u16| place(at).map_or(NOBODY, |place| place.address);
        let found = self.by_address.binary_search_by_key(&address, known).ok()?;
        place(self.by_address.get(found)?)
    }

    /// Any member: the first of the least loaded.
    fn schedule(&self, loads: &(impl Loads + ?Sized)) -> Option<&Place> {
        least(&self.takers, &mut Cursor::default(), |place| {
            (!loads.is_full(place.index())).then(|| place.cost(loads))
        })
    }

    /// Whether a member has too much while another has little.
    fn is_overloaded(&self, place: &Place, loads: &(impl Loads + ?Sized)) -> bool {
        let active = |place: &Place| u64::from(loads.load(place.index()).active);
        active(place) > u64::from(place.taker.weight)
            && self.takers.iter().any(|other| active(other) * 2 < u64::from(other.taker.weight))
    }
}

/// `lblc`.
#[derive(Debug)]
pub(super) struct Lblc(Members);

impl Lblc {
    pub(super) fn build(members: &[Member]) -> Lblc {
        Lblc(Members::build(members))
    }

    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        let members = &self.0;
        let locality = &mut cursor.locality;
        locality.touch(loads.now());
        let kept = members
            .find(locality.set[0])
            .filter(|place| !loads.is_full(place.index()) && !members.is_overloaded(place, loads));
        if let Some(place) = kept {
            return Some(place.index());
        }
        let place = members.schedule(loads)?;
        locality.set[0] = place.address;
        Some(place.index())
    }
}

/// `lblcr`.
#[derive(Debug)]
pub(super) struct Lblcr(Members);

impl Lblcr {
    pub(super) fn build(members: &[Member]) -> Lblcr {
        Lblcr(Members::build(members))
    }

    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        let members = &self.0;
        let locality = &mut cursor.locality;
        let now = loads.now();
        locality.touch(now);
        let kept = self.least_of(locality, loads);
        if locality.len() > 1 && now.since(locality.changed) > EXPIRATION {
            self.remove_most_loaded(locality, loads);
        }
        if let Some(place) = kept.filter(|place| !members.is_overloaded(place, loads)) {
            return Some(place.index());
        }
        let place = members.schedule(loads)?;
        self.join(locality, place.address, loads);
        Some(place.index())
    }

    /// The least loaded of the set; of several, who joined last.
    fn least_of(&self, locality: &Locality, loads: &(impl Loads + ?Sized)) -> Option<&Place> {
        let mut best: Option<(&Place, Cost)> = None;
        let set = locality.set.iter().rev().filter_map(|address| self.0.find(*address));
        for place in set.filter(|place| !loads.is_full(place.index())) {
            let cost = place.cost(loads);
            if best.is_none_or(|(_, lowest)| cost.is_less_than(lowest)) {
                best = Some((place, cost));
            }
        }
        best.map(|(place, _)| place)
    }

    /// Removes the most loaded of the set; of several, who joined last. Who takes no new flows is
    /// left there, in case it does again.
    fn remove_most_loaded(&self, locality: &mut Locality, loads: &(impl Loads + ?Sized)) {
        let mut most: Option<(usize, Cost)> = None;
        for (at, address) in locality.set.iter().enumerate().rev() {
            let Some(place) = self.0.find(*address) else { continue };
            let cost = place.cost(loads);
            if most.is_none_or(|(_, highest)| highest.is_less_than(cost)) {
                most = Some((at, cost));
            }
        }
        if let Some((at, _)) = most {
            locality.remove(at, loads.now());
        }
    }

    fn join(&self, locality: &mut Locality, address: u32, loads: &(impl Loads + ?Sized)) {
        if locality.set.contains(&address) {
            return;
        }
        if locality.len() == MOST {
            // Whoever is gone makes room first.
            match locality.set.iter().position(|known| self.0.find(*known).is_none()) {
                Some(at) => locality.remove(at, loads.now()),
                None => self.remove_most_loaded(locality, loads),
            }
        }
        let end = locality.len();
        if let Some(place) = locality.set.get_mut(end) {
            *place = address;
            locality.changed = loads.now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::schedule::Load;

    struct World {
        loads: Vec<Load>,
        now: Tick,
    }

    impl Loads for World {
        fn load(&self, member: usize) -> Load {
            self.loads[member]
        }

        fn now(&self) -> Tick {
            self.now
        }
    }

    fn members(hosts: std::ops::Range<u8>) -> Vec<Member> {
        hosts.map(|n| Member { address: [10, 0, 0, n].into(), weight: 1 }).collect()
    }

    fn idle(count: usize) -> World {
        World { loads: vec![Load::default(); count], now: Tick(0) }
    }

    #[test]
    fn a_cursor_is_a_cache_line() {
        assert_eq!(size_of::<Cursor>(), 64);
    }

    #[test]
    fn an_entry_is_known_by_address_whoever_comes_before_it() {
        let mut cursor = Cursor::default();
        let mut world = idle(5);
        world.loads[0].inactive = 1;
        let first = Lblc::build(&members(3..5)).pick(&mut cursor, &world);
        assert_eq!(first, Some(1), "10.0.0.4");
        world.loads = vec![Load::default(); 5];
        assert_eq!(Lblc::build(&members(1..6)).pick(&mut cursor, &world), Some(3));
        // Gone, and there again: it is the other's now.
        assert_eq!(Lblc::build(&members(1..3)).pick(&mut cursor, &world), Some(0));
        assert_eq!(Lblc::build(&members(1..6)).pick(&mut cursor, &world), Some(0));
    }

    #[test]
    fn a_set_has_room_for_ten() {
        let mut cursor = Cursor::default();
        let mut world = idle(20);
        let lblcr = Lblcr::build(&members(1..21));
        for n in 0..15 {
            assert_eq!(lblcr.pick(&mut cursor, &world), Some(n));
            // The heavier the earlier it came, and all of the set have too much.
            world.loads[n].active = 40 - n as u32;
        }
        let set: Vec<_> = cursor.locality.set.iter().map(|a| a & 0xff).collect();
        assert_eq!(set, (6..16).collect::<Vec<_>>(), "the most loaded made room");
        // Who is gone makes room before that.
        world.loads.remove(6);
        let lblcr = Lblcr::build(&[members(1..7), members(8..21)].concat());
        assert_eq!(lblcr.pick(&mut cursor, &world), Some(14));
        let set: Vec<_> = cursor.locality.set.iter().map(|a| a & 0xff).collect();
        assert_eq!(set, [&[6], &(8..17).collect::<Vec<_>>()[..]].concat());
    }

    #[test]
    fn members_are_told_apart_whatever_their_family() {
        let member = |address: IpAddr| Member { address, weight: 1 };
        let [a, b] = ["2001:db8::1", "2001:db8::2"].map(|a| a.parse::<Ipv6Addr>().unwrap());
        // One of IPv4 whose bits are what an IPv6 address folds to.
        let alike = member(Ipv4Addr::from_bits(fold(a)).into());
        let all = [member(b.into()), member(a.into()), alike];
        let known = names(&all);
        assert_eq!(known, [fold(b), fold(a).wrapping_add(1), fold(a)]);
        let mut cursor = Cursor::default();
        let mut world = idle(3);
        world.loads[0].inactive = 1;
        world.loads[2].inactive = 1;
        assert_eq!(Lblc::build(&all).pick(&mut cursor, &world), Some(1));
        world.loads = vec![Load::default(); 3];
        assert_eq!(Lblc::build(&all).pick(&mut cursor, &world), Some(1), "kept");
    }

    #[test]
    fn what_is_not_used_for_a_day_is_forgotten() {
        let mut cursor = Cursor::default();
        let mut world = idle(2);
        let lblc = Lblc::build(&members(1..3));
        world.loads[0].inactive = 1;
        assert_eq!(lblc.pick(&mut cursor, &world), Some(1));
        world.loads = vec![Load::default(); 2];
        for _ in 0..3 {
            world.now = world.now.after(EXPIRATION);
            assert_eq!(lblc.pick(&mut cursor, &world), Some(1));
        }
        world.now = world.now.after(EXPIRATION + 1);
        assert_eq!(lblc.pick(&mut cursor, &world), Some(0));
    }
}
