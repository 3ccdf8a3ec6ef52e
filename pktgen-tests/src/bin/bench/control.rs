//! What control does to traffic: shuntd forwards as fast as it can while it is reconfigured, asked
//! for its flows, and has a real server added and removed a hundred times a second.
//!
//! The worker has one processor; control, the slow path and we have the other. For each of these
//! works three things are told: how long the answers took, how many packets it lost, and the
//! worker's longest round, beside the longest while nothing was asked of it, and what the machine
//! itself does to a loop on that processor.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::capture::{Traffic, VIP};
use crate::hugepages::Memory;
use crate::process::Forwarder;
use crate::report::Measured;
use crate::shuntd::{Config, Shuntd};
use crate::{Options, cpu};

/// What is published: virtual services, and real servers of each.
const SERVICES: usize = 1000;
const REALS: usize = 100;
/// Flows in one page of a listing: as many as there may be.
const PAGE: usize = 4096;
/// The VIP of a virtual service that is not there.
const NEW: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
/// What one change is made in: virtual services, real servers of each, and the scheduler.
const MANY: [(usize, usize, &str); 3] = [(2000, 10, "wlc"), (1, 20_000, "wlc"), (1, 20_000, "mh")];
/// Time between two additions of a real server.
const CHANGE: Duration = Duration::from_millis(10);
/// How often the worker's longest round is read; it is kept for a second.
const LOOK: Duration = Duration::from_millis(300);
/// After this a longest round is no more of what was before.
const FORGET: Duration = Duration::from_millis(2100);

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let (flows, times, span): (_, usize, _) = if options.quick {
        (100_000, 3, Duration::from_secs(2))
    } else {
        (1_000_000, 9, Duration::from_secs(10))
    };
    let traffic = Traffic { tcp: false, flows, services: 1, frame: 64 };
    let dir = tempfile::tempdir()?;
    let capture = dir.path().join("in.pcap");
    traffic.write(&capture)?;
    let mbufs = traffic.packets() + 16_384;
    let mib = ((mbufs as u64 * 2560) >> 20) + 128;
    let memory = Memory::reserve(mib);
    let small = Config {
        vdev: format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display()),
        eal: memory.eal(mib),
        mbufs,
        capacity: (2 * flows).max(1 << 16),
        protocol: "udp",
        port: traffic.port(),
        method: "ipip".into(),
        services: 1,
        reals: 2,
        // What goes keeps its place until that is in force: room for more than there will be.
        room: (2 * SERVICES + 64, 2 * SERVICES * REALS),
        scheduler: "wrr".into(),
        mtu: 1500,
    };
    let mut shuntd = Shuntd::start(dir.path(), &small)?;
    shuntd.wait_for_flows(flows)?;
    let mut bench = Bench { shuntd, flows: flows as u64, results: vec![] };
    let rates = bench.quiet(span)?;
    // One scheduler is quick to set up, the other makes a table of its own for every service.
    for scheduler in ["wrr", "mh"] {
        let times = if scheduler == "mh" { times.div_ceil(3) } else { times };
        let large = Config {
            services: SERVICES,
            reals: REALS,
            scheduler: scheduler.into(),
            ..small.clone()
        };
        bench.publish(&small, &large, times)?;
    }
    bench.list(times)?;
    bench.change(span)?;
    for (services, reals, scheduler) in MANY {
        let scheduler = scheduler.into();
        bench.among(&small, &Config { services, reals, scheduler, ..small.clone() }, times)?;
    }
    let Bench { shuntd, mut results, .. } = bench;
    shuntd.process().pause()?;
    let noise = cpu::longest_gap(cpu::WORKER, span)?;
    let mut machine = row("machine: longest gap of a loop that does nothing", "us");
    machine.why = Some("on the worker's processor".into());
    results.push(machine.of(&[noise]));
    for result in results.iter_mut().filter(|r| r.name.ends_with(LONGEST)) {
        let longest = result.value.unwrap_or_default();
        *result = result.clone().against(&[longest], &[noise]);
    }
    eprintln!("control: {rates:.1} Mpps meanwhile; the machine's own longest gap {noise:.0} us");
    Ok(results)
}

const LONGEST: &str = "longest round";

fn row(name: &str, unit: &'static str) -> Measured {
    Measured { part: "control", name: name.into(), unit, ..Measured::default() }
}

/// Counters that tell what a work has done to the packets.
struct Seen {
    received: u64,
    verdicts: u64,
    dropped: u64,
    at: Instant,
}

struct Bench {
    shuntd: Shuntd,
    flows: u64,
    results: Vec<Measured>,
}

