//! The bounded rings between workers, slow path and control.
//!
//! | from | to | what | when full |
//! | --- | --- | --- | --- |
//! | worker | slow path | punts, a ring for each [`Lane`] | dropped, `punt_full` |
//! | worker | worker | packets that look for a flow, notes on fragments | dropped, `handoff_full` |
//! | slow path | worker | frames to send, and packets to send as clients' | dropped, `inbox_full` |
//! | control | worker | questions about flows, one at a time | waits |
//!
//! Each ring has one writer and one reader, and neither ever waits for the other: a thread that
//! loses its processor in the middle of a step holds up nobody. Nobody fills another's ring either.
//! Readers take from their rings in turn.
//!
//! A worker looks at one word, its [`Bell`], to see that nothing waits in any of its rings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::dpdk::Mbuf;
use crate::pipeline::{Lane, PeerMessage, Query, QueryReply};
use crate::snapshot::Named;
use crate::types::{PortId, Punt, WorkerId};

/// ARP and neighbor discovery waiting for the slow path, in each of their lanes, from all workers.
const VITAL_LANE: usize = 512;
/// Packets waiting for the slow path in each of the other lanes, from all workers.
const LANE: usize = 256;
/// Messages waiting for one worker: from the one before it, which hands over all packets that look
/// for a flow, and as many from all others.
const PEER_MESSAGES: usize = 512;
/// Room in a ring at least, however many workers share what there is in all.
const LEAST: usize = 32;
/// Frames of the slow path waiting for one worker.
const FRAMES: usize = 1024;
/// Room in a worker's ring of frames that is for ARP and neighbor discovery alone.
const RESERVED: usize = FRAMES / 4;
/// Answers waiting for control: that to a question given up, and that to the one after it.
const REPLIES: usize = 2;

/// What a worker sends for the slow path.
#[derive(Debug)]
pub enum ToSend {
    /// A complete frame, by this port.
    Frame(PortId, Mbuf),
    /// A packet of the director's own, to a real server as a client's would go.
    Inject(Named, Mbuf),
}

/// Ends of rings, by [`Lane`].
type Lanes<End> = Vec<End>;

/// Whether anything waits for a worker. Writers ring after they have written; the worker takes the
/// note down before it reads.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bell(AtomicBool);

