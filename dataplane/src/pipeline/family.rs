//! What differs between IPv4 and IPv6.
//!
//! Flows are looked up, scheduled, kept and swept by the same code for both, over a [`Key`];
//! fragments, ICMP errors and forwarding by the same code over a [`Packet`]. Each family has tables
//! of its own, so that IPv4 does not pay for longer addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Pipeline;
use super::fragments::{FragmentKey, FragmentKey4, FragmentKey6, Fragments, Identity};
use super::quota::SourceNetwork;
use super::replicas::Replicas;
use crate::flow::{
    self, Event, Flow, FlowFlags, FlowRef, Inserted, Lookup, Packed, Removed, Shard, Shard6, State,
    Swept, Table, Transition,
};
use crate::forward::{self, Fit, ForwardError, Inner, Labels, dr, dr6};
use crate::hash::Seed;
use crate::packet::buf::PacketBuf;
use crate::packet::ipv6::next;
use crate::packet::parse::{Ipv4Packet, L4, Parsed, parse};
use crate::packet::parse6::{self, Ipv6Packet};
use crate::packet::{icmpv4, icmpv6};
use crate::persist::{Network, Templates};
use crate::snapshot::{Real, Snapshot, Tunnel};
use crate::types::{
    AnyFlowKey, FlowKey, FlowKey6, Mac, Netmask, Protocol, RealId, ServiceId, Tick, Tuple,
};

/// A flow's key.
pub(super) trait Key: flow::TableKey + Tuple + Into<AnyFlowKey> {
    /// The client's and the virtual service's.
    type Address: Network + Into<IpAddr>;
    /// Where its flows are.
    type Shard: FlowTable<Self>;

    fn new(
        client: Self::Address,
        vip: Self::Address,
        ports: (u16, u16),
        protocol: Protocol,
    ) -> Self;
    fn shard<B>(pipeline: &Pipeline<B>) -> &Self::Shard;
    fn shard_mut<B>(pipeline: &mut Pipeline<B>) -> &mut Self::Shard;
    /// The copies of other workers' flows among them.
    fn replicas<B>(pipeline: &mut Pipeline<B>) -> &mut Replicas;
    fn templates<B>(pipeline: &Pipeline<B>) -> &Templates<Self::Address>;
    /// The client's network.
    fn network(&self, netmask: Netmask) -> Self::Address;
    /// The network of an address.
    fn under(address: Self::Address, netmask: Netmask) -> Self::Address;
    fn find_service(&self, snapshot: &Snapshot) -> Option<ServiceId>;
    /// The address, if it is of this family.
    fn address(address: IpAddr) -> Option<Self::Address>;
}

impl Key for FlowKey {
    type Address = Ipv4Addr;
    type Shard = Shard;

    #[inline(always)]
    fn new(client: Ipv4Addr, vip: Ipv4Addr, ports: (u16, u16), protocol: Protocol) -> FlowKey {
        let (client_port, vip_port) = ports;
        FlowKey { client, vip, client_port, vip_port, protocol }
    }

    #[inline(always)]
    fn shard<B>(pipeline: &Pipeline<B>) -> &Shard {
        &pipeline.shard
    }

    #[inline(always)]
    fn shard_mut<B>(pipeline: &mut Pipeline<B>) -> &mut Shard {
        &mut pipeline.shard
    }

    fn replicas<B>(pipeline: &mut Pipeline<B>) -> &mut Replicas {
        &mut pipeline.replicas
    }

    #[inline(always)]
    fn templates<B>(pipeline: &Pipeline<B>) -> &Templates<Ipv4Addr> {
        &pipeline.templates.v4
    }

    #[inline(always)]
    fn network(&self, netmask: Netmask) -> Ipv4Addr {
        netmask.network4(self.client)
    }

    fn under(address: Ipv4Addr, netmask: Netmask) -> Ipv4Addr {
        netmask.network4(address)
    }

    #[inline(always)]
    fn find_service(&self, snapshot: &Snapshot) -> Option<ServiceId> {
        snapshot.find_service(self.vip, self.vip_port, self.protocol)
    }

    fn address(address: IpAddr) -> Option<Ipv4Addr> {
        if let IpAddr::V4(address) = address { Some(address) } else { None }
    }
}

impl Key for FlowKey6 {
    type Address = Ipv6Addr;
    type Shard = Shard6;

    #[inline(always)]
    fn new(client: Ipv6Addr, vip: Ipv6Addr, ports: (u16, u16), protocol: Protocol) -> FlowKey6 {
        let (client_port, vip_port) = ports;
        FlowKey6 { client, vip, client_port, vip_port, protocol }
    }

