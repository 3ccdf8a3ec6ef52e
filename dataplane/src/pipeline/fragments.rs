//! Fragments of packets to virtual services: all to the real server of the flow they belong to.
//!
//! Only the first fragment has L4 ports. It goes by its flow, like any packet, and leaves a note
//! (source, destination, protocol, identification → real server) for the later ones, which the
//! NIC gives to the same worker, as they have the same addresses.
//!
//! The NIC may give fragments to another worker than the whole packets of their flow. Then the
//! first fragment is handed from worker to worker until one has the flow. If none has, the worker
//! that received it schedules, and tells the others of the new flow (a replica), so that whole
//! packets of it go the same way wherever they come in. Until one of them has answered, the note
//! says that the first fragment was seen, and later ones wait in a room of their own.
//!
//! Later fragments of which no first one was seen wait in a smaller room: strangers' fragments fill
//! that one only. Both are bounded in number, time and by source network ([`Room`]), and so are
//! notes: a network has some sets of them.

use super::balance::makes_flow;
use super::family::{FlowTable, Key, Packet};
use super::peers::Seeking;
use super::quota::SourceNetwork;
use super::room::Room;
use super::{Env, FlowOf, Handoff, Output, PeerMessage, Pipeline};
use crate::hash::Seed;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::parse::Ipv4Packet;
use crate::packet::parse6::Ipv6Packet;
use crate::snapshot::{Named, Snapshot};
use crate::stats::{DropReason, Event};
use crate::types::{PortId, RealId, Tick, WorkerId};

/// What all fragments of one packet share.
pub(super) trait Identity: Copy + Eq {
    /// Under a secret, so that outsiders cannot aim at a set of notes.
    fn hash(&self, seed: &Seed) -> u64;
    fn source(&self, seed: &Seed) -> SourceNetwork;
}

/// Of an IPv4 packet, RFC 791 section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey4 {
    src: u32,
    dst: u32,
    id: u16,
    protocol: u8,
}

impl FragmentKey4 {
    pub(super) fn of(ip: &Ipv4Packet) -> FragmentKey4 {
        FragmentKey4 { src: ip.src.into(), dst: ip.dst.into(), id: ip.id, protocol: ip.protocol }
    }
}

impl Identity for FragmentKey4 {
    fn hash(&self, seed: &Seed) -> u64 {
        let addresses = u64::from(self.src) << 32 | u64::from(self.dst);
        seed.hash(addresses, u64::from(self.id) << 8 | u64::from(self.protocol))
    }

    fn source(&self, seed: &Seed) -> SourceNetwork {
        SourceNetwork::of4(self.src, seed)
    }
}

/// Of an IPv6 packet, RFC 8200 section 4.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey6 {
    src: u128,
    dst: u128,
    id: u32,
}

impl FragmentKey6 {
    pub(super) fn of(ip: &Ipv6Packet) -> FragmentKey6 {
        let id = ip.fragment.map_or(0, |fragment| fragment.id);
        FragmentKey6 { src: ip.src.to_bits(), dst: ip.dst.to_bits(), id }
    }
}

impl Identity for FragmentKey6 {
    fn hash(&self, seed: &Seed) -> u64 {
        let FragmentKey6 { src, dst, id } = *self;
        let [a, b, c, d] = [(src >> 64) as u64, src as u64, (dst >> 64) as u64, dst as u64];
        seed.hash_wide(&[a, b, c, d, id.into()])
    }

    fn source(&self, seed: &Seed) -> SourceNetwork {
        SourceNetwork::of6(self.src, seed)
    }
}

/// Of a packet of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FragmentKey {
    /// Of an IPv4 packet.
    V4(FragmentKey4),
    /// Of an IPv6 packet.
    V6(FragmentKey6),
}

impl From<FragmentKey4> for FragmentKey {
    fn from(key: FragmentKey4) -> FragmentKey {
        FragmentKey::V4(key)
    }
}

impl From<FragmentKey6> for FragmentKey {
    fn from(key: FragmentKey6) -> FragmentKey {
        FragmentKey::V6(key)
    }
}

/// Where the later fragments of a packet go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whither {
    /// As the first one did.
    To(Named),
    /// The first one looks for its flow at other workers.
    Pending,
}

