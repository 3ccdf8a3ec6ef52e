//! The running configuration, and every operation on it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::edit::{self, no_service};
use super::file::{self, OwnFile, Turn};
use super::plane::{ApplyError, Busy, FlowFilter, FlowPage, FlowRow, Plane};
use super::protocol::{
    Answer, Applied, Batch, Batched, Checked, ConfigSource, Done, Error, ErrorCode, FlowList,
    FlowRef, Flushed, MAX_PAGE, RealRow, Refused, Request, SavedFile, ServerRow, ServiceRef,
    ServiceRow, ServiceSelect, Shown, VERSION, Version,
};
use super::tally::{Subject, Tally};
use crate::config::{self, Change, Config, ConfigError, Draft, Real, Service, Specs};
use crate::snapshot::differing;
use crate::snapshot::learned::{News, RealName};
use crate::stats::Traffic;
use crate::types::{Mac, ServiceKey};
use crate::vocabulary::clip;

/// Rows of a page of flows when none are asked for.
const DEFAULT_PAGE: usize = 100;

/// Longest name of a configuration's text, in bytes. Errors begin with it.
const MAX_NAME: usize = 255;

/// Longest line that is logged of a change, in bytes.
const MAX_LOGGED: usize = 500;

/// How many templates of persistence each real server has.
type Templates = HashMap<(ServiceKey, IpAddr), u64>;

/// Most changes of one request that are logged one by one.
const LOGGED: usize = 100;

/// Changes and shows what runs.
///
/// # Threading
/// Changes are done one after the other; whoever only reads never waits for a change in progress.
///
/// # Invariant
/// The running configuration is the one the plane published last: a change that is refused at any
/// point leaves both as they were.
pub struct Controller {
    running: RwLock<Arc<Config>>,
    /// Held while something is changed; with what was published last.
    changing: Mutex<Specs>,
    file: OwnFile,
    ports: Vec<(Mac, u16)>,
    tally: Tally,
    plane: Arc<dyn Plane>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("file", &self.file.path()).finish_non_exhaustive()
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Error {
        let code = match &error {
            ConfigError::Read { error, .. } => code_of(error),
            ConfigError::Invalid { .. } => ErrorCode::Invalid,
        };
        Error::new(code, error)
    }
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Error {
        let code = match &error {
            ApplyError::Invalid(_) => ErrorCode::Invalid,
            ApplyError::Full(_) => ErrorCode::TooLarge,
            ApplyError::Late { .. } => ErrorCode::Busy,
        };
        Error::new(code, error)
    }
}

impl From<Busy> for Error {
    fn from(error: Busy) -> Error {
        Error::new(ErrorCode::Busy, error)
    }
}

fn code_of(error: &std::io::Error) -> ErrorCode {
    match error.kind() {
        std::io::ErrorKind::NotFound => ErrorCode::NotFound,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ErrorCode::Permission
        }
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => ErrorCode::Invalid,
        std::io::ErrorKind::FileTooLarge => ErrorCode::TooLarge,
        _ => ErrorCode::Internal,
    }
}

impl Controller {
    /// A controller of `config`, which was read from `file` and which `plane` forwards by already.
    /// `ports` has the Ethernet address and MTU of each started port, in the order of the
    /// configuration.
    pub fn new(
        config: Config,
        file: PathBuf,
        ports: Vec<(Mac, u16)>,
        plane: Arc<dyn Plane>,
    ) -> Controller {
        Controller {
            running: RwLock::new(Arc::new(config)),
            changing: Mutex::default(),
            file: OwnFile::new(file),
            ports,
            tally: Tally::default(),
            plane,
        }
    }

    /// The running configuration.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies the configuration file as it is now (SIGHUP).
    pub fn reload(&self) -> Result<Applied, Error> {
        self.apply(&ConfigSource::default())
    }

    /// The configuration file.
    pub fn file(&self) -> &Path {
        self.file.path()
    }

    /// Lets those who wait for the configuration file give up: the daemon stops.
    pub fn stop(&self) {
        self.file.stop();
    }

