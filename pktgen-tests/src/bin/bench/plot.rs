//! Plots as SVG, drawn by hand: a few lines, mostly over a logarithmic axis, and bars.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::report::{Measured, thousands};

const COLOURS: [&str; 6] = ["#4e79a7", "#e15759", "#59a14f", "#b07aa1", "#f28e2b", "#76b7b2"];
const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 380.0;
/// Left, right, top, bottom of the drawing in its frame.
const FRAME: (f64, f64, f64, f64) = (60.0, 600.0, 40.0, 330.0);

/// The plots of one part: file name and content.
pub(crate) fn draw(part: &str, results: &[Measured]) -> Vec<(String, String)> {
    match part {
        "throughput" => vec![
            ("throughput.svg".into(), throughput(results, "net_pcap", "testpmd mac")),
            ("throughput-in-place.svg".into(), throughput(results, "in place", "mac rewrite")),
        ],
        "pipeline" => vec![
            ("pipeline.svg".into(), bars(results)),
            ("pipeline-flows.svg".into(), by_flows(results)),
        ],
        "new-flows" => vec![("new-flows.svg".into(), bars(results))],
        "lookup" => vec![("lookup.svg".into(), lookup(results))],
        "latency" => vec![("latency.svg".into(), latency(results))],
        "scaling" => vec![("scaling.svg".into(), scaling(results))],
        _ => vec![],
    }
}

type Series = BTreeMap<String, BTreeMap<u64, f64>>;

/// What a drawing of lines is about.
struct Chart {
    title: String,
    /// What is drawn upwards.
    unit: &'static str,
    /// What is drawn to the right.
    across: &'static str,
    /// Whether its values are to stand side by side, instead of by their logarithm.
    even: bool,
    /// Whether what is drawn upwards is, by its logarithm.
    decades: bool,
}

impl Chart {
    fn new(title: &str, unit: &'static str, across: &'static str) -> Chart {
        Chart { title: title.into(), unit, across, even: false, decades: false }
    }
}

fn throughput(results: &[Measured], source: &str, baseline: &str) -> String {
    let mut series = Series::new();
    let plain = results.iter().filter(|r| {
        r.name == format!("{source},udp")
            && (r.frame, r.services, r.reals) == (Some(64), Some(1), Some(2))
    });
    for r in plain {
        let (Some(flows), Some(value)) = (r.flows, r.value) else { continue };
        series.entry(r.method.clone().unwrap_or_default()).or_default().insert(flows, value);
        if let Some(value) = r.baseline {
            series.entry(baseline.into()).or_default().entry(flows).or_insert(value);
        }
    }
    let title = format!("One worker, 64-byte frames, source {source}");
    lines(&Chart::new(&title, "Mpps", "flows"), &series)
}

fn by_flows(results: &[Measured]) -> String {
    let mut series = Series::new();
    let hits = results.iter().filter(|r| r.name == "hit,protocol=udp" && r.services.is_none());
    for r in hits {
        if let (Some(flows), Some(value)) = (r.flows, r.value) {
            series.entry(r.method.clone().unwrap_or_default()).or_default().insert(flows, value);
        }
    }
    lines(&Chart::new("The pipeline alone, by flows", "ns per packet", "flows"), &series)
}

fn lookup(results: &[Measured]) -> String {
    let mut series = Series::new();
    for r in results.iter().filter(|r| r.unit == "ns/key") {
        for (name, value) in [("flow table", r.value), ("rte_hash", r.baseline)] {
            if let (Some(keys), Some(value)) = (r.flows, value) {
                series.entry(name.into()).or_default().insert(keys, value);
            }
        }
    }
    lines(&Chart::new("Lookup of keys that are there, 32 a call", "ns per key", "keys"), &series)
}

fn latency(results: &[Measured]) -> String {
    let mut series = Series::new();
    for r in results.iter().filter(|r| r.name.starts_with('p') && r.unit == "us") {
        for (name, value) in [("shuntd", r.value), ("testpmd mac", r.baseline)] {
            if let (Some(load), Some(value)) = (r.load, value) {
                series.entry(format!("{name} {}", r.name)).or_default().insert(load, value);
            }
        }
    }
    let chart = Chart::new("Through net_memif and back", "µs", "load, % of its own most");
    lines(&Chart { even: true, decades: true, ..chart }, &series)
}

fn scaling(results: &[Measured]) -> String {
    let mut series = Series::new();
    let shown = results.iter().filter(|r| r.method.as_deref() == Some("dr"));
    for r in shown.filter(|r| matches!(r.flows, Some(1000 | 1_000_000))) {
        let (Some(workers), Some(value)) = (r.workers, r.value) else { continue };
        let kind = match r.name.as_str() {
            "in place,udp" => "measured",
            name if name.ends_with("nothing") => "model",
            _ => "model, loss",
        };
        let name = format!("{}: {kind}", thousands(r.flows.unwrap_or_default()));
        series.entry(name).or_default().insert(workers, value);
    }
    lines(&Chart::new("Workers, dr, 64-byte frames, by flows", "Mpps", "workers"), &series)
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{}\" y=\"22\" font-size=\"15\">{title}</text>\n",
        FRAME.0
    )
}

/// The next of 1, 2, 5, 10, 20, … above a fifth of `most`.
fn step(most: f64) -> f64 {
    let tens = 10f64.powf((most / 5.0).max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|m| m * tens).into_iter().find(|s| *s * 5.0 >= most).unwrap_or(tens)
}

