//! The scenarios by name.
//!
//! The first 24 names are those of the Linux kernel's XDP load-balancer benchmark
//! (`tools/testing/selftests/bpf`), so that results line up; what the kernel's program does not do
//! as Shunt does is said beside the name.

use std::time::Duration;

use dataplane::packet::tcp::Flags;
use dataplane::pipeline::FlowMatch;
use dataplane::stats::{Counts, DropReason, Event};
use dataplane::types::Protocol;
use dataplane::vocabulary::{ForwardMethod, SchedulerKind};

use super::rig::{BATCH, Rig, Setup};
use super::traffic::{Flows, Order, STRANGER, Template, Visits};

/// Flows in the table of the scenarios that are about a full one.
const FULL: usize = 1 << 20;

const ONE: Flows = Flows::Nth { count: 1, services: 1 };

/// What must become of the packets, or the scenario measures something else than it says.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// All are forwarded by flows that are there.
    Hit,
    /// All are forwarded, and nearly all make a flow.
    New,
    /// All are forwarded; some make a flow.
    Forwarded,
    /// All are forwarded, none makes a flow, none has one.
    Stateless,
    /// All go to the slow path.
    Punted,
    /// All are dropped.
    Dropped(DropReason),
    /// The harness alone: no packet gets to the pipeline.
    Nothing,
}

/// One scenario: what to set up, what to send, what must come of it.
pub struct Scenario {
    pub name: String,
    pub setup: Setup,
    pub template: Template,
    pub order: Order,
    /// What is sent beforehand: frames, each of all these flows.
    pub before: Vec<Template>,
    /// How much of the table, one flow in so many, the packets themselves take beforehand.
    pub ahead: Option<usize>,
    pub flows: Flows,
    pub expect: Expect,
    /// After so many batches the flows that match are removed, outside of what is measured.
    pub reset: Option<(usize, FlowMatch)>,
    /// How far time goes on between two batches, milliseconds.
    pub pace: u32,
}

/// A scenario of the kernel's list that cannot be run.
pub struct NotBuilt {
    pub name: &'static str,
    pub why: &'static str,
}

/// What of the kernel's list is not built.
pub const NOT_BUILT: &[NotBuilt] = &[
    NotBuilt { name: "tcp-v4-ch", why: "one-packet scheduling" },
    NotBuilt { name: "tcp-v6-ch", why: "one-packet scheduling" },
    NotBuilt { name: "tcp-v4-ch-diverse", why: "one-packet scheduling" },
    NotBuilt { name: "tcp-v6-ch-diverse", why: "one-packet scheduling" },
];

/// The kernel's scenarios whose packets are forwarded.
pub const FORWARDED: &[&str] = &[
    "tcp-v4-lru-hit",
    "udp-v4-lru-hit",
    "tcp-v4-lru-diverse",
    "udp-v4-lru-diverse",
    "tcp-v4-syn",
    "tcp-v4-rst-miss",
    "tcp-v4-lru-miss",
    "udp-v4-lru-miss",
    "tcp-v4-lru-warmup",
    // The kernel's program drops these two; Shunt forwards them.
    "drop-v4-frag",
    "drop-v4-options",
    "tcp-v6-lru-hit",
    "udp-v6-lru-hit",
    "tcp-v6-lru-diverse",
    "drop-v6-frag",
];

/// The one whose packets are IPv4 and whose real servers are IPv6: by tunnels only.
pub const MIXED: &str = "tcp-v4v6-lru-hit";

/// Those whose packets leave the pipeline early: no forwarding method applies.
pub const EXITS: &[&str] = &[
    "pass-v4-no-vip",
    "pass-v6-no-vip",
    "pass-v4-icmp",
    PINGS,
    "pass-non-ip",
    "drop-non-ip",
    "empty",
];

/// Not one of the kernel's: pings that are more than the slow path is asked to answer.
pub const PINGS: &str = "drop-v4-icmp";

/// Milliseconds between two batches of pings, in which as many may come again.
const PING_PACE: u32 = 20;

/// How full the table is, in per cent, when new flows come.
pub const FULLNESS: &[usize] = &[10, 50, 90];

