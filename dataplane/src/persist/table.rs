//! The table of templates, shared by all workers.
//!
//! # Layout
//! A network's template is in one of the [`WAYS`] places of its bucket. There are twice as many
//! places as templates there is said to be room for, so that buckets are half full then.
//!
//! # How two that bind a network at once agree
//! A worker that finds no template claims a place, fills it, and looks at the others of the bucket
//! before it makes the place a template. Of two that do so at once, the one that claims last sees
//! the other: a template, which it takes instead of its own, or a claim, which it marks as lost.
//! A worker whose claim was lost starts again. So there is never more than one template of a
//! network, and both workers leave with the real server in it.
//!
//! # Who makes room
//! Anybody can bind a network, by one packet from an address that is not his. A template is proven
//! when its client comes again a second later, or a flow of it that it bound has proven itself; that
//! second's connections do not restart its timer, which tells of it. In a full bucket one that is
//! over makes room, else one that is not proven, else a proven one; of these first those of virtual
//! services with more than their share of the bucket, so that a flood competes with itself.
//!
//! # What is left to chance
//! A template evicted, or swept, in the very moment in which another worker restarts its timer is
//! gone; the next connection is scheduled afresh.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::entry::{Bond, Entry, Network, Owner, Stage};
use super::{NetworkKey, Template};
use crate::hash::mix;
use crate::types::{RealId, ServiceId, Tick};

/// A template whose time is over while flows it bound are there goes on so long at a time (as
/// LVS's do, `ip_vs_conn_expire`).
pub const EXTENSION_MS: u32 = 60_000;

/// Memory for each template there is room for.
pub const BYTES_PER_TEMPLATE: usize = 2 * size_of::<Entry<Ipv4Addr>>();

/// Places of a bucket.
const WAYS: usize = 16;

/// How long after a network was bound another connection proves it, milliseconds; a part of the
/// span, if that is short.
const PROOF_MS: u32 = 1000;

/// How often a worker starts again when others are busy with the same bucket.
const TRIES: usize = 64;

/// What binding a network did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Bound {
    /// There was a template, for this real server.
    Kept(RealId),
    /// There is one now; perhaps another network's that still lived made room for it.
    New {
        /// Whether one did.
        evicted: bool,
    },
    /// There is none: all places were busy.
    Failed,
}

/// All templates of a director, of one family.
#[derive(Debug)]
pub struct Templates<A: Network = Ipv4Addr> {
    buckets: Box<[[Entry<A>; WAYS]]>,
    seed: u64,
    len: AtomicUsize,
    /// Where the next sweep goes on.
    cursor: AtomicUsize,
}

impl<A: Network> Templates<A> {
    /// Room for about `capacity` templates, at least one bucket of them. `seed` keeps outsiders
    /// from aiming at a bucket.
    pub fn new(capacity: usize, seed: u64) -> Templates<A> {
        let buckets = capacity.saturating_mul(2).div_ceil(WAYS).max(1);
        Templates {
            buckets: (0..buckets).map(|_| std::array::from_fn(|_| Entry::default())).collect(),
            seed,
            len: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
        }
    }

