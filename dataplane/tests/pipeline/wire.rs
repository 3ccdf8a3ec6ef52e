//! What a worker gives away.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use dataplane::pipeline::{BURST, Output, PeerMessage};
use dataplane::types::{PortId, Punt, PuntReason, WorkerId};

use crate::buffer::Counted;

/// A packet the slow path was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Punted {
    pub(crate) ingress: PortId,
    pub(crate) reason: PuntReason,
    pub(crate) bytes: Vec<u8>,
}

/// Everything a worker gives away, each with a limit.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) sent: Vec<(PortId, Vec<u8>)>,
    pub(crate) punted: Vec<Punted>,
    pub(crate) mail: VecDeque<(WorkerId, PeerMessage<Counted>)>,
    /// Frames that are taken yet.
    pub(crate) tx_room: usize,
    pub(crate) punt_room: usize,
    /// Messages that fit a queue at once.
    pub(crate) mail_room: usize,
    /// Buffers given to the slow path or sent: they end here.
    pub(crate) consumed: usize,
}

impl Default for Wire {
    fn default() -> Wire {
        let all = usize::MAX;
        Wire {
            sent: vec![],
            punted: vec![],
            mail: VecDeque::new(),
            tx_room: all,
            punt_room: all,
            mail_room: all,
            consumed: 0,
        }
    }
}

impl Output<Counted> for Wire {
    fn transmit(&mut self, port: PortId, frames: &mut ArrayVec<Counted, BURST>) {
        let taken = frames.len().min(self.tx_room);
        self.tx_room -= taken;
        self.consumed += taken;
        for frame in frames.drain(..taken) {
            self.sent.push((port, dataplane::packet::buf::PacketBuf::data(&frame).to_vec()));
        }
    }

    fn punt(&mut self, punt: Punt<Counted>) -> Result<(), Punt<Counted>> {
        if self.punt_room == 0 {
            return Err(punt);
        }
        self.punt_room -= 1;
        self.consumed += 1;
        let Punt { ingress, reason, buf } = punt;
        let bytes = dataplane::packet::buf::PacketBuf::data(&buf).to_vec();
        self.punted.push(Punted { ingress, reason, bytes });
        Ok(())
    }

    fn tell(
        &mut self,
        to: WorkerId,
        message: PeerMessage<Counted>,
    ) -> Result<(), PeerMessage<Counted>> {
        if self.mail.len() >= self.mail_room {
            return Err(message);
        }
        self.mail.push_back((to, message));
        Ok(())
    }
}