impl Scenario {
    fn new(name: &str, method: ForwardMethod, template: Template, expect: Expect) -> Scenario {
        Scenario {
            name: name.into(),
            setup: Setup { method, ..Setup::default() },
            template,
            order: Order::Round(ONE),
            before: vec![],
            ahead: None,
            flows: Flows::NONE,
            expect,
            reset: None,
            pace: 0,
        }
    }

    /// Packets of `flows`, which are all there already, in random order.
    fn hits(mut self, flows: Flows) -> Scenario {
        self.before = match (self.template.is_udp(), self.setup.clients6) {
            (true, false) => vec![Template::udp()],
            (true, true) => vec![Template::udp6()],
            (false, false) => vec![Template::tcp(Flags::SYN), Template::tcp(Flags::ACK)],
            (false, true) => vec![Template::tcp6(Flags::SYN), Template::tcp6(Flags::ACK)],
        };
        self.order = Order::Shuffled(flows);
        self.flows = flows;
        self
    }

    /// Packets of ever new flows, in a table with `there` others of `capacity`.
    fn fresh(mut self, order: Order, there: usize, capacity: usize) -> Scenario {
        self.before = vec![Template::tcp(Flags::ACK)];
        self.flows = Flows::Nth { count: there, services: 1 };
        self.setup.capacity = capacity;
        self.order = order;
        self
    }

    /// A scenario of [`FORWARDED`] or [`EXITS`].
    pub fn named(name: &str, method: ForwardMethod) -> Scenario {
        let new = |template, expect| Scenario::new(name, method, template, expect);
        let ack = || Template::tcp(Flags::ACK);
        let new6 = |template, expect| {
            let mut scenario = new(template, expect);
            (scenario.setup.clients6, scenario.setup.reals6) = (true, true);
            scenario
        };
        let ack6 = || Template::tcp6(Flags::ACK);
        match name {
            "tcp-v6-lru-hit" => new6(ack6(), Expect::Hit).hits(ONE),
            "udp-v6-lru-hit" => new6(Template::udp6(), Expect::Hit).hits(ONE),
            "tcp-v6-lru-diverse" => new6(ack6(), Expect::Hit).hits(Flows::Diverse),
            "drop-v6-frag" => new6(Template::fragment6(), Expect::Hit).hits(ONE),
            "pass-v6-no-vip" => {
                let mut scenario = new6(ack6(), Expect::Dropped(DropReason::NotLocal));
                scenario.order = Order::NoVip;
                scenario
            }
            MIXED => {
                let mut scenario = new(ack(), Expect::Hit);
                scenario.setup.reals6 = true;
                scenario.hits(ONE)
            }
            "tcp-v4-lru-hit" => new(ack(), Expect::Hit).hits(ONE),
            "udp-v4-lru-hit" => new(Template::udp(), Expect::Hit).hits(ONE),
            "tcp-v4-lru-diverse" => new(ack(), Expect::Hit).hits(Flows::Diverse),
            "udp-v4-lru-diverse" => new(Template::udp(), Expect::Hit).hits(Flows::Diverse),
            // The kernel's program inserts for every SYN, here only a new flow's is inserted.
            "tcp-v4-syn" => Scenario::new_flows(0, method).renamed(name),
            "tcp-v4-rst-miss" => {
                new(Template::tcp(Flags::RST), Expect::Stateless).fresh(Order::Strangers, 0, FULL)
            }
            // The kernel's program makes a flow for each, here one in 32 does.
            "tcp-v4-lru-miss" => {
                let mut scenario =
                    new(ack(), Expect::Forwarded).fresh(Order::Strangers, FULL, FULL);
                scenario.ahead = Some(32);
                scenario
            }
            "udp-v4-lru-miss" => {
                let mut scenario =
                    new(Template::udp(), Expect::Forwarded).fresh(Order::Strangers, FULL, FULL);
                scenario.ahead = Some(32);
                scenario
            }
            "tcp-v4-lru-warmup" => {
                // 6500 packets of 4096 flows: half of them meet their flow for the first time.
                let batches = 6500 / BATCH;
                let order = Order::Drawn(batches * BATCH);
                let mut scenario = new(ack(), Expect::Forwarded).fresh(order, 0, 1 << 13);
                scenario.reset = Some((batches, FlowMatch::default()));
                scenario
            }
            "drop-v4-frag" => new(Template::fragment(), Expect::Hit).hits(ONE),
            "drop-v4-options" => new(Template::options(), Expect::Forwarded),
            "pass-v4-no-vip" => {
                let mut scenario = new(ack(), Expect::Dropped(DropReason::NotLocal));
                scenario.order = Order::NoVip;
                scenario
            }
            "pass-v4-icmp" => {
                let mut scenario = new(Template::echo(), Expect::Punted);
                scenario.pace = PING_PACE;
                scenario
            }
            PINGS => {
                let mut scenario = new(Template::echo(), Expect::Dropped(DropReason::RateLimited));
                // All at once, and many enough that none is left of what may come at once.
                scenario.ahead = Some(4);
                scenario
            }
            "pass-non-ip" => new(Template::ethertype(0x0806), Expect::Punted),
            "drop-non-ip" => {
                new(Template::ethertype(0x88cc), Expect::Dropped(DropReason::EtherType))
            }
            "empty" => new(ack(), Expect::Nothing),
            _ => panic!("no scenario {name}"),
        }
    }

