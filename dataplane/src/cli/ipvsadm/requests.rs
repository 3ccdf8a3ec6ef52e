//! From a command line to requests of the control socket.

use std::time::Duration;

use super::options::{Command, Method, Opt};
use super::parse::{Foreign, Line, Target, Tunnel, Wrong};
use crate::config::{Gre, default_scheduler, default_weight};
use crate::control::protocol::{
    Request, ServerAdd, ServerEdit, ServerRef, ServiceAdd, ServiceEdit, ServiceRef, TimeoutsSet,
};
use crate::types::{Netmask, Ports, ServiceAddress};
use crate::vocabulary::{ForwardMethod, SchedulerFlags, SchedulerKind};

/// What the kernel would refuse: `-R` goes on after it.
pub(super) fn refused(message: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), status: 255, stops: false }
}

/// What Shunt has not got.
pub(super) fn unsupported(what: Foreign) -> Wrong {
    refused(match what {
        Foreign::Fwmark => {
            "Shunt has no firewall marks (-f): a virtual service may have a range of ports \
             (-t VIP:8000-8999), or all with persistence (-t VIP:0 -p)"
        }
        Foreign::Sctp => "Shunt has no SCTP services: it balances TCP (-t) and UDP (-u)",
    })
}

/// The virtual service of a command line; `None` is one that Shunt cannot have.
pub(super) fn target(line: &Line) -> Option<ServiceRef> {
    match line.target? {
        Target::Address { protocol, vip, ports } => {
            Some(ServiceRef { protocol, address: ServiceAddress { vip, ports } })
        }
        Target::Foreign(_) => None,
    }
}

/// `-A` and `-E`.
pub(super) fn service(line: &Line, of: ServiceRef) -> Result<Request, Wrong> {
    let ServiceRef { protocol, address } = of;
    let name = line.scheduler.as_deref().filter(|name| !name.is_empty());
    let scheduler = name.map_or(Ok(default_scheduler()), str::parse::<SchedulerKind>);
    let unknown = || refused("Scheduler or persistence engine not found");
    let scheduler = scheduler.map_err(|_| unknown())?;
    if line.has(Opt::Engine) {
        return Err(unknown());
    }
    let scheduler_flags = flags(line, scheduler)?;
    let one_packet = line.has(Opt::Ops);
    let persistence = line.persistence.map(|seconds| Duration::from_secs(u64::from(seconds)));
    // A netmask without persistence is taken and means nothing.
    let one_client = Netmask::one_client(address.vip);
    let netmask = persistence.map(|_| line.netmask.unwrap_or(one_client));
    Ok(if line.command == Command::AddService {
        Request::ServiceAdd(ServiceAdd {
            protocol,
            address,
            scheduler,
            scheduler_flags,
            one_packet,
            persistence,
            persistence_netmask: netmask.filter(|mask| !mask.is_one_client()),
        })
    } else {
        // What is not given is set back: the original replaces all settings.
        Request::ServiceEdit(ServiceEdit {
            protocol,
            address,
            scheduler: Some(scheduler),
            scheduler_flags: Some(scheduler_flags),
            one_packet: Some(one_packet),
            persistence: Some(persistence.unwrap_or_default()),
            persistence_netmask: netmask,
        })
    })
}

fn flags(line: &Line, scheduler: SchedulerKind) -> Result<SchedulerFlags, Wrong> {
    let known = |name: &str| match (name, scheduler) {
        ("flag-1" | "sh-fallback", SchedulerKind::Sh) => Some(SchedulerFlags::SH_FALLBACK),
        ("flag-2" | "sh-port", SchedulerKind::Sh) => Some(SchedulerFlags::SH_PORT),
        ("flag-1" | "mh-fallback", SchedulerKind::Mh) => Some(SchedulerFlags::MH_FALLBACK),
        ("flag-2" | "mh-port", SchedulerKind::Mh) => Some(SchedulerFlags::MH_PORT),
        _ => None,
    };
    let mut flags = SchedulerFlags::NONE;
    for name in &line.scheduler_flags {
        let message = || refused(format!("`{name}' means nothing to scheduler {scheduler}"));
        flags = flags.with(known(name).ok_or_else(message)?);
    }
    Ok(flags)
}

/// What must be known of a real server that may be there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) gre: Option<Gre>,
}

/// `-a`, `-e` and `-d`, of a virtual service that is there. Whether the real server is, the director
/// says.
pub(super) fn server(line: &Line, of: ServiceRef, known: Known) -> Result<Request, Wrong> {
    let ports = of.address.ports;
    let (real, port) = match line.real {
        Some((real, port)) => (real, port),
        None => {
            let message = "illegal real server address[:port] specified".to_owned();
            return Err(Wrong { message, status: 2, stops: true });
        }
    };
    let (forward, checksum) = match (line.method, line.tunnel) {
        (None | Some(Method::Gatewaying), _) => (ForwardMethod::Dr, false),
        (Some(Method::Ipip), Tunnel::Ipip) => (ForwardMethod::Ipip, false),
        (Some(Method::Ipip), Tunnel::Gre) => (ForwardMethod::Gre, line.has(Opt::TunnelChecksum)),
        (Some(Method::Ipip), Tunnel::Gue) => {
            return Err(refused("Shunt has no GUE tunnels: use --tun-type ipip or gre"));
        }
        (Some(Method::Masquerading), _) => {
            let message =
                "Shunt has no masquerading (-m): use direct routing (-g) or a tunnel (-i)";
            return Err(refused(message));
        }
    };
    let (upper, lower) = (line.upper.unwrap_or(0), line.lower.unwrap_or(0));
    if lower > upper {
        return Err(refused("Numerical result out of range"));
    }
    let ServiceRef { protocol, address } = of;
    let weight = line.weight.unwrap_or(default_weight());
    // The original has no GRE keys: one that is set stays.
    let key = known.gre.and_then(|gre| gre.key);
    let gre = (forward == ForwardMethod::Gre).then_some(Gre { checksum, key });
    match line.command {
        // Without masquerading, packets keep their L4 port, so the one given is passed over.
        Command::AddServer => Ok(Request::ServerAdd(ServerAdd {
            protocol,
            address,
            real,
            weight,
            forward,
            gre: gre.map(|gre| Gre { key: None, ..gre }).filter(|gre| *gre != Gre::default()),
            upper_threshold: upper,
            lower_threshold: lower,
        })),
        Command::EditServer => Ok(Request::ServerEdit(ServerEdit {
            protocol,
            address,
            real,
            weight: Some(weight),
            forward: Some(forward),
            gre,
            upper_threshold: Some(upper),
            lower_threshold: Some(lower),
        })),
        _ => {
            // The original looks for address and L4 port here. A range has no name for its own.
            let meant = port.is_none_or(|port| ports.is_range() || Ports::one(port) == ports);
            match meant {
                true => Ok(Request::ServerDel(ServerRef { protocol, address, real })),
                false => Err(refused("No such destination")),
            }
        }
    }
}

/// `--set`; 0 keeps what is.
pub(super) fn timeouts(seconds: [u32; 3]) -> TimeoutsSet {
    let [tcp, tcp_fin, udp] =
        seconds.map(|seconds| (seconds != 0).then(|| Duration::from_secs(u64::from(seconds))));
    TimeoutsSet { tcp, tcp_fin, udp }
}
