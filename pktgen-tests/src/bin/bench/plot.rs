//! Plots as SVG, drawn by hand: a few lines over a logarithmic axis of flows, and bars.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::report::{Measured, thousands};

const COLOURS: [&str; 6] = ["#4e79a7", "#e15759", "#59a14f", "#b07aa1", "#f28e2b", "#76b7b2"];
const WIDTH: f64 = 760.0;
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
        _ => vec![],
    }
}

type Series = BTreeMap<String, BTreeMap<u64, f64>>;

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
    lines(&format!("One worker, 64-byte frames, source {source}"), "Mpps", &series)
}

fn by_flows(results: &[Measured]) -> String {
    let mut series = Series::new();
    let hits = results.iter().filter(|r| r.name == "hit,protocol=udp" && r.services.is_none());
    for r in hits {
        if let (Some(flows), Some(value)) = (r.flows, r.value) {
            series.entry(r.method.clone().unwrap_or_default()).or_default().insert(flows, value);
        }
    }
    lines("The pipeline alone, by flows", "ns per packet", &series)
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

fn lines(title: &str, unit: &str, series: &Series) -> String {
    let mut out = open(title, HEIGHT);
    let (left, right, top, bottom) = FRAME;
    let values = series.values().flat_map(BTreeMap::values);
    let most = values.fold(1.0f64, |most, value| most.max(*value));
    let ticks = series.values().flat_map(|points| points.keys().copied());
    let ticks: std::collections::BTreeSet<u64> = ticks.collect();
    let last = ticks.last().map_or(1.0, |flows| (*flows as f64).log10()).max(1.0);
    let x = |flows: u64| left + (flows as f64).log10() / last * (right - left);
    let step = step(most);
    let rows = (most / step).ceil();
    let y = |value: f64| bottom - value / (rows * step) * (bottom - top);
    for row in 0..=rows as u32 {
        let value = f64::from(row) * step;
        let at = y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for flows in ticks {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(flows),
            bottom + 18.0,
            thousands(flows)
        );
    }
    let middle = (left + right) / 2.0;
    let _ = writeln!(
        out,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">flows</text>\
         <text x=\"14\" y=\"{}\" transform=\"rotate(-90 14 {1})\" text-anchor=\"middle\">{unit}</text>",
        bottom + 38.0,
        (top + bottom) / 2.0
    );
    for (n, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let path: Vec<_> = points
            .iter()
            .map(|(flows, value)| format!("{:.1},{:.1}", x(*flows), y(*value)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (flows, value) in points {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*flows),
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
    let (left, top, height) = (300.0, 40.0, 16.0);
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
