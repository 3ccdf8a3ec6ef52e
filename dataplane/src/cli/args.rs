//! The command line's arguments. Completions and man pages are made from these.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::config::{DEFAULT_SOCKET, Gre, Text};
use crate::control::plane::FlowFilter;
use crate::control::protocol::{ServiceRef, ServiceSelect};
use crate::types::{Netmask, Protocol, ServiceAddress};
use crate::vocabulary::{ForwardMethod, SchedulerFlags, SchedulerKind};

/// Controls Shunt, a layer-4 load balancer for direct server return.
///
/// Changes take effect at once and last until the daemon stops; `shunt config save` writes them
/// to its configuration file.
///
/// Exit status: 0 when done, 1 when refused or failed, 2 when the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "shunt", version, max_term_width = 100, subcommand_required = true)]
pub(super) struct Cli {
    /// Control socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "SHUNT_SOCKET", hide_env_values = true, default_value = DEFAULT_SOCKET)]
    pub(super) socket: PathBuf,
    /// Print JSON instead of tables: what the control socket answers, on one line
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// What to do
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Virtual services
    #[command(subcommand, arg_required_else_help = true)]
    Service(ServiceCommand),
    /// Real servers of a virtual service
    #[command(subcommand, arg_required_else_help = true)]
    Server(ServerCommand),
    /// Flows: the connections the director knows
    #[command(subcommand, arg_required_else_help = true)]
    Flow(FlowCommand),
    /// Neighbors: the next hops and their Ethernet addresses
    #[command(subcommand, arg_required_else_help = true)]
    Neighbor(NeighborCommand),
    /// NIC ports
    #[command(subcommand, arg_required_else_help = true)]
    Port(PortCommand),
    /// Packets, drops and their reasons, per worker
    Stats(StatsArgs),
    /// The running configuration and configuration files
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// The command lines of LVS's ipvsadm; also when this program is called by that name
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// As ipvsadm has them; -h prints them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Versions of this program and of the daemon
    Version,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages
    Man {
        /// Directory they are written to
        dir: PathBuf,
    },
}

/// A virtual service, as two arguments.
#[derive(Debug, Args)]
pub(super) struct ServiceArg {
    /// Transport protocol
    #[arg(value_parser = protocols())]
    pub(super) protocol: Protocol,
    /// VIP and L4 port, such as 192.0.2.100:80 or [2001:db8::100]:80; ports as
    /// 192.0.2.100:8000-8999, all as 192.0.2.100:0
    #[arg(value_name = "VIP:PORT", value_parser = text::<ServiceAddress>)]
    pub(super) address: ServiceAddress,
}

impl From<&ServiceArg> for ServiceRef {
    fn from(arg: &ServiceArg) -> ServiceRef {
        ServiceRef { protocol: arg.protocol, address: arg.address }
    }
}

/// A virtual service, or all.
#[derive(Debug, Args)]
pub(super) struct SelectArg {
    /// Only those with this transport protocol
    #[arg(value_parser = protocols())]
    pub(super) protocol: Option<Protocol>,
    /// Only this VIP and L4 port, such as 192.0.2.100:80 or [2001:db8::100]:80
    #[arg(value_name = "VIP:PORT", value_parser = text::<ServiceAddress>)]
    pub(super) address: Option<ServiceAddress>,
}

impl From<&SelectArg> for ServiceSelect {
    fn from(arg: &SelectArg) -> ServiceSelect {
        ServiceSelect { protocol: arg.protocol, address: arg.address, real: None }
    }
}

/// `shunt service …`
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Add a virtual service
    Add {
        /// The virtual service
        #[command(flatten)]
        service: ServiceArg,
        /// How new flows are spread
        #[arg(long, short, default_value = "wlc", value_parser = schedulers())]
        scheduler: SchedulerKind,
        /// What else is set
        #[command(flatten)]
        options: ServiceOptionArgs,
    },
    /// Change a virtual service's settings; flows keep their real servers
    #[command(arg_required_else_help = true)]
    Edit {
        /// The virtual service
        #[command(flatten)]
        service: ServiceArg,
        /// How new flows are spread
        #[arg(long, short, value_parser = schedulers())]
        scheduler: Option<SchedulerKind>,
        /// What else is set; what is not given stays
        #[command(flatten)]
        options: ServiceOptionArgs,
    },
    /// Remove a virtual service with its real servers and flows
    Del {
        /// The virtual service
        #[command(flatten)]
        service: ServiceArg,
    },
    /// List virtual services with their real servers
    List {
        /// Which
        #[command(flatten)]
        select: SelectArg,
    },
}

