//! The flow table against `rte_hash_lookup_bulk_data`: `dataplane/benches/lookup.rs`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::hugepages::Memory;
use crate::process::command;
use crate::report::Measured;
use crate::{Options, cargo};

const KEYS: [u64; 5] = [1000, 10_000, 100_000, 1_000_000, 10_000_000];

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let (pairs, interval) = if options.quick { ("3", "200") } else { ("9", "500") };
    let wanted = |keys: &u64| match &options.only {
        Some(only) => format!("lookup {keys} keys").contains(only.as_str()),
        None => true,
    };
    let program = cargo::build("lookup", true)?;
    let mut results = Vec::new();
    for keys in KEYS.into_iter().filter(wanted) {
        // The other table has up to twice as many places of 56 bytes as keys.
        let mib = 64 + ((keys * 128) >> 20);
        let memory = Memory::reserve(mib);
        let mut command = command(&program);
        command.args([&keys.to_string(), pairs, interval, "-l", "1"]);
        command.args(memory.eal(mib)).stderr(Stdio::inherit());
        let out = command.output().context("cannot run lookup")?;
        ensure!(out.status.success(), "lookup {keys}: {}", out.status);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let pair = |line: &str| {
            let (ours, theirs) = line.split_once(' ')?;
            Some((ours.parse::<f64>().ok()?, theirs.parse::<f64>().ok()?))
        };
        let result = |name: &str, unit| Measured {
            part: "lookup",
            name: name.into(),
            flows: Some(keys),
            unit,
            ..Measured::default()
        };
        let (ours, theirs): (Vec<_>, Vec<_>) = text.lines().filter_map(pair).unzip();
        let time = result("hit, 32 a call, random order", "ns/key").against(&ours, &theirs);
        eprintln!("lookup: {keys} keys: {}", time.summary("rte_hash"));
        results.push(time);
        let memory = text.lines().find_map(|line| pair(line.strip_prefix("memory ")?));
        let (ours, theirs) = memory.context("lookup says nothing about memory")?;
        let by_key = |bytes: f64| [bytes / keys as f64];
        results.push(result("memory", "bytes/key").against(&by_key(ours), &by_key(theirs)));
    }
    Ok(results)
}
