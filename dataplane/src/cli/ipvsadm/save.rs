//! What `ipvsadm -S` prints: the virtual services as command lines that `ipvsadm -R` reads.

use std::fmt::Write;

use super::list::{order, real_order, service_order};
use super::names::{Names, shown};
use crate::control::protocol::{RealRow, ServiceRow};
use crate::types::Protocol;
use crate::vocabulary::ForwardMethod;

/// The command lines; with `names`, names instead of numbers.
pub(super) fn save(rows: &[ServiceRow], names: Option<&dyn Names>) -> String {
    let mut text = String::new();
    for row in order(rows, true, service_order) {
        let letter = if row.protocol == Protocol::Udp { 'u' } else { 't' };
        let ports = row.address.ports;
        let address = shown(names, row.address.vip, ports, row.protocol);
        let _ = writeln!(text, "-A -{letter} {address} -s {}{}", row.scheduler, options(row));
        for real in order(&row.reals, true, real_order) {
            // That of a range is left out, for `-r` takes none.
            let server = match ports.is_range() {
                true => real.real.to_string(),
                false => shown(names, real.real, ports, row.protocol),
            };
            let (weight, method) = (real.weight, method(real.forward));
            let _ = write!(text, "-a -{letter} {address} -r {server} {method} -w {weight}");
            let _ = writeln!(text, "{}", real_options(real));
        }
    }
    text
}

fn options(row: &ServiceRow) -> String {
    let mut text = String::new();
    if let Some(time) = row.persistence {
        let _ = write!(text, " -p {}", time.as_secs());
        if let Some(mask) = row.persistence_netmask.filter(|mask| !mask.is_one_client()) {
            let _ = write!(text, " -M {mask}");
        }
    }
    if row.one_packet {
        text.push_str(" -o");
    }
    if !row.scheduler_flags.is_empty() {
        let _ = write!(text, " -b {}", row.scheduler_flags);
    }
    text
}

const fn method(method: ForwardMethod) -> &'static str {
    match method {
        ForwardMethod::Dr => "-g",
        ForwardMethod::Ipip | ForwardMethod::Gre => "-i",
    }
}

/// The original leaves out thresholds, so that a restore lifts them; it reads them all the same.
fn real_options(real: &RealRow) -> String {
    let mut text = String::new();
    if real.upper_threshold != 0 {
        let _ = write!(text, " -x {}", real.upper_threshold);
    }
    if real.lower_threshold != 0 {
        let _ = write!(text, " -y {}", real.lower_threshold);
    }
    text.push_str(match (real.forward, real.gre) {
        (ForwardMethod::Dr, _) => "",
        (ForwardMethod::Ipip, _) => " --tun-type ipip",
        (ForwardMethod::Gre, Some(gre)) if gre.checksum => " --tun-type gre --tun-csum",
        (ForwardMethod::Gre, _) => " --tun-type gre --tun-nocsum",
    });
    text
}