/// Options of a virtual service.
#[derive(Debug, Args)]
pub(super) struct ServiceOptionArgs {
    /// Flags of the scheduler, separated by commas: sh-fallback, sh-port, mh-fallback, mh-port, or
    /// none
    #[arg(long, short = 'b', value_name = "FLAGS")]
    pub(super) scheduler_flags: Option<SchedulerFlags>,
    /// Schedule every datagram alone, without a flow (udp only)
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(super) one_packet: Option<bool>,
    /// Keep a client with its real server for so long after its last connection, such as 300s;
    /// 0s does not
    #[arg(long, short, value_name = "TIME", value_parser = text::<Duration>)]
    pub(super) persistence: Option<Duration>,
    /// Take clients for one whose addresses agree under this netmask, such as 255.255.255.0, or in
    /// so many bits for IPv6, such as 64 (only with persistence)
    #[arg(long, value_name = "NETMASK", value_parser = text::<Netmask>)]
    pub(super) persistence_netmask: Option<Netmask>,
}

/// Connection thresholds of a real server.
#[derive(Debug, Args)]
pub(super) struct ThresholdArgs {
    /// Connections from which on it gets no new flows; 0 is without end
    #[arg(long, short = 'x', value_name = "CONNECTIONS")]
    pub(super) upper_threshold: Option<u32>,
    /// Connections below which it gets new flows again; 0 is three quarters of the upper one
    #[arg(long, short = 'y', value_name = "CONNECTIONS")]
    pub(super) lower_threshold: Option<u32>,
}

/// Options of forwarding by GRE.
#[derive(Debug, Args)]
pub(super) struct GreArgs {
    /// GRE key of the real server's tunnel (only with gre); together with --gre-checksum it replaces
    /// both that were set before
    #[arg(long, value_name = "KEY")]
    pub(super) gre_key: Option<u32>,
    /// Send GRE checksums (only with gre)
    #[arg(long)]
    pub(super) gre_checksum: bool,
}

impl GreArgs {
    /// The options, if any is given.
    pub(super) fn options(&self) -> Option<Gre> {
        let gre = Gre { checksum: self.gre_checksum, key: self.gre_key };
        (gre != Gre::default()).then_some(gre)
    }
}

/// `shunt server …`
#[derive(Debug, Subcommand)]
pub(super) enum ServerCommand {
    /// Add a real server to a virtual service
    Add {
        /// The virtual service
        #[command(flatten)]
        service: ServiceArg,
        /// RIP, the real server's address
        #[arg(value_name = "RIP", value_parser = text::<IpAddr>)]
        real: IpAddr,
        /// Share of new flows, 0 to 65535; 0 drains
        #[arg(long, short, default_value_t = 1)]
        weight: u32,
        /// Forwarding method
        #[arg(long, short, default_value = "dr", value_parser = methods())]
        forward: ForwardMethod,
        /// GRE options
        #[command(flatten)]
        gre: GreArgs,
        /// How many connections it may have
        #[command(flatten)]
        thresholds: ThresholdArgs,
    },
    /// Change a real server; its flows stay with it
    Edit {
        /// The virtual service
        #[command(flatten)]
        service: ServiceArg,
        /// RIP, the real server's address
        #[arg(value_name = "RIP", value_parser = text::<IpAddr>)]
        real: IpAddr,
        /// Share of new flows, 0 to 65535; 0 drains
        #[arg(long, short)]
        weight: Option<u32>,
        /// Forwarding method
        #[arg(long, short, value_parser = methods())]
        forward: Option<ForwardMethod>,
        /// GRE options, which take the place of all there are
        #[command(flatten)]
        gre: GreArgs,
        /// How many connections it may have
        #[command(flatten)]
        thresholds: ThresholdArgs,
    },
    /// Remove a real server; its flows are scheduled afresh
    Del {
        /// The virtual service
        #[command(flatten)]
        service: ServiceArg,
        /// RIP, the real server's address
        #[arg(value_name = "RIP", value_parser = text::<IpAddr>)]
        real: IpAddr,
    },
    /// List real servers
    List {
        /// Of which virtual services
        #[command(flatten)]
        select: SelectArg,
    },
}

