//! `shunt service` and `shunt server`.

use super::args::{ServerCommand, ServiceCommand};
use super::client::{Client, typed};
use super::output::{Table, json, out};
use super::{Context, Failure};
use crate::control::protocol::{
    RealRow, Request, ServerAdd, ServerEdit, ServerRef, ServerRow, ServiceAdd, ServiceEdit,
    ServiceRow,
};
use crate::stats::Traffic;

/// The columns of traffic that end every row.
const TRAFFIC: [&str; 5] = [">active", ">inactive", ">connections", ">packets", ">bytes"];

pub(super) fn service(context: &Context, command: &ServiceCommand) -> Result<(), Failure> {
    let request = match command {
        ServiceCommand::Add { service, scheduler } => Request::ServiceAdd(ServiceAdd {
            protocol: service.protocol,
            address: service.address,
            scheduler: *scheduler,
        }),
        ServiceCommand::Edit { service, scheduler } => Request::ServiceEdit(ServiceEdit {
            protocol: service.protocol,
            address: service.address,
            scheduler: *scheduler,
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
        ServerCommand::Add { service, real, weight, forward, gre } => {
            Request::ServerAdd(ServerAdd {
                protocol: service.protocol,
                address: service.address,
                real: *real,
                weight: *weight,
                forward: *forward,
                gre: gre.options(),
            })
        }
        ServerCommand::Edit { service, real, weight, forward, gre } => {
            Request::ServerEdit(ServerEdit {
                protocol: service.protocol,
                address: service.address,
                real: *real,
                weight: *weight,
                forward: *forward,
                gre: gre.options(),
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
        let mut row = vec![name, service.scheduler.to_string()];
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
    let mut forward = row.forward.to_string();
    if let Some(gre) = row.gre {
        let key = gre.key.map(|key| format!("key {key}"));
        let checksum = gre.checksum.then(|| "checksum".to_owned());
        let options: Vec<_> = key.into_iter().chain(checksum).collect();
        forward = format!("{forward} ({})", options.join(", "));
    }
    let mut cells =
        vec![row.real.to_string(), forward, row.weight.to_string(), row.state.to_string()];
    cells.extend(traffic(&row.traffic));
    cells
}

fn traffic(traffic: &Traffic) -> [String; 5] {
    let Traffic { connections, packets, bytes, active, inactive } = traffic;
    [active, inactive, connections, packets, bytes].map(u64::to_string)
}