    fn renamed(mut self, name: &str) -> Scenario {
        self.name = name.into();
        self
    }

    /// Packets of `flows` flows of one protocol, in random order.
    pub fn flows(protocol: Protocol, flows: usize, method: ForwardMethod) -> Scenario {
        let template = match protocol {
            Protocol::Tcp => Template::tcp(Flags::ACK),
            Protocol::Udp => Template::udp(),
        };
        let name = format!("hit,protocol={protocol},flows={flows}");
        let mut scenario = Scenario::new(&name, method, template, Expect::Hit)
            .hits(Flows::Nth { count: flows, services: 1 });
        // As full as an operator would have it.
        scenario.setup.capacity = (2 * flows).max(1 << 16);
        scenario
    }

    /// The same, spread over services and real servers.
    pub fn spread(services: usize, reals: usize, flows: usize) -> Scenario {
        let name = format!("hit,protocol=udp,flows={flows},services={services},reals={reals}");
        let mut scenario = Scenario::new(&name, ForwardMethod::Dr, Template::udp(), Expect::Hit)
            .hits(Flows::Nth { count: flows, services });
        scenario.setup = Setup {
            services,
            reals,
            capacity: 2 * flows,
            // A Maglev table for each of so many services would be another benchmark.
            scheduler: SchedulerKind::Wrr,
            ..scenario.setup
        };
        scenario
    }

    /// SYNs from everywhere, at a table full of established flows.
    pub fn flood(scheduler: SchedulerKind) -> Scenario {
        let name = format!("syn-flood,full=100,scheduler={scheduler}");
        // By hash no more flows are made when one in 64 is half-open; by others, each time, and the
        // flood competes with itself from then on.
        let expect = if scheduler.is_hash() { Expect::Stateless } else { Expect::New };
        let syn = Template::tcp(Flags::SYN);
        let mut scenario = Scenario::new(&name, ForwardMethod::Dr, syn, expect).fresh(
            Order::Strangers,
            FULL,
            FULL,
        );
        scenario.setup.scheduler = scheduler;
        scenario.ahead = Some(32);
        scenario
    }

    /// Datagrams from everywhere, at the same table, to a virtual service that needs their flows.
    pub fn datagrams() -> Scenario {
        let name = "udp-flood,full=100,scheduler=wrr";
        let mut scenario = Scenario::new(name, ForwardMethod::Dr, Template::udp(), Expect::New)
            .fresh(Order::Strangers, FULL, FULL);
        scenario.setup.scheduler = SchedulerKind::Wrr;
        scenario.ahead = Some(32);
        scenario
    }

    /// SYNs of new flows, with the table as full as said, in per cent.
    pub fn new_flows(percent: usize, method: ForwardMethod) -> Scenario {
        let name = format!("new-flow,full={percent}");
        let syn = Template::tcp(Flags::SYN);
        let scenario = Scenario::new(&name, method, syn, Expect::New);
        let mut scenario = scenario.fresh(Order::Ports, FULL * percent / 100, FULL);
        let stranger = FlowMatch { client: Some(STRANGER.into()), ..FlowMatch::default() };
        scenario.reset = Some((400, stranger));
        scenario
    }

