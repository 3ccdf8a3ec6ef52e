//! What every part of the slow path works with during one call: the time, the buffers, the exit.

use super::own::Own;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet::MIN_FRAME_LEN;
use crate::packet::{arp, ndp};
use crate::stats::{DropReason, Event, Stats};
use crate::types::{Mac, Millis, PortId};

/// The end of one punted packet. [`super::SlowPath::punt`] counts it, and nobody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Outcome {
    /// Answered, learned from or sent on: the event that says which.
    Done(Event),
    /// Kept until its neighbor is resolved.
    Waits,
    /// Dropped.
    Dropped(DropReason),
}

impl From<Result<Event, DropReason>> for Outcome {
    fn from(result: Result<Event, DropReason>) -> Outcome {
        result.map_or_else(Outcome::Dropped, Outcome::Done)
    }
}

/// The surroundings of one call.
pub(super) struct Context<'a, B, P> {
    pub(super) own: &'a Own,
    pub(super) pool: &'a P,
    pub(super) stats: &'a Stats,
    pub(super) out: &'a mut dyn FnMut(PortId, B),
    pub(super) now: Millis,
}

impl<B: PacketBuf, P: BufPool<B>> Context<'_, B, P> {
    /// Hands a complete frame over.
    pub(super) fn send(&mut self, port: PortId, frame: B) {
        (self.out)(port, frame);
    }

    /// A buffer that holds `frame`: `old` when it is in one piece and has room, else a new one.
    /// So answers can be given even when the pool is empty.
    pub(super) fn refill(&self, mut old: B, frame: &[u8]) -> Option<B> {
        let len = old.len();
        let fits = old.data().len() == len
            && if frame.len() <= len {
                old.truncate(frame.len())
            } else {
                old.append(frame.len() - len)
            };
        match old.data_mut().get_mut(..frame.len()) {
            Some(bytes) if fits => {
                bytes.copy_from_slice(frame);
                Some(old)
            }
            _ => self.new_frame(frame),
        }
    }

    fn new_frame(&self, frame: &[u8]) -> Option<B> {
        let mut buf = self.pool.alloc()?;
        if !buf.append(frame.len()) {
            return None;
        }
        buf.data_mut().get_mut(..frame.len())?.copy_from_slice(frame);
        Some(buf)
    }

    /// Sends a message of neighbor discovery the director thought of itself, to `neighbor` unless
    /// it is to a group. False when there is no buffer for it.
    pub(super) fn send_ndp(
        &mut self,
        port: PortId,
        src: Mac,
        neighbor: Mac,
        message: &ndp::Message,
    ) -> bool {
        let mut frame = [0; ndp::MAX_FRAME_LEN];
        let len = message.emit_frame(src, neighbor, &mut frame);
        let sent = len.is_ok_and(|len| self.send_new(port, &frame[..len]));
        self.stats.event(Event::NdpRequests).add(sent.into());
        sent
    }

    /// Sends a frame the director thought of itself. False when there is no buffer for it.
    pub(super) fn send_new(&mut self, port: PortId, frame: &[u8]) -> bool {
        let Some(buf) = self.new_frame(frame) else { return false };
        self.send(port, buf);
        true
    }

    /// Sends an ARP request the director thought of itself. False when there is no buffer for it.
    pub(super) fn send_arp(&mut self, port: PortId, dst: Mac, packet: &arp::Packet) -> bool {
        let Some(buf) = arp_frame(packet, dst).and_then(|frame| self.new_frame(&frame)) else {
            return false;
        };
        self.stats.event(Event::ArpRequests).add(1);
        self.send(port, buf);
        true
    }
}

/// An ARP packet in a frame, padded with zeroes to the shortest that Ethernet allows.
pub(super) fn arp_frame(packet: &arp::Packet, dst: Mac) -> Option<[u8; MIN_FRAME_LEN]> {
    let mut frame = [0; MIN_FRAME_LEN];
    packet.emit_frame(dst, &mut frame).ok()?;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buf::{TestBuf, TestPool};

    fn refilled(old: &[u8], frame: &[u8], pool: &TestPool) -> Option<TestBuf> {
        let cx = Context {
            own: &Own::default(),
            pool,
            stats: &Stats::new(0, 0, 0),
            out: &mut |_, _: TestBuf| {},
            now: Millis(0),
        };
        cx.refill(TestBuf::new(old), frame)
    }

    #[test]
    fn an_old_buffer_is_used_again_when_it_has_room() {
        let none = TestPool::of(0);
        for len in [0, 1, 40, 60, 61, 2000] {
            let got = refilled(&vec![9; len], &[7; 60], &none).unwrap();
            assert_eq!(got.data(), [7; 60], "{len}");
        }
        let long = vec![7; TestBuf::DATAROOM + 1];
        assert_eq!(refilled(&[1], &long, &none), None);
        assert_eq!(refilled(&[1], &long, &TestPool::default()), None, "longer than any buffer");
    }
}
