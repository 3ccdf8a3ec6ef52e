//! Packets a second on mbufs whose headers are written in place: `dataplane/benches/in_place.rs`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::hugepages::Memory;
use crate::process::command;
use crate::report::Measured;
use crate::throughput::methods;
use crate::{Options, cargo};

const MIB: u64 = 128;

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let (pairs, interval) = if options.quick { ("3", "300") } else { ("7", "800") };
    let cases = [1, 1000, 100_000, 1_000_000].into_iter();
    let quick = options.quick && options.only.is_none();
    let cases = cases.flat_map(|flows| methods(flows, quick).iter().map(move |m| (flows, *m)));
    let wanted = |case: &(usize, &str)| match &options.only {
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
            flows: Some(flows as u64),
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