    #[inline(always)]
    fn shard<B>(pipeline: &Pipeline<B>) -> &Shard6 {
        &pipeline.shard6
    }

    #[inline(always)]
    fn shard_mut<B>(pipeline: &mut Pipeline<B>) -> &mut Shard6 {
        &mut pipeline.shard6
    }

    fn replicas<B>(pipeline: &mut Pipeline<B>) -> &mut Replicas {
        &mut pipeline.replicas6
    }

    #[inline(always)]
    fn templates<B>(pipeline: &Pipeline<B>) -> &Templates<Ipv6Addr> {
        &pipeline.templates.v6
    }

    #[inline(always)]
    fn network(&self, netmask: Netmask) -> Ipv6Addr {
        netmask.network6(self.client)
    }

    fn under(address: Ipv6Addr, netmask: Netmask) -> Ipv6Addr {
        netmask.network6(address)
    }

    #[inline(always)]
    fn find_service(&self, snapshot: &Snapshot) -> Option<ServiceId> {
        snapshot.find_service6(self.vip, self.vip_port, self.protocol)
    }

    fn address(address: IpAddr) -> Option<Ipv6Addr> {
        if let IpAddr::V6(address) = address { Some(address) } else { None }
    }
}

/// What the pipeline does with a flow table, however many flows a bucket of it holds: the methods
/// of [`Table`] of these names.
pub(super) trait FlowTable<K: flow::TableKey> {
    fn hash(&self, key: &K) -> u64;
    fn lacks(&self, hash: u64, key: &Packed<K::Addresses>) -> bool;
    fn lookup(&mut self, key: &K, hash: u64, now: Tick) -> Lookup<K>;
    fn find(&self, key: &K, hash: u64, now: Tick) -> Option<Flow<K>>;
    fn get(&self, flow: FlowRef) -> Flow<K>;
    fn touch(&mut self, flow: FlowRef, event: Event, now: Tick) -> Transition;
    fn insert(
        &mut self,
        key: K,
        hash: u64,
        real: RealId,
        state: State,
        flags: FlowFlags,
        now: Tick,
    ) -> Inserted<K>;
    fn has_room(&self, hash: u64) -> bool;
    fn remove(&mut self, flow: FlowRef) -> Option<Removed<K>>;
    fn span(&self, state: State) -> u32;
    fn assign(&mut self, real: RealId, owner: u32);
    fn is_flooded(&mut self, event: Event, now: Tick) -> bool;
    fn sweep(
        &mut self,
        now: Tick,
        budget: usize,
        keep: impl FnMut(&Flow<K>) -> bool,
        removed: impl FnMut(Removed<K>),
    ) -> Swept;
    fn scan(&self, cursor: u32, budget: usize, each: impl FnMut(&Flow<K>)) -> Option<u32>;
}

impl<K: flow::TableKey, const N: usize> FlowTable<K> for Table<K, N> {
    #[inline(always)]
    fn hash(&self, key: &K) -> u64 {
        self.hash(key)
    }

    #[inline(always)]
    fn lacks(&self, hash: u64, key: &Packed<K::Addresses>) -> bool {
        self.lacks(hash, key)
    }

    #[inline(always)]
    fn lookup(&mut self, key: &K, hash: u64, now: Tick) -> Lookup<K> {
        self.lookup(key, hash, now)
    }

    #[inline(always)]
    fn find(&self, key: &K, hash: u64, now: Tick) -> Option<Flow<K>> {
        self.find(key, hash, now)
    }

    #[inline(always)]
    fn get(&self, flow: FlowRef) -> Flow<K> {
        self.get(flow)
    }

    #[inline(always)]
    fn touch(&mut self, flow: FlowRef, event: Event, now: Tick) -> Transition {
        self.touch(flow, event, now)
    }

    #[inline(always)]
    fn insert(
        &mut self,
        key: K,
        hash: u64,
        real: RealId,
        state: State,
        flags: FlowFlags,
        now: Tick,
    ) -> Inserted<K> {
        self.insert(key, hash, real, state, flags, now)
    }

    fn has_room(&self, hash: u64) -> bool {
        self.has_room(hash)
    }

    #[inline(always)]
    fn remove(&mut self, flow: FlowRef) -> Option<Removed<K>> {
        self.remove(flow)
    }

    #[inline(always)]
    fn span(&self, state: State) -> u32 {
        self.span(state)
    }

    #[inline(always)]
    fn assign(&mut self, real: RealId, owner: u32) {
        self.assign(real, owner);
    }