impl Bench {
    fn seen(&self) -> Result<Seen> {
        let stats = self.shuntd.stats()?;
        let event = |name: &str| stats["events"][name].as_u64().unwrap_or_default();
        let dropped = stats["dropped"].as_object().context("drop reasons")?;
        let dropped = dropped.values().filter_map(Value::as_u64).sum();
        let verdicts =
            ["forwarded", "punted", "handed_over", "held"].map(event).iter().sum::<u64>() + dropped;
        let received = event("rx_packets") + event("taken_over") + event("injected");
        Ok(Seen { received, verdicts, dropped, at: Instant::now() })
    }

    /// Does `work` on the processor that the worker leaves free, and notes what it did to traffic;
    /// `work` gives back milliseconds, one for each answer it waited for.
    fn measure(
        &mut self,
        about: &Measured,
        work: impl FnOnce(&Shuntd) -> Result<Vec<f64>> + Send,
    ) -> Result<f64> {
        let shuntd = &self.shuntd;
        sleep(FORGET);
        let before = self.seen()?;
        let done = AtomicBool::new(false);
        let (answers, longest) = scope(|scope| -> Result<_> {
            let watch = scope.spawn(|| {
                cpu::on(cpu::OTHERS, || {
                    let mut longest = 0;
                    while !done.load(Ordering::Relaxed) {
                        sleep(LOOK);
                        longest = longest.max(shuntd.longest_round()?);
                    }
                    Ok(longest)
                })
            });
            let answers = cpu::on(cpu::OTHERS, || work(shuntd));
            done.store(true, Ordering::Relaxed);
            let longest = watch.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            Ok((answers?, longest as f64 / 1000.0))
        })?;
        let after = self.seen()?;
        // Counters are read while bursts are under way.
        let open =
            (after.received - before.received) as i64 - (after.verdicts - before.verdicts) as i64;
        ensure!(open.abs() < 4096, "{}: {open} packets have no verdict", about.name);
        let lost = after.dropped - before.dropped;
        let mpps =
            (after.received - before.received) as f64 / 1e6 / (after.at - before.at).as_secs_f64();
        let result = |what: &str, unit| Measured {
            name: format!("{}: {what}", about.name),
            unit,
            ..about.clone()
        };
        let mut summary = String::new();
        if !answers.is_empty() {
            let answer = result("time to answer", "ms").of(&answers);
            let ms = |value: Option<f64>| value.unwrap_or_default();
            summary = format!("answered in {} ms, {} at most; ", ms(answer.value), ms(answer.max));
            self.results.push(answer);
        }
        eprintln!("control: {}: {summary}{lost} lost, longest round {longest:.0} us", about.name);
        self.results.push(result("packets lost", "packets").of(&[lost as f64]));
        self.results.push(result("packets received meanwhile", "Mpps").of(&[mpps]));
        self.results.push(result(LONGEST, "us").of(&[longest]));
        Ok(mpps)
    }

    /// Nothing is asked of it.
    fn quiet(&mut self, span: Duration) -> Result<f64> {
        self.measure(&row("nothing", ""), |_| {
            sleep(span);
            Ok(vec![])
        })
    }

    /// Publishes the larger configuration and takes it back, in turn.
    fn publish(&mut self, small: &Config, large: &Config, times: usize) -> Result<f64> {
        let about = Measured {
            services: Some(large.services as u64),
            reals: Some(large.reals as u64),
            ..row(&format!("publish, {}", large.scheduler), "")
        };
        self.measure(&about, |shuntd| {
            let request = |config: &Config| {
                let text = shuntd.text(config);
                serde_json::json!({"op": "config.apply", "text": text, "name": "bench"}).to_string()
            };
            let (small, large) = (request(small), request(large));
            let mut control = shuntd.connect()?;
            let mut answers = Vec::new();
            for _ in 0..times {
                answers.push(milliseconds(|| control.ask(&large))?);
                control.ask(&small)?;
            }
            Ok(answers)
        })
    }