    /// Templates there are, among them some whose time is over.
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places to look through with [`Templates::scan`] and [`Templates::sweep`].
    pub fn places(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// The real server a network is bound to; the timer stays as it is.
    pub fn bound(&self, key: &NetworkKey<A>, now: Tick) -> Option<RealId> {
        let (entry, _) = self.find(key)?;
        let bond = entry.bond();
        (!entry.is_over(bond, now)).then_some(bond.real)
    }

    /// The real server a network is bound to, if it is `usable`; the timer starts again.
    pub fn restart(
        &self,
        key: &NetworkKey<A>,
        span: u32,
        now: Tick,
        usable: impl Fn(RealId) -> bool,
    ) -> Option<RealId> {
        for _ in 0..TRIES {
            let (entry, owner) = self.find(key)?;
            let bond = entry.bond();
            if entry.is_over(bond, now) || !usable(bond.real) {
                return None;
            }
            if keep_on(entry, bond, span, now) && entry.owner() == owner {
                return Some(bond.real);
            }
        }
        None
    }

    /// Binds a network to `real`, unless it is bound to one that is `usable`: the timer starts
    /// again then.
    pub fn bind(
        &self,
        key: &NetworkKey<A>,
        real: RealId,
        span: u32,
        now: Tick,
        usable: impl Fn(RealId) -> bool,
    ) -> Bound {
        let Some(key_bits) = Owner::key_bits(key, self.seed) else { return Bound::Failed };
        let bond = Bond { real, deadline: now.after(span) };
        for _ in 0..TRIES {
            if let Some((entry, owner)) = self.find(key) {
                let before = entry.bond();
                let keeps = !entry.is_over(before, now) && usable(before.real);
                if keeps {
                    if keep_on(entry, before, span, now) && entry.owner() == owner {
                        return Bound::Kept(before.real);
                    }
                } else if entry.rebind(before, bond) && entry.owner() == owner {
                    entry.begin_again();
                    return Bound::New { evicted: false };
                }
                continue;
            }
            let bucket = self.bucket(key_bits);
            let Some((place, before)) = victim(bucket, key.service, now) else { continue };
            let entry = &bucket[place];
            let had_one = before.stage() == Stage::Live;
            let evicted = had_one && !entry.is_over(entry.bond(), now);
            let claim = before.claimed_by(key_bits);
            if !entry.pass(before, claim) {
                continue;
            }
            if had_one {
                self.len.fetch_sub(1, Relaxed);
            }
            entry.fill(key, bond);
            if is_first(bucket, place, key, key_bits) && entry.pass(claim, claim.at(Stage::Live)) {
                self.len.fetch_add(1, Relaxed);
                return Bound::New { evicted };
            }
            // Another was first. The place is this worker's to give back, be it lost or not.
            if !entry.pass(claim, claim.at(Stage::Empty)) {
                entry.pass(claim.at(Stage::Lost), claim.at(Stage::Empty));
            }
        }
        Bound::Failed
    }

    /// A flow of the network to `real` has begun.
    pub fn hold(&self, key: &NetworkKey<A>, real: RealId) {
        if let Some((entry, _)) = self.find(key) {
            if entry.bond().real == real {
                entry.add_flow(real);
            }
        }
    }

    /// A flow of the network to `real` is established.
    pub fn assure(&self, key: &NetworkKey<A>, real: RealId) {
        if let Some((entry, _)) = self.find(key) {
            if entry.bond().real == real {
                entry.assure(real);
            }
        }
    }

    /// A flow of the network to `real` has proven itself: packets of it came over time.
    pub fn prove(&self, key: &NetworkKey<A>, real: RealId) {
        if let Some((entry, _)) = self.find(key) {
            if entry.bond().real == real {
                entry.prove(real);
            }
        }
    }

    /// A flow of the network to `real` is gone. The template of a later time may be met; it counts
    /// one flow too few then, at worst, and is not extended.
    pub fn release(&self, key: &NetworkKey<A>, real: RealId, now: Tick) {
        let Some((entry, _)) = self.find(key) else { return };
        if !entry.sub_flow(real) {
            return;
        }
        let bond = entry.bond();
        if bond.real == real && bond.deadline.reached(now) {
            // As if the timer had gone off, and been set again, all the time.
            let over = now.since(bond.deadline);
            let left = EXTENSION_MS - over % EXTENSION_MS;
            entry.rebind(bond, Bond { deadline: now.after(left), ..bond });
        }
    }

    /// Looks at the next `count` places and removes templates that are over. By one thread, that
    /// comes round well within [`Tick::MAX_SPAN`].
    pub fn sweep(&self, now: Tick, count: usize) {
        let start = self.cursor.load(Relaxed);
        let places = self.places();
        for place in (start..start + count.min(places)).map(|place| place % places) {
            self.remove_if(place, |entry, bond, _| entry.is_over(bond, now));
        }
        self.cursor.store((start + count) % places, Relaxed);
    }

    /// Removes all templates that `gone` says so of; how many.
    pub fn forget(&self, gone: impl Fn(&NetworkKey<A>, RealId) -> bool) -> usize {
        if self.is_empty() {
            return 0;
        }
        let is_gone = |place: &usize| {
            self.remove_if(*place, |entry, bond, owner| gone(&entry.key(owner), bond.real))
        };
        (0..self.places()).filter(is_gone).count()
    }

    /// Removes a network's template.
    pub fn remove(&self, key: &NetworkKey<A>) {
        if let Some((entry, owner)) = self.find(key) {
            if entry.pass(owner, owner.at(Stage::Empty)) {
                self.len.fetch_sub(1, Relaxed);
            }
        }
    }

    fn remove_if(&self, place: usize, over: impl Fn(&Entry<A>, Bond, Owner) -> bool) -> bool {
        let Some(entry) = self.buckets.get(place / WAYS).map(|b| &b[place % WAYS]) else {
            return false;
        };
        let owner = entry.owner();
        let removed = owner.stage() == Stage::Live
            && over(entry, entry.bond(), owner)
            && entry.pass(owner, owner.at(Stage::Empty));
        if removed {
            self.len.fetch_sub(1, Relaxed);
        }
        removed
    }

    /// The template at a place, if there is one that is not over.
    pub fn scan(&self, place: usize, now: Tick) -> Option<Template<A>> {
        let entry = &self.buckets.get(place / WAYS)?[place % WAYS];
        Self::read(entry, entry.owner(), now)
    }

    /// The template of a network, if there is one that is not over. Looks at one bucket.
    pub fn template(&self, key: &NetworkKey<A>, now: Tick) -> Option<Template<A>> {
        let (entry, owner) = self.find(key)?;
        Self::read(entry, owner, now)
    }

    fn read(entry: &Entry<A>, owner: Owner, now: Tick) -> Option<Template<A>> {
        let bond = entry.bond();
        let (flows, assured) = (entry.flows(bond.real), entry.is_assured(bond.real));
        let key = entry.key(owner);
        let lives = owner.stage() == Stage::Live && entry.owner() == owner;
        if !lives || entry.is_over(bond, now) {
            return None;
        }
        Some(Template { key, real: bond.real, remaining_ms: left(bond, now), flows, assured })
    }

    /// How many templates that are not over each real server has. Looks through the whole table.
    pub fn count(&self, now: Tick) -> HashMap<RealId, u64> {
        let mut counts = HashMap::new();
        if !self.is_empty() {
            for template in (0..self.places()).filter_map(|place| self.scan(place, now)) {
                *counts.entry(template.real).or_default() += 1;
            }
        }
        counts
    }

    fn find(&self, key: &NetworkKey<A>) -> Option<(&Entry<A>, Owner)> {
        let key_bits = Owner::key_bits(key, self.seed)?;
        self.bucket(key_bits).iter().find_map(|entry| {
            let owner = entry.owner();
            entry.is(owner, key, key_bits, Stage::Live).then_some((entry, owner))
        })
    }

    fn bucket(&self, key_bits: u64) -> &[Entry<A>; WAYS] {
        let hash = mix::finish(key_bits ^ self.seed);
        let place = (u128::from(hash) * self.buckets.len() as u128) >> 64;
        &self.buckets[place as usize]
    }
}

/// Another connection of a network with this bond: the timer starts again, unless the network is yet
/// to prove that it comes over time. False when the bond has changed meanwhile.
fn keep_on<A: Network>(entry: &Entry<A>, bond: Bond, span: u32, now: Tick) -> bool {
    let left = bond.deadline.remaining(now);
    let proven = entry.is_proven(bond.real);
    if !proven && left > 0 && left <= span && span - left < PROOF_MS.min(span / 4) {
        return entry.bond() == bond;
    }
    let kept = entry.rebind(bond, Bond { deadline: now.after(span), ..bond });
    if kept && !proven && left <= span {
        entry.prove(bond.real);
    }
    kept
}

/// How long a template with this bond, which is not over, goes on.
fn left(bond: Bond, now: Tick) -> u32 {
    match bond.deadline.reached(now) {
        false => bond.deadline.remaining(now),
        true => EXTENSION_MS - now.since(bond.deadline) % EXTENSION_MS,
    }
}

/// The place to claim for a client of `service`: an empty one, else one that is over, else by what
/// the [module](self) says, of equals the one whose time is over first.
fn victim<A: Network>(
    bucket: &[Entry<A>; WAYS],
    service: ServiceId,
    now: Tick,
) -> Option<(usize, Owner)> {
    let owners: [Owner; WAYS] = std::array::from_fn(|place| bucket[place].owner());
    let all = || owners.iter().enumerate();
    let empty = all().find(|(_, owner)| owner.stage() == Stage::Empty);
    if let Some((place, owner)) = empty {
        return Some((place, *owner));
    }
    // The newcomer has a place, too.
    let live = || owners.iter().filter(|owner| owner.stage() == Stage::Live).map(|o| o.service());
    let services = || live().chain([service]);
    let first = |(n, s): &(usize, ServiceId)| services().position(|other| other == *s) == Some(*n);
    let present = services().enumerate().filter(first).count();
    let has_much = |s| services().filter(|other| *other == s).count() * present > WAYS;
    let worth = |entry: &Entry<A>, owner: Owner| {
        let bond = entry.bond();
        match entry.is_over(bond, now) {
            true => (0, 0),
            false => {
                let class = 1 + 2 * u32::from(entry.is_proven(bond.real));
                (class + u32::from(!has_much(owner.service())), left(bond, now))
            }
        }
    };
    let live = all().filter(|(_, owner)| owner.stage() == Stage::Live);
    let victim = live.min_by_key(|(place, owner)| worth(&bucket[*place], **owner));
    victim.map(|(place, owner)| (place, *owner))
}

/// Whether nobody else has a template, or a claim, of this key; claims are marked as lost.
fn is_first<A: Network>(
    bucket: &[Entry<A>; WAYS],
    mine: usize,
    key: &NetworkKey<A>,
    key_bits: u64,
) -> bool {
    for (_, entry) in bucket.iter().enumerate().filter(|(place, _)| *place != mine) {
        let owner = entry.owner();
        let is_claim = owner.is(key_bits, Stage::Claimed);
        let lost = is_claim && entry.pass(owner, owner.at(Stage::Lost));
        if !lost && entry.is(entry.owner(), key, key_bits, Stage::Live) {
            return false;
        }
        if is_claim && !lost && entry.owner().is(key_bits, Stage::Claimed) {
            return false;
        }
    }
    true
}
