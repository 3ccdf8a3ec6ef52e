//! The pure pipeline: runs `dataplane/benches/pipeline.rs` and collects what it found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Options;
use crate::cargo;
use crate::machine::target;
use crate::report::Measured;

/// Names of the scenarios that make flows.
const NEW_FLOWS: &str = "new-flow|syn-flood";
const OTHERS: &str = "/(tcp|udp|pass|drop|hit|empty)";

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    collect(options, "pipeline", OTHERS)
}

/// The same as connections a second.
pub(crate) fn run_new_flows(options: &Options) -> Result<Vec<Measured>> {
    let mut results = collect(options, "new-flows", NEW_FLOWS)?;
    for result in &mut results {
        let million = |ns: Option<f64>| ns.map(|ns| (1e5 / ns).round() / 100.0);
        result.unit = "million/s";
        (result.value, result.min, result.max) =
            (million(result.value), million(result.max), million(result.min));
    }
    Ok(results)
}

fn collect(options: &Options, part: &'static str, filter: &str) -> Result<Vec<Measured>> {
    let found = target().join("criterion/pipeline");
    if found.exists() {
        fs::remove_dir_all(&found)?;
    }
    let mut command = cargo::bench("pipeline", false);
    command.args(["--", "--noplot"]);
    if options.quick {
        command.args(["--warm-up-time", "0.1", "--measurement-time", "0.3", "--sample-size", "10"]);
    } else {
        command.env("SHUNT_BENCH", "full");
    }
    let only = options.only.as_deref().unwrap_or(filter);
    let out = command.arg(only).stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(out.status.success(), "cargo bench failed: {}", out.status);
    let mut results = Vec::new();
    for file in results_in(&found)? {
        results.push(read(&file, part)?);
    }
    results.sort_by_key(|r| (r.flows, r.services, r.reals));
    if part == "pipeline" {
        results.extend(not_built(&String::from_utf8_lossy(&out.stdout)));
    }
    for result in &results {
        let method = result.method.as_deref().unwrap_or("-");
        let value = result.value.map_or("not built".into(), |v| format!("{v} ns"));
        eprintln!("{part}: {} {method}: {value}", result.name);
    }
    Ok(results)
}

/// Criterion's newest results below `dir`.
fn results_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("nothing in {}", dir.display()))? {
        let path = entry?.path();
        if path.join("benchmark.json").exists() && path.ends_with("new") {
            found.push(path);
        } else if path.is_dir() && !path.ends_with("base") && !path.ends_with("report") {
            found.extend(results_in(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

fn json(file: &Path) -> Result<Value> {
    let text = fs::read(file).with_context(|| format!("no {}", file.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

fn read(dir: &Path, part: &'static str) -> Result<Measured> {
    let about = json(&dir.join("benchmark.json"))?;
    let name = about["function_id"].as_str().unwrap_or_default();
    let method = about["value_str"].as_str().filter(|method| *method != "-");
    let value = |key: &str| name.split(',').find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
    let number = |key: &str| value(key).and_then(|n| n.parse().ok());
    let samples = json(&dir.join("sample.json"))?;
    let list = |key: &str| -> Vec<f64> {
        samples[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    let values: Vec<_> = list("times").iter().zip(list("iters")).map(|(t, n)| t / n).collect();
    let keys = ["flows=", "services=", "reals="];
    let rest = name.split(',').filter(|word| !keys.iter().any(|key| word.starts_with(key)));
    Ok(Measured {
        part,
        name: rest.collect::<Vec<_>>().join(","),
        method: method.map(str::to_owned),
        flows: number("flows"),
        services: number("services"),
        reals: number("reals"),
        frame: Some(64),
        unit: "ns/packet",
        ..Measured::default()
    }
    .of(&values))
}

/// The scenarios the benchmark names as not built.
fn not_built(stdout: &str) -> Vec<Measured> {
    let lines = stdout.lines().filter_map(|line| line.strip_prefix("not built: "));
    lines
        .map(|line| {
            let (name, why) = line.split_once(" (").unwrap_or((line, ""));
            Measured {
                part: "pipeline",
                name: name.into(),
                unit: "ns/packet",
                why: Some(format!("not built: {}", why.trim_end_matches(')'))),
                ..Measured::default()
            }
        })
        .collect()
}