impl Bell {
    #[inline]
    fn ring(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody has rung since the last time that this was true. What was written before
    /// is seen after.
    #[inline(always)]
    fn has_rung(&self) -> bool {
        // The exchange is for the rare case: it would take the cache line from the writers. It is
        // needed, for a plain store could pass a reader's loads and hide what came between.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}

/// Tells the answer to a question from a late one to a question before, which was given up.
type Ticket = u64;

/// The ends of all rings: each for the one thread that has it.
#[derive(Debug)]
pub struct Channels {
    /// The workers', in their order.
    pub workers: Vec<WorkerEnd>,
    /// The slow path's.
    pub slow_path: SlowEnd,
    /// Control's, one for each worker.
    pub control: Vec<ControlEnd>,
}

/// A worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    bell: Arc<Bell>,
    punts: Lanes<Producer<Punt<Mbuf>>>,
    frames: Consumer<ToSend>,
    /// By worker; none to itself.
    to_peers: Vec<Option<Post>>,
    from_peers: Vec<Consumer<PeerMessage<Mbuf>>>,
    /// Whose message is next.
    turn: usize,
    questions: Consumer<(Ticket, Query)>,
    replies: Producer<(Ticket, QueryReply)>,
}

/// What leads to another worker.
#[derive(Debug)]
struct Post {
    bell: Arc<Bell>,
    messages: Producer<PeerMessage<Mbuf>>,
}

/// The slow path's end.
#[derive(Debug)]
pub struct SlowEnd {
    workers: Vec<SlowLine>,
    /// Who sent the last frame.
    last: usize,
    /// Whose punt is next, by lane.
    turns: [usize; Lane::ALL.len()],
}

/// What is between the slow path and one worker.
#[derive(Debug)]
struct SlowLine {
    bell: Arc<Bell>,
    punts: Lanes<Consumer<Punt<Mbuf>>>,
    frames: Producer<ToSend>,
}

/// Control's end to one worker.
#[derive(Debug)]
pub struct ControlEnd {
    bell: Arc<Bell>,
    ticket: Ticket,
    questions: Producer<(Ticket, Query)>,
    replies: Consumer<(Ticket, QueryReply)>,
}

/// A share of `all` for each of so many.
fn share(all: usize, of: usize) -> usize {
    (all / of.max(1)).max(LEAST)
}

fn taken_back<T>(result: Result<(), PushError<T>>) -> Result<(), T> {
    result.map_err(|PushError::Full(value)| value)
}

impl Channels {
    /// Rings for so many workers.
    pub fn new(workers: usize) -> Channels {
        let bells: Vec<Arc<Bell>> = (0..workers).map(|_| Arc::default()).collect();
        let mut posts: Vec<Vec<Option<Post>>> = (0..workers).map(|_| Vec::new()).collect();
        let mut boxes: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (from, posts) in posts.iter_mut().enumerate() {
            for (to, bell) in bells.iter().enumerate() {
                posts.push((from != to).then(|| {
                    let is_next = to == (from + 1) % workers;
                    let of = if is_next { 1 } else { workers - 2 };
                    let (messages, inbox) = RingBuffer::new(share(PEER_MESSAGES, of));
                    boxes[to].push(inbox);
                    Post { bell: Arc::clone(bell), messages }
                }));
            }
        }
        let mut ends = Channels {
            workers: Vec::with_capacity(workers),
            slow_path: SlowEnd { workers: Vec::new(), last: 0, turns: [0; Lane::ALL.len()] },
            control: Vec::with_capacity(workers),
        };
        for ((bell, to_peers), from_peers) in bells.into_iter().zip(posts).zip(boxes) {
            let lane = |lane: Lane| {
                RingBuffer::new(share(if lane.is_vital() { VITAL_LANE } else { LANE }, workers))
            };
            let (punts, punted) = Lane::ALL.into_iter().map(lane).unzip();
            let (frames, outbox) = RingBuffer::new(FRAMES);
            let (ask, questions) = RingBuffer::new(1);
            let (replies, replied) = RingBuffer::new(REPLIES);
            let line = SlowLine { bell: Arc::clone(&bell), punts: punted, frames };
            ends.slow_path.workers.push(line);
            ends.control.push(ControlEnd {
                bell: Arc::clone(&bell),
                ticket: 0,
                questions: ask,
                replies: replied,
            });
            ends.workers.push(WorkerEnd {
                bell,
                punts,
                frames: outbox,
                to_peers,
                from_peers,
                turn: 0,
                questions,
                replies,
            });
        }
        ends
    }
}

impl WorkerEnd {
    /// Whether anything may wait for this worker. Whoever then leaves some of it for later
    /// [says so](WorkerEnd::leave_some).
    #[inline(always)]
    pub fn is_wanted(&self) -> bool {
        self.bell.has_rung()
    }

    /// [`WorkerEnd::is_wanted`] shall be true again.
    pub fn leave_some(&self) {
        self.bell.ring();
    }

    /// To the slow path; back when the lane is full.
    pub fn punt(&mut self, punt: Punt<Mbuf>) -> Result<(), Punt<Mbuf>> {
        match self.punts.get_mut(Lane::of(&punt).index()) {
            Some(ring) => taken_back(ring.push(punt)),
            None => Err(punt),
        }
    }

    /// To another worker; back when the ring between the two is full, or has room only for what
    /// [matters more](PeerMessage::leaves).
    pub fn tell(
        &mut self,
        to: WorkerId,
        message: PeerMessage<Mbuf>,
    ) -> Result<(), PeerMessage<Mbuf>> {
        let Some(Some(post)) = self.to_peers.get_mut(to.index()) else { return Err(message) };
        let kept = message.leaves(post.messages.buffer().capacity());
        let told = match post.messages.slots() > kept {
            true => taken_back(post.messages.push(message)),
            false => Err(message),
        };
        post.bell.ring();
        told
    }

    /// From the other workers, each in turn.
    pub fn next_message(&mut self) -> Option<PeerMessage<Mbuf>> {
        for _ in 0..self.from_peers.len() {
            let from = self.from_peers.get_mut(self.turn)?;
            self.turn += 1;
            if self.turn + 1 == self.to_peers.len() {
                // One less than there are workers, for there is none from itself.
                self.turn = 0;
            }
            if let Ok(message) = from.pop() {
                return Some(message);
            }
        }
        None
    }

    /// From the slow path.
    pub fn next_frame(&mut self) -> Option<ToSend> {
        self.frames.pop().ok()
    }

    /// From control, with the ticket to answer it by.
    pub fn next_query(&mut self) -> Option<(u64, Query)> {
        self.questions.pop().ok()
    }

    /// To control. There is one question at a time, and control takes late answers before it asks,
    /// so there is room.
    pub fn answer(&mut self, ticket: u64, reply: QueryReply) {
        drop(self.replies.push((ticket, reply)));
    }
}

impl SlowEnd {
    /// The next punt of a lane, of each worker in turn.
    pub fn next_punt(&mut self, lane: Lane) -> Option<Punt<Mbuf>> {
        let (turn, count) = (self.turns.get_mut(lane.index())?, self.workers.len());
        for _ in 0..count {
            let from = self.workers.get_mut(*turn)?;
            *turn = (*turn + 1) % count;
            if let Some(Ok(punt)) = from.punts.get_mut(lane.index()).map(Consumer::pop) {
                return Some(punt);
            }
        }
        None
    }

    /// Whether some worker takes another frame and has still room for ARP and neighbor discovery.
    /// Without, what answers strangers had better not be made.
    pub fn has_room(&self) -> bool {
        self.workers.iter().any(|worker| worker.frames.slots() > RESERVED)
    }

    /// Gives a frame to a worker to send, each in turn but those with no room; every worker serves
    /// every port. Back when none has room.
    pub fn send(&mut self, port: PortId, frame: Mbuf) -> Result<(), Mbuf> {
        match self.give(ToSend::Frame(port, frame), 0) {
            Ok(()) => Ok(()),
            Err(ToSend::Frame(_, frame) | ToSend::Inject(_, frame)) => Err(frame),
        }
    }

    /// Gives a packet of the director's own to a worker, to be sent to a real server as a client's
    /// would be: [`Pipeline::inject`](crate::pipeline::Pipeline::inject) says what it has to look like, and what
    /// becomes of it. Back when no worker has room but for ARP and neighbor discovery.
    pub fn inject(&mut self, real: Named, frame: Mbuf) -> Result<(), Mbuf> {
        match self.give(ToSend::Inject(real, frame), RESERVED) {
            Ok(()) => Ok(()),
            Err(ToSend::Frame(_, frame) | ToSend::Inject(_, frame)) => Err(frame),
        }
    }

    /// Gives a worker something to send, each in turn but those without so much room left.
    fn give(&mut self, item: ToSend, reserved: usize) -> Result<(), ToSend> {
        let mut item = item;
        for _ in 0..self.workers.len() {
            self.last = if self.last + 1 < self.workers.len() { self.last + 1 } else { 0 };
            let Some(worker) = self.workers.get_mut(self.last) else { break };
            if worker.frames.slots() <= reserved {
                continue;
            }
            match taken_back(worker.frames.push(item)) {
                Ok(()) => {
                    worker.bell.ring();
                    return Ok(());
                }
                Err(back) => item = back,
            }
        }
        Err(item)
    }
}

impl ControlEnd {
    /// Asks the worker; back when a question is already on its way. Answers to questions before
    /// are dropped.
    pub fn ask(&mut self, query: Query) -> Result<(), Query> {
        while self.replies.pop().is_ok() {}
        self.ticket += 1;
        taken_back(self.questions.push((self.ticket, query))).map_err(|(_, query)| query)?;
        self.bell.ring();
        Ok(())
    }

    /// The worker's answer to the last question, if it is there.
    pub fn reply(&mut self) -> Option<QueryReply> {
        while let Ok((ticket, reply)) = self.replies.pop() {
            if ticket == self.ticket {
                return Some(reply);
            }
        }
        None
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
        let mut channels = Channels::new(1);
        let (worker, control) = (&mut channels.workers[0], &mut channels.control[0]);
        let take = |worker: &mut WorkerEnd| worker.next_query().unwrap();
        let answer = |worker: &mut WorkerEnd, (ticket, query)| {
            worker.answer(ticket, QueryReply { next: None, query });
        };
        assert!(!worker.is_wanted());
        control.ask(query(10)).unwrap();
        assert!(worker.is_wanted());
        assert_eq!(control.ask(query(15)).unwrap_err().cursor, 15, "the first still waits");
        // The worker is slow, and the question is given up meanwhile.
        let first = take(worker);
        control.ask(query(20)).unwrap();
        answer(worker, first);
        assert!(control.reply().is_none(), "that was to the first");
        let second = take(worker);
        control.ask(query(30)).unwrap();
        answer(worker, second);
        let third = take(worker);
        answer(worker, third);
        assert_eq!(control.reply().unwrap().query.cursor, 30);
        assert!(control.reply().is_none());
    }

    #[test]
    fn many_workers_share_what_one_has_alone() {
        let channels = Channels::new(16);
        let room = |lane: Lane| {
            let rings = channels.workers.iter().map(|w| w.punts[lane.index()].slots());
            rings.sum::<usize>()
        };
        assert_eq!(room(Lane::Neighbors), VITAL_LANE);
        assert_eq!(room(Lane::Echo), 16 * LEAST);
    }
}
