//! The commands and options of `ipvsadm`, and which command takes which option.

use super::popt::{Known, Takes};

/// What is to be done: one a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    AddService,
    EditService,
    DeleteService,
    Clear,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
}

impl Command {
    /// What messages call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Command::AddService => "add-service",
            Command::EditService => "edit-service",
            Command::DeleteService => "delete-service",
            Command::Clear => "flush",
            Command::Restore => "restore",
            Command::Save => "save",
            Command::AddServer => "add-server",
            Command::EditServer => "edit-server",
            Command::DeleteServer => "delete-server",
            Command::List => "list",
            Command::Zero => "zero",
            Command::Set => "set",
            Command::StartDaemon => "start-daemon",
            Command::StopDaemon => "stop-daemon",
            Command::Help => "help",
            Command::Version => "version",
        }
    }

    /// Options without which it means nothing.
    pub(super) const fn needs(self) -> &'static [Opt] {
        match self {
            Command::AddService | Command::EditService | Command::DeleteService => &[Opt::Service],
            Command::AddServer | Command::EditServer | Command::DeleteServer => {
                &[Opt::Service, Opt::RealServer]
            }
            _ => &[],
        }
    }

    /// Options it may have beside those it needs.
    pub(super) const fn takes(self) -> &'static [Opt] {
        match self {
            Command::AddService | Command::EditService => &[
                Opt::Scheduler,
                Opt::Persistent,
                Opt::Netmask,
                Opt::Ops,
                Opt::Engine,
                Opt::SchedulerFlags,
            ],
            Command::AddServer | Command::EditServer => &[
                Opt::Method,
                Opt::Weight,
                Opt::UpperThreshold,
                Opt::LowerThreshold,
                Opt::TunnelType,
                Opt::TunnelPort,
                Opt::TunnelNoChecksum,
                Opt::TunnelChecksum,
                Opt::TunnelRemoteChecksum,
            ],
            Command::List => &[
                Opt::Numeric,
                Opt::Connection,
                Opt::Service,
                Opt::Timeout,
                Opt::Daemon,
                Opt::Stats,
                Opt::Rate,
                Opt::Thresholds,
                Opt::PersistentConn,
                Opt::NoSort,
                Opt::Exact,
                Opt::TunnelInfo,
            ],
            Command::Save => &[Opt::Numeric],
            Command::Zero => &[Opt::Service],
            Command::StartDaemon | Command::StopDaemon => &[
                Opt::McastInterface,
                Opt::SyncId,
                Opt::SyncMaxLength,
                Opt::McastGroup,
                Opt::McastPort,
                Opt::McastTtl,
            ],
            _ => &[],
        }
    }
}

/// An option of a command. Declared in the order in which they are checked, so the first in this
/// order is the one that a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opt {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    Method,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    Ops,
    Engine,
    SchedulerFlags,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
    SyncMaxLength,
    McastGroup,
    McastPort,
    McastTtl,
}

impl Opt {
    /// What messages call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Opt::Numeric => "numeric",
            Opt::Connection => "connection",
            Opt::Service => "service-address",
            Opt::Scheduler => "scheduler",
            Opt::Persistent => "persistent",
            Opt::Netmask => "netmask",
            Opt::RealServer => "real-server",
            Opt::Method => "forwarding-method",
            Opt::Weight => "weight",
            Opt::UpperThreshold => "u-threshold",
            Opt::LowerThreshold => "l-threshold",
            Opt::McastInterface => "mcast-interface",
            Opt::Timeout => "timeout",
            Opt::Daemon => "daemon",
            Opt::Stats => "stats",
            Opt::Rate => "rate",
            Opt::Thresholds => "thresholds",
            Opt::PersistentConn => "persistent-conn",
            Opt::NoSort => "nosort",
            Opt::SyncId => "syncid",
            Opt::Exact => "exact",
            Opt::Ops => "ops",
            Opt::Engine => "pe",
            Opt::SchedulerFlags => "sched-flags",
            Opt::TunnelInfo => "tun-info",
            Opt::TunnelType => "tun-type",
            Opt::TunnelPort => "tun-port",
            Opt::TunnelNoChecksum => "tun-nocsum",
            Opt::TunnelChecksum => "tun-csum",
            Opt::TunnelRemoteChecksum => "tun-remcsum",
            Opt::SyncMaxLength => "sync-maxlen",
            Opt::McastGroup => "mcast-group",
            Opt::McastPort => "mcast-port",
            Opt::McastTtl => "mcast-ttl",
        }
    }
}

/// What an option on the command line stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Command(Command),
    Option(Opt),
    /// A service address, of this kind.
    Service(ServiceKind),
    /// A forwarding method.
    Method(Method),
    /// `-6`, which goes with `-f`.
    V6,
    /// `--sort`, which is how it is anyway.
    Sort,
}

