//! What is due when.

use std::collections::BTreeSet;

use crate::types::Millis;

/// Jobs by the time they are due. The owner of a job remembers that time, to take it out again.
#[derive(Debug)]
pub(super) struct Timers<J>(BTreeSet<(Millis, J)>);

impl<J: Ord + Copy> Timers<J> {
    pub(super) const fn new() -> Timers<J> {
        Timers(BTreeSet::new())
    }

    pub(super) fn set(&mut self, due: Millis, job: J) {
        self.0.insert((due, job));
    }

    pub(super) fn unset(&mut self, due: Millis, job: J) {
        self.0.remove(&(due, job));
    }

    /// Takes out the job that is due first, if it is due, with the time at which it was.
    pub(super) fn due(&mut self, now: Millis) -> Option<(Millis, J)> {
        let first = self.0.first().copied().filter(|(due, _)| *due <= now)?;
        self.0.pop_first();
        Some(first)
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.0.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_what_is_unset_does_not_come() {
        let mut timers = Timers::new();
        for (due, job) in [(30, 'c'), (10, 'a'), (20, 'b'), (10, 'd')] {
            timers.set(Millis(due), job);
        }
        timers.unset(Millis(20), 'b');
        timers.unset(Millis(21), 'c');
        assert_eq!(timers.next(), Some(Millis(10)));
        assert_eq!(timers.due(Millis(9)), None);
        let mut come = Vec::new();
        while let Some((_, job)) = timers.due(Millis(30)) {
            come.push(job);
        }
        assert_eq!(come, ['a', 'd', 'c']);
        assert_eq!(timers.next(), None);
    }
}
