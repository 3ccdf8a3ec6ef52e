//! `shunt flow`, `shunt neighbor` and `shunt port`.

use std::fmt::Write;

use super::args::{FlowCommand, NeighborCommand, PortCommand};
use super::client::typed;
use super::output::{Table, json, out, time};
use super::{context::Context, failure::Failure};
use crate::control::plane::{FlowFilter, FlowPage, FlowRow, NeighborRow, PortRow};
use crate::control::protocol::{
    FlowFlush, FlowList, FlowRef, Flushed, MAX_PAGE, NoArguments, Request,
};
use crate::vocabulary::AddressState;

pub(super) fn flow(context: &Context, command: &FlowCommand) -> Result<(), Failure> {
    match command {
        FlowCommand::List { filter, limit } => list(context, &filter.into(), *limit),
        FlowCommand::Show { protocol, client, vip } => {
            let flow = FlowRef { protocol: *protocol, client: *client, vip: *vip };
            let answer = context.client()?.call(&Request::FlowShow(flow))?;
            if context.json {
                return json(&answer);
            }
            let rows = [typed(answer)?];
            let widths = Widths::of(&rows);
            out(&format!("{}{}", widths.heading(), widths.line(&rows[0])))
        }
        FlowCommand::Flush { filter, all } => {
            let filter: FlowFilter = filter.into();
            if filter == FlowFilter::default() && !all {
                return Err(Failure::Usage(
                    "which flows? name them (--client, --vip, --real …), or say --all".to_owned(),
                ));
            }
            let answer = context.client()?.call(&Request::FlowFlush(FlowFlush { filter }))?;
            if context.json {
                return json(&answer);
            }
            let Flushed { flows } = typed(answer)?;
            out(&format!("{flows} flows removed\n"))
        }
    }
}

/// Lists page by page, so that millions of flows need no memory here either. Widths are those of
/// the first page for the same reason.
fn list(context: &Context, filter: &FlowFilter, limit: u64) -> Result<(), Failure> {
    let mut client = context.client()?;
    let mut left = if limit == 0 { u64::MAX } else { limit };
    let mut cursor = Some(0);
    let mut widths = None;
    let mut first = true;
    while let Some(at) = cursor.filter(|_| left > 0) {
        let page: FlowPage = client.call_for(&Request::FlowList(FlowList {
            filter: filter.clone(),
            cursor: at,
            limit: Some(left.min(MAX_PAGE as u64) as usize),
        }))?;
        let mut text = String::new();
        let widths = widths.get_or_insert_with(|| {
            let widths = Widths::of(&page.flows);
            text.push_str(&if context.json { "{\"flows\":[".to_owned() } else { widths.heading() });
            widths
        });
        for row in &page.flows {
            if context.json {
                let row = serde_json::to_string(row).unwrap_or_default();
                let _ = write!(text, "{}{row}", if first { "" } else { "," });
                first = false;
            } else {
                text.push_str(&widths.line(row));
            }
        }
        out(&text)?;
        left = left.saturating_sub(page.flows.len() as u64);
        cursor = page.next;
    }
    match (context.json, cursor) {
        (true, Some(next)) => out(&format!("],\"next\":{next}}}\n")),
        (true, None) => out("]}\n"),
        (false, Some(_)) => {
            // Not for the one who counts lines.
            eprintln!("there may be more flows; --limit 0 lists all");
            Ok(())
        }
        (false, None) => Ok(()),
    }
}

/// Widths of the columns with addresses: what IPv4 needs, more where there is IPv6.
struct Widths {
    client: usize,
    vip: usize,
    real: usize,
}

impl Widths {
    fn of(rows: &[FlowRow]) -> Widths {
        let least = Widths { client: 21, vip: 21, real: 15 };
        rows.iter().fold(least, |widths, row| Widths {
            client: widths.client.max(row.client.to_string().len()),
            vip: widths.vip.max(row.vip.to_string().len()),
            real: widths.real.max(real(row).len()),
        })
    }

    fn heading(&self) -> String {
        let Widths { client, vip, real } = *self;
        format!(
            "PROTO  STATE        EXPIRES       {:<client$}  {:<vip$}  {:<real$}  WORKER\n",
            "CLIENT", "VIP", "REAL SERVER"
        )
    }

    fn line(&self, row: &FlowRow) -> String {
        let Widths { client, vip, real: width } = *self;
        format!(
            "{:<5}  {:<11}  {:<12}  {:<client$}  {:<vip$}  {:<width$}  {:>6}{}\n",
            row.protocol.to_string(),
            row.state,
            time(u64::from(row.expires_ms)),
            row.client.to_string(),
            row.vip.to_string(),
            real(row),
            row.worker,
            if row.replica { " (replica)" } else { "" },
        )
    }
}

fn real(row: &FlowRow) -> String {
    row.real.map_or_else(|| "-".to_owned(), |real| real.to_string())
}

pub(super) fn neighbor(context: &Context, command: &NeighborCommand) -> Result<(), Failure> {
    let NeighborCommand::List = command;
    let answer = context.client()?.call(&Request::NeighborList(NoArguments {}))?;
    if context.json {
        return json(&answer);
    }
    let rows: Vec<NeighborRow> = typed(answer)?;
    if rows.is_empty() {
        return out("no neighbors\n");
    }
    let mut table = Table::new(["port", "address", "mac", "state", ">confirmed", ">waiting"]);
    for row in rows {
        table.row([
            row.port,
            row.address.to_string(),
            row.mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string()),
            row.state.to_string(),
            row.confirmed_ms.map_or_else(|| "-".to_owned(), |ms| format!("{} ago", time(ms))),
            row.waiting.to_string(),
        ]);
    }
    out(&table.text())
}

