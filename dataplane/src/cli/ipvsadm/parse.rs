//! From the words of a command line to what is asked for, or to the message `ipvsadm` would give.

use std::net::IpAddr;

use super::names::Names;
use super::options::{Command, Is, KNOWN, Method, Opt, ServiceKind};
use super::popt::{Given, Misread, Words};
use super::text::{host_and_port, host_and_ports, ipv4, leading_number, number};
use crate::types::{Netmask, Ports, Protocol};

/// Longest times: 31 days, in seconds.
const MAX_TIME: u32 = 31 * 86_400;
/// Of a persistent service that names no time, in seconds.
const PERSISTENT: u32 = 360;

/// Why a command line is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) status: u8,
    /// Whether `-R` stops at such a line; it goes on after others.
    pub(super) stops: bool,
}

impl From<Misread> for Wrong {
    fn from(error: Misread) -> Wrong {
        Wrong { message: error.to_string(), status: 255, stops: false }
    }
}

fn wrong(message: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), status: 2, stops: true }
}

pub(super) fn try_help() -> Wrong {
    let message = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.".to_owned();
    Wrong { message, status: 255, stops: true }
}

/// Which virtual service is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Address {
        protocol: Protocol,
        vip: IpAddr,
        ports: Ports,
    },
    /// One that Shunt cannot have.
    Foreign(Foreign),
}

/// What Shunt has no virtual services of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    Fwmark,
    Sctp,
}

/// What is behind `-i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tunnel {
    #[default]
    Ipip,
    Gue,
    Gre,
}

/// A command line that is understood. What is not there was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) command: Command,
    given: Vec<Opt>,
    pub(super) target: Option<Target>,
    pub(super) scheduler: Option<String>,
    /// As they were given, each a flag of any scheduler.
    pub(super) scheduler_flags: Vec<String>,
    /// Seconds.
    pub(super) persistence: Option<u32>,
    pub(super) netmask: Option<Netmask>,
    pub(super) real: Option<(IpAddr, Option<u16>)>,
    pub(super) method: Option<Method>,
    pub(super) tunnel: Tunnel,
    pub(super) weight: Option<u32>,
    pub(super) upper: Option<u32>,
    pub(super) lower: Option<u32>,
    /// Seconds of `--set`: tcp, tcpfin, udp; 0 keeps.
    pub(super) timeouts: [u32; 3],
}

impl Line {
    fn new(command: Command) -> Line {
        Line {
            command,
            given: Vec::new(),
            target: None,
            scheduler: None,
            scheduler_flags: Vec::new(),
            persistence: None,
            netmask: None,
            real: None,
            method: None,
            tunnel: Tunnel::default(),
            weight: None,
            upper: None,
            lower: None,
            timeouts: [0; 3],
        }
    }

    /// Whether an option was given.
    pub(super) fn has(&self, option: Opt) -> bool {
        self.given.contains(&option)
    }

    fn give(&mut self, option: Opt) -> Result<(), Wrong> {
        if self.has(option) {
            return Err(wrong(format!("multiple '{}' options specified", option.name())));
        }
        self.given.push(option);
        Ok(())
    }
}

/// Reads a command line without the program's name.
pub(super) fn parse(words: &[String], names: &dyn Names) -> Result<Line, Wrong> {
    read_line(words, names, false)
}

/// Reads a saved line: as [`parse`], but a service of all L4 ports may be without persistence, as
/// those made by other means than `ipvsadm` are.
pub(super) fn parse_saved(words: &[String], names: &dyn Names) -> Result<Line, Wrong> {
    read_line(words, names, true)
}

fn read_line(words: &[String], names: &dyn Names, saved: bool) -> Result<Line, Wrong> {
    let mut words = Words::new(KNOWN, words);
    let first = match words.option() {
        Some(Ok(Given { is: Is::Command(command), value })) => (command, value),
        _ => return Err(try_help()),
    };
    let mut line = Line::new(first.0);
    match line.command {
        Command::Help | Command::Version => return Ok(line),
        Command::StartDaemon | Command::StopDaemon
            if !matches!(first.1.as_deref(), Some("master" | "backup")) =>
        {
            return Err(wrong(format!("illegal {} parameter specified", line.command.name())));
        }
        _ => {}
    }
    while let Some(given) = words.option() {
        let Given { is, value } = given?;
        let value = value.as_deref();
        match is {
            Is::Command(_) => return Err(wrong(format!("invalid option `{}'", words.last()))),
            Is::Option(option) => read(&mut line, option, value, names)?,
            Is::Service(kind) => service(&mut line, kind, value.unwrap_or_default(), names)?,
            Is::Method(method) => {
                line.give(Opt::Method)?;
                line.method = Some(method);
            }
            // With `-f` before it, it is about a service that Shunt cannot have anyway.
            Is::V6 if line.target == Some(Target::Foreign(Foreign::Fwmark)) => {}
            Is::V6 => return Err(wrong("-6 used before -f\n")),
            Is::Sort => {}
        }
    }
    finish(line, words.rest(), saved)
}

