//! The way of nearly every packet: a whole TCP or UDP packet of a flow that is there.
//!
//! Each step does one thing to all packets of a burst, so that what one packet waits for is on its
//! way while others are worked on, and each keeps what it found in one [`Info`] a packet, so that
//! buffers stay where they are from the NIC's array to the NIC's array. Steps decide nothing that
//! is out of the ordinary: they leave such a packet to the functions that handle any.

use arrayvec::ArrayVec;

use super::classify::{Classified, is_for, may_go_on};
use super::emit::transmit;
use super::family::{FlowTable, Key};
use super::verdict::Verdict;
use super::{BURST, Env, FlowOf, Output, Pipeline};
use crate::flow::{Event as FlowEvent, Lookup, Passed};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet::{self, EtherType};
use crate::packet::fast::{self, Ethernet, Head};
use crate::packet::parse::{Ipv4Packet, L4, Parsed, parse};
use crate::snapshot::{Adjacency, Local, Snapshot};
use crate::stats::{DropReason, Event, Forwarded};
use crate::types::{FlowKey, Mac, PortId, PuntReason, RealId};

/// Packets parsed before they are hashed; BURST is a multiple.
const FEW: usize = 8;

/// What the steps know of a packet.
#[derive(Clone, Copy)]
pub(super) struct Info {
    head: Head,
    hash: u64,
    /// Where it goes, or [`NOWHERE`].
    real: RealId,
    /// Of one that goes nowhere: what becomes of it instead.
    otherwise: Otherwise,
}

/// No real server: there are never so many.
const NOWHERE: RealId = RealId(u32::MAX);

/// The [`Verdict`] on a packet that goes to no real server, in two bytes: the steps go through arrays
/// of [`Info`].
#[derive(Clone, Copy)]
enum Otherwise {
    Drop(DropReason),
    /// Is answered by a TCP reset.
    Reset,
    /// Is answered by "port unreachable".
    Reject,
    /// To the director itself, where somebody awaits it.
    Awaited,
}

impl Otherwise {
    /// Of what was decided of a packet that has no flow.
    const fn of(verdict: Verdict) -> Otherwise {
        match verdict {
            Verdict::Punt(PuntReason::TcpReset) => Otherwise::Reset,
            Verdict::Punt(PuntReason::NoRealServer) => Otherwise::Reject,
            Verdict::Punt(PuntReason::Awaited) => Otherwise::Awaited,
            Verdict::Drop(reason) => Otherwise::Drop(reason),
            // Never: nothing else is decided of such a packet.
            Verdict::Punt(_) | Verdict::Forward(_) => Otherwise::Drop(DropReason::RealServerGone),
        }
    }

    const fn verdict(self) -> Verdict {
        match self {
            Otherwise::Drop(reason) => Verdict::Drop(reason),
            Otherwise::Reset => Verdict::Punt(PuntReason::TcpReset),
            Otherwise::Reject => Verdict::Punt(PuntReason::NoRealServer),
            Otherwise::Awaited => Verdict::Punt(PuntReason::Awaited),
        }
    }
}

impl Info {
    pub(super) const NONE: Info = Info {
        head: Head::NONE,
        hash: 0,
        real: NOWHERE,
        otherwise: Otherwise::Drop(DropReason::NoService),
    };

    /// Of a packet that the general parser has read.
    pub(super) fn of(ip: &Ipv4Packet, flow: &FlowOf) -> Info {
        let (addresses, ports) = flow.key.words();
        let signal = match ip.l4 {
            L4::Tcp { flags, .. } => Head::segment(flags),
            _ => Head::DATAGRAM,
        };
        let head = Head { addresses, ports, total_len: ip.total_len, signal };
        Info { head, hash: flow.hash, ..Info::NONE }
    }

    #[inline(always)]
    fn words(&self) -> (u64, u64) {
        (self.head.addresses, self.head.ports)
    }
}

const _: () = assert!(Head::DATAGRAM == FlowEvent::DATAGRAM_SIGNAL);

/// What a first look at a frame tells.
#[derive(PartialEq)]
enum Look {
    /// A packet that may be of a flow.
    Packet,
    /// IPv4, to an address that is neither VIP nor DIP.
    Stranger,
    /// Anything else.
    Odd,
}

#[inline(always)]
fn look<B: PacketBuf>(
    buf: &B,
    len: usize,
    ethernet: Ethernet,
    snapshot: &Snapshot,
    head: &mut Head,
) -> Look {
    let Some(headers) = buf.data().first_chunk() else { return Look::Odd };
    if !ethernet.look(headers) {
        return Look::Odd;
    }
    if !snapshot.may_be_local(fast::destination(headers)) {
        return Look::Stranger;
    }
    match head.read(headers, len, buf.rx_ip_checksum()) {
        true => Look::Packet,
        false => Look::Odd,
    }
}