/// What tells the packets of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceKind {
    Tcp,
    Udp,
    Sctp,
    Fwmark,
}

/// A forwarding method by its letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Gatewaying,
    Ipip,
    Masquerading,
}

const fn known(short: char, long: &'static str, takes: Takes, is: Is) -> Known<Is> {
    Known { short: Some(short), long, takes, is }
}

const fn long(long: &'static str, takes: Takes, is: Is) -> Known<Is> {
    Known { short: None, long, takes, is }
}

use Is::{Command as C, Option as O};
use Takes::{MaybeValue, Nothing, Value};

/// Every option.
pub(super) static KNOWN: &[Known<Is>] = &[
    known('A', "add-service", Nothing, C(Command::AddService)),
    known('E', "edit-service", Nothing, C(Command::EditService)),
    known('D', "delete-service", Nothing, C(Command::DeleteService)),
    known('C', "clear", Nothing, C(Command::Clear)),
    known('R', "restore", Nothing, C(Command::Restore)),
    known('S', "save", Nothing, C(Command::Save)),
    known('a', "add-server", Nothing, C(Command::AddServer)),
    known('e', "edit-server", Nothing, C(Command::EditServer)),
    known('d', "delete-server", Nothing, C(Command::DeleteServer)),
    known('L', "list", Nothing, C(Command::List)),
    known('l', "list", Nothing, C(Command::List)),
    known('Z', "zero", Nothing, C(Command::Zero)),
    long("set", Nothing, C(Command::Set)),
    long("start-daemon", Value, C(Command::StartDaemon)),
    long("stop-daemon", Value, C(Command::StopDaemon)),
    known('h', "help", Nothing, C(Command::Help)),
    known('v', "version", Nothing, C(Command::Version)),
    known('t', "tcp-service", Value, Is::Service(ServiceKind::Tcp)),
    known('u', "udp-service", Value, Is::Service(ServiceKind::Udp)),
    long("sctp-service", Value, Is::Service(ServiceKind::Sctp)),
    known('f', "fwmark-service", Value, Is::Service(ServiceKind::Fwmark)),
    known('6', "ipv6", Nothing, Is::V6),
    known('s', "scheduler", Value, O(Opt::Scheduler)),
    known('p', "persistent", MaybeValue, O(Opt::Persistent)),
    known('M', "netmask", Value, O(Opt::Netmask)),
    known('r', "real-server", Value, O(Opt::RealServer)),
    known('g', "gatewaying", Nothing, Is::Method(Method::Gatewaying)),
    known('i', "ipip", Nothing, Is::Method(Method::Ipip)),
    known('m', "masquerading", Nothing, Is::Method(Method::Masquerading)),
    known('w', "weight", Value, O(Opt::Weight)),
    known('x', "u-threshold", Value, O(Opt::UpperThreshold)),
    known('y', "l-threshold", Value, O(Opt::LowerThreshold)),
    known('c', "connection", Nothing, O(Opt::Connection)),
    known('n', "numeric", Nothing, O(Opt::Numeric)),
    known('o', "ops", Nothing, O(Opt::Ops)),
    known('b', "sched-flags", Value, O(Opt::SchedulerFlags)),
    long("pe", Value, O(Opt::Engine)),
    long("timeout", Nothing, O(Opt::Timeout)),
    long("daemon", Nothing, O(Opt::Daemon)),
    long("stats", Nothing, O(Opt::Stats)),
    long("rate", Nothing, O(Opt::Rate)),
    long("thresholds", Nothing, O(Opt::Thresholds)),
    long("persistent-conn", Nothing, O(Opt::PersistentConn)),
    long("sort", Nothing, Is::Sort),
    long("nosort", Nothing, O(Opt::NoSort)),
    long("exact", Nothing, O(Opt::Exact)),
    long("tun-info", Nothing, O(Opt::TunnelInfo)),
    long("tun-type", Value, O(Opt::TunnelType)),
    long("tun-port", Value, O(Opt::TunnelPort)),
    long("tun-nocsum", Nothing, O(Opt::TunnelNoChecksum)),
    long("tun-csum", Nothing, O(Opt::TunnelChecksum)),
    long("tun-remcsum", Nothing, O(Opt::TunnelRemoteChecksum)),
    long("syncid", Value, O(Opt::SyncId)),
    long("sync-maxlen", Value, O(Opt::SyncMaxLength)),
    long("mcast-interface", Value, O(Opt::McastInterface)),
    long("mcast-group", Value, O(Opt::McastGroup)),
    long("mcast-port", Value, O(Opt::McastPort)),
    long("mcast-ttl", Value, O(Opt::McastTtl)),
];