/// A note on where the fragments of one packet go.
#[derive(Debug, Clone, Copy)]
struct Note<K> {
    key: K,
    whither: Whither,
    until: Tick,
}

impl<K> Note<K> {
    /// Whether it still serves. A deadline that passed 24 days ago would look ahead again.
    fn is_live(&self, now: Tick) -> bool {
        (1..=NOTE_MS).contains(&self.until.remaining(now))
    }
}

/// A later fragment that waits for its first one.
pub(super) struct Held<B, I: Packet> {
    key: I::Fragment,
    pub(super) ingress: PortId,
    pub(super) ip: I,
    pub(super) buf: B,
}

/// Sets of notes that one source network may use; a power of two.
const SETS: usize = 64;
/// How many times as many there are; a power of two, of at most as many as networks are told apart.
const GROUPS: usize = 64;
/// Notes in a set.
const WAYS: usize = 4;
/// Fragments that wait whose first one was handed over, per worker and family.
const EXPECTED: usize = 256;
/// Fragments that wait whose first one was not seen, per worker and family.
const STRANGERS: usize = 128;
/// How long a note serves: Linux's `ipfrag_time`, milliseconds. After that the receiver has given
/// up reassembling too.
const NOTE_MS: u32 = 30_000;

/// Notes that are looked through together.
type Set<K> = [Option<Note<K>>; WAYS];

/// One worker's notes and waiting fragments, of one family. Fixed size.
pub(super) struct Fragments<B, I: Packet> {
    notes: Box<[Set<I::Fragment>]>,
    /// Their first one was handed over.
    expected: Room<Held<B, I>>,
    /// Their first one was not seen.
    strangers: Room<Held<B, I>>,
    seed: Seed,
}

impl<B, I: Packet> Fragments<B, I> {
    pub(super) fn new(seed: Seed) -> Fragments<B, I> {
        Fragments {
            notes: vec![[None; WAYS]; SETS * GROUPS].into(),
            expected: Room::new(EXPECTED),
            strangers: Room::new(STRANGERS),
            seed,
        }
    }

    fn set(&self, key: &I::Fragment) -> usize {
        let group = key.source(&self.seed).index() % GROUPS;
        group * SETS + (key.hash(&self.seed) as usize & (SETS - 1))
    }

    fn find(&self, key: &I::Fragment, now: Tick) -> Option<Whither> {
        let set = &self.notes[self.set(key)];
        set.iter().flatten().find(|n| n.key == *key && n.is_live(now)).map(|n| n.whither)
    }

    /// Notes, in place of the same packet's note, a stale one, or the one that ends first.
    fn note(&mut self, key: I::Fragment, whither: Whither, now: Tick) {
        let set = self.set(&key);
        let set = &mut self.notes[set];
        let rank = |note: &Option<Note<I::Fragment>>| match note {
            Some(n) if n.key == key => 0,
            Some(n) if n.is_live(now) => 2 + n.until.remaining(now),
            _ => 1,
        };
        if let Some(place) = set.iter_mut().min_by_key(|n| rank(n)) {
            *place = Some(Note { key, whither, until: now.after(NOTE_MS) });
        }
    }

    fn take_stranger(&mut self, key: &I::Fragment) -> Option<Held<B, I>> {
        self.strangers.take(key.source(&self.seed), |held| held.key == *key)
    }

    /// Lets one wait; one that has to go for it.
    fn hold(&mut self, held: Held<B, I>, pending: bool, now: Tick) -> Option<Held<B, I>> {
        let network = held.key.source(&self.seed);
        let room = if pending { &mut self.expected } else { &mut self.strangers };
        room.push(network, held, now)
    }

    fn take_held(&mut self, key: &I::Fragment) -> Option<Held<B, I>> {
        let network = key.source(&self.seed);
        let expected = self.expected.take(network, |held| held.key == *key);
        expected.or_else(|| self.take_stranger(key))
    }

    pub(super) fn take_overdue(&mut self, now: Tick) -> Option<Held<B, I>> {
        self.expected.take_overdue(now).or_else(|| self.strangers.take_overdue(now))
    }