    /// Carries out one request.
    pub fn handle(&self, request: Request) -> Result<Answer, Error> {
        Ok(match request {
            Request::Ping(_) => Answer::Done(Done { generation: self.plane.generation() }),
            Request::Version(_) => Answer::Version(self.version()),
            Request::ServiceAdd(_)
            | Request::ServiceEdit(_)
            | Request::ServiceDel(_)
            | Request::ServiceClear(_)
            | Request::ServerAdd(_)
            | Request::ServerEdit(_)
            | Request::ServerDel(_)
            | Request::TimeoutsSet(_) => {
                Answer::Done(self.change(|draft| edit::step(draft, &request))?.1)
            }
            Request::Batch(batch) => Answer::Batched(self.batch(&batch)?),
            Request::ServiceZero(select) => Answer::Done(self.zero(&select)?),
            Request::ServiceList(select) => Answer::Services(self.services(&select)),
            Request::ServerList(select) => Answer::Servers(self.servers(&select)),
            Request::TimeoutsShow(_) => Answer::Timeouts(self.config().timeouts.clone()),
            Request::FlowList(list) => Answer::Flows(self.flows(&list)?),
            Request::FlowShow(flow) => Answer::Flow(self.flow(&flow)?),
            Request::FlowFlush(flush) => {
                Answer::Flushed(Flushed { flows: self.plane.flush_flows(&flush.filter)? })
            }
            Request::NeighborList(_) => Answer::Neighbors(self.plane.neighbors()),
            Request::PortList(_) => Answer::Ports(self.plane.ports()),
            Request::Stats(_) => Answer::Stats(Box::new(self.plane.stats())),
            Request::ConfigShow(_) => Answer::Shown(self.show()?),
            Request::ConfigCheck(source) => Answer::Checked(Checked::of(&self.read(&source)?.0)),
            Request::ConfigDiff(source) => {
                Answer::Changes(self.config().diff(&self.read(&source)?.0))
            }
            Request::ConfigApply(source) => Answer::Applied(self.apply(&source)?),
            Request::ConfigSave(_) => Answer::Saved(self.save()?),
        })
    }

