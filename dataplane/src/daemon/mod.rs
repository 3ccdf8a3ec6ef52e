//! Composition root: the one place that knows every layer, and the order of start and stop.
//!
//! Start: control socket taken, EAL, packet buffers, ports, capabilities dropped, first snapshot,
//! slow path, workers, control socket served. Stop: control socket, workers, slow path, ports, EAL.
#![forbid(unsafe_code)]

mod args;
mod memory;
mod plane;
mod pools;
mod privileges;
mod queues;
mod reload;
mod slow;
mod starting;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::plane::{LivePlane, PortEntry, Published};
use self::pools::Pools;
use self::reload::Reloader;
use self::slow::{SlowBoard, SlowThread};
use self::starting::{Starting, ToldToStop};
use crate::config::{self, Config};
use crate::control::plane::Plane;
use crate::control::{Controller, Rates, Server, ServerSettings, Socket};
use crate::dpdk::{self, Eal, LcoreHandle, Port, PortConfig};
use crate::persist::AllTemplates;
use crate::pipeline::{LoadBoard, Pipeline, Settings, Tables};
use crate::slowpath::SlowPath;
use crate::snapshot::compile::{Compiler, Limits};
use crate::snapshot::neighbors::NextHops;
use crate::snapshot::publish::Publisher;
use crate::stats::{Accounts, Stats};
use crate::types::{Mac, WorkerId};
use crate::worker::{Channels, Clock, Queues, Worker};

/// Runs the daemon by the configuration file at `path` until SIGTERM or SIGINT.
pub fn run(path: &Path, config: Config) -> Result<()> {
    // Signals first: one that comes while the daemon starts must not be lost, and must end the start.
    // A thread that heeds them comes later, for while there is one thread rights are given up.
    let heeded = starting::heeded()?;
    let mut signals =
        Signals::new([SIGHUP, SIGTERM, SIGINT]).context("cannot watch for signals")?;
    let settings = ServerSettings::new(&config.control);
    // A second daemon must not announce the first one's VIPs before it finds the socket taken. The
    // first one's lock is held until its ports are closed.
    let socket = Socket::open(&settings)?;
    let _lock = socket.lock();
    privileges::confine();
    let starting = Starting::watch(heeded)?;
    let eal = Eal::init(&args::eal_arguments(&config)?)?;
    let running = match Running::start(&config, eal.main_lcore(), &starting) {
        Err(error) if error.is::<ToldToStop>() => {
            log::info!("stopping: {error}");
            return Ok(());
        }
        running => running?,
    };
    let plane: Arc<dyn Plane> = running.live.clone();
    let controller =
        Arc::new(Controller::new(config, path.to_owned(), running.hardware.clone(), plane));
    let rates =
        Rates::start(Arc::clone(&controller)).context("cannot start the thread of rates")?;
    let server = Server::serve(Arc::clone(&controller), settings, socket)?;
    drop(starting);
    let reloader =
        Reloader::start(Arc::clone(&controller)).context("cannot start the thread of reloads")?;
    log::info!("ready: control socket {}", controller.config().control.socket.display());

    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        reloader.demand();
    }
    log::info!("stopping");
    controller.stop();
    drop(reloader);
    server.shutdown();
    drop(rates);
    drop(running);
    drop(controller);
    drop(eal);
    Ok(())
}

/// The threads and handles of a running data plane, or of one that is being started. Dropping it
/// stops the threads.
struct Running {
    live: Arc<LivePlane>,
    /// Ethernet address and MTU of each port.
    hardware: Vec<(Mac, u16)>,
    stop_workers: Arc<AtomicBool>,
    stop_slow: Arc<AtomicBool>,
    workers: Vec<LcoreHandle<()>>,
    slow: Option<JoinHandle<()>>,
}

/// A started port with its queue pairs.
struct Started {
    entry: PortEntry,
    queues: Queues,
}