fn read(line: &mut Line, option: Opt, value: Option<&str>, names: &dyn Names) -> Result<(), Wrong> {
    line.give(option)?;
    let text = value.unwrap_or_default();
    match option {
        Opt::Scheduler => line.scheduler = Some(text.to_owned()),
        Opt::SchedulerFlags => {
            line.scheduler_flags =
                text.split(',').filter(|flag| !flag.is_empty()).map(str::to_owned).collect();
        }
        Opt::Persistent => {
            let seconds = value.map_or(Some(PERSISTENT), |text| number(text, 1..=MAX_TIME));
            line.persistence = Some(seconds.ok_or_else(|| invalid_time(text))?);
        }
        Opt::Netmask => {
            line.netmask = match line.target {
                Some(Target::Address { vip: IpAddr::V6(_), .. }) => {
                    let length = leading_number(text);
                    let length = u8::try_from(length).ok().filter(|n| (1..=128).contains(n));
                    let wrong = || wrong("illegal ipv6 netmask specified");
                    Some(Netmask::V6(length.ok_or_else(wrong)?))
                }
                Some(Target::Foreign(_)) => None,
                _ => {
                    let message = "illegal virtual server persistent mask specified";
                    Some(Netmask::V4(ipv4(text).ok_or_else(|| wrong(message))?))
                }
            };
        }
        Opt::RealServer => {
            let protocol = match line.target {
                Some(Target::Address { protocol, .. }) => protocol,
                _ => Protocol::Tcp,
            };
            let real = host_and_port(text, protocol, names);
            let message = "illegal real server address[:port] specified";
            line.real = Some(real.ok_or_else(|| wrong(message))?);
        }
        Opt::Weight => line.weight = Some(limited(text, "weight")?),
        Opt::UpperThreshold => line.upper = Some(limited(text, "u_threshold")?),
        Opt::LowerThreshold => line.lower = Some(limited(text, "l_threshold")?),
        Opt::TunnelType => {
            line.tunnel = match text {
                "ipip" => Tunnel::Ipip,
                "gue" => Tunnel::Gue,
                "gre" => Tunnel::Gre,
                _ => return Err(wrong("illegal tunnel type specified")),
            }
        }
        Opt::TunnelPort => {
            number(text, 1..=65_535).ok_or_else(|| wrong("illegal tunnel port specified"))?;
        }
        _ => {}
    }
    Ok(())
}

fn limited(text: &str, what: &str) -> Result<u32, Wrong> {
    number(text, 0..=i32::MAX as u32).ok_or_else(|| wrong(format!("illegal {what} specified")))
}

fn invalid_time(text: &str) -> Wrong {
    wrong(format!("invalid timeout value `{text}' specified"))
}

fn service(line: &mut Line, kind: ServiceKind, text: &str, names: &dyn Names) -> Result<(), Wrong> {
    line.give(Opt::Service)?;
    let protocol = match kind {
        ServiceKind::Udp => Protocol::Udp,
        ServiceKind::Tcp | ServiceKind::Sctp => Protocol::Tcp,
        ServiceKind::Fwmark => {
            let mark = number(text, 1..=u32::MAX);
            mark.ok_or_else(|| wrong(format!("invalid fwmark value `{text}' specified")))?;
            line.target = Some(Target::Foreign(Foreign::Fwmark));
            return Ok(());
        }
    };
    let illegal = || wrong("illegal virtual server address[:port] specified");
    let (host, ports) = host_and_ports(text, protocol, names).ok_or_else(illegal)?;
    line.target = Some(match kind {
        ServiceKind::Sctp => Target::Foreign(Foreign::Sctp),
        _ => Target::Address { protocol, vip: host, ports },
    });
    // Given before an address of IPv6, a netmask is lost.
    line.netmask = line.netmask.filter(|mask| mask.is_for(host));
    Ok(())
}

/// What can be checked only once all options are there.
fn finish(mut line: Line, rest: &[&str], saved: bool) -> Result<Line, Wrong> {
    let mut rest = rest.iter();
    if line.command == Command::Set {
        for timeout in &mut line.timeouts {
            let text =
                rest.next().ok_or_else(|| wrong("--set option requires 3 timeout values"))?;
            *timeout = number(text, 0..=MAX_TIME).ok_or_else(|| invalid_time(text))?;
        }
    }
    if let Some(word) = rest.next() {
        return Err(wrong(format!("unexpected argument {word}")));
    }
    check_flags(&line)?;
    check_options(&line)?;
    match line.command {
        Command::AddService | Command::EditService => check_service(&line, saved)?,
        Command::AddServer | Command::EditServer => {
            check_families(&line)?;
            check_tunnel(&line)?;
        }
        Command::List => check_list(&line)?,
        _ => {}
    }
    Ok(line)
}

