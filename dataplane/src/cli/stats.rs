//! `shunt stats`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::args::StatsArgs;
use super::client::typed;
use super::output::{Table, json, out, time};
use super::{context::Context, failure::Failure};
use crate::control::plane::StatsReport;
use crate::control::protocol::{NoArguments, Request};
use crate::stats::{self, Counts, DropReason, Event};

pub(super) fn stats(context: &Context, args: &StatsArgs) -> Result<(), Failure> {
    let Some(seconds) = args.watch else {
        let answer = context.client()?.call(&Request::Stats(NoArguments {}))?;
        if context.json {
            return json(&answer);
        }
        return out(&page(&typed(answer)?, None, args.all));
    };
    let clear = std::io::stdout().is_terminal();
    let mut before: Option<(Instant, StatsReport)> = None;
    loop {
        // A connection for each look: between looks it would be idle for too long.
        let answer = context.client()?.call(&Request::Stats(NoArguments {}))?;
        let now = Instant::now();
        if context.json {
            json(&answer)?;
        } else {
            let report: StatsReport = typed(answer)?;
            let since = before.as_ref().map(|(then, old)| (now.duration_since(*then), old));
            let text = page(&report, since, args.all);
            out(&format!(
                "{}{text}{}",
                if clear { "\x1b[H\x1b[J" } else { "" },
                if clear { "" } else { "\n" }
            ))?;
            before = Some((now, report));
        }
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
}

/// One look at the counters; with `since`, rates as well.
fn page(report: &StatsReport, since: Option<(Duration, &StatsReport)>, all: bool) -> String {
    let mut text = format!(
        "generation {}, up {}, packet buffers in use: {} of {}\n\n",
        report.generation,
        time(report.uptime_ms),
        report.mbufs_in_use,
        report.mbufs
    );
    let section = |kind: Kind| Section { report, since, kind };
    text.push_str(&section(EVENTS).table(|_, _| true).text());
    let dropped = report.total.dropped_total() + report.slow_path.dropped_total();
    if dropped == 0 && !all {
        text.push_str("\nno packet was dropped\n");
        return text;
    }
    let _ =
        write!(text, "\n{}", section(DROPS).table(|value, slow| all || value + slow > 0).text());
    text
}

/// Name, what the number means (a gauge has no rate), and one sentence for people.
type Known<N = &'static str> = (N, stats::Kind, &'static str);

/// Events or drops.
#[derive(Clone, Copy)]
struct Kind {
    heading: &'static str,
    of: fn(&Counts) -> &BTreeMap<String, u64>,
    known: fn() -> Vec<Known>,
}

const EVENTS: Kind = Kind {
    heading: "event",
    of: |counts| &counts.events,
    known: || Event::ALL.iter().map(|e| (e.name(), e.kind(), e.help())).collect(),
};

const DROPS: Kind = Kind {
    heading: "dropped",
    of: |counts| &counts.dropped,
    known: || DropReason::ALL.iter().map(|r| (r.name(), r.kind(), r.help())).collect(),
};

struct Section<'r> {
    report: &'r StatsReport,
    since: Option<(Duration, &'r StatsReport)>,
    kind: Kind,
}

impl Section<'_> {
    /// Rows whose total and slow path values are wanted, in the order of the list they are from.
    fn table(&self, wanted: impl Fn(u64, u64) -> bool) -> Table {
        let mut headings = vec![self.kind.heading.to_owned(), ">total".to_owned()];
        if self.since.is_some() {
            headings.push(">per second".to_owned());
        }
        headings.extend(self.report.workers.iter().map(|w| format!(">worker {}", w.worker)));
        headings.extend([">slow path".to_owned(), "meaning".to_owned()]);
        let mut table = Table::new(headings);
        let value =
            |counts: &Counts, name: &str| (self.kind.of)(counts).get(name).copied().unwrap_or(0);
        for (name, kind, help) in self.names() {
            let (total, slow) =
                (value(&self.report.total, &name), value(&self.report.slow_path, &name));
            if !wanted(total, slow) {
                continue;
            }
            let mut row = vec![name.clone(), total.to_string()];
            if let Some((elapsed, old)) = self.since {
                let grown = (total + slow)
                    .saturating_sub(value(&old.total, &name) + value(&old.slow_path, &name));
                row.push(if kind == stats::Kind::Gauge {
                    String::new()
                } else {
                    format!("{:.0}", grown as f64 / elapsed.as_secs_f64().max(0.001))
                });
            }
            row.extend(self.report.workers.iter().map(|w| value(&w.counts, &name).to_string()));
            row.extend([slow.to_string(), help.to_owned()]);
            table.row(row);
        }
        table
    }

    /// The names this program knows, then those only the daemon knows.
    fn names(&self) -> Vec<Known<String>> {
        let known = (self.kind.known)();
        let others = (self.kind.of)(&self.report.total).keys();
        let others = others.filter(|name| !known.iter().any(|(k, _, _)| k == name));
        let others: Vec<_> = others.map(|name| (name.clone(), stats::Kind::Counter, "")).collect();
        let known = known.iter().map(|(name, kind, help)| ((*name).to_owned(), *kind, *help));
        known.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(forwarded: u64) -> StatsReport {
        let mut report = StatsReport { generation: 3, uptime_ms: 61_000, ..Default::default() };
        report.total.events.insert("forwarded".to_owned(), forwarded);
        report.total.events.insert("of_a_newer_daemon".to_owned(), 1);
        report.total.events.insert("flows".to_owned(), 9);
        report.slow_path.dropped.insert("arp_ignored".to_owned(), 4);
        report
    }

    fn row<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().take(4).collect()
    }

    #[test]
    fn rates_come_from_two_looks_and_gauges_have_none() {
        let (old, new) = (report(100), report(300));
        let text = page(&new, Some((Duration::from_secs(2), &old)), false);
        assert_eq!(row(&text, "forwarded ")[..3], ["forwarded", "300", "100"]);
        assert_eq!(row(&text, "flows ")[..4], ["flows", "9", "0", "Flows"]);
        for gauge in Event::ALL.iter().filter(|e| e.kind() == stats::Kind::Gauge) {
            let cells = row(&text, &format!("{gauge} "));
            assert!(cells[3].parse::<u64>().is_err(), "{cells:?}: a rate, or one worker too many");
        }
        assert_eq!(row(&text, "of_a_newer_daemon"), ["of_a_newer_daemon", "1", "0", "0"]);
    }

    #[test]
    fn reasons_for_which_nothing_was_dropped_are_left_out() {
        let text = page(&report(1), None, false);
        assert!(text.starts_with("generation 3, up 1m 1s, "), "{text}");
        assert!(text.contains("ARP message that is not about this director."), "{text}");
        assert!(!text.contains("no_service"), "{text}");
        assert!(page(&report(1), None, true).contains("no_service"));
        let nothing = page(&StatsReport::default(), None, false);
        assert!(nothing.ends_with("\nno packet was dropped\n"), "{nothing}");
    }
}