/// Where to draw a line across, from nothing to above the greatest.
fn rows(values: &[f64]) -> Vec<f64> {
    let most = values.iter().fold(1.0f64, |most, value| most.max(*value));
    let step = step(most);
    (0..=(most / step).ceil() as u32).map(|row| f64::from(row) * step).collect()
}

/// The same in powers of ten, from below the least.
fn decades(values: &[f64]) -> Vec<f64> {
    let positive = || values.iter().filter(|value| **value > 0.0).map(|value| value.log10());
    let least = positive().fold(f64::INFINITY, f64::min).clamp(-9.0, 9.0).floor() as i32;
    let most = positive().fold(f64::NEG_INFINITY, f64::max).clamp(-9.0, 9.0).ceil() as i32;
    (least..=most.max(least + 1)).map(|power| 10f64.powi(power)).collect()
}

fn lines(chart: &Chart, series: &Series) -> String {
    let mut out = open(&chart.title, HEIGHT);
    let (left, right, top, bottom) = FRAME;
    let ticks = series.values().flat_map(|points| points.keys().copied());
    let ticks: BTreeSet<u64> = ticks.collect();
    let place = |tick: u64| match chart.even {
        true => ticks.range(..tick).count() as f64,
        false => (tick as f64).log10(),
    };
    let first = ticks.first().map_or(0.0, |tick| place(*tick));
    let width = ticks.last().map_or(1.0, |tick| place(*tick) - first).max(1e-9);
    let x = |tick: u64| left + (place(tick) - first) / width * (right - left);
    let values: Vec<_> = series.values().flat_map(BTreeMap::values).copied().collect();
    let rows = if chart.decades { decades(&values) } else { rows(&values) };
    let height = |value: f64| if chart.decades { value.log10() } else { value };
    let (low, high) = (rows.first().copied().unwrap_or(0.0), rows.last().copied().unwrap_or(1.0));
    let (low, high) = (height(low), height(high));
    let y = |value: f64| bottom - (height(value) - low) / (high - low) * (bottom - top);
    for value in rows {
        let at = y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for tick in &ticks {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(*tick),
            bottom + 18.0,
            thousands(*tick)
        );
    }
    let middle = (left + right) / 2.0;
    let _ = writeln!(
        out,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text x=\"14\" y=\"{}\" transform=\"rotate(-90 14 {2})\" text-anchor=\"middle\">{}</text>",
        bottom + 38.0,
        chart.across,
        (top + bottom) / 2.0,
        chart.unit
    );
    // The first comes out on top.
    for (n, (name, points)) in series.iter().enumerate().collect::<Vec<_>>().into_iter().rev() {
        let colour = COLOURS[n % COLOURS.len()];
        let path: Vec<_> = points
            .iter()
            .map(|(tick, value)| format!("{:.1},{:.1}", x(*tick), y(*value)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (tick, value) in points {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*tick),
                y(*value)
            );
        }
        let at = top + 20.0 * n as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            right + 16.0,
            at,
            right + 34.0,
            at + 11.0
        );
    }
    out + "</svg>\n"
}

/// A bar for each result, and a line from least to greatest.
fn bars(results: &[Measured]) -> String {
    let rows: Vec<_> = results.iter().filter_map(|r| r.value.map(|value| (r, value))).collect();
    let unit = rows.first().map_or("", |(r, _)| r.unit);
    let (left, top, height) = (400.0, 40.0, 16.0);
    let mut out = open(unit, top + height * rows.len() as f64 + 20.0);
    let most = rows.iter().fold(0.0f64, |most, (_, value)| most.max(*value));
    let x = |value: f64| left + value.min(most) / most * (WIDTH - left - 70.0);
    for (n, (r, value)) in rows.iter().enumerate() {
        let at = top + height * n as f64;
        let mut name = r.name.clone();
        let mut say = |what: &str, value: Option<u64>| {
            if let Some(value) = value {
                let _ = write!(name, " {} {what}", thousands(value));
            }
        };
        say("flows", r.flows);
        say("services", r.services);
        say("real servers", r.reals);
        let method = r.method.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name} {method}</text>\
             <rect x=\"{left}\" y=\"{at}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>\
             <path d=\"M{:.1} {}H{:.1}\" stroke=\"#000\"/>\
             <text x=\"{:.1}\" y=\"{}\">{value}</text>",
            left - 6.0,
            at + 11.0,
            x(*value) - left,
            height - 4.0,
            COLOURS[0],
            x(r.min.unwrap_or(*value)),
            at + 6.0,
            x(r.max.unwrap_or(*value)),
            x(r.max.unwrap_or(*value)) + 4.0,
            at + 11.0
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_across_what_there_is() {
        assert_eq!(rows(&[3.0, 9.0]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(decades(&[0.9, 31.0, 0.0]), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!(decades(&[]).len(), 2, "nothing is drawn, and nothing fails");
    }

    #[test]
    fn a_drawing_has_a_line_for_each_side() {
        let keys = |keys, value| Measured {
            flows: Some(keys),
            value: Some(value),
            baseline: Some(2.0 * value),
            unit: "ns/key",
            ..Measured::default()
        };
        let drawn = draw("lookup", &[keys(1000, 7.0), keys(10_000_000, 80.0)]);
        let (file, svg) = &drawn[0];
        assert_eq!(file, "lookup.svg");
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 4));
        assert!(svg.contains("10,000,000") && !svg.contains("NaN"), "{svg}");
    }
}
