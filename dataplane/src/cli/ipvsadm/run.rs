//! Carries out command lines.

use std::io;
use std::path::Path;

use super::connections;
use super::help;
use super::list::View;
use super::names::Names;
use super::options::{Command, Opt};
use super::parse::{Line, Target, Wrong, parse};
use super::requests::{Known, refused, server, service, target, timeouts, unsupported};
use super::save::save;
use crate::cli::Failure;
use crate::cli::client::{Client, typed};
use crate::cli::output::out;
use crate::config::Timeouts;
use crate::control::plane::FlowPage;
use crate::control::protocol::{
    Error, ErrorCode, FlowList, MAX_PAGE, NoArguments, Request, ServiceRef, ServiceRow,
    ServiceSelect, Shown,
};

/// Why a command line came to an end.
#[derive(Debug)]
pub(super) enum Stop {
    Wrong(Wrong),
    Io(io::Error),
}

impl From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Stop {
        Stop::Wrong(wrong)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        match failure {
            Failure::Io(error) => Stop::Io(error),
            Failure::Refused(message) | Failure::Usage(message) => {
                Stop::Wrong(Wrong { message, status: 255, stops: true })
            }
        }
    }
}

/// One call of `ipvsadm`: a command line, or the lines of `-R`, over one connection.
pub(super) struct Session<'s> {
    pub(super) socket: &'s Path,
    pub(super) names: &'s dyn Names,
    pub(super) client: Option<Client>,
}

