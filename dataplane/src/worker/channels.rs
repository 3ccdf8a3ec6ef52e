//! The bounded queues between workers, slow path and control.
//!
//! | from | to | what | when full |
//! | --- | --- | --- | --- |
//! | worker | slow path | ARP, neighbor discovery | dropped, `punt_full` |
//! | worker | slow path | all other punts | dropped, `punt_full` |
//! | worker | worker | packets that look for a flow, notes on fragments | dropped, `handoff_full` |
//! | slow path | worker | frames to send | dropped, `inbox_full` |
//! | control | worker | questions about flows, one at a time | waits |
//!
//! ARP and neighbor discovery have a queue of their own so that a flood of pings or stray segments
//! cannot keep the director from answering, or learning, an Ethernet address. Both come from the
//! link only.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::dpdk::Mbuf;
use crate::pipeline::{PeerMessage, Query, QueryReply};
use crate::types::{PortId, Punt, PuntReason, WorkerId};

/// Messages of ARP and neighbor discovery waiting for the slow path.
const ARP_QUEUE: usize = 512;
/// Other packets waiting for the slow path.
const PUNT_QUEUE: usize = 1024;
/// Messages waiting for one worker.
const PEER_QUEUE: usize = 512;
/// Frames of the slow path waiting for one worker.
const FRAME_QUEUE: usize = 1024;

/// The queues that lead to one worker.
#[derive(Debug)]
pub struct Links {
    peers: ArrayQueue<PeerMessage<Mbuf>>,
    frames: ArrayQueue<(PortId, Mbuf)>,
    queries: ArrayQueue<(Ticket, Query)>,
    replies: ArrayQueue<(Ticket, QueryReply)>,
}

/// Tells the answer to a question from a late one to a question before, which was given up.
pub type Ticket = u64;

/// All queues.
#[derive(Debug, Clone)]
pub struct Channels {
    arp: Arc<ArrayQueue<Punt<Mbuf>>>,
    punts: Arc<ArrayQueue<Punt<Mbuf>>>,
    workers: Arc<[Links]>,
}

/// A worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    me: usize,
    all: Channels,
}

/// The slow path's end.
#[derive(Debug)]
pub struct SlowEnd {
    all: Channels,
    next: usize,
}

impl Channels {
    /// Queues for so many workers.
    pub fn new(workers: usize) -> Channels {
        let links = || Links {
            peers: ArrayQueue::new(PEER_QUEUE),
            frames: ArrayQueue::new(FRAME_QUEUE),
            queries: ArrayQueue::new(1),
            replies: ArrayQueue::new(1),
        };
        Channels {
            arp: Arc::new(ArrayQueue::new(ARP_QUEUE)),
            punts: Arc::new(ArrayQueue::new(PUNT_QUEUE)),
            workers: (0..workers).map(|_| links()).collect(),
        }
    }

    /// The end of worker `me`.
    pub fn worker(&self, me: WorkerId) -> WorkerEnd {
        WorkerEnd { me: me.index(), all: self.clone() }
    }

    /// The slow path's end.
    pub fn slow_path(&self) -> SlowEnd {
        SlowEnd { all: self.clone(), next: 0 }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Asks a worker; back when a question is already on its way.
    pub fn ask(&self, worker: usize, ticket: Ticket, query: Query) -> Result<(), Query> {
        match self.workers.get(worker) {
            Some(links) => links.queries.push((ticket, query)).map_err(|(_, query)| query),
            None => Err(query),
        }
    }

    /// A worker's answer to the question with this ticket, if it is there. Answers to others are
    /// dropped.
    pub fn reply(&self, worker: usize, ticket: Ticket) -> Option<QueryReply> {
        let (answered, reply) = self.workers.get(worker)?.replies.pop()?;
        (answered == ticket).then_some(reply)
    }
}

impl WorkerEnd {
    fn links(&self) -> &Links {
        &self.all.workers[self.me]
    }

    /// Whether nothing waits for this worker.
    #[inline(always)]
    pub fn is_quiet(&self) -> bool {
        let links = self.links();
        links.peers.is_empty() && links.frames.is_empty() && links.queries.is_empty()
    }

    /// To the slow path; back when its queue is full.
    pub fn punt(&self, punt: Punt<Mbuf>) -> Result<(), Punt<Mbuf>> {
        match punt.reason {
            PuntReason::Arp | PuntReason::Ndp => self.all.arp.push(punt),
            _ => self.all.punts.push(punt),
        }
    }

    /// To another worker; back when its queue is full.
    pub fn tell(&self, to: WorkerId, message: PeerMessage<Mbuf>) -> Result<(), PeerMessage<Mbuf>> {
        match self.all.workers.get(to.index()) {
            Some(links) => links.peers.push(message),
            None => Err(message),
        }
    }

    /// From another worker.
    pub fn next_message(&self) -> Option<PeerMessage<Mbuf>> {
        self.links().peers.pop()
    }

    /// From the slow path.
    pub fn next_frame(&self) -> Option<(PortId, Mbuf)> {
        self.links().frames.pop()
    }

    /// From control.
    pub fn next_query(&self) -> Option<(Ticket, Query)> {
        self.links().queries.pop()
    }

    /// To control. There is one question at a time, so there is room, unless the answer before
    /// was given up on: then that one goes back into the newer's place.
    pub fn answer(&self, ticket: Ticket, reply: QueryReply) {
        drop(self.links().replies.force_push((ticket, reply)));
    }
}

impl SlowEnd {
    /// The next punted message of ARP or neighbor discovery.
    pub fn next_arp(&self) -> Option<Punt<Mbuf>> {
        self.all.arp.pop()
    }

    /// The next other punted packet.
    pub fn next_punt(&self) -> Option<Punt<Mbuf>> {
        self.all.punts.pop()
    }

    /// Gives a frame to a worker to send, each in turn; every worker serves every port. Back when
    /// that worker's queue is full.
    pub fn send(&mut self, port: PortId, frame: Mbuf) -> Result<(), Mbuf> {
        self.next = (self.next + 1) % self.all.workers.len();
        self.all.workers[self.next].frames.push((port, frame)).map_err(|(_, frame)| frame)
    }

    /// Takes back what workers have not sent, at the end.
    pub fn take_back(&self) -> Option<Mbuf> {
        self.all.workers.iter().find_map(|w| w.frames.pop()).map(|(_, frame)| frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{FlowMatch, QueryKind};

    fn query(cursor: u32) -> Query {
        let wanted = FlowMatch::default();
        Query { cursor, budget: 0, kind: QueryKind::List, wanted, rows: Vec::new() }
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_question_s() {
        let channels = Channels::new(1);
        let worker = channels.worker(WorkerId(0));
        let answer = || {
            let (ticket, query) = worker.next_query().unwrap();
            worker.answer(ticket, QueryReply { next: None, query });
        };
        channels.ask(0, 1, query(10)).unwrap();
        assert_eq!(channels.ask(0, 2, query(20)).unwrap_err().cursor, 20, "the first still waits");
        answer();
        channels.ask(0, 2, query(20)).unwrap();
        assert!(channels.reply(0, 2).is_none(), "that was to the first");
        answer();
        assert_eq!(channels.reply(0, 2).unwrap().query.cursor, 20);
    }
}