    #[inline(always)]
    fn is_flooded(&mut self, event: Event, now: Tick) -> bool {
        self.is_flooded(event, now)
    }

    #[inline(always)]
    fn sweep(
        &mut self,
        now: Tick,
        budget: usize,
        keep: impl FnMut(&Flow<K>) -> bool,
        removed: impl FnMut(Removed<K>),
    ) -> Swept {
        self.sweep(now, budget, keep, removed)
    }

    #[inline(always)]
    fn scan(&self, cursor: u32, budget: usize, each: impl FnMut(&Flow<K>)) -> Option<u32> {
        self.scan(cursor, budget, each)
    }
}

/// A parsed packet.
pub(super) trait Packet: Copy {
    type Key: Key;
    type Fragment: Identity + Into<FragmentKey>;

    /// Reads it from the frame; `None` when that is no packet of this family.
    fn of<B: PacketBuf>(buf: &B) -> Option<Self>;
    /// Where fragments of this family wait.
    fn fragments<B>(pipeline: &mut Pipeline<B>) -> &mut Fragments<B, Self>;

    /// Where it says it is from.
    fn source(&self, seed: &Seed) -> SourceNetwork;
    fn dst(&self) -> IpAddr;
    fn l4(&self) -> L4;
    fn is_fragment(&self) -> bool;
    /// What all fragments of the packet share.
    fn fragment(&self) -> Self::Fragment;
    /// Whether it may be of a virtual service with this protocol. What it begins with is not told
    /// by a later fragment whose first one has more headers.
    fn may_be(&self, protocol: Protocol) -> bool;
    /// TTL or hop limit as received.
    fn ttl(&self) -> u8;
    /// Length in bytes from the IP header on, without Ethernet padding.
    fn total_len(&self) -> u32;
    /// Addresses of a packet to a VIP.
    fn addresses(&self) -> (<Self::Key as Key>::Address, <Self::Key as Key>::Address);
    /// The flow that it is about, when it is an ICMP error.
    fn quoted(&self, message: &[u8]) -> Option<Self::Key>;
    /// Where the ICMP message starts in the frame, and where it ends.
    fn message(&self) -> (usize, usize);

    /// What to do with it, by its length, where the tunnel is not a [`Tunnel::Dual`].
    fn fit(&self, real: &Real) -> Fit;
    /// What such a tunnel needs to know.
    fn inner(&self, labels: &Labels) -> Inner;
    /// Addresses it to `dst`, through the tunnel if there is one, but for a [`Tunnel::Dual`];
    /// `ip_id` is counted up when it is used.
    fn rewrite<B: PacketBuf>(
        &self,
        buf: &mut B,
        real: &Real,
        dst: Mac,
        ip_id: &mut u16,
    ) -> Result<(), ForwardError>;

    /// Its flow's key, and what it means to the flow; later fragments have none.
    #[inline(always)]
    fn flow(&self) -> Option<(Self::Key, Event)> {
        let (protocol, ports, event) = match self.l4() {
            L4::Tcp { sport, dport, flags } => {
                (Protocol::Tcp, (sport, dport), Event::from_tcp_flags(flags.0))
            }
            L4::Udp { sport, dport } => (Protocol::Udp, (sport, dport), Event::Datagram),
            L4::Icmp { .. } | L4::LaterFragment | L4::Other => return None,
        };
        let (client, vip) = self.addresses();
        Some((Key::new(client, vip, ports, protocol), event))
    }
}

impl Packet for Ipv4Packet {
    type Key = FlowKey;
    type Fragment = FragmentKey4;

    fn of<B: PacketBuf>(buf: &B) -> Option<Ipv4Packet> {
        match parse(buf.data(), buf.len(), buf.rx_ip_checksum()) {
            Ok(Parsed::Ipv4(ip)) => Some(ip),
            _ => None,
        }
    }

    fn fragments<B>(pipeline: &mut Pipeline<B>) -> &mut Fragments<B, Ipv4Packet> {
        &mut pipeline.fragments
    }

    fn source(&self, seed: &Seed) -> SourceNetwork {
        SourceNetwork::of4(self.src.into(), seed)
    }

    fn dst(&self) -> IpAddr {
        self.dst.into()
    }

    #[inline(always)]
    fn l4(&self) -> L4 {
        self.l4
    }

    fn is_fragment(&self) -> bool {
        self.fragment.is_fragment()
    }

    fn fragment(&self) -> FragmentKey4 {
        FragmentKey4::of(self)
    }

    fn may_be(&self, protocol: Protocol) -> bool {
        self.protocol == protocol as u8
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.ttl
    }

    #[inline(always)]
    fn total_len(&self) -> u32 {
        self.total_len.into()
    }