    /// New flows by scheduler.
    pub fn scheduled(scheduler: SchedulerKind, reals: usize) -> Scenario {
        let mut scenario = Scenario::new_flows(10, ForwardMethod::Dr);
        scenario.name = format!("new-flow,full=10,scheduler={scheduler},reals={reals}");
        scenario.before = vec![Template::tcp(Flags::SYN)];
        scenario.setup = Setup { scheduler, reals, ..scenario.setup };
        scenario
    }

    /// The same with a table, and flows in it, a sixty-fourth as large: quicker to set up, and the
    /// instructions of a packet stay the same.
    pub fn small(mut self) -> Scenario {
        self.setup.capacity = (self.setup.capacity / 64).max(1 << 13);
        if let Flows::Nth { count, .. } = &mut self.flows {
            *count = count.div_ceil(64);
        }
        self.reset = self.reset.map(|(batches, wanted)| (batches.min(60), wanted));
        self
    }

    /// Sets it up.
    pub fn start(self) -> Running {
        let mut rig = Rig::new(&self.setup);
        for template in &self.before {
            let mut visits = Order::Round(self.flows).visits();
            rig.send(template, &mut visits);
        }
        // What is there has proven itself.
        if let Some(template) = self.before.last() {
            rig.after(2000);
            rig.send(template, &mut Order::Round(self.flows).visits());
        }
        let ahead = self.ahead.map_or(0, |share| (self.setup.capacity / share).div_ceil(BATCH));
        let mut running = Running { rig, visits: self.order.visits(), batches: 0, scenario: self };
        for _ in 0..ahead {
            running.batch();
        }
        running.check();
        running
    }
}

/// A scenario that is set up.
pub struct Running {
    pub rig: Rig,
    pub visits: Visits,
    batches: usize,
    pub scenario: Scenario,
}

impl Running {
    /// One batch, measured.
    #[inline(always)]
    fn batch(&mut self) -> Duration {
        let Scenario { template, expect, reset, pace, .. } = &self.scenario;
        self.rig.after(*pace);
        self.rig.load(template, &mut self.visits);
        let time = match expect {
            Expect::Nothing => self.rig.timed_empty(),
            _ => self.rig.timed(),
        };
        self.batches += 1;
        if let Some((batches, wanted)) = reset {
            if self.batches % *batches == 0 {
                self.rig.flush(wanted);
            }
        }
        time
    }

    /// One batch handled by `run`.
    pub fn batch_by(&mut self, run: impl FnOnce(&mut Rig)) {
        self.rig.after(self.scenario.pace);
        self.rig.load(&self.scenario.template, &mut self.visits);
        run(&mut self.rig);
    }

    /// So many packets: what they take, by the number wanted if more were needed for full batches.
    pub fn packets(&mut self, wanted: u64) -> Duration {
        let batches = wanted.div_ceil(BATCH as u64);
        let time: Duration = (0..batches).map(|_| self.batch()).sum();
        time.mul_f64(wanted as f64 / (batches * BATCH as u64) as f64)
    }

    /// Runs a few batches and compares what came of them with what must.
    fn check(&mut self) {
        let before = self.rig.counts();
        let sent = 16 * BATCH;
        for _ in 0..16 {
            self.batch();
        }
        let after = self.rig.counts();
        let grown = |f: &dyn Fn(&Counts) -> u64| (f(&after) - f(&before)) as usize;
        let event = |e: Event| grown(&|c| c.event(e));
        let (forwarded, new) = (event(Event::Forwarded), event(Event::FlowsCreated));
        let right = match self.scenario.expect {
            Expect::Hit => forwarded == sent && new == 0 && event(Event::MissNotSyn) == 0,
            Expect::New => forwarded == sent && new * 10 > sent * 9,
            Expect::Forwarded => forwarded == sent,
            Expect::Stateless => forwarded == sent && new == 0,
            Expect::Punted => event(Event::Punted) == sent,
            Expect::Dropped(reason) => grown(&|c| c.drops(reason)) == sent,
            Expect::Nothing => event(Event::RxPackets) == 0,
        };
        let name = &self.scenario.name;
        assert!(right, "{name} is not what it says: {before:?}\n{after:?}");
    }
}
