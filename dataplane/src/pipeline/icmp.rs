//! ICMP errors about a flow: to that flow's real server, whichever worker they came to.
//!
//! Replies go from the real server to the client past the director, with the VIP as source. A
//! router on that way which cannot deliver one tells the VIP (RFC 792, RFC 1191), and that message
//! comes to the director. It quotes the reply, so client and VIP are the other way round.

use super::family::{FlowTable, Key, Packet};
use super::peers::Seeking;
use super::{Env, Handoff, Output, Pipeline};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::icmpv4::kind;
use crate::schedule::{Cursor, Load};
use crate::snapshot::Snapshot;
use crate::stats::DropReason;
use crate::types::{PortId, RealId, ServiceId, WorkerId};

/// Whether an ICMP message of this type goes to the real server of the flow it quotes: those types
/// that `ip_vs_in_icmp` of LVS hands on. A redirect would tell the real server by which router to
/// reach its client, and anybody can forge one; a parameter problem tells it nothing it could mend.
///
/// Of ICMPv6 all errors are handed on, unknown ones too (RFC 4443 2.4 (a)), as `ip_vs_in_icmp_v6`
/// does; redirects are neighbor discovery there.
pub(super) const fn is_handed_on(kind: u8) -> bool {
    matches!(kind, kind::UNREACHABLE | kind::SOURCE_QUENCH | kind::TIME_EXCEEDED)
}

/// The flow that an ICMP error's quotation is about.
fn quoted_flow<I: Packet>(frame: &[u8], ip: &I) -> Option<I::Key> {
    let (start, end) = ip.message();
    ip.quoted(frame.get(start..end.min(frame.len()))?)
}

impl<B: PacketBuf> Pipeline<B> {
    /// An ICMP error to a VIP, which first came to worker `origin`.
    pub(super) fn icmp_error<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        ip: &I,
        origin: WorkerId,
    ) {
        // A fragment of an error cannot be read whole; nobody sends such.
        let key = quoted_flow(buf.data(), ip).filter(|_| !ip.is_fragment());
        let service = key.and_then(|k| k.find_service(env.snapshot));
        let (Some(key), Some(service)) = (key, service) else {
            return self.drop_packet(DropReason::IcmpUnknownFlow, buf);
        };
        let shard = I::Key::shard(self);
        let found = shard.find(&key, shard.hash(&key), env.now).map(|flow| flow.real);
        // A flow keeps its slot from others, and its real server if another virtual service has its
        // L4 port now.
        if let Some(real) = found.filter(|real| env.snapshot.real(*real).is_some()) {
            return self.forward(env, ingress, buf, ip, real);
        }
        let (mut buf, mut reason) = (buf, DropReason::IcmpUnknownFlow);
        if (self.me.0 + 1) % self.workers != origin.0 {
            let packet = Handoff { ingress, origin, what: Seeking::Error, buf };
            let alone = env.snapshot.service(service).is_some_and(|s| s.finds_again);
            let left = match origin == self.me {
                true => self.seek(env, packet, ip.source(&self.seed), alone),
                false => self.hand_over(env, packet),
            };
            let Err(packet) = left else { return };
            (buf, reason) = (packet.buf, DropReason::HandoffFull);
        }
        // No worker has it, or no more may be asked. A hash scheduler still knows where it would be.
        let bound = self.bound(env, service, &key);
        match bound.or_else(|| Self::would_pick(env.snapshot, service, &key)) {
            Some(real) => self.forward(env, ingress, buf, ip, real),
            None => self.drop_packet(reason, buf),
        }
    }

    /// Whether the real server is full does not matter: the flow is not a new one.
    fn would_pick(snapshot: &Snapshot, service: ServiceId, key: &impl Key) -> Option<RealId> {
        let service = snapshot.service(service)?;
        if !service.scheduler.kind().is_hash() {
            return None;
        }
        // A hash scheduler goes by neither cursor nor loads.
        let loads: &[Load] = &[];
        let member = service.scheduler.pick(key, &mut Cursor::default(), loads)?;
        service.reals.get(member).copied()
    }
}