/// DIPs, then the link-local address; with its state where that is not plain use.
fn addresses(row: &PortRow) -> String {
    let state = |address: &str| {
        let known = row.ipv6.iter().find(|known| known.address.to_string() == address);
        match known.map(|known| known.state).filter(|state| *state != AddressState::Ready) {
            Some(state) => format!(" ({state})"),
            None => String::new(),
        }
    };
    let bare = |dip: &str| dip.split_once('/').map_or(dip, |(bare, _)| bare).to_owned();
    let dips: Vec<_> = row.addresses.iter().map(|dip| bare(dip)).collect();
    let others = row.ipv6.iter().map(|known| known.address.to_string());
    let others = others.filter(|address| !dips.contains(address));
    let dips = row.addresses.iter().map(|dip| format!("{dip}{}", state(&bare(dip))));
    let all = dips.chain(others.map(|address| format!("{address}{}", state(&address))));
    all.collect::<Vec<_>>().join(", ")
}

pub(super) fn port(context: &Context, command: &PortCommand) -> Result<(), Failure> {
    let PortCommand::List = command;
    let answer = context.client()?.call(&Request::PortList(NoArguments {}))?;
    if context.json {
        return json(&answer);
    }
    let rows: Vec<PortRow> = typed(answer)?;
    let mut about = Table::new([
        "port",
        "link",
        ">mbit/s",
        ">mtu",
        "mac",
        "addresses",
        "gateways",
        ">queues",
        "workers",
        "driver",
        "device",
    ]);
    let mut traffic = Table::new([
        "port",
        ">rx packets",
        ">rx bytes",
        ">rx missed",
        ">rx errors",
        ">rx no buffer",
        ">tx packets",
        ">tx bytes",
        ">tx full",
        ">tx errors",
    ]);
    for row in rows {
        let counters = [
            row.rx_packets,
            row.rx_bytes,
            row.rx_missed,
            row.rx_errors,
            row.rx_no_buffer,
            row.tx_packets,
            row.tx_bytes,
            row.tx_full,
            row.tx_errors,
        ];
        let name = std::iter::once(row.name.clone());
        traffic.row(name.chain(counters.iter().map(u64::to_string)));
        let workers: Vec<_> = row.workers.iter().map(ToString::to_string).collect();
        let gateways: Vec<_> = row.gateways.iter().map(ToString::to_string).collect();
        let shown = addresses(&row);
        about.row([
            row.name,
            if row.link { "up" } else { "down" }.to_owned(),
            row.speed_mbps.map_or_else(|| "-".to_owned(), |speed| speed.to_string()),
            row.mtu.to_string(),
            row.mac.to_string(),
            shown,
            if gateways.is_empty() { "-".to_owned() } else { gateways.join(", ") },
            row.queues.to_string(),
            workers.join(", "),
            row.driver,
            row.device,
        ]);
    }
    out(&format!("{}\n{}", about.text(), traffic.text()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Protocol;

    fn row(client: &str, vip: &str, real: &str) -> FlowRow {
        FlowRow {
            protocol: Protocol::Tcp,
            state: "ESTABLISHED".to_owned(),
            expires_ms: 899_999,
            client: client.parse().unwrap(),
            vip: vip.parse().unwrap(),
            real: real.parse().ok(),
            worker: 1,
            template: false,
            replica: false,
        }
    }

    #[test]
    fn columns_are_as_wide_as_ipv4_needs_and_wider_with_ipv6() {
        let four = row("198.51.100.10:40000", "192.0.2.100:80", "192.0.2.21");
        let gone = row("198.51.100.10:1", "192.0.2.100:80", "");
        let list = |rows: &[FlowRow]| {
            let widths = Widths::of(rows);
            rows.iter().fold(widths.heading(), |text, row| text + &widths.line(row))
        };
        assert_eq!(
            list(&[four.clone(), gone]),
            "\
PROTO  STATE        EXPIRES       CLIENT                 VIP                    REAL SERVER      WORKER
tcp    ESTABLISHED  14m 59s       198.51.100.10:40000    192.0.2.100:80         192.0.2.21            1
tcp    ESTABLISHED  14m 59s       198.51.100.10:1        192.0.2.100:80         -                     1
"
        );
        let six = row("[2001:db8:1::10]:40000", "[2001:db8:2::100]:80", "2001:db8:2::21");
        let long = "[2001:db8:1111:2222:3333:4444:5555:6666]:50000";
        let text = list(&[six, row(long, "[2001:db8::1]:443", "2001:db8:2222:3333::4444"), four]);
        let at =
            |line: &str, what: &str| line.find(what).unwrap_or_else(|| panic!("{what}: {line}"));
        let lines: Vec<_> = text.lines().collect();
        for (line, vip, real) in [
            (lines[1], "[2001:db8:2::100]:80", "2001:db8:2::21"),
            (lines[2], "[2001:db8::1]:443", "2001:db8:2222:3333::4444"),
            (lines[3], "192.0.2.100:80", "192.0.2.21"),
        ] {
            assert_eq!(at(line, vip), at(lines[0], "VIP"), "{text}");
            assert_eq!(at(line, real), at(lines[0], "REAL"), "{text}");
            assert_eq!(line.len(), lines[0].len(), "{text}");
        }
    }
}
