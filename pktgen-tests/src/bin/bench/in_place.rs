//! Packets a second on mbufs whose headers are written in place: `dataplane/benches/in_place.rs`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::hugepages::Memory;
use crate::process::command;
use crate::report::Measured;
use crate::{Options, cargo};

const METHODS: [&str; 3] = ["dr", "ipip", "gre"];
const MIB: u64 = 128;

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let (pairs, interval) = if options.quick { ("3", "400") } else { ("9", "2000") };
    let cases = [1, 1000, 100_000, 1_000_000].into_iter();
    let cases = cases.flat_map(|flows: u64| METHODS.map(|method| (flows, method)));
    let wanted = |case: &(u64, &str)| match &options.only {
        Some(only) => format!("in place {} flows {}", case.0, case.1).contains(only.as_str()),
        None => true,
    };
    let cases: Vec<_> = cases.filter(wanted).collect();
    if cases.is_empty() {
        return Ok(vec![]);
    }
    let program = cargo::build("in_place", true)?;
    let memory = Memory::reserve(MIB);
    let mut results = Vec::new();
    for (flows, method) in cases {
        let mut command = command(&program);
        command.args([method, &flows.to_string(), pairs, interval]);
        command.args(["-l", "1"]).args(memory.eal(MIB)).stderr(Stdio::inherit());
        let out = command.output().context("cannot run in_place")?;
        ensure!(out.status.success(), "in_place {method} {flows}: {}", out.status);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let pair = |line: &str| {
            let (ours, theirs) = line.split_once(' ')?;
            Some((ours.parse::<f64>().ok()?, theirs.parse::<f64>().ok()?))
        };
        let (ours, theirs): (Vec<_>, Vec<_>) = text.lines().filter_map(pair).unzip();
        let result = Measured {
            part: "throughput",
            name: "in place,udp".into(),
            method: Some(method.into()),
            flows: Some(flows),
            services: Some(1),
            reals: Some(2),
            frame: Some(64),
            unit: "Mpps",
            ..Measured::default()
        }
        .against(&ours, &theirs);
        eprintln!("throughput: in place {flows} flows {method}: {}", result.summary("mac rewrite"));
        results.push(result);
    }
    Ok(results)
}