    /// Lists all flows; the answers are whole listings.
    fn list(&mut self, times: usize) -> Result<f64> {
        let flows = self.flows;
        let about = Measured { flows: Some(flows), ..row("list all flows", "") };
        let before = self.shuntd.start_peak()?;
        let mpps = self.measure(&about, |shuntd| {
            let mut control = shuntd.connect()?;
            let list = || {
                milliseconds(|| {
                    let (mut cursor, mut listed) = (0, 0);
                    loop {
                        let request =
                            format!(r#"{{"op":"flow.list","cursor":{cursor},"limit":{PAGE}}}"#);
                        let line = control.line(&request)?;
                        // Reading all of it as JSON would take longer than writing it.
                        listed += line.matches(r#""client":"#).count() as u64;
                        match line.rsplit_once(r#""next":"#) {
                            Some((_, next)) => {
                                cursor = next.trim_end_matches(['}', '\n']).parse()?;
                            }
                            None => break,
                        }
                        ensure!(cursor > 0, "not a cursor: {cursor}");
                    }
                    ensure!(listed == flows, "{listed} flows are listed of {flows}");
                    Ok(())
                })
            };
            std::iter::repeat_with(list).take(times.div_ceil(3)).collect()
        })?;
        // A page is made, sent and forgotten, so this does not grow with the flows.
        let more = self.shuntd.peak()?.saturating_sub(before) >> 10;
        eprintln!("control: list all flows: at most {more} KiB more in memory");
        let row = Measured {
            name: "list all flows: more resident memory, at most".into(),
            unit: "KiB",
            ..about
        };
        self.results.push(row.of(&[more as f64]));
        Ok(mpps)
    }

    /// One real server of many is added, edited and removed, in turn; then all are restored as one
    /// batch.
    fn among(&mut self, small: &Config, large: &Config, times: usize) -> Result<()> {
        let (services, reals) = (large.services, large.reals);
        let apply = |shuntd: &Shuntd, config: &Config| {
            let text = shuntd.text(config);
            let request = serde_json::json!({"op": "config.apply", "text": text, "name": "bench"});
            shuntd.connect()?.ask(&request.to_string()).map(drop)
        };
        let about = |what: &str| Measured {
            services: Some(services as u64),
            reals: Some(reals as u64),
            ..row(&format!("{what}, {}", large.scheduler), "")
        };
        apply(&self.shuntd, large)?;
        let of =
            |vip: Ipv4Addr| serde_json::json!({"protocol": "udp", "address": format!("{vip}:443")});
        let op = |op: &str, vip: Ipv4Addr, more: Value| {
            let mut request = of(vip);
            request["op"] = op.into();
            if let (Some(request), Value::Object(more)) = (request.as_object_mut(), more) {
                request.extend(more);
            }
            request
        };
        let real = serde_json::json!({"real": "100.64.200.1", "forward": "ipip"});
        for (what, steps) in [
            (
                "add, edit and remove a real server",
                [
                    op("server.add", VIP, real.clone()),
                    op(
                        "server.edit",
                        VIP,
                        serde_json::json!({"real": "100.64.200.1", "weight": 7}),
                    ),
                    op("server.del", VIP, serde_json::json!({"real": "100.64.200.1"})),
                ],
            ),
            (
                "add, edit and remove a service",
                [
                    op("service.add", NEW, serde_json::json!({"scheduler": large.scheduler})),
                    op("service.edit", NEW, serde_json::json!({"scheduler": "rr"})),
                    op("service.del", NEW, serde_json::json!({})),
                ],
            ),
        ] {
            self.measure(&about(what), |shuntd| {
                let mut control = shuntd.connect()?;
                let mut answers = Vec::new();
                for step in std::iter::repeat_n(&steps, 10 * times).flatten() {
                    let request = step.to_string();
                    answers.push(milliseconds(|| control.ask(&request))?);
                }
                Ok(answers)
            })?;
        }
        let mut ops = vec![serde_json::json!({"op": "service.clear"})];
        for service in 0..services as u32 {
            let vip = Ipv4Addr::from(VIP.to_bits() + service);
            ops.push(op("service.add", vip, serde_json::json!({"scheduler": large.scheduler})));
            let real = |n: usize| {
                let address = format!("100.64.{}.{}", 1 + n / 250, 1 + n % 250);
                op("server.add", vip, serde_json::json!({"real": address, "forward": "ipip"}))
            };
            ops.extend((0..reals).map(real));
        }
        let batch = serde_json::json!({"op": "batch", "ops": ops}).to_string();
        self.measure(&about("restore as one batch"), |shuntd| {
            let mut control = shuntd.connect()?;
            let restore = || milliseconds(|| control.ask(&batch));
            std::iter::repeat_with(restore).take(times.div_ceil(3)).collect()
        })?;
        apply(&self.shuntd, small)
    }

    /// Adds a real server and removes it, a hundred times a second.
    fn change(&mut self, span: Duration) -> Result<f64> {
        self.measure(&row("add and remove a real server, 100/s", ""), |shuntd| {
            let request = |op: &str, rest: &str| {
                format!(
                    r#"{{"op":"server.{op}","protocol":"udp","address":"{VIP}:443","real":"100.64.200.1"{rest}}}"#
                )
            };
            let (add, remove) = (request("add", r#","forward":"ipip""#), request("del", ""));
            let mut control = shuntd.connect()?;
            let (start, mut answers) = (Instant::now(), Vec::new());
            for n in 1.. {
                answers.push(milliseconds(|| control.ask(&add))?);
                answers.push(milliseconds(|| control.ask(&remove))?);
                if start.elapsed() > span {
                    break;
                }
                sleep((start + CHANGE * n).saturating_duration_since(Instant::now()));
            }
            let rate = answers.len() as f64 / 2.0 / start.elapsed().as_secs_f64();
            ensure!(rate > 50.0, "only {rate:.0} additions and removals a second");
            Ok(answers)
        })
    }
}

/// How long something takes, in milliseconds.
fn milliseconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
