//! The connection of one probe: opened, and politely closed.
//!
//! It is closed by FIN, not by RST, for resets fill servers' logs. Until both ends have closed, and
//! a while after, what the server repeats is answered.

use super::machine::Reason;
use super::numbers::Tuple;
use super::segment::{Out, Segment};
use crate::packet::tcp::Flags;
use crate::types::Millis;

/// Answers one connection gives in all; a server that wants more is reset.
pub const MAX_ANSWERS: u8 = 16;
/// How long a connection that was decided on is kept, to close it, in milliseconds; after half of
/// it, a FIN that nobody has acknowledged is repeated.
pub(super) const LINGER: u64 = 3_000;
/// A SYN is repeated after this time, in milliseconds (RFC 6298 2.1), or half the time an answer is
/// waited for.
const REPEAT: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The SYN was sent, once or twice.
    Asked { twice: bool },
    /// Nothing has come in time. What comes yet is closed.
    Late,
    /// Opened; our FIN was sent, once or twice.
    Closing { theirs: u32, acknowledged: bool, twice: bool },
}

/// One connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    pub(super) tuple: Tuple,
    /// When its timer is set for.
    pub(super) due: Millis,
    sequence: u32,
    phase: Phase,
    answers: u8,
    /// When an answer is not waited for any longer.
    deadline: Millis,
}

/// What follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing.
    Nothing,
    /// The probe has passed.
    Passed,
    /// The probe has failed; the connection is there yet.
    Failed(Reason),
    /// The probe has failed, and there is no connection.
    Refused,
    /// The connection is at an end.
    Over,
}

impl Connection {
    /// A connection whose SYN is sent now; its sequence number, and the time for an answer.
    pub(super) fn new(tuple: Tuple, sequence: u32, timeout: u64, now: Millis) -> Connection {
        Connection {
            tuple,
            due: now.after(REPEAT.min(timeout / 2)),
            sequence,
            phase: Phase::Asked { twice: false },
            answers: 0,
            deadline: now.after(timeout),
        }
    }

    pub(super) const fn syn(&self) -> Out {
        Out { flags: Flags::SYN, seq: self.sequence, ack: 0 }
    }

    /// The acknowledgment of all up to `theirs`, `sent` bytes after the SYN.
    fn ack(&self, flags: Flags, sent: u32, theirs: u32) -> Out {
        Out { flags: flags | Flags::ACK, seq: self.sequence.wrapping_add(sent), ack: theirs }
    }

    /// Our ACK of their SYN, then our FIN.
    fn close(&self, theirs: u32) -> [Out; 2] {
        [self.ack(Flags(0), 1, theirs), self.ack(Flags::FIN, 1, theirs)]
    }

    /// A segment came that acknowledges our SYN or FIN.
    pub(super) fn receive(
        &mut self,
        segment: &Segment,
        now: Millis,
        say: &mut dyn FnMut(Out),
    ) -> Told {
        let acknowledged = segment.ack.wrapping_sub(self.sequence);
        if !segment.flags.ack() || !matches!(acknowledged, 1 | 2) {
            return Told::Nothing;
        }
        let opens = segment.flags.syn() && acknowledged == 1;
        match self.phase {
            Phase::Asked { .. } | Phase::Late if segment.flags.rst() => match self.phase {
                Phase::Late => Told::Over,
                _ => Told::Refused,
            },
            Phase::Asked { .. } | Phase::Late if opens => {
                let told = match self.phase {
                    Phase::Late => Told::Nothing,
                    _ => Told::Passed,
                };
                let theirs = segment.seq.wrapping_add(1);
                self.phase = Phase::Closing { theirs, acknowledged: false, twice: false };
                self.due = now.after(LINGER / 2);
                self.close(theirs).into_iter().for_each(say);
                told
            }
            Phase::Asked { .. } | Phase::Late => Told::Nothing,
            Phase::Closing { .. } if segment.flags.rst() => Told::Over,
            Phase::Closing { theirs, acknowledged: before, twice } => {
                let length = segment.data + u32::from(segment.flags.fin());
                let is_next = !segment.flags.syn() && segment.seq == theirs;
                let theirs = theirs.wrapping_add(if is_next { length } else { 0 });
                self.phase =
                    Phase::Closing { theirs, acknowledged: before || acknowledged == 2, twice };
                if length == 0 && !segment.flags.syn() {
                    return Told::Nothing;
                }
                if self.answers == MAX_ANSWERS {
                    say(Out { flags: Flags::RST, ..self.ack(Flags(0), 2, theirs) });
                    return Told::Over;
                }
                self.answers += 1;
                match opens {
                    true => self.close(theirs).into_iter().for_each(say),
                    false => say(self.ack(Flags(0), 2, theirs)),
                }
                Told::Nothing
            }
        }
    }

    /// Its timer has run out; it is set anew unless the connection is over.
    pub(super) fn timer(&mut self, say: &mut dyn FnMut(Out)) -> Told {
        match self.phase {
            Phase::Asked { twice: false } => {
                self.phase = Phase::Asked { twice: true };
                self.due = self.deadline.max(self.due.after(1));
                say(self.syn());
                Told::Nothing
            }
            Phase::Asked { twice: true } => {
                self.phase = Phase::Late;
                self.due = self.due.after(LINGER);
                Told::Failed(Reason::NoAnswer)
            }
            Phase::Closing { theirs, acknowledged: false, twice: false } => {
                self.phase = Phase::Closing { theirs, acknowledged: false, twice: true };
                self.due = self.due.after(LINGER / 2);
                say(self.ack(Flags::FIN, 1, theirs));
                Told::Nothing
            }
            Phase::Closing { theirs, acknowledged: true, twice: false } => {
                self.phase = Phase::Closing { theirs, acknowledged: true, twice: true };
                self.due = self.due.after(LINGER / 2);
                Told::Nothing
            }
            Phase::Late | Phase::Closing { .. } => Told::Over,
        }
    }
}
