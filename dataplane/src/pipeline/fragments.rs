//! Fragments of packets to virtual services: all to the real server of the flow they belong to.
//!
//! Only the first fragment has L4 ports. It goes by its flow, like any packet, and leaves a note
//! (source, destination, protocol, identification → real server) for the later ones, which the
//! NIC gives to the same worker, as they have the same addresses. Later fragments that come early
//! wait, bounded in number and time.
//!
//! The NIC may give fragments to another worker than the whole packets of their flow. Then the
//! first fragment is handed from worker to worker until one has the flow. If none has, the worker
//! that received it schedules, and tells the others of the new flow (a replica), so that whole
//! packets of it go the same way wherever they come in.

use arrayvec::ArrayVec;

use super::balance::makes_flow;
use super::family::{FlowTable, Key, Packet};
use super::{Env, FlowOf, Handoff, Output, PeerMessage, Pipeline};
use crate::flow::Seed;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::parse::Ipv4Packet;
use crate::packet::parse6::Ipv6Packet;
use crate::snapshot::Snapshot;
use crate::stats::{DropReason, Event};
use crate::types::{PortId, RealId, Tick, WorkerId};

/// What all fragments of one packet share.
pub(super) trait Identity: Copy + Eq {
    /// Under a secret, so that outsiders cannot aim at a set of notes.
    fn hash(&self, seed: &Seed) -> u64;
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

/// A note on where the fragments of one packet go.
#[derive(Debug, Clone, Copy)]
struct Note<K> {
    key: K,
    real: RealId,
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
    until: Tick,
    pub(super) ingress: PortId,
    pub(super) ip: I,
    pub(super) buf: B,
}

/// Sets of notes; a power of two.
const SETS: usize = 1024;
/// Notes in a set.
const WAYS: usize = 4;
/// Fragments that wait, per worker.
const HELD: usize = 64;
/// How long a note serves: Linux's `ipfrag_time`, milliseconds. After that the receiver has given
/// up reassembling too.
const NOTE_MS: u32 = 30_000;
/// How long a later fragment waits for its first, milliseconds: reordering in a network, not loss.
const HOLD_MS: u32 = 500;

/// Notes that are looked through together.
type Set<K> = [Option<Note<K>>; WAYS];

/// One worker's notes and waiting fragments, of one family. Fixed size.
pub(super) struct Fragments<B, I: Packet> {
    notes: Box<[Set<I::Fragment>]>,
    held: ArrayVec<Held<B, I>, HELD>,
    seed: Seed,
}

impl<B, I: Packet> Fragments<B, I> {
    pub(super) fn new(seed: Seed) -> Fragments<B, I> {
        Fragments { notes: vec![[None; WAYS]; SETS].into(), held: ArrayVec::new(), seed }
    }

    fn set(&self, key: &I::Fragment) -> usize {
        key.hash(&self.seed) as usize & (SETS - 1)
    }

    fn find(&self, key: &I::Fragment, now: Tick) -> Option<RealId> {
        let set = &self.notes[self.set(key)];
        set.iter().flatten().find(|n| n.key == *key && n.is_live(now)).map(|n| n.real)
    }

    /// Notes, in place of the same packet's note, a stale one, or the oldest.
    fn note(&mut self, key: I::Fragment, real: RealId, now: Tick) {
        let set = self.set(&key);
        let set = &mut self.notes[set];
        let rank = |note: &Option<Note<I::Fragment>>| match note {
            Some(n) if n.key == key => 0,
            Some(n) if n.is_live(now) => 2 + n.until.remaining(now),
            _ => 1,
        };
        if let Some(place) = set.iter_mut().min_by_key(|n| rank(n)) {
            *place = Some(Note { key, real, until: now.after(NOTE_MS) });
        }
    }

    fn take_held(&mut self, key: &I::Fragment) -> Option<Held<B, I>> {
        let at = self.held.iter().position(|h| h.key == *key)?;
        Some(self.held.remove(at))
    }

    pub(super) fn take_overdue(&mut self, now: Tick) -> Option<Held<B, I>> {
        let at = self.held.iter().position(|h| h.until.reached(now))?;
        Some(self.held.remove(at))
    }

    pub(super) fn take_any(&mut self) -> Option<Held<B, I>> {
        self.held.pop()
    }

    pub(super) fn waiting(&self) -> usize {
        self.held.len()
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
        } else if self.workers > 1 {
            self.hand_over(env, Handoff { ingress, origin: self.me, buf });
        } else {
            self.schedule_fragment(env, ingress, buf, ip, flow);
        }
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
        let Some((buf, real)) = self.balance(env, ingress, buf, flow) else { return };
        self.forward(env, ingress, buf, ip, real);
        self.learn_first(env, ip, real);
        // One that is over, one-packet scheduling and a flood make none.
        let made = I::Key::shard(self).find(&flow.key, flow.hash, env.now);
        if !makes_flow(flow.event) || made.is_none() {
            return;
        }
        for step in 1..self.workers {
            let to = WorkerId((self.me.0 + step) % self.workers);
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
        let note = PeerMessage::FragmentOwner { fragment: ip.fragment().into(), real };
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
        match I::fragments(self).find(&key, env.now) {
            Some(real) if Self::is_noted(env.snapshot, real, ip) => {
                self.forward(env, ingress, buf, ip, real);
            }
            _ => {
                let until = env.now.after(HOLD_MS);
                let held = Held { key, until, ingress, ip: *ip, buf };
                if let Err(full) = I::fragments(self).held.try_push(held) {
                    self.drop_packet(DropReason::FragmentUnknown, full.element().buf);
                }
                self.count_held();
            }
        }
    }

    /// Whether a noted real server still stands for this packet's VIP and protocol.
    fn is_noted(snapshot: &Snapshot, real: RealId, ip: &impl Packet) -> bool {
        let service = snapshot.real(real).and_then(|r| snapshot.service(r.service));
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
            self.learn_fragment::<I, P, O>(env, ip.fragment(), real);
        }
    }

    pub(super) fn learn_fragment<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        key: I::Fragment,
        real: RealId,
    ) {
        I::fragments(self).note(key, real, env.now);
        while let Some(held) = I::fragments(self).take_held(&key) {
            self.count_held();
            self.forward(env, held.ingress, held.buf, &held.ip, real);
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

    #[test]
    fn a_note_lasts_as_long_as_reassembly() {
        let mut fragments: Fragments<(), Ipv4Packet> = Fragments::new(Seed::new(7));
        fragments.note(key(1), RealId(5), Tick(0));
        assert_eq!(fragments.find(&key(1), Tick(NOTE_MS - 1)), Some(RealId(5)));
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
                fragments.note(key(id), RealId(round), Tick(round));
                assert_eq!(fragments.find(&key(id), Tick(round)), Some(RealId(round)));
            }
        }
    }
}
