//! What it takes to sum up connection counts: the whole of it, and the piece that ARP waits for.
//!
//! `cargo bench --bench loads` prints a line for each number of real servers and workers: the
//! median of 101 runs, with counts that change and with counts that stay.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::pipeline::LoadBoard;
use dataplane::schedule::Thresholds;
use dataplane::stats::Stats;
use dataplane::types::RealId;

const RUNS: usize = 101;

fn median(mut run: impl FnMut() -> Duration) -> f64 {
    let mut took: Vec<_> = (0..RUNS).map(|_| run()).collect();
    took.sort_unstable();
    took[RUNS / 2].as_secs_f64() * 1e6
}

fn main() {
    println!("real servers  workers  all, changing (us)  all, at rest (us)  longest piece (us)");
    for (reals, workers) in [(1000, 2), (10_000, 2), (65_536, 2), (1000, 16), (65_536, 16)] {
        let stats: Vec<_> = (0..workers).map(|_| Arc::new(Stats::new(0, 0, reals))).collect();
        let board = LoadBoard::new(workers, reals);
        let counted: Vec<_> =
            (0..reals).map(|n| (RealId(n as u32), Thresholds::default())).collect();
        let change = || {
            for stats in &stats {
                for real in 0..reals {
                    stats.real(RealId(real as u32)).unwrap().active.add(1);
                }
            }
        };
        let all = || {
            let begun = Instant::now();
            board.refresh(&stats, &counted);
            begun.elapsed()
        };
        let changing = median(|| {
            change();
            all()
        });
        let at_rest = median(all);
        let piece = median(|| {
            change();
            let timed = |piece| {
                let begun = Instant::now();
                board.refresh(&stats, piece);
                begun.elapsed()
            };
            counted.chunks(board.piece()).map(timed).max().unwrap_or_default()
        });
        println!("{reals:12} {workers:8} {changing:19.0} {at_rest:18.0} {piece:19.0}");
    }
}
