//! What a worker does when there is nothing to do.

use std::time::Duration;

use crate::vocabulary::IdleMode;

/// Rounds without work before a worker slackens.
const PATIENCE: u32 = 256;
/// First sleep.
const SHORTEST: Duration = Duration::from_micros(20);
/// Longest sleep: adds at most this to the first packet's latency.
const LONGEST: Duration = Duration::from_micros(500);
/// Pause instructions a round.
const PAUSES: u32 = 32;

/// Slackens the poll loop by the configured mode.
#[derive(Debug)]
pub struct Idle {
    mode: IdleMode,
    rounds: u32,
    sleep: Duration,
}

impl Idle {
    /// By `mode`.
    pub fn new(mode: IdleMode) -> Idle {
        Idle { mode, rounds: 0, sleep: SHORTEST }
    }

    /// There was work.
    #[inline(always)]
    pub fn busy(&mut self) {
        self.rounds = 0;
        self.sleep = SHORTEST;
    }

    /// There was none.
    #[inline(always)]
    pub fn idle(&mut self) {
        if self.mode != IdleMode::Poll {
            self.slacken();
        }
    }

    #[cold]
    fn slacken(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds < PATIENCE {
            return;
        }
        if self.mode == IdleMode::Sleep {
            std::thread::sleep(self.sleep);
            self.sleep = (self.sleep * 2).min(LONGEST);
        } else {
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
        }
    }
}