fn check_flags(line: &Line) -> Result<(), Wrong> {
    let scheduler = line.scheduler.as_deref().unwrap_or("wlc");
    for flag in &line.scheduler_flags {
        let of = match flag.as_str() {
            "flag-1" | "flag-2" | "flag-3" => scheduler,
            "sh-fallback" | "sh-port" => "sh",
            "mh-fallback" | "mh-port" => "mh",
            _ => return Err(wrong(format!("invalid scheduler flag `{flag}'"))),
        };
        if of != scheduler {
            return Err(wrong(format!("incompatible scheduler flag `{flag}'")));
        }
    }
    Ok(())
}

/// That the command has what it needs and nothing it does not take.
fn check_options(line: &Line) -> Result<(), Wrong> {
    let (needs, command) = (line.command.needs(), line.command.name());
    let missing = needs.iter().filter(|option| !line.has(**option)).map(|option| (option, true));
    let takes = |option: &Opt| needs.contains(option) || line.command.takes().contains(option);
    let surplus = line.given.iter().filter(|option| !takes(option)).map(|option| (option, false));
    match missing.chain(surplus).min_by_key(|(option, _)| **option) {
        None => Ok(()),
        Some((option, true)) => {
            let option = option.name();
            Err(wrong(format!(
                "You need to supply the '{option}' option for the '{command}' command"
            )))
        }
        Some((option, false)) => {
            let option = option.name();
            Err(wrong(format!("Illegal '{option}' option with the '{command}' command")))
        }
    }
}

fn check_service(line: &Line, saved: bool) -> Result<(), Wrong> {
    let Some(Target::Address { protocol, ports, .. }) = line.target else { return Ok(()) };
    if ports.is_all() && line.persistence.is_none() && !saved {
        return Err(wrong("Zero port specified for non-persistent service"));
    }
    if line.has(Opt::Ops) && protocol != Protocol::Udp {
        return Err(wrong("One-Packet Scheduling is only for UDP virtual services"));
    }
    Ok(())
}

fn check_families(line: &Line) -> Result<(), Wrong> {
    let (Some(Target::Address { vip, .. }), Some((real, _))) = (line.target, line.real) else {
        return Ok(());
    };
    if vip.is_ipv4() != real.is_ipv4() && line.method != Some(Method::Ipip) {
        let message = "Different address family is allowed only for tunneling servers";
        return Err(wrong(message));
    }
    Ok(())
}

fn check_tunnel(line: &Line) -> Result<(), Wrong> {
    let options =
        [Opt::TunnelPort, Opt::TunnelNoChecksum, Opt::TunnelChecksum, Opt::TunnelRemoteChecksum];
    let any = line.has(Opt::TunnelType) || options.iter().any(|option| line.has(*option));
    if any && line.method != Some(Method::Ipip) {
        return Err(wrong("Tunnel options conflict with forward method"));
    }
    let (tunnel, not_its): (_, &[Opt]) = match line.tunnel {
        Tunnel::Ipip => ("ipip", &options),
        Tunnel::Gre => ("gre", &[Opt::TunnelPort, Opt::TunnelRemoteChecksum]),
        Tunnel::Gue if line.has(Opt::TunnelPort) => return Ok(()),
        Tunnel::Gue => {
            let message = "You need to supply the 'tun-port' option for the 'gue' tunnel type";
            return Err(wrong(message));
        }
    };
    match not_its.iter().find(|option| line.has(**option)) {
        None => Ok(()),
        Some(option) => Err(wrong(format!(
            "Illegal '{}' option with the '{tunnel}' tunnel type",
            option.name()
        ))),
    }
}

fn check_list(line: &Line) -> Result<(), Wrong> {
    for (option, other) in [
        (Opt::Service, Opt::Connection),
        (Opt::Timeout, Opt::Connection),
        (Opt::Daemon, Opt::Connection),
        (Opt::Timeout, Opt::Service),
        (Opt::Daemon, Opt::Service),
        (Opt::Daemon, Opt::Timeout),
    ] {
        if line.has(option) && line.has(other) {
            return Err(wrong(format!(
                "The option '{}' conflicts with the '{}' option in the 'list' command",
                option.name(),
                other.name()
            )));
        }
    }
    let counts = [Opt::Stats, Opt::Rate, Opt::Thresholds].iter().any(|option| line.has(*option));
    let other = line.has(Opt::Timeout) || line.has(Opt::Daemon);
    if counts && (other || line.has(Opt::Connection)) || other && line.has(Opt::PersistentConn) {
        return Err(wrong("options conflicts in the list command"));
    }
    Ok(())
}