    fn version(&self) -> Version {
        Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: VERSION,
            generation: self.plane.generation(),
            uptime_ms: self.plane.uptime_ms(),
            config: self.file.path().to_owned(),
        }
    }

    /// One change: a draft is changed, each step of it checked, and published as a whole; only then
    /// it becomes the running configuration. With what `edit` gives back.
    fn change<T>(
        &self,
        edit: impl FnOnce(&mut Draft) -> Result<T, Error>,
    ) -> Result<(T, Done), Error> {
        let mut specs = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.config();
        let mut draft = Draft::of(&running);
        let told = edit(&mut draft)?;
        let config = draft.finish();
        let changes = running.diff(&config);
        let generation = self.publish(&mut specs, config, &changes)?;
        Ok((told, Done { generation }))
    }

    /// Many operations as one change.
    fn batch(&self, batch: &Batch) -> Result<Batched, Error> {
        let (errors, Done { generation }) = self.change(|draft| {
            let mut errors = Vec::new();
            for (op, request) in batch.ops.iter().enumerate() {
                match edit::step(draft, request) {
                    Ok(()) => {}
                    Err(error) if batch.partial => errors.push(Refused { op, error }),
                    Err(error) => {
                        let message = format!(
                            "nothing was changed, for operation {op} ({}) is refused: {error}",
                            request.op()
                        );
                        return Err(Error::new(error.code, message));
                    }
                }
            }
            Ok(errors)
        })?;
        Ok(Batched { generation, done: batch.ops.len() - errors.len(), errors })
    }

    fn apply(&self, source: &ConfigSource) -> Result<Applied, Error> {
        // Before the lock, lest a file that cannot be read hold all other changes up. Two who read
        // the file apply it in the order they read it.
        let (config, _turn) = self.read(source)?;
        let mut specs = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.config();
        let changes = running.diff(&config);
        let restart: Vec<_> =
            changes.iter().filter(|c| c.restart).map(|c| format!("  {c}")).collect();
        if !restart.is_empty() {
            return Err(Error::new(
                ErrorCode::NeedsRestart,
                format!(
                    "nothing was applied, for these changes need a restart of shuntd:\n{}",
                    restart.join("\n")
                ),
            ));
        }
        if config == *running {
            return Ok(Applied { generation: self.plane.generation(), changes });
        }
        let generation = self.publish(&mut specs, config, &changes)?;
        Ok(Applied { generation, changes })
    }

    /// Publishes `config`, then makes it the running one. The caller holds `changing`, whose content
    /// is `specs`.
    fn publish(&self, specs: &mut Specs, config: Config, changes: &[Change]) -> Result<u64, Error> {
        let outcome = self.plane.apply(&specs.of(&config, &self.ports));
        let generation = match &outcome {
            Ok(generation) | Err(ApplyError::Late { generation, .. }) => *generation,
            Err(error) => return Err(error.clone().into()),
        };
        let known = self.config().warnings();
        for warning in config.warnings().iter().filter(|warning| !known.contains(warning)) {
            log::warn!("{warning}");
        }
        let config = Arc::new(config);
        let before = {
            let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *running, Arc::clone(&config))
        };
        self.tally.forget(&gone(&before, &config));
        for change in changes.iter().take(LOGGED) {
            log::info!("generation {generation}: {}", clip(&change.to_string(), MAX_LOGGED));
        }
        if changes.len() > LOGGED {
            log::info!("generation {generation}: and {} more changes", changes.len() - LOGGED);
        }
        Ok(outcome?)
    }

    /// The configuration of a request: its text, or the daemon's file with the turn it was read
    /// in. The caller holds no lock.
    fn read(&self, source: &ConfigSource) -> Result<(Config, Option<Arc<Turn>>), Error> {
        if source.name.len() > MAX_NAME || source.name.contains(char::is_control) {
            let message = format!(
                "name: found {} bytes, allowed are {MAX_NAME}, without control characters",
                source.name.len()
            );
            return Err(Error::new(ErrorCode::Invalid, message));
        }
        Ok(match &source.text {
            Some(text) => (Config::parse(text, &source.name)?, None),
            None => {
                let turn = self.file.turn(file::PATIENCE)?;
                let config = self.file.run(&turn, file::PATIENCE, config::load)??;
                (config, Some(turn))
            }
        })
    }

    fn show(&self) -> Result<Shown, Error> {
        let config = self.config();
        Ok(Shown {
            generation: self.plane.generation(),
            toml: config.to_toml(),
            config: serde_json::to_value(&*config)
                .map_err(|e| Error::new(ErrorCode::Internal, e))?,
        })
    }

    fn save(&self) -> Result<SavedFile, Error> {
        let turn = self.file.turn(file::PATIENCE)?;
        // Two who save write what ran when their turn came, one after the other.
        let config = self.config();
        let saved = self.file.run(&turn, file::PATIENCE, move |path| config.save(path))?;
        let saved = saved.map_err(|error| {
            let message = format!("cannot write {}: {error}", self.file.path().display());
            Error::new(code_of(&error), message)
        })?;
        Ok(SavedFile { file: saved.file, backup: saved.backup })
    }

    fn services(&self, select: &ServiceSelect) -> Vec<ServiceRow> {
        let config = self.config();
        let templates = self.templates(&config, select);
        let row = |service: &Arc<Service>| {
            let key = service.key();
            let (traffic, rate) = self.tally.since((key, None), self.plane.service_traffic(&key));
            ServiceRow {
                protocol: service.protocol,
                address: service.address,
                scheduler: service.scheduler,
                scheduler_flags: service.scheduler_flags,
                one_packet: service.one_packet,
                persistence: service.persistence,
                persistence_netmask: service.persistence_netmask,
                traffic,
                rate,
                reals: service
                    .reals
                    .iter()
                    .filter(|r| select.matches_real(r.address))
                    .map(|r| self.real_row(service, r, &templates))
                    .collect(),
            }
        };
        config.services.iter().filter(|s| select.matches(&s.key())).map(row).collect()
    }

    fn servers(&self, select: &ServiceSelect) -> Vec<ServerRow> {
        let config = self.config();
        let templates = self.templates(&config, select);
        let services = config.services.iter().filter(|s| select.matches(&s.key()));
        let rows = services.flat_map(|service| {
            let reals = service.reals.iter().filter(|r| select.matches_real(r.address));
            reals.map(|real| ServerRow {
                protocol: service.protocol,
                address: service.address,
                server: self.real_row(service, real, &templates),
            })
        });
        rows.collect()
    }

    /// Templates by real server, if any of the virtual services that match has persistence.
    fn templates(&self, config: &Config, select: &ServiceSelect) -> Templates {
        let mut services = config.services.iter().filter(|s| select.matches(&s.key()));
        match services.any(|s| s.persistence.is_some()) {
            true => self.plane.templates(),
            false => Templates::new(),
        }
    }

    fn real_row(&self, service: &Service, real: &Real, templates: &Templates) -> RealRow {
        let key = service.key();
        let (traffic, state) = self.plane.real_traffic(&key, real.address);
        let (traffic, rate) = self.tally.since((key, Some(real.address)), traffic);
        let learned = self.plane.learned(&RealName { service: key, real: real.address });
        let bound = || templates.get(&(key, real.address)).copied().unwrap_or_default();
        RealRow {
            real: real.address,
            forward: real.forward,
            gre: real.gre,
            weight: real.weight,
            effective_weight: Some(learned.weight_of(real.weight)).filter(|w| *w != real.weight),
            standing: learned.standing,
            upper_threshold: real.upper_threshold,
            lower_threshold: real.lower_threshold,
            state,
            path_mtu: self.plane.path_mtu(&key, real.address),
            templates: service.persistence.map(|_| bound()),
            traffic,
            rate,
        }
    }

    /// Lets the counters of the virtual services that match, and of their real servers, start at
    /// zero. Those of the data plane go on.
    fn zero(&self, select: &ServiceSelect) -> Result<Done, Error> {
        let config = self.config();
        let mut found = false;
        let matches = |(key, real): &Subject| {
            select.matches(key)
                && (select.real.is_none() || real.is_some_and(|r| select.matches_real(r)))
        };
        for subject in subjects(&config.services).filter(matches) {
            found = true;
            self.tally.zero(subject, &self.traffic(&subject));
        }
        if let (false, Some(protocol), Some(address)) = (found, select.protocol, select.address) {
            return Err(no_service(ServiceRef { protocol, address }.key()));
        }
        Ok(Done { generation: self.plane.generation() })
    }

    /// Publishes what was learned of real servers, all of it as one change. The configuration stays
    /// as it is, whatever is learned: what is shown and saved of it has nothing of this.
    pub fn learn(&self, news: &[News]) -> Result<u64, Error> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.plane.learn(news)?)
    }

    /// Takes up what the data plane has learned itself.
    fn take_up_learned(&self) {
        match self.learn(&[]) {
            Ok(generation) => log::info!("generation {generation}: path MTUs have changed"),
            Err(error) => log::warn!("path MTUs have changed: {error}"),
        }
    }

    /// Takes up rates, `elapsed` after the last time, and what the data plane has learned.
    pub(super) fn tick(&self, elapsed: Duration) {
        let config = self.config();
        let now: Vec<_> = subjects(&config.services).map(|s| (s, self.traffic(&s))).collect();
        self.tally.tick(&now, elapsed);
        // Last, as it may take its time.
        if self.plane.has_learned() {
            self.take_up_learned();
        }
    }

    fn traffic(&self, (key, real): &Subject) -> Traffic {
        match real {
            None => self.plane.service_traffic(key),
            Some(real) => self.plane.real_traffic(key, *real).0,
        }
    }

    fn flows(&self, list: &FlowList) -> Result<FlowPage, Error> {
        let limit = list.limit.unwrap_or(DEFAULT_PAGE);
        if limit == 0 || limit > MAX_PAGE {
            let message = format!("limit: found {limit}, allowed are 1 to {MAX_PAGE}");
            return Err(Error::new(ErrorCode::Invalid, message));
        }
        Ok(self.plane.flows(&list.filter, list.cursor, limit)?)
    }

    fn flow(&self, flow: &FlowRef) -> Result<FlowRow, Error> {
        let filter = FlowFilter {
            protocol: Some(flow.protocol),
            client: Some(flow.client.ip()),
            client_port: Some(flow.client.port()),
            vip: Some(flow.vip.ip()),
            vip_port: Some(flow.vip.port()),
            real: None,
        };
        let mut cursor = Some(0);
        let mut replica = None;
        while let Some(at) = cursor {
            let page = self.plane.flows(&filter, at, MAX_PAGE)?;
            for row in page.flows {
                if !row.replica {
                    return Ok(row);
                }
                replica = Some(row);
            }
            cursor = page.next;
        }
        if let Some(row) = replica {
            return Ok(row);
        }
        let FlowRef { protocol, client, vip } = flow;
        Err(Error::new(
            ErrorCode::NotFound,
            format!("no worker has a flow {protocol} {client} -> {vip}"),
        ))
    }
}

impl Checked {
    /// What a configuration that is right has in it.
    pub fn of(config: &Config) -> Checked {
        Checked {
            services: config.services.len(),
            real_servers: config.services.iter().map(|s| s.reals.len()).sum(),
            warnings: config.warnings(),
        }
    }
}

/// Every virtual service, and every real server of each.
fn subjects(services: &[Arc<Service>]) -> impl Iterator<Item = Subject> {
    services.iter().flat_map(|service| {
        let reals = service.reals.iter().map(|real| Some(real.address));
        std::iter::once(None).chain(reals).map(|real| (service.key(), real))
    })
}

/// What is no longer configured.
fn gone(before: &Config, after: &Config) -> Vec<Subject> {
    let (before, after) = differing(&before.services, &after.services);
    let stays: HashSet<_> = subjects(after).collect();
    subjects(before).filter(|subject| !stays.contains(subject)).collect()
}