impl Running {
    fn start(config: &Config, main_lcore: u32, starting: &Starting) -> Result<Running> {
        let started_at = Instant::now();
        let plane = &config.dataplane;
        starting.waits_for("ports are attached");
        let devices = attach_all(config)?;
        starting.waits_for("packet buffers are allocated");
        let pools = Pools::new(config, &devices)?;
        starting.waits_for("ports are started");
        let ports = start_ports(config, &devices, &pools)?;
        // Ports are open and packet buffers are mapped: nothing that follows needs a right that an
        // ordinary user has not, and what follows reads what strangers send.
        privileges::drop_all();
        let served = ports.first().map_or(0, |p| p.queues.len());
        warn_of_idle_workers(config, served);

        let hardware: Vec<_> =
            ports.iter().map(|p| (p.entry.port.mac(), p.entry.port.mtu())).collect();
        let spec = config.spec(&hardware);
        let limits = Limits {
            services: plane.max_services,
            reals: plane.max_real_servers,
            neighbors: plane.max_neighbors,
        };
        let mut compiler = Compiler::new(limits).with_labels(random()?);
        let compiled = compiler
            .compile(&spec, 1, u64::MAX, |_| true)
            .context("cannot use the configuration")?;
        let snapshot = Arc::new(compiled.snapshot);
        // Workers come first among the readers, so a reader's number is a worker's.
        let (publisher, mut readers) = Publisher::new(served + 1, 1, &snapshot);
        let slow_reader = readers.pop().context("no reader for the slow path")?;

        let lcores = &plane.workers[..served];
        let owns = memory::allocate(plane, lcores, ports.len(), starting)?;
        starting.waits_for("templates, and tables that all workers share, are allocated");
        let stats: Vec<_> = owns.iter().map(|own| Arc::clone(&own.stats)).collect();
        let slow_stats = Arc::new(Stats::new(0, 0, 0));
        let hops = Arc::new(NextHops::new(plane.max_neighbors as usize));
        let loads = Arc::new(LoadBoard::new(served, plane.max_real_servers as usize));
        let templates = AllTemplates::new(plane.persistence_entries as usize, random()? as u64);
        let Channels { workers: worker_ends, slow_path: slow_end, control: control_ends } =
            Channels::new(served);
        let board = Arc::new(SlowBoard::default());
        let stop_workers = Arc::new(AtomicBool::new(false));
        let stop_slow = Arc::new(AtomicBool::new(false));

        let slow = SlowThread {
            links: None,
            slow: SlowPath::new(
                pools.of_lcore(main_lcore).clone(),
                Arc::clone(&hops),
                Arc::clone(&slow_stats),
                random()? as u64,
            ),
            channels: slow_end,
            reader: slow_reader,
            stats: Arc::clone(&slow_stats),
            workers: stats.clone(),
            loads: Arc::clone(&loads),
            board: Arc::clone(&board),
            ports: ports.iter().map(|p| p.entry.port.clone()).collect(),
            started: started_at,
            stop: Arc::clone(&stop_slow),
        };
        starting.ends();
        let slow = std::thread::Builder::new()
            .name("shunt-slow".into())
            .spawn(move || slow.run())
            .context("cannot start the slow path's thread")?;

        let mut entries = Vec::with_capacity(ports.len());
        let mut queues: Vec<Queues> = (0..served).map(|_| Queues::new()).collect();
        let port_count = ports.len();
        for port in ports {
            entries.push(port.entry);
            for (worker, pair) in queues.iter_mut().zip(port.queues) {
                worker.push(pair);
            }
        }
        let clock = Clock::start();
        let live = Arc::new(LivePlane {
            published: Mutex::new(Published {
                compiler,
                snapshot,
                accounts: Accounts::new(
                    plane.max_services as usize,
                    plane.max_real_servers as usize,
                ),
                unbound: Vec::new(),
            }),
            publisher,
            workers: plane.workers.iter().copied().zip(stats.iter().cloned()).collect(),
            slow: slow_stats,
            templates: templates.clone(),
            loads: Arc::clone(&loads),
            hops: Arc::clone(&hops),
            board,
            asking: control_ends.into_iter().map(Mutex::new).collect(),
            ports: entries,
            pools: pools.clone(),
            started: started_at,
            clock,
        });
        // From here on an error stops what has been started.
        let mut running = Running {
            live,
            hardware,
            stop_workers: Arc::clone(&stop_workers),
            stop_slow,
            workers: Vec::with_capacity(served),
            slow: Some(slow),
        };
        let seed = random()?;
        let each = queues.into_iter().zip(readers).zip(worker_ends).zip(owns);
        for (index, (((queues, reader), channels), own)) in each.enumerate() {
            let lcore = plane.workers[index];
            let settings = Settings {
                me: WorkerId(index as u16),
                workers: served as u16,
                ports: port_count,
                seed: seed ^ index as u128,
            };
            let (loads, hops, templates) =
                (Arc::clone(&loads), Arc::clone(&hops), templates.clone());
            let (pool, idle, stop) =
                (pools.of_lcore(lcore).clone(), plane.idle, Arc::clone(&stop_workers));
            // Put together where it runs: what it writes shall lie on that NUMA node.
            let work = move || {
                let memory::Own { shard, shard6, stats } = own;
                let tables = Tables { shard, shard6, templates };
                let pipeline = Pipeline::new(&settings, stats, loads, tables);
                Worker::new(pipeline, queues, channels, reader, hops, pool, clock, idle, stop)
                    .run();
            };
            running.workers.push(
                dpdk::launch(lcore, work)
                    .with_context(|| format!("cannot start worker {index} on lcore {lcore}"))?,
            );
        }

        Ok(running)
    }
}