/// Which flows.
#[derive(Debug, Args)]
pub(super) struct FlowArgs {
    /// Only this transport protocol
    #[arg(long, value_parser = protocols())]
    pub(super) protocol: Option<Protocol>,
    /// Only from this client address
    #[arg(long, value_name = "CIP", value_parser = text::<IpAddr>)]
    pub(super) client: Option<IpAddr>,
    /// Only from this client L4 port
    #[arg(long, value_name = "PORT")]
    pub(super) client_port: Option<u16>,
    /// Only to this VIP
    #[arg(long, value_parser = text::<IpAddr>)]
    pub(super) vip: Option<IpAddr>,
    /// Only to this L4 port of the VIP
    #[arg(long, value_name = "PORT")]
    pub(super) vip_port: Option<u16>,
    /// Only at this real server
    #[arg(long, value_name = "RIP", value_parser = text::<IpAddr>)]
    pub(super) real: Option<IpAddr>,
}

impl From<&FlowArgs> for FlowFilter {
    fn from(args: &FlowArgs) -> FlowFilter {
        FlowFilter {
            protocol: args.protocol,
            client: args.client,
            client_port: args.client_port,
            vip: args.vip,
            vip_port: args.vip_port,
            real: args.real,
        }
    }
}

/// `shunt flow …`
#[derive(Debug, Subcommand)]
pub(super) enum FlowCommand {
    /// List flows
    List {
        /// Which
        #[command(flatten)]
        filter: FlowArgs,
        /// Most flows listed; 0 lists all
        #[arg(long, short = 'n', default_value_t = 100)]
        limit: u64,
    },
    /// Show one flow
    Show {
        /// Transport protocol
        #[arg(value_parser = protocols())]
        protocol: Protocol,
        /// Client address and L4 port
        #[arg(value_name = "CIP:PORT", value_parser = text::<SocketAddr>)]
        client: SocketAddr,
        /// VIP and L4 port
        #[arg(value_name = "VIP:PORT", value_parser = text::<SocketAddr>)]
        vip: SocketAddr,
    },
    /// Remove flows: a TCP client's next segment is reset, where no hash finds its real server
    Flush {
        /// Which
        #[command(flatten)]
        filter: FlowArgs,
        /// Remove all flows; needed when nothing else says which
        #[arg(long)]
        all: bool,
    },
}

/// `shunt neighbor …`
#[derive(Debug, Subcommand)]
pub(super) enum NeighborCommand {
    /// List neighbors
    List,
}

/// `shunt port …`
#[derive(Debug, Subcommand)]
pub(super) enum PortCommand {
    /// List ports
    List,
}

/// `shunt stats`
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Repeat every so many seconds, with rates, until interrupted
    #[arg(long, short, value_name = "SECS", num_args = 0..=1, default_missing_value = "1",
          value_parser = seconds)]
    pub(super) watch: Option<f64>,
    /// Also show reasons for which nothing was dropped
    #[arg(long, short)]
    pub(super) all: bool,
}

/// `shunt config …`
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the running configuration as a file
    Show,
    /// Print a new secret key for scheduling.hash_key; needs no daemon
    Key,
    /// Check a configuration file; needs no daemon
    Check {
        /// The file; - is standard input
        file: PathBuf,
    },
    /// Show what would change if a file were applied
    Diff {
        /// The file; - is standard input [default: the daemon's own file]
        file: Option<PathBuf>,
    },
    /// Replace the running configuration, at once or not at all
    Apply {
        /// The file; - is standard input [default: the daemon's own file]
        file: Option<PathBuf>,
    },
    /// Write the running configuration to a file; comments in it are lost
    Save {
        /// The file; - is standard output [default: the daemon's own file, which it writes itself]
        file: Option<PathBuf>,
    },
}

fn text<T: Text>(text: &str) -> Result<T, String> {
    T::read(text)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("allowed are 0.1 to 86400".to_owned()),
    }
}

fn protocols() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(["tcp", "udp"]).try_map(|name| name.parse::<Protocol>())
}

fn schedulers() -> impl TypedValueParser<Value = SchedulerKind> {
    PossibleValuesParser::new(SchedulerKind::ALL.iter().map(|s| s.name()))
        .try_map(|name| name.parse::<SchedulerKind>())
}

fn methods() -> impl TypedValueParser<Value = ForwardMethod> {
    PossibleValuesParser::new(ForwardMethod::ALL.iter().map(|m| m.name()))
        .try_map(|name| name.parse::<ForwardMethod>())
}
