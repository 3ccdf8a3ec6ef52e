//! The listing of `ipvsadm -Lc`, page by page: there may be millions of connections.

use std::fmt::Write;

use super::names::{Names, shown};
use crate::control::plane::FlowRow;

/// The lines above the connections.
pub(super) fn heading(persistence_data: bool) -> String {
    let data = if persistence_data { "        pe name          pe_data" } else { "" };
    format!(
        "IPVS connection entries\npro expire state       source             virtual            \
         destination{data}\n"
    )
}

/// The connections of a page, a line each. A replica is another worker's connection, and a flow
/// without a real server none any more.
pub(super) fn lines(rows: &[FlowRow], names: Option<&dyn Names>) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| !row.replica) {
        let Some(real) = row.real else { continue };
        let seconds = row.expires_ms / 1000;
        let show = |address, port| shown(names, address, port, row.protocol);
        let _ = writeln!(
            text,
            "{:<3} {:<6} {:<11} {:<18} {:<18} {}",
            row.protocol.to_string().to_uppercase(),
            format!("{:02}:{:02}", seconds / 60, seconds % 60),
            row.state,
            show(row.client.ip(), row.client.port()),
            show(row.vip.ip(), row.vip.port()),
            show(real, row.vip.port()),
        );
    }
    text
}
