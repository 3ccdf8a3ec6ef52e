//! Measures Shunt and writes down what it found. `scripts/bench` builds and runs this.

mod baseline;
mod capture;
mod cargo;
mod control;
mod cpu;
mod floods;
mod hugepages;
mod in_place;
mod instructions;
mod latency;
mod lookup;
mod machine;
mod memory;
mod pipeline;
mod plot;
mod process;
mod report;
mod scaling;
mod shuntd;
mod testpmd;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use report::{Measured, Report};

const PARTS: &[(&str, Part)] = &[
    ("pipeline", pipeline::run),
    ("new-flows", pipeline::run_new_flows),
    ("lookup", lookup::run),
    ("throughput", throughput::run),
    ("baseline", baseline::run),
    ("latency", latency::run),
    ("control", control::run),
    ("scaling", scaling::run),
    ("floods", floods::run),
    ("instructions", instructions::run),
    ("memory", memory::run),
];

type Part = fn(&Options) -> Result<Vec<Measured>>;

/// How thorough to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Fewer cases, shorter intervals.
    pub(crate) quick: bool,
    /// Of throughput, only cases whose description contains this.
    pub(crate) only: Option<String>,
    /// Take the instruction counts as the new baseline.
    pub(crate) accept: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut options = Options { quick: false, only: None, accept: false };
    let (mut parts, mut json, mut out) = (Vec::new(), None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--accept" => options.accept = true,
            "--only" => options.only = Some(args.next().context("--only wants a word")?),
            "--json" => json = Some(PathBuf::from(args.next().context("--json wants a file")?)),
            "--out" => out = Some(PathBuf::from(args.next().context("--out wants a directory")?)),
            name => match PARTS.iter().find(|(part, _)| *part == name) {
                Some(part) => parts.push(part),
                None => bail!("no part {name:?}: there are {}", names()),
            },
        }
    }
    if parts.is_empty() {
        parts.extend(PARTS);
    }
    let mut report = Report::new(&machine::describe()?);
    let started = Instant::now();
    for (n, (name, part)) in parts.iter().enumerate() {
        eprintln!("== bench: {name} ({} of {})", n + 1, parts.len());
        let began = Instant::now();
        let results = part(&options).with_context(|| format!("part {name}"))?;
        let one = report.with(results.clone());
        // A quick run's numbers, or some of them, are not for the documents.
        let documents = (!options.quick && options.only.is_none()).then(machine::documents);
        if let Some(dir) = out.clone().or(documents) {
            one.publish(name, &dir)?;
        }
        one.print();
        let (took, all) = (began.elapsed().as_secs(), started.elapsed().as_secs());
        eprintln!("== bench: {name} took {took} s, {all} s so far");
        report.results.extend(results);
    }
    if let Some(file) = json {
        report.write(&file)?;
    }
    Ok(())
}

fn names() -> String {
    PARTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
