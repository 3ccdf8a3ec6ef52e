//! One worker and two, measured, and a model of more: `dataplane/benches/scaling.rs`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::hugepages::Memory;
use crate::process::command;
use crate::report::{Measured, spread};
use crate::{Options, cargo};

/// What workers share does not depend on it.
const METHOD: &str = "dr";
const MIB: u64 = 256;
/// 64-byte frames with preamble and gap, 84 bytes, on 100 GbE: million a second.
const LINE_RATE: f64 = 100e9 / (84.0 * 8.0) / 1e6;
/// Workers the model is asked about.
const WORKERS: [u64; 5] = [1, 2, 4, 8, 16];

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let (rounds, interval) = if options.quick { ("3", "300") } else { ("7", "600") };
    let flows: &[u64] =
        if options.quick { &[1000, 1_000_000] } else { &[1, 1000, 100_000, 1_000_000] };
    let wanted = |flows: &u64| match &options.only {
        Some(only) => format!("scaling {flows} flows").contains(only.as_str()),
        None => true,
    };
    let program = cargo::build("scaling", true)?;
    let memory = Memory::reserve(MIB);
    let mut results = Vec::new();
    for flows in flows.iter().copied().filter(wanted) {
        let mut command = command(&program);
        command.args([METHOD, &flows.to_string(), rounds, interval]);
        command.args(["-l", "0,1"]).args(memory.eal(MIB)).stderr(Stdio::inherit());
        let out = command.output().context("cannot run scaling")?;
        ensure!(out.status.success(), "scaling {flows}: {}", out.status);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let pair = |line: &str| {
            let (one, two) = line.split_once(' ')?;
            Some((one.parse::<f64>().ok()?, two.parse::<f64>().ok()?))
        };
        let (one, two): (Vec<_>, Vec<_>) = text.lines().filter_map(pair).unzip();
        let result = |name: &str, workers| Measured {
            part: "scaling",
            name: name.into(),
            method: Some(METHOD.into()),
            flows: Some(flows),
            workers: Some(workers),
            frame: Some(64),
            unit: "Mpps",
            ..Measured::default()
        };
        results.push(result("in place,udp", 1).of(&one));
        let both = result("in place,udp", 2).against(&two, &one);
        eprintln!("scaling: {flows} flows: two workers {}", both.summary("one"));
        let loss = contention(both.ratio.unwrap_or(2.0));
        results.push(both);
        let (alone, ..) = spread(&one).context("scaling measured nothing")?;
        let models = [
            ("model: workers share nothing", 0.0),
            ("model: workers cost one another what two of them do here", loss),
        ];
        for (name, loss) in models {
            results.extend(WORKERS.map(|workers| {
                let mpps = model(alone, loss, workers);
                let mut row = result(name, workers).of(&[mpps.min(LINE_RATE)]);
                (row.min, row.max, row.n) = (None, None, None);
                row.why = Some(match mpps > LINE_RATE {
                    true => "computed; 100 GbE carries no more".into(),
                    false => "computed".into(),
                });
                row
            }));
        }
    }
    Ok(results)
}

/// What each worker costs the others, from what two do by what one does: the one parameter of
/// `n / (1 + loss * (n - 1))`.
fn contention(two_by_one: f64) -> f64 {
    (2.0 / two_by_one - 1.0).max(0.0)
}

/// Million packets a second of so many workers.
fn model(one: f64, loss: f64, workers: u64) -> f64 {
    let workers = workers as f64;
    one * workers / (1.0 + loss * (workers - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_gives_back_what_it_was_made_of() {
        assert!((model(10.0, contention(1.9), 2) - 19.0).abs() < 1e-9);
        assert!((model(10.0, contention(1.9), 1) - 10.0).abs() < 1e-9);
        assert!((model(10.0, contention(2.1), 16) - 160.0).abs() < 1e-9, "no gain by sharing");
        assert!((LINE_RATE - 148.8).abs() < 0.1);
    }
}
