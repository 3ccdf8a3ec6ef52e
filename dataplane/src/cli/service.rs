//! `shunt service` and `shunt server`.

use super::args::{ServerCommand, ServiceCommand};
use super::client::{Client, typed};
use super::output::{Table, json, out};
use super::{context::Context, failure::Failure};
use crate::config::Text;
use crate::control::protocol::{
    RealRow, Request, ServerAdd, ServerEdit, ServerRef, ServerRow, ServiceAdd, ServiceEdit,
    ServiceRow,
};
use crate::stats::Traffic;
use crate::types::Netmask;

/// The columns of traffic that end every row.
const TRAFFIC: [&str; 5] = [">active", ">inactive", ">connections", ">packets", ">bytes"];

pub(super) fn service(context: &Context, command: &ServiceCommand) -> Result<(), Failure> {
    let request = match command {
        ServiceCommand::Add { service, scheduler, options } => Request::ServiceAdd(ServiceAdd {
            protocol: service.protocol,
            address: service.address,
            scheduler: *scheduler,
            scheduler_flags: options.scheduler_flags.unwrap_or_default(),
            one_packet: options.one_packet.unwrap_or_default(),
            persistence: options.persistence,
            persistence_netmask: options.persistence_netmask,
        }),
        ServiceCommand::Edit { service, scheduler, options } => Request::ServiceEdit(ServiceEdit {
            protocol: service.protocol,
            address: service.address,
            scheduler: *scheduler,
            scheduler_flags: options.scheduler_flags,
            one_packet: options.one_packet,
            persistence: options.persistence,
            persistence_netmask: options.persistence_netmask,
        }),
        ServiceCommand::Del { service } => Request::ServiceDel(service.into()),
        ServiceCommand::List { select } => {
            let answer = context.client()?.call(&Request::ServiceList(select.into()))?;
            if context.json {
                return json(&answer);
            }
            return out(&services(&typed::<Vec<ServiceRow>>(answer)?));
        }
    };
    change(context, &request)
}

pub(super) fn server(context: &Context, command: &ServerCommand) -> Result<(), Failure> {
    let request = match command {
        ServerCommand::Add { service, real, weight, forward, gre, thresholds } => {
            Request::ServerAdd(ServerAdd {
                protocol: service.protocol,
                address: service.address,
                real: *real,
                weight: *weight,
                forward: *forward,
                gre: gre.options(),
                upper_threshold: thresholds.upper_threshold.unwrap_or_default(),
                lower_threshold: thresholds.lower_threshold.unwrap_or_default(),
            })
        }
        ServerCommand::Edit { service, real, weight, forward, gre, thresholds } => {
            Request::ServerEdit(ServerEdit {
                protocol: service.protocol,
                address: service.address,
                real: *real,
                weight: *weight,
                forward: *forward,
                gre: gre.options(),
                upper_threshold: thresholds.upper_threshold,
                lower_threshold: thresholds.lower_threshold,
            })
        }
        ServerCommand::Del { service, real } => Request::ServerDel(ServerRef {
            protocol: service.protocol,
            address: service.address,
            real: *real,
        }),
        ServerCommand::List { select } => {
            let answer = context.client()?.call(&Request::ServerList(select.into()))?;
            if context.json {
                return json(&answer);
            }
            return out(&servers(&typed::<Vec<ServerRow>>(answer)?));
        }
    };
    change(context, &request)
}

/// A change is silent when it is done, as that of `ip` and `ipvsadm` is.
fn change(context: &Context, request: &Request) -> Result<(), Failure> {
    let mut client: Client = context.client()?;
    let answer = client.call(request)?;
    if context.json { json(&answer) } else { Ok(()) }
}

fn services(rows: &[ServiceRow]) -> String {
    if rows.is_empty() {
        return "no virtual services\n".to_owned();
    }
    let names = ["service", "scheduler", "real server", "forward", ">weight", "state"];
    let mut table = Table::new(names.iter().chain(&TRAFFIC));
    for service in rows {
        let name = format!("{} {}", service.protocol, service.address);
        let mut row = vec![name, scheduler(service)];
        row.resize(names.len(), String::new());
        row.extend(traffic(&service.traffic));
        table.row(row);
        for server in &service.reals {
            let mut row = vec![String::new(), String::new()];
            row.extend(real(server));
            table.row(row);
        }
    }
    table.text()
}

/// The scheduler, with what else is set in brackets.
fn scheduler(row: &ServiceRow) -> String {
    let mut options: Vec<_> = row.scheduler_flags.names().map(str::to_owned).collect();
    if row.one_packet {
        options.push("one-packet".to_owned());
    }
    if let Some(time) = row.persistence {
        options.push(match row.persistence_netmask {
            Some(Netmask::V6(length)) => format!("persistence {} /{length}", time.write()),
            Some(netmask) => format!("persistence {} {netmask}", time.write()),
            None => format!("persistence {}", time.write()),
        });
    }
    if options.is_empty() {
        row.scheduler.to_string()
    } else {
        format!("{} ({})", row.scheduler, options.join(", "))
    }
}

/// The weight, with thresholds in brackets.
fn weight(row: &RealRow) -> String {
    match (row.upper_threshold, row.lower_threshold) {
        (0, 0) => row.weight.to_string(),
        (upper, 0) => format!("{} (at most {upper})", row.weight),
        (upper, lower) => format!("{} (at most {upper}, again below {lower})", row.weight),
    }
}

fn servers(rows: &[ServerRow]) -> String {
    if rows.is_empty() {
        return "no real servers\n".to_owned();
    }
    let names = ["service", "real server", "forward", ">weight", "state"];
    let mut table = Table::new(names.iter().chain(&TRAFFIC));
    for row in rows {
        let mut cells = vec![format!("{} {}", row.protocol, row.address)];
        cells.extend(real(&row.server));
        table.row(cells);
    }
    table.text()
}

fn real(row: &RealRow) -> Vec<String> {
    let key = row.gre.and_then(|gre| gre.key).map(|key| format!("key {key}"));
    let checksum = row.gre.filter(|gre| gre.checksum).map(|_| "checksum".to_owned());
    let path_mtu = row.path_mtu.map(|mtu| format!("path MTU {mtu}"));
    let options: Vec<_> = key.into_iter().chain(checksum).chain(path_mtu).collect();
    let forward = match options.is_empty() {
        true => row.forward.to_string(),
        false => format!("{} ({})", row.forward, options.join(", ")),
    };
    let mut cells = vec![row.real.to_string(), forward, weight(row), row.state.to_string()];
    cells.extend(traffic(&row.traffic));
    cells
}

fn traffic(traffic: &Traffic) -> [String; 5] {
    let Traffic { connections, packets, bytes, active, inactive } = traffic;
    [active, inactive, connections, packets, bytes].map(u64::to_string)
}
