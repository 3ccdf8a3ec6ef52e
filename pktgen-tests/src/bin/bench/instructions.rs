//! Instructions per packet: `dataplane/benches/instructions.rs` under callgrind.
//!
//! Counts depend on the compiler, not on the machine or what else it does, so they are compared
//! with a committed baseline, where the same compiler made it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::Options;
use crate::cargo;
use crate::machine::{output, top};
use crate::report::Measured;

const BASELINE: &str = "dataplane/benches/instructions.baseline";
/// What a packet may cost more than the baseline says.
const GROWTH: f64 = 1.03;

/// Instructions per packet, by layer.
fn count(program: &Path, name: &str, method: &str, out: &Path) -> Result<BTreeMap<String, f64>> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--toggle-collect=*instructions*counted*", "--quiet"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    let done = command.arg(program).args([name, method]).output().context("cannot run valgrind")?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    let packets =
        stdout.lines().find_map(|line| line.strip_prefix("packets ")?.parse::<f64>().ok());
    let Some(packets) = packets else {
        bail!("{name} {method}: {}{}", stdout, String::from_utf8_lossy(&done.stderr));
    };
    let mut layers = by_layer(&fs::read_to_string(out)?);
    layers.values_mut().for_each(|n| *n /= packets);
    Ok(layers)
}

/// Reads a callgrind profile: instructions by the file they were written in, inlined or not.
fn by_layer(profile: &str) -> BTreeMap<String, f64> {
    let (mut files, mut layers) = (BTreeMap::new(), BTreeMap::<String, f64>::new());
    let (mut here, mut call) = ("other".to_owned(), false);
    for line in profile.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "fl" | "fi" | "fe" => {
                    let (id, name) = value.split_once(' ').unwrap_or((value, ""));
                    if !name.is_empty() {
                        files.insert(id.to_owned(), layer(name));
                    }
                    here = files.get(id).cloned().unwrap_or_else(|| layer(value));
                }
                "cfi" | "cfl" => {
                    if let Some((id, name)) = value.split_once(' ') {
                        files.insert(id.to_owned(), layer(name));
                    }
                }
                "calls" => call = true,
                _ => {}
            }
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            // What follows a call is what the call cost, counted where it was spent.
            if !std::mem::take(&mut call) {
                let cost = line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
                *layers.entry(here.clone()).or_default() += cost.unwrap_or_default();
            }
        }
    }
    layers
}

/// The folder of `dataplane/src` a file is in, or whose else it is.
fn layer(file: &str) -> String {
    if let Some((_, rest)) = file.split_once("dataplane/src/") {
        return rest.split(['/', '.']).next().unwrap_or_default().to_owned();
    }
    let others = [
        ("dataplane/benches/", "harness"),
        ("/arrayvec-", "arrayvec"),
        ("/rustc/", "core"),
        ("/library/", "core"),
        ("???", "libc"),
    ];
    let found = others.iter().find(|(part, _)| file.contains(part));
    found.map_or("other", |(_, name)| name).into()
}

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let program = cargo::build("instructions", false)?;
    let list = Command::new(&program).output().context("cannot run the benchmark")?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let dir = tempfile::tempdir()?;
    let (mut results, mut totals) = (Vec::new(), Vec::new());
    for line in list.lines() {
        if options.only.as_ref().is_some_and(|only| !line.contains(only.as_str())) {
            continue;
        }
        let (name, method) = line.split_once(' ').context("a scenario and a method")?;
        let layers = count(&program, name, method, &dir.path().join("out"))?;
        let total: f64 = layers.values().sum();
        let parts: Vec<_> = layers.iter().map(|(l, n)| format!("{l} {n:.1}")).collect();
        eprintln!("instructions: {line}: {total:.1} ({})", parts.join(", "));
        let result = |name: String, value: f64| {
            let method = Some(method.to_owned());
            let unit = "instructions/packet";
            Measured { part: "instructions", name, method, unit, ..Measured::default() }
                .of(&[value])
        };
        results.push(result(name.into(), total));
        results.extend(layers.iter().map(|(l, n)| result(format!("{name},layer={l}"), *n)));
        totals.push((line.to_owned(), total));
    }
    compare(&totals, options.accept, &mut results)?;
    Ok(results)
}

/// Compares with the baseline, or writes it.
fn compare(totals: &[(String, f64)], accept: bool, results: &mut [Measured]) -> Result<()> {
    let file = top().join(BASELINE);
    let compiler = output("rustc", &["--version"])?;
    if accept {
        let mut text = format!(
            "# Instructions per packet, counted by scripts/bench instructions.\n# {compiler}\n"
        );
        for (line, total) in totals {
            writeln!(text, "{line} {total:.1}")?;
        }
        fs::write(&file, text)?;
        eprintln!("instructions: wrote {BASELINE}");
        return Ok(());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("no {BASELINE}"))?;
    if !text.contains(&compiler) {
        eprintln!("instructions: {BASELINE} is another compiler's than {compiler}: not compared");
        return Ok(());
    }
    let baseline: BTreeMap<_, f64> = text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(line, value)| Some((line, value.parse().ok()?)))
        .collect();
    let mut grown = String::new();
    for (line, total) in totals {
        let Some(before) = baseline.get(line.as_str()) else {
            writeln!(grown, "  {line}: {total:.1}, and not in the baseline")?;
            continue;
        };
        let found = results
            .iter_mut()
            .find(|r| format!("{} {}", r.name, r.method.as_deref().unwrap_or_default()) == *line);
        if let Some(result) = found {
            *result = result.clone().against(&[*total], &[*before]);
        }
        if *total > before * GROWTH {
            writeln!(grown, "  {line}: {total:.1}, was {before:.1}")?;
        }
    }
    ensure!(
        grown.is_empty(),
        "more instructions per packet than {BASELINE} says:\n{grown}\
         If that is on purpose: scripts/bench instructions --accept"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_by_layer() {
        let profile = "positions: line\nevents: Ir\nfl=(1) /x/dataplane/src/pipeline/mod.rs\n\
            fn=(1) burst\n16 400\nfi=(2) /x/dataplane/src/flow/table.rs\n+3 50\n\
            cfi=(3) /rustc/core/mem.rs\ncfn=(2) swap\ncalls=2 7\n* 70\nfe=(1)\n-3 5\n\n\
            fl=(3)\nfn=(2)\n7 70\n";
        let layers = by_layer(profile);
        let expected = [("core", 70.0), ("flow", 50.0), ("pipeline", 405.0)];
        assert_eq!(layers, expected.map(|(l, n)| (l.to_owned(), n)).into());
    }
}