    pub(super) fn take_any(&mut self) -> Option<Held<B, I>> {
        self.expected.take_any().or_else(|| self.strangers.take_any())
    }

    pub(super) fn waiting(&self) -> usize {
        self.expected.len() + self.strangers.len()
    }
}

impl<B: PacketBuf> Pipeline<B> {
    /// A first fragment, or a whole packet that may have come to a worker without its flow, as it
    /// comes from a port.
    pub(super) fn first_fragment<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        ip: &I,
        flow: &FlowOf<I::Key>,
    ) {
        if let Some(real) = self.find(env, flow) {
            self.forward(env, ingress, buf, ip, real);
            self.learn_first(env, ip, real);
            return;
        }
        let service = env.snapshot.service(flow.service);
        // One that goes where it would go anyway need not be asked about, when too many are.
        let alone = service.is_some_and(|s| s.finds_again || s.is_one_packet(flow.event));
        let what = if ip.is_fragment() { Seeking::Fragment } else { Seeking::Packet };
        let packet = Handoff { ingress, origin: self.me, what, buf };
        match self.seek(env, packet, ip.source(&self.seed), alone) {
            Ok(()) if ip.is_fragment() => self.expect_rest::<I>(ip.fragment(), env.now),
            Ok(()) => {}
            Err(packet) if alone || self.workers == 1 => {
                self.schedule_fragment(env, ingress, packet.buf, ip, flow);
            }
            Err(packet) => self.drop_packet(DropReason::HandoffFull, packet.buf),
        }
    }

    /// Notes that a packet's first fragment looks for its flow. What is held of it is no stranger's
    /// any more.
    fn expect_rest<I: Packet>(&mut self, key: I::Fragment, now: Tick) {
        I::fragments(self).note(key, Whither::Pending, now);
        while let Some(held) = I::fragments(self).take_stranger(&key) {
            self.hold(held, true, now);
        }
    }

    /// Lets a later fragment wait.
    fn hold<I: Packet>(&mut self, held: Held<B, I>, pending: bool, now: Tick) {
        if let Some(gone) = I::fragments(self).hold(held, pending, now) {
            self.drop_packet(DropReason::FragmentUnknown, gone.buf);
        }
        self.count_held();
    }

    /// A first fragment whose flow no worker has.
    pub(super) fn schedule_fragment<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        ip: &I,
        flow: &FlowOf<I::Key>,
    ) {
        let verdict = self.balance(env, flow);
        self.dispose(env, ingress, buf, ip, verdict);
        let Some(real) = verdict.real() else { return };
        self.learn_first(env, ip, real);
        // One that is over, one-packet scheduling and a flood make none.
        let made = I::Key::shard(self).find(&flow.key, flow.hash, env.now);
        if !makes_flow(flow.event, env.snapshot.switches.sloppy_tcp) || made.is_none() {
            return;
        }
        // Where a hash finds the real server again, replicas matter only when real servers change.
        let spare = env.snapshot.service(flow.service).is_some_and(|s| s.finds_again);
        let network = ip.source(&self.seed);
        if self.workers > 1 && !self.copies.take(network, spare, env.now) {
            return self.stats.event(Event::PeerNotesLost).add(1);
        }
        for step in 1..self.workers {
            let to = WorkerId((self.me.0 + step) % self.workers);
            let real = env.snapshot.name(real);
            let replica = PeerMessage::Replica { key: flow.key.into(), event: flow.event, real };
            if env.out.tell(to, replica).is_err() {
                self.stats.event(Event::PeerNotesLost).add(1);
            }
        }
    }

    /// A first fragment that another worker was looking for the flow of: true when it is here.
    pub(super) fn adopt_fragment<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        packet: Handoff<B>,
        ip: &I,
        flow: &FlowOf<I::Key>,
    ) -> Result<(), Handoff<B>> {
        let Some(real) = self.find(env, flow) else { return Err(packet) };
        let owner = env.snapshot.name(real);
        let note = PeerMessage::FragmentOwner { fragment: ip.fragment().into(), real: owner };
        if ip.is_fragment() && env.out.tell(packet.origin, note).is_err() {
            self.stats.event(Event::PeerNotesLost).add(1);
        }
        self.forward(env, packet.ingress, packet.buf, ip, real);
        Ok(())
    }

    /// A later fragment, as it comes from a port.
    pub(super) fn later_fragment<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        ip: &I,
    ) {
        let key = ip.fragment();
        let pending = match I::fragments(self).find(&key, env.now) {
            Some(Whither::To(real)) if Self::is_noted(env.snapshot, real, ip) => {
                return self.forward(env, ingress, buf, ip, real.real);
            }
            found => found == Some(Whither::Pending),
        };
        self.hold(Held { key, ingress, ip: *ip, buf }, pending, env.now);
    }

    /// Whether a noted real server still stands for this packet's VIP and protocol.
    fn is_noted(snapshot: &Snapshot, real: Named, ip: &impl Packet) -> bool {
        let service = snapshot.real_named(real).and_then(|r| snapshot.service(r.service));
        service.is_some_and(|s| s.key.vip == ip.dst() && ip.may_be(s.key.protocol))
    }

    /// Notes where a packet's fragments go, and sends those that waited for that.
    fn learn_first<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ip: &I,
        real: RealId,
    ) {
        if ip.is_fragment() {
            self.learn_fragment::<I, P, O>(env, ip.fragment(), env.snapshot.name(real));
        }
    }

    pub(super) fn learn_fragment<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        key: I::Fragment,
        real: Named,
    ) {
        // What another worker tells may have been overtaken by a configuration.
        let is_there = env.snapshot.real_named(real).is_some();
        if is_there {
            I::fragments(self).note(key, Whither::To(real), env.now);
        }
        while let Some(held) = I::fragments(self).take_held(&key) {
            self.count_held();
            match is_there {
                true => self.forward(env, held.ingress, held.buf, &held.ip, real.real),
                false => self.drop_packet(DropReason::RealServerGone, held.buf),
            }
        }
    }

    pub(super) fn count_held(&self) {
        let waiting = self.fragments.waiting() + self.fragments6.waiting();
        self.stats.event(Event::Held).set(waiting as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u16) -> FragmentKey4 {
        FragmentKey4 { src: 1, dst: 2, id, protocol: 17 }
    }

    fn named(real: u32) -> Named {
        Named { real: RealId(real), generation: 1 }
    }

    #[test]
    fn a_note_lasts_as_long_as_reassembly() {
        let mut fragments: Fragments<(), Ipv4Packet> = Fragments::new(Seed::new(7));
        let there = Whither::To(named(5));
        fragments.note(key(1), there, Tick(0));
        assert_eq!(fragments.find(&key(1), Tick(NOTE_MS - 1)), Some(there));
        assert_eq!(fragments.find(&key(1), Tick(NOTE_MS)), None);
        assert_eq!(fragments.find(&key(2), Tick(1)), None);
        let month = Tick(31 * 24 * 3600 * 1000);
        assert_eq!(fragments.find(&key(1), month), None, "not even when ticks wrap");
    }

    #[test]
    fn notes_are_bounded_and_the_newest_stays() {
        let mut fragments: Fragments<(), Ipv4Packet> = Fragments::new(Seed::new(7));
        for round in 0..4u32 {
            for id in 0..=u16::MAX {
                let there = Whither::To(named(round));
                fragments.note(key(id), there, Tick(round));
                assert_eq!(fragments.find(&key(id), Tick(round)), Some(there));
            }
        }
    }

    #[test]
    fn a_network_takes_no_notes_of_others() {
        let mut fragments: Fragments<(), Ipv4Packet> = Fragments::new(Seed::new(7));
        let network = |n: u32| FragmentKey4 { src: n << 8, ..key(1) };
        let others = (1..500).filter(|n| {
            let group = |n| network(n).source(&fragments.seed).index() % GROUPS;
            group(*n) != group(0)
        });
        let others: Vec<_> = others.collect();
        for n in &others[..64] {
            fragments.note(network(*n), Whither::Pending, Tick(0));
        }
        for id in 0..=u16::MAX {
            let hostile = FragmentKey4 { src: u32::from(id & 255), ..key(id) };
            fragments.note(hostile, Whither::Pending, Tick(1));
        }
        for n in &others[..64] {
            assert_eq!(fragments.find(&network(*n), Tick(1)), Some(Whither::Pending));
        }
    }
}