/// Whether a frame is for this port, and of a protocol that nobody here speaks.
#[inline(always)]
fn is_foreign(frame: &[u8], mac: Mac) -> bool {
    let Some(head) = frame.first_chunk::<{ ethernet::HEADER_LEN }>() else { return false };
    let [.., high, low] = *head;
    !EtherType(u16::from_be_bytes([high, low])).is_known() && is_for(head, mac)
}

/// The way of a packet to its real server, if that is still configured.
#[inline(always)]
fn way(snapshot: &Snapshot, real: RealId) -> Option<&Adjacency> {
    snapshot.adjacency(real)
}

/// Rewrites a packet, counts it, and tells where it goes, or leaves it as it is.
#[inline(always)]
fn rewrite_one<B: PacketBuf, P, O>(
    env: &Env<'_, P, O>,
    reals: &[Forwarded],
    ip_id: &mut u16,
    buf: &mut B,
    info: &Info,
) -> Option<PortId> {
    let Info { head: Head { total_len, .. }, real, .. } = *info;
    let way = way(env.snapshot, real)?;
    if total_len > way.limit {
        return None;
    }
    let hop = env.hops.known(way.neighbor)?;
    if !way.rewrite.write(buf, hop, total_len, ip_id) {
        return None;
    }
    if let Some(stats) = reals.get(real.index()) {
        stats.add(1, total_len.into());
    }
    Some(way.port)
}