    #[inline(always)]
    fn addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.src, self.dst)
    }

    fn quoted(&self, message: &[u8]) -> Option<FlowKey> {
        let quoted = icmpv4::quoted(message).ok()?;
        // A VIP gets errors about its own packets only; any other quotation is made up.
        if quoted.src != self.dst {
            return None;
        }
        let protocol = Protocol::from_number(quoted.protocol)?;
        Some(Key::new(quoted.dst, quoted.src, (quoted.dport, quoted.sport), protocol))
    }

    fn message(&self) -> (usize, usize) {
        let start = self.l4_offset();
        (start, start - usize::from(self.header_len) + usize::from(self.total_len))
    }

    #[inline(always)]
    fn fit(&self, real: &Real) -> Fit {
        let overhead = real.tunnel.as_ref().map_or(0, Tunnel::overhead);
        match forward::needs_fragmentation(self.total_len, overhead, real.mtu) {
            false => Fit::Whole,
            true if self.fragment.df() => Fit::TooBig { mtu: real.mtu.saturating_sub(overhead) },
            true => Fit::FragmentOuter,
        }
    }

    fn inner(&self, labels: &Labels) -> Inner {
        Inner::of4(self, labels.of4(self))
    }

    #[inline(always)]
    fn rewrite<B: PacketBuf>(
        &self,
        buf: &mut B,
        real: &Real,
        dst: Mac,
        ip_id: &mut u16,
    ) -> Result<(), ForwardError> {
        match &real.tunnel {
            Some(Tunnel::Narrow(tunnel)) => {
                // Only a packet that may be fragmented uses one up.
                *ip_id = ip_id.wrapping_add(u16::from(!self.fragment.df()));
                tunnel.forward(buf, real.src_mac, dst, self, *ip_id)
            }
            None | Some(Tunnel::Dual(_)) => dr::forward(buf, real.src_mac, dst),
        }
    }
}

impl Packet for Ipv6Packet {
    type Key = FlowKey6;
    type Fragment = FragmentKey6;

    fn of<B: PacketBuf>(buf: &B) -> Option<Ipv6Packet> {
        parse6::parse(buf.data(), buf.len()).ok()
    }

    fn fragments<B>(pipeline: &mut Pipeline<B>) -> &mut Fragments<B, Ipv6Packet> {
        &mut pipeline.fragments6
    }

    fn source(&self, seed: &Seed) -> SourceNetwork {
        SourceNetwork::of6(self.src.into(), seed)
    }

    fn dst(&self) -> IpAddr {
        self.dst.into()
    }

    #[inline(always)]
    fn l4(&self) -> L4 {
        self.l4
    }

    fn is_fragment(&self) -> bool {
        Ipv6Packet::is_fragment(self)
    }

    fn fragment(&self) -> FragmentKey6 {
        FragmentKey6::of(self)
    }

    fn may_be(&self, protocol: Protocol) -> bool {
        self.protocol == protocol as u8
            || matches!(self.protocol, next::DESTINATION | next::AUTHENTICATION)
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.hop_limit
    }

    #[inline(always)]
    fn total_len(&self) -> u32 {
        Ipv6Packet::total_len(self)
    }

    #[inline(always)]
    fn addresses(&self) -> (Ipv6Addr, Ipv6Addr) {
        (self.src, self.dst)
    }

    fn quoted(&self, message: &[u8]) -> Option<FlowKey6> {
        let quoted = icmpv6::quoted(message).ok()?;
        if quoted.src != self.dst {
            return None;
        }
        let protocol = Protocol::from_number(quoted.protocol)?;
        Some(Key::new(quoted.dst, quoted.src, (quoted.dport, quoted.sport), protocol))
    }

    fn message(&self) -> (usize, usize) {
        let start = self.l4_offset();
        (start, start + usize::from(self.l4_len()))
    }

    /// Only `dr` comes here, and routers do not fragment IPv6 (RFC 8200 5).
    #[inline(always)]
    fn fit(&self, real: &Real) -> Fit {
        match self.total_len() > real.mtu.into() {
            false => Fit::Whole,
            true => Fit::TooBig { mtu: real.mtu },
        }
    }

    fn inner(&self, labels: &Labels) -> Inner {
        Inner::of6(self, labels.of6(self))
    }

    #[inline(always)]
    fn rewrite<B: PacketBuf>(
        &self,
        buf: &mut B,
        real: &Real,
        dst: Mac,
        _: &mut u16,
    ) -> Result<(), ForwardError> {
        dr6::forward(buf, real.src_mac, dst)
    }
}
