//! Results, as JSON, as a Markdown table, as a plot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::machine::Machine;
use crate::plot;

/// One result; what does not apply is left out.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Measured {
    pub(crate) part: &'static str,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) services: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reals: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<u64>,
    /// Per cent of the greatest load that is carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load: Option<u64>,
    /// Bytes of an Ethernet frame with its frame check sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frame: Option<u64>,
    pub(crate) unit: &'static str,
    /// The median; absent for what could not be measured (then `why`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<f64>,
    /// Measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n: Option<usize>,
    /// The median of what it is compared with, measured in turn with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<f64>,
    /// The median of value by baseline, pair by pair, and its extremes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// Median, least and greatest.
pub(crate) fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let half = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
    Some((median, first, last))
}

fn round(value: f64) -> f64 {
    let digits = 10f64.powi(4 - value.abs().max(1e-9).log10().ceil() as i32);
    (value * digits).round() / digits
}

impl Measured {
    /// With these values.
    pub(crate) fn of(mut self, values: &[f64]) -> Measured {
        if let Some((median, min, max)) = spread(values) {
            self.value = Some(round(median));
            (self.min, self.max) = (Some(round(min)), Some(round(max)));
            self.n = Some(values.len());
        }
        self
    }

    /// With these values, each measured next to one of `baseline`.
    pub(crate) fn against(mut self, values: &[f64], baseline: &[f64]) -> Measured {
        self = self.of(values);
        self.baseline = spread(baseline).map(|(median, ..)| round(median));
        let ratios = values.iter().zip(baseline).map(|(a, b)| a / b);
        // By nothing there is no ratio.
        let ratios: Vec<_> = ratios.filter(|ratio| ratio.is_finite()).collect();
        if let Some((ratio, min, max)) = spread(&ratios) {
            self.ratio = Some(round(ratio));
            (self.ratio_min, self.ratio_max) = (Some(round(min)), Some(round(max)));
        }
        self
    }
}

impl Measured {
    /// The comparison in one line.
    pub(crate) fn summary(&self, baseline: &str) -> String {
        let number = |value: Option<f64>| value.unwrap_or_default();
        format!(
            "{} {}, {baseline} {}, ratio {} ({} to {})",
            number(self.value),
            self.unit,
            number(self.baseline),
            number(self.ratio),
            number(self.ratio_min),
            number(self.ratio_max),
        )
    }
}

/// Results with what they were measured on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) dpdk: String,
    pub(crate) commit: String,
    pub(crate) command: String,
    pub(crate) results: Vec<Measured>,
}

impl Report {
    pub(crate) fn new(about: &Machine) -> Report {
        let Machine { machine, dpdk, commit, command } = about.clone();
        Report { machine, dpdk, commit, command, results: Vec::new() }
    }

    /// The same with other results.
    pub(crate) fn with(&self, results: Vec<Measured>) -> Report {
        Report { results, ..self.clone() }
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// The tables, for people at a terminal.
    pub(crate) fn print(&self) {
        eprint!("{}", self.table());
    }

    /// Writes `NAME.json`, `.md` and, where there is something to draw, `.svg`.
    pub(crate) fn publish(&self, name: &str, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        self.write(&dir.join(format!("{name}.json")))?;
        let mut text = format!("# Measured: {name}\n\n");
        writeln!(text, "Written by `{}`; see [performance](../performance.md).\n", self.command)?;
        writeln!(text, "- Machine: {}", self.machine)?;
        writeln!(text, "- DPDK: {}\n- Commit: {}\n", self.dpdk, self.commit)?;
        for (file, drawing) in plot::draw(name, &self.results) {
            fs::write(dir.join(&file), drawing)?;
            writeln!(text, "![{name}]({file})\n")?;
        }
        text += &self.table();
        fs::write(dir.join(format!("{name}.md")), text)?;
        Ok(())
    }

    fn table(&self) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let count = |value: Option<u64>| value.map(thousands).unwrap_or_default();
        let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
        let range = |min: Option<f64>, max: Option<f64>| match (min, max) {
            (Some(min), Some(max)) => format!("{min} to {max}"),
            _ => String::new(),
        };
        let header = [
            "name",
            "method",
            "flows",
            "services",
            "real servers",
            "workers",
            "load, %",
            "frame",
            "value",
            "spread",
            "unit",
            "baseline",
            "ratio",
            "its spread",
            "",
        ];
        let rows = self.results.iter().map(|r| {
            [
                r.name.clone(),
                text(&r.method),
                count(r.flows),
                count(r.services),
                count(r.reals),
                count(r.workers),
                count(r.load),
                count(r.frame),
                number(r.value),
                range(r.min, r.max),
                r.unit.to_owned(),
                number(r.baseline),
                number(r.ratio),
                range(r.ratio_min, r.ratio_max),
                text(&r.why),
            ]
        });
        markdown(&header, &rows.collect::<Vec<_>>())
    }
}

/// A table without its empty columns.
fn markdown<const N: usize>(header: &[&str; N], rows: &[[String; N]]) -> String {
    let used: Vec<_> = (0..N).filter(|n| rows.iter().any(|row| !row[*n].is_empty())).collect();
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(used.iter().map(|n| header[*n]).collect());
    out += &line(vec!["---"; used.len()]);
    for row in rows {
        out += &line(used.iter().map(|n| row[*n].as_str()).collect());
    }
    out
}

/// 1000000 as 1,000,000.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
        assert_eq!(round(12.345_678), 12.35);
        assert_eq!(round(1_234_567.0), 1_235_000.0);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0]), Some((2.5, 1.0, 4.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_of_pairs() {
        let measured = Measured::default().against(&[1.0, 4.0, 9.0], &[2.0, 4.0, 3.0]);
        assert_eq!((measured.value, measured.baseline), (Some(4.0), Some(3.0)));
        assert_eq!((measured.ratio, measured.ratio_max), (Some(1.0), Some(3.0)));
        let lost = Measured::default().against(&[0.0, 7.0], &[0.0, 0.0]);
        assert_eq!((lost.value, lost.baseline, lost.ratio), (Some(3.5), Some(0.0), None));
    }

    #[test]
    fn empty_columns_are_left_out() {
        let rows = [["1".to_owned(), String::new()], ["2".to_owned(), String::new()]];
        assert_eq!(markdown(&["a", "b"], &rows), "| a |\n| --- |\n| 1 |\n| 2 |\n");
    }
}