impl Drop for Running {
    /// Workers first: they give their last punts to a slow path that still counts them.
    fn drop(&mut self) {
        self.stop_workers.store(true, Ordering::Relaxed);
        for (index, worker) in self.workers.drain(..).enumerate() {
            if worker.join().is_err() {
                log::error!("worker {index} panicked");
            }
        }
        self.stop_slow.store(true, Ordering::Relaxed);
        if self.slow.take().is_some_and(|slow| slow.join().is_err()) {
            log::error!("the slow path panicked");
        }
    }
}

fn random() -> Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| anyhow::anyhow!("the system gives no random numbers: {e}"))?;
    Ok(u128::from_ne_bytes(bytes))
}

/// Makes every port known to DPDK; the name of each.
fn attach_all(config: &Config) -> Result<Vec<String>> {
    let attach = |p: &config::Port| attach(p).with_context(|| format!("port {:?}", p.name));
    config.ports.iter().map(attach).collect()
}

/// Starts every port with as many queue pairs as there are workers, or as the poorest port has.
///
/// Every worker that runs serves every port: a worker can only send on a port it has a queue of,
/// and any packet may have to leave by any port.
fn start_ports(config: &Config, names: &[String], pools: &Pools) -> Result<Vec<Started>> {
    let mut pairs = config.dataplane.workers.len() as u16;
    match config.ports.iter().filter_map(|p| p.queues).min() {
        Some(configured) => pairs = pairs.min(configured),
        None => {
            for (spec, device) in config.ports.iter().zip(names) {
                let most = Port::queue_pairs(device)
                    .with_context(|| format!("cannot start port {:?}", spec.name))?;
                pairs = pairs.min(most.max(1));
            }
        }
    }
    let mut ports = Vec::with_capacity(names.len());
    for (spec, device) in config.ports.iter().zip(names) {
        let wanted = PortConfig {
            rx_queues: pairs,
            tx_queues: pairs,
            rx_descriptors: config::DESCRIPTORS,
            tx_descriptors: config::DESCRIPTORS,
            mtu: Some(spec.mtu),
            ..PortConfig::new(device, pools.of_port(device).clone())
        };
        let (port, rx, tx) = Port::configure(&wanted)
            .with_context(|| format!("cannot start port {:?}", spec.name))?;
        log::info!(
            "port {}: {} ({}), {}, MTU {}, {pairs} queue pair(s)",
            spec.name,
            device,
            port.driver(),
            port.mac(),
            port.mtu()
        );
        if let Some(warning) = queues::unspread(port.driver(), pairs, port.features()) {
            log::warn!("port {}: {warning}", spec.name);
        }
        let entry = PortEntry {
            name: spec.name.clone(),
            device: spec.device.as_ref().or(spec.vdev.as_ref()).cloned().unwrap_or_default(),
            port,
            queues: pairs,
        };
        ports.push(Started { entry, queues: rx.into_iter().zip(tx).collect() });
    }
    for pool in pools.all() {
        let served = ports.iter().map(|started| &started.entry.port);
        let served = served.filter(|port| pools.of_port(port.name()).name() == pool.name());
        queues::check_mbufs(pool.size(), pairs, served.map(Port::features))?;
    }
    Ok(ports)
}

fn attach(port: &config::Port) -> Result<String> {
    match (&port.vdev, port.device.as_deref().map(args::with_domain)) {
        (Some(arguments), _) => Ok(dpdk::attach(arguments)?),
        // The EAL has attached what is bound to a driver of its own.
        (None, Some(address)) if dpdk::devices().contains(&address) => Ok(address),
        (None, Some(address)) => dpdk::attach(&address).map_err(|error| {
            let advice = not_there(&error.to_string());
            anyhow::Error::new(error).context(format!("{address} {advice}"))
        }),
        (None, None) => anyhow::bail!("neither device nor vdev is configured"),
    }
}

/// Why a NIC is not DPDK's, and what to do, by what DPDK said.
fn not_there(error: &str) -> &'static str {
    if error.contains("busy") {
        "is another program's: another shuntd, or one on DPDK or for virtual machines, has it; stop \
         that (who it is: fuser -v /dev/vfio/*), or keep it from this NIC"
    } else {
        "is not there for DPDK; bind it first, as scripts/bind-nic does, and see that no --no-pci, \
         -a or -b in dataplane.eal leaves it out"
    }
}

fn warn_of_idle_workers(config: &Config, served: usize) {
    let all = config.dataplane.workers.len();
    if served < all {
        log::warn!(
            "{served} of {all} workers run: a port has, or is given, {served} queue pair(s) only"
        );
    }
}
