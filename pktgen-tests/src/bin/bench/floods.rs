//! What floods at the full speed of one worker and of two do to honest clients, neighbors and pings:
//! `pktgen_tests::flood`, which the system tests of floods use too.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pktgen_tests::can_run;
use pktgen_tests::flood::kinds::Kind;
use pktgen_tests::flood::{Report, Station};

use crate::Options;
use crate::cpu::OTHERS;
use crate::process::command;
use crate::report::Measured;

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    ensure!(can_run(), "floods need what scripts/setup --for test installs");
    let time = Duration::from_secs(if options.quick { 4 } else { 10 });
    let mut results = Vec::new();
    for workers in [1, 2] {
        let wanted = |kind: &Kind| match &options.only {
            Some(only) => {
                format!("floods {} {workers} workers", kind.name()).contains(only.as_str())
            }
            None => true,
        };
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(wanted).collect();
        if kinds.is_empty() {
            continue;
        }
        let mut station = Station::start(workers);
        for kind in kinds {
            let report = station.flood(kind, time);
            results.extend(rows(kind.name(), workers, &report));
            if kind == Kind::Pings {
                let busy = Busy::start(2)?;
                let report = station.flood(kind, time);
                drop(busy);
                results.extend(rows("pings, slow path's processor busy", workers, &report));
            }
        }
    }
    Ok(results)
}

fn rows(name: &str, workers: u16, report: &Report) -> Vec<Measured> {
    eprintln!("floods: {name}, {workers} workers: {report}");
    let row = |what: &str, unit, value: f64| {
        Measured {
            part: "floods",
            name: format!("{name}: {what}"),
            workers: Some(workers.into()),
            unit,
            ..Measured::default()
        }
        .of(&[value])
    };
    let sum = |of: fn(&pktgen_tests::flood::Lost) -> usize| {
        report.lost.iter().map(of).sum::<usize>() as f64
    };
    let whole = report.fragments.iter().map(|f| f.whole as f64 / f.sent.max(1) as f64);
    vec![
        row("received", "Mpps", report.mpps),
        row("idle connections lost, of 2000", "clients", sum(|lost| lost.tcp)),
        row("udp flows lost, of 2000", "clients", sum(|lost| lost.udp)),
        row("templates lost, of 2000", "clients", sum(|lost| lost.templates)),
        row("neighbors lost at some time", "neighbors", report.failed.len() as f64),
        row("least answered of pings and arp", "%", f64::from(report.least_answered())),
        row("fragmented datagrams whole", "%", 100.0 * whole.fold(1.0, f64::min)),
        row("longest round", "ms", report.longest_round_ns as f64 / 1e6),
    ]
}

/// Programs that keep the processor of the slow path busy.
struct Busy(Vec<Child>);

impl Busy {
    fn start(programs: usize) -> Result<Busy> {
        let mut busy = Busy(Vec::new());
        for _ in 0..programs {
            let mut hog = command("taskset");
            hog.args(["-c", &OTHERS.to_string(), "sh", "-c", "while :; do :; done"]);
            let hog = hog.stdin(Stdio::null()).spawn().context("cannot start taskset")?;
            busy.0.push(hog);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            drop(hog.kill());
            drop(hog.wait());
        }
    }
}