impl<B: PacketBuf> Pipeline<B> {
    /// One burst, received on `ingress`. `burst` is empty afterwards.
    pub fn burst<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        burst: &mut ArrayVec<B, BURST>,
    ) {
        let snapshot = env.snapshot;
        let mac = snapshot.port(ingress).map(|port| port.mac);
        let ethernet = Ethernet::to(mac.unwrap_or(Mac::ZERO));
        let mut scratch = std::mem::take(&mut self.infos);
        let Some(infos) = scratch.first_chunk_mut::<BURST>() else { return };

        // 1. Parse all, hash all, ask for flow buckets. Few at a time, so that the first buckets
        // are asked for early.
        let (mut odd, mut strangers, mut bytes) = (0u32, 0u32, 0);
        for (nth, (bufs, infos)) in burst.chunks(FEW).zip(infos.chunks_mut(FEW)).enumerate() {
            for (n, (buf, info)) in bufs.iter().zip(infos.iter_mut()).enumerate() {
                let len = buf.len();
                bytes += len;
                match look(buf, len, ethernet, snapshot, &mut info.head) {
                    Look::Packet => {}
                    Look::Stranger => strangers |= 1 << (nth * FEW + n),
                    Look::Odd => odd |= 1 << (nth * FEW + n),
                }
            }
            // A flood of what is not for a virtual service ends here.
            if (odd | strangers) >> (nth * FEW) & ((1 << FEW) - 1) == (1 << FEW) - 1 {
                continue;
            }
            for info in infos {
                // What was not read has an old key, which does no harm.
                info.hash = self.shard.hash_words(info.words());
                self.shard.prefetch_bucket(info.hash);
            }
        }
        self.count_received(ingress, burst.len(), bytes);
        if odd | strangers != 0 || mac.is_none() {
            self.sort_out(env, ingress, burst, infos, odd, strangers);
        }
        let here = infos.get_mut(..burst.len()).unwrap_or_default();
        if self.shard.is_crowded() {
            here.iter().for_each(|info| self.shard.prefetch_next(info.hash));
        }
        // 2. Look up all, schedule what is new. A packet sees the flows of those before it.
        for info in here.iter_mut() {
            self.decide(env, info);
        }
        // 3. Rewrite all.
        let (left, together) = self.rewrite_all(env, burst, here);
        // 4. Send.
        match together {
            Some((port, bytes))
                if self.staged.get(port.index()).is_some_and(ArrayVec::is_empty) =>
            {
                self.send(env, port, burst, bytes);
            }
            _ => self.send_each(env, ingress, burst, here, left),
        }
        self.infos = scratch;
        self.flush(env);
        self.count_flows();
    }

    fn count_received(&self, ingress: PortId, packets: usize, bytes: usize) {
        self.stats.event(Event::RxPackets).add(packets as u64);
        self.stats.event(Event::RxBytes).add(bytes as u64);
        if let Some(port) = self.stats.port(ingress) {
            port.rx_packets.add(packets as u64);
            port.rx_bytes.add(bytes as u64);
        }
    }

    /// Takes the packets out of a burst that are not on the short way: those of the sets `odd` and
    /// `strangers`. The others, and odd ones that turn out to be of a flow, stay in order. What is
    /// before a packet that goes another way goes before it.
    #[inline(never)]
    fn sort_out<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        burst: &mut ArrayVec<B, BURST>,
        infos: &mut [Info; BURST],
        odd: u32,
        strangers: u32,
    ) {
        let Some(mac) = env.snapshot.port(ingress).map(|port| port.mac) else {
            return burst.drain(..).for_each(|buf| self.drop_packet(DropReason::NotOurMac, buf));
        };
        self.stats.dropped(DropReason::NotLocal).add(strangers.count_ones().into());
        if strangers.count_ones() as usize == burst.len() {
            return env.out.discard(burst);
        }
        let mut all = std::mem::take(burst);
        let mut discarded: ArrayVec<B, BURST> = ArrayVec::new();
        for (n, buf) in all.drain(..).enumerate() {
            if strangers >> n & 1 != 0 {
                discarded.push(buf);
                continue;
            }
            let (buf, info) = match odd >> n & 1 {
                0 => (buf, infos[n]),
                _ => match self.look6(env, mac, buf) {
                    None => continue,
                    Some(buf) if is_foreign(buf.data(), mac) => {
                        self.stats.dropped(DropReason::EtherType).add(1);
                        discarded.push(buf);
                        continue;
                    }
                    Some(buf) => match self.sort_one(env, ingress, mac, buf, burst, infos) {
                        Some(plain) => plain,
                        None => continue,
                    },
                },
            };
            infos[burst.len()] = info;
            burst.push(buf);
        }
        self.pass6(env, ingress, mac);
        env.out.discard(&mut discarded);
    }

    /// An odd frame that is no plain IPv6 packet: a whole packet to a virtual service comes back,
    /// all others are dealt with. Before one that may go to a real server goes what is in front of
    /// it, in `before`.
    #[inline(never)]
    fn sort_one<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        buf: B,
        before: &mut ArrayVec<B, BURST>,
        infos: &mut [Info; BURST],
    ) -> Option<(B, Info)> {
        match self.classify(env, ingress, mac, buf)? {
            Classified::Plain(buf, info) => Some((buf, info)),
            Classified::Exception(buf, ip, flow) => {
                if may_go_on(&ip) {
                    self.go_before(env, ingress, before, infos);
                }
                self.exception(env, ingress, buf, &ip, flow);
                None
            }
        }
    }

    /// Steps two to four for a part of a burst, before what is behind it.
    #[inline(never)]
    fn go_before<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        burst: &mut ArrayVec<B, BURST>,
        infos: &mut [Info; BURST],
    ) {
        if burst.is_empty() {
            return;
        }
        let here = infos.get_mut(..burst.len()).unwrap_or_default();
        if self.shard.is_crowded() {
            here.iter().for_each(|info| self.shard.prefetch_next(info.hash));
        }
        here.iter_mut().for_each(|info| self.decide(env, info));
        let (left, _) = self.rewrite_all(env, burst, here);
        self.send_each(env, ingress, burst, here, left);
    }

    /// The fate of a packet that may be of a flow.
    #[inline(always)]
    fn decide<P, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>, info: &mut Info) {
        let Head { addresses, ports, signal, .. } = info.head;
        match self.shard.pass(info.hash, &addresses, ports as u32, signal, env.now) {
            Passed::Real(real) => {
                env.snapshot.prefetch_adjacency(real);
                self.stats.prefetch_real(real);
                info.real = real;
            }
            Passed::Absent => self.decide_slowly(env, info, true),
            Passed::Unknown => self.decide_new(env, info),
        }
    }

    /// The same for one whose flow may be a newcomer, which its packets leave as it is at first.
    #[inline(never)]
    fn decide_new<P, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>, info: &mut Info) {
        let Head { addresses, ports, signal, .. } = info.head;
        match self.shard.pass_new(info.hash, &addresses, ports as u32, signal, env.now) {
            Some(real) => info.real = real,
            None => self.decide_slowly(env, info, false),
        }
    }

    /// The same for one whose flow is not there (`absent`: for sure), or not to be left as it is.
    #[inline(never)]
    fn decide_slowly<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        info: &mut Info,
        absent: bool,
    ) {
        let Head { addresses, ports, signal, .. } = info.head;
        info.real = NOWHERE;
        if info.head.has_bad_source() {
            info.otherwise = Otherwise::Drop(DropReason::BadSource);
            return;
        }
        let key = FlowKey::from_words(addresses, ports);
        let Some(service) = env.snapshot.find_service(key.vip, key.vip_port, key.protocol) else {
            info.otherwise = match env.snapshot.local(key.vip) {
                Some(Local::Vip) => Otherwise::Drop(DropReason::NoService),
                Some(Local::Dip(_))
                    if env.snapshot.awaited.is_awaited(key.protocol, key.vip_port) =>
                {
                    Otherwise::Awaited
                }
                Some(Local::Dip(_)) => Otherwise::Drop(DropReason::ToDirector),
                None => Otherwise::Drop(DropReason::NotLocal),
            };
            return;
        };
        let event = FlowEvent::of_signal(signal);
        let flow = FlowOf { key, hash: info.hash, service, event };
        let found = if absent { None } else { self.find(env, &flow) };
        match found.map_or_else(|| self.schedule(env, &flow, absent), Verdict::Forward) {
            Verdict::Forward(real) => info.real = real,
            otherwise => info.otherwise = Otherwise::of(otherwise),
        }
    }

    /// Rewrites what can go at once. The set of packets that are left as they are, and when there
    /// are none and all go to the same port, that port and the bytes of all frames.
    #[inline(always)]
    fn rewrite_all<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        burst: &mut ArrayVec<B, BURST>,
        infos: &[Info],
    ) -> (u32, Option<(PortId, usize)>) {
        let first = infos.iter().find_map(|info| way(env.snapshot, info.real));
        let Some(port) = first.map(|way| way.port) else { return (u32::MAX, None) };
        let (mut left, mut differ, mut bytes) = (0, 0, 0);
        let (reals, ip_id) = (self.stats.forwarded(), &mut self.ip_id);
        for (n, (buf, info)) in burst.iter_mut().zip(infos).enumerate() {
            match rewrite_one(env, reals, ip_id, buf, info) {
                Some(to) => {
                    differ |= to.0 ^ port.0;
                    bytes += buf.len();
                }
                None => left |= 1 << n,
            }
        }
        (left, (left == 0 && differ == 0).then_some((port, bytes)))
    }

    /// Sends a whole burst, of so many bytes, from one port.
    #[inline(always)]
    fn send<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        port: PortId,
        burst: &mut ArrayVec<B, BURST>,
        bytes: usize,
    ) {
        let (sent, lost) = transmit(env.out, &self.stats, port, burst, bytes);
        self.stats.event(Event::Forwarded).add(sent);
        self.stats.dropped(DropReason::TxFull).add(lost);
    }

    /// Deals with each packet of a burst, of which those of the set `left` are not rewritten.
    #[inline(never)]
    fn send_each<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        burst: &mut ArrayVec<B, BURST>,
        infos: &[Info],
        left: u32,
    ) {
        let mut all = std::mem::take(burst);
        for (n, (buf, info)) in all.drain(..).zip(infos).enumerate() {
            if left >> n & 1 != 0 {
                self.go_slowly(env, ingress, buf, *info);
                continue;
            }
            match way(env.snapshot, info.real) {
                Some(way) => self.stage(env, way.port, buf),
                None => self.drop_packet(DropReason::PortDown, buf),
            }
        }
    }

    /// A packet that was not rewritten: it goes nowhere, or its real server may be gone since.
    #[inline(never)]
    fn go_slowly<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        mut info: Info,
    ) {
        if info.real != NOWHERE && way(env.snapshot, info.real).is_none() {
            let key = FlowKey::from_words(info.head.addresses, info.head.ports);
            self.let_go(env, &key, info.hash);
            self.decide_slowly(env, &mut info, false);
        }
        match info.real {
            NOWHERE => self.dispose_unsent(env, ingress, buf, info.otherwise.verdict()),
            real => self.forward_any(env, ingress, buf, real),
        }
    }

    /// Removes the flow of a packet whose real server is gone.
    pub(super) fn let_go<K: Key, P, O>(&mut self, env: &Env<'_, P, O>, key: &K, hash: u64) {
        let Lookup::Hit(flow) = K::shard_mut(self).lookup(key, hash, env.now) else { return };
        if env.snapshot.real(K::shard(self).get(flow).real).is_none() {
            self.orphan::<K, P, O>(env, flow);
        }
    }

    /// A packet for a real server that the short way did not rewrite.
    #[inline(never)]
    fn forward_any<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        real: RealId,
    ) {
        match parse(buf.data(), buf.len(), buf.rx_ip_checksum()) {
            Ok(Parsed::Ipv4(ip)) => self.forward(env, ingress, buf, &ip, real),
            // Never: it has been parsed before.
            _ => self.drop_packet(DropReason::TooShort, buf),
        }
    }
}