impl Session<'_> {
    /// Carries out a command line; `words` is without the program's name.
    pub(super) fn line(&mut self, words: &[String]) -> Result<(), Stop> {
        // Without any word it lists.
        if words.is_empty() {
            return self.line(&["-L".to_owned()]);
        }
        let line = parse(words, self.names)?;
        if line.command == Command::Restore { self.restore() } else { self.execute(&line) }
    }

    pub(super) fn execute(&mut self, line: &Line) -> Result<(), Stop> {
        match line.command {
            Command::Help => Ok(out(help::TEXT)?),
            Command::Version => Ok(out(&help::version())?),
            Command::AddService | Command::EditService => self.service(line),
            Command::DeleteService => {
                let of = target(line).ok_or_else(|| refused("No such service"))?;
                self.change(line, &Request::ServiceDel(of))
            }
            Command::Clear => self.change(line, &Request::ServiceClear(NoArguments {})),
            Command::Save => {
                let names = (!line.has(Opt::Numeric)).then_some(self.names);
                let rows = self.services(ServiceSelect::default())?;
                Ok(out(&save(&rows, names))?)
            }
            Command::AddServer | Command::EditServer | Command::DeleteServer => self.server(line),
            Command::List => self.list(line),
            Command::Zero => {
                let select = match (line.target, target(line)) {
                    (None, _) => ServiceSelect::default(),
                    (_, Some(of)) => one(of),
                    (Some(_), None) => return Err(refused("No such service").into()),
                };
                self.change(line, &Request::ServiceZero(select))
            }
            Command::Set => self.change(line, &Request::TimeoutsSet(timeouts(line.timeouts))),
            Command::StartDaemon | Command::StopDaemon => {
                Err(refused("Shunt has no connection synchronization daemon").into())
            }
            Command::Restore => Err(super::parse::try_help().into()),
        }
    }

    fn service(&mut self, line: &Line) -> Result<(), Stop> {
        let add = line.command == Command::AddService;
        let of = match (target(line), line.target) {
            (Some(of), _) => of,
            (None, Some(Target::Foreign(what))) if add => return Err(unsupported(what).into()),
            _ => return Err(refused("No such service").into()),
        };
        let request = match service(line, of) {
            Ok(request) => request,
            // What is there is said before what is wrong.
            Err(wrong) => match (add, self.find(of)?) {
                (true, Some(_)) => return Err(refused("Service already exists").into()),
                (false, None) => return Err(refused("No such service").into()),
                _ => return Err(wrong.into()),
            },
        };
        self.change(line, &request)
    }

    fn server(&mut self, line: &Line) -> Result<(), Stop> {
        let not_defined = || refused("Service not defined");
        let of = target(line).ok_or_else(not_defined)?;
        // Of this real server alone: there may be many.
        let real = line.real.map(|(real, _)| real);
        let rows = self.services(ServiceSelect { real, ..one(of) })?;
        let row = rows.into_iter().next().ok_or_else(not_defined)?;
        let there = row.reals.iter().find(|row| Some(row.real) == real);
        let request = server(line, of, Known { gre: there.and_then(|row| row.gre) })?;
        self.change(line, &request)
    }

    fn list(&mut self, line: &Line) -> Result<(), Stop> {
        let view = View::of(line, self.names);
        if line.has(Opt::Connection) {
            return self.connections(line);
        }
        if line.has(Opt::Timeout) {
            let request = Request::TimeoutsShow(NoArguments {});
            let Timeouts { tcp, tcp_fin, udp } = typed(self.ask(line, &request)?)?;
            let [tcp, tcp_fin, udp] = [tcp, tcp_fin, udp].map(|time| time.as_secs());
            return Ok(out(&format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n"))?);
        }
        if line.has(Opt::Daemon) {
            // None runs, and the original says nothing then.
            return Ok(());
        }
        if line.target.is_some() {
            let row = match target(line) {
                Some(of) => self.find(of)?,
                None => None,
            };
            let none = || Wrong { message: "No such service".to_owned(), status: 1, stops: true };
            return Ok(out(&view.one(&row.ok_or_else(none)?))?);
        }
        let rows = self.services(ServiceSelect::default())?;
        let size = self.size(line)?;
        Ok(out(&view.all(&rows, size))?)
    }

    fn connections(&mut self, line: &Line) -> Result<(), Stop> {
        let names = (!line.has(Opt::Numeric)).then_some(self.names);
        let mut cursor = Some(0);
        // The first page comes before the heading: without a daemon there is none.
        let mut heading = Some(connections::heading(line.has(Opt::PersistentConn)));
        while let Some(at) = cursor {
            let request = FlowList { cursor: at, limit: Some(MAX_PAGE), ..FlowList::default() };
            let page: FlowPage = typed(self.ask(line, &Request::FlowList(request))?)?;
            let text = connections::lines(&page.flows, names);
            out(&(heading.take().unwrap_or_default() + &text))?;
            cursor = page.next;
        }
        Ok(())
    }

    /// Entries there are for connections, over all workers.
    fn size(&mut self, line: &Line) -> Result<u64, Stop> {
        let shown: Shown = typed(self.ask(line, &Request::ConfigShow(NoArguments {}))?)?;
        let plane = &shown.config["dataplane"];
        let workers = plane["workers"].as_array().map_or(1, Vec::len) as u64;
        Ok(plane["flows_per_worker"].as_u64().unwrap_or(0).saturating_mul(workers))
    }

    pub(super) fn services(&mut self, select: ServiceSelect) -> Result<Vec<ServiceRow>, Stop> {
        Ok(self.client()?.call_for(&Request::ServiceList(select))?)
    }

    fn find(&mut self, of: ServiceRef) -> Result<Option<ServiceRow>, Stop> {
        Ok(self.services(one(of))?.into_iter().next())
    }

    fn change(&mut self, line: &Line, request: &Request) -> Result<(), Stop> {
        self.ask(line, request).map(|_| ())
    }

    fn ask(&mut self, line: &Line, request: &Request) -> Result<serde_json::Value, Stop> {
        let answer = self.client()?.ask(request)?;
        answer.map_err(|error| refused(message(line.command, &error)).into())
    }

    pub(super) fn client(&mut self) -> Result<&mut Client, Stop> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(self.socket).map_err(|failure| match failure {
                Failure::Refused(why) => Failure::Refused(format!("Can't initialize ipvs: {why}")),
                other => other,
            })?,
        };
        Ok(self.client.insert(client))
    }
}

fn one(of: ServiceRef) -> ServiceSelect {
    ServiceSelect { protocol: Some(of.protocol), address: Some(of.address), real: None }
}

/// What the original says for such an error, or the director's own words on one line.
pub(super) fn message(command: Command, error: &Error) -> String {
    let own = error.message.replace('\n', "; ");
    let server =
        matches!(command, Command::AddServer | Command::EditServer | Command::DeleteServer);
    match error.code {
        ErrorCode::Exists if server => "Destination already exists".to_owned(),
        ErrorCode::Exists => "Service already exists".to_owned(),
        ErrorCode::NotFound if server => "No such destination".to_owned(),
        ErrorCode::NotFound => "No such service".to_owned(),
        ErrorCode::TooLarge => format!("Memory allocation problem: {own}"),
        _ => own,
    }
}
