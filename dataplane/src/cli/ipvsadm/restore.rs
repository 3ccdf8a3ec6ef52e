//! `-R`: the lines of standard input as one change.
//!
//! The original carries them out one by one, and so do those who read its messages: what is said of
//! a line is what it would have said. So lines are gathered, sent as one batch, and then gone
//! through again with what the director has said of each.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::net::IpAddr;

use super::options::Command;
use super::parse::{Line, Target, Wrong, parse_saved, try_help};
use super::requests::{Known, refused, server, service, target, timeouts, unsupported};
use super::run::{Session, Stop, message};
use crate::config::Gre;
use crate::control::protocol::{
    Batch, Batched, Error, ErrorCode, NoArguments, Request, ServiceRef, ServiceRow, ServiceSelect,
};
use crate::types::ServiceKey;

/// Bytes of requests that are sent as one batch; the director reads lines up to 8 MiB.
const BATCH: usize = 7 << 20;

/// Real servers of virtual services, as far as the words of lines depend on them.
#[derive(Debug, Clone, Default)]
struct Services(HashMap<ServiceKey, HashMap<IpAddr, Option<Gre>>>);

impl Services {
    fn of(rows: Vec<ServiceRow>) -> Services {
        let of = |row: ServiceRow| {
            let key = ServiceRef { protocol: row.protocol, address: row.address }.key();
            (key, row.reals.into_iter().map(|real| (real.real, real.gre)).collect())
        };
        Services(rows.into_iter().map(of).collect())
    }

    /// Takes note of what has been carried out.
    fn done(&mut self, request: &Request) {
        let key = |protocol, address| ServiceRef { protocol, address }.key();
        match request {
            Request::ServiceAdd(add) => {
                self.0.entry(key(add.protocol, add.address)).or_default();
            }
            Request::ServiceDel(of) => {
                self.0.remove(&of.key());
            }
            Request::ServiceClear(_) => self.0.clear(),
            Request::ServerAdd(add) => {
                let reals = self.0.entry(key(add.protocol, add.address)).or_default();
                reals.insert(add.real, add.gre);
            }
            Request::ServerEdit(edit) => {
                let reals = self.0.get_mut(&key(edit.protocol, edit.address));
                if let Some(gre) = reals.and_then(|reals| reals.get_mut(&edit.real)) {
                    *gre = edit.gre;
                }
            }
            Request::ServerDel(del) => {
                if let Some(reals) = self.0.get_mut(&key(del.protocol, del.address)) {
                    reals.remove(&del.real);
                }
            }
            _ => {}
        }
    }
}

/// A line that is to be part of a change.
struct Gathered {
    number: u32,
    text: String,
    line: Line,
    request: Result<Request, Wrong>,
}

/// Lines that wait to be carried out.
#[derive(Default)]
struct Gatherer {
    lines: Vec<Gathered>,
    bytes: usize,
    /// As it will be if none of them is refused; `None` until it is needed.
    expected: Option<Services>,
    /// As it was before the first of them.
    before: Services,
    /// Lines left out so far.
    missed: u32,
}

impl Session<'_> {
    /// Carries out the lines of standard input. It goes on after what the director refuses, as the
    /// original does; but what LVS would have carried out is named, and shows in the exit status.
    pub(super) fn restore(&mut self) -> Result<(), Stop> {
        let mut gatherer = Gatherer::default();
        let done = self.lines(&mut gatherer);
        // What was read before it came to an end is carried out all the same.
        let carried_out = gatherer.carry_out(self);
        done.and(carried_out)?;
        match gatherer.missed {
            0 => Ok(()),
            1 => Err(refused("1 line was left out").into()),
            missed => Err(refused(format!("{missed} lines were left out")).into()),
        }
    }

    fn lines(&mut self, gatherer: &mut Gatherer) -> Result<(), Stop> {
        for (number, line) in (1..).zip(io::stdin().lock().split(b'\n')) {
            let line = line.map_err(Stop::Io)?;
            let text = String::from_utf8_lossy(&line);
            let mut words: Vec<_> = text.split_ascii_whitespace().map(str::to_owned).collect();
            if words.first().is_some_and(|word| word == "ipvsadm") {
                words.remove(0);
            }
            if words.is_empty() {
                continue;
            }
            let text = words.join(" ");
            let line = parse_saved(&words, self.names).and_then(|line| match line.command {
                Command::Restore => Err(try_help()),
                _ => Ok(line),
            });
            let line = match line {
                Ok(line) => line,
                Err(wrong) => {
                    // Words come in the order of lines.
                    gatherer.carry_out(self)?;
                    // What cannot be read, the original cannot read either.
                    match wrong.stops {
                        true => return Err(wrong.into()),
                        false => eprintln!("{}", wrong.message),
                    }
                    continue;
                }
            };
            if is_change(line.command) {
                gatherer.gather(self, number, text, line)?;
                continue;
            }
            gatherer.carry_out(self)?;
            gatherer.expected = None;
            let ends = matches!(line.command, Command::Help | Command::Version);
            match self.execute(&line) {
                Ok(()) if ends => return Ok(()),
                Ok(()) => {}
                Err(Stop::Wrong(wrong)) if !wrong.stops => gatherer.tell(number, &text, &wrong),
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }
}

const fn is_change(command: Command) -> bool {
    matches!(
        command,
        Command::AddService
            | Command::EditService
            | Command::DeleteService
            | Command::Clear
            | Command::AddServer
            | Command::EditServer
            | Command::DeleteServer
            | Command::Set
    )
}

impl Gatherer {
    /// Puts a line to the others.
    fn gather(
        &mut self,
        session: &mut Session<'_>,
        number: u32,
        text: String,
        line: Line,
    ) -> Result<(), Stop> {
        if self.expected.is_none() {
            let services = Services::of(session.services(ServiceSelect::default())?);
            self.before = services.clone();
            self.expected = Some(services);
        }
        let Some(expected) = &mut self.expected else { return Ok(()) };
        let request = request(&line, expected);
        if let Ok(request) = &request {
            expected.done(request);
            self.bytes += serde_json::to_vec(request).map_or(0, |bytes| bytes.len() + 1);
        }
        let stops = request.as_ref().is_err_and(|wrong| wrong.stops);
        self.lines.push(Gathered { number, text, line, request });
        if stops || self.bytes > BATCH { self.carry_out(session) } else { Ok(()) }
    }

    /// Carries out what was gathered, and says what became of each line.
    fn carry_out(&mut self, session: &mut Session<'_>) -> Result<(), Stop> {
        let lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        if lines.is_empty() {
            return Ok(());
        }
        let ops: Vec<_> = lines.iter().filter_map(|l| l.request.clone().ok()).collect();
        let mut errors = HashMap::new();
        if !ops.is_empty() {
            send(session, &ops, 0, &mut errors)?;
        }
        let mut op = 0;
        for gathered in lines {
            let Gathered { number, text, line, request } = gathered;
            let refused = request.is_ok().then(|| {
                op += 1;
                errors.remove(&(op - 1))
            });
            match verdict(&self.before, &line, request, refused.flatten()) {
                Ok(request) => self.before.done(&request),
                Err(wrong) if wrong.stops => return Err(wrong.into()),
                Err(wrong) => self.tell(number, &text, &wrong),
            }
        }
        // What was refused is not there.
        if self.expected.is_some() {
            self.expected = Some(self.before.clone());
        }
        Ok(())
    }

    fn tell(&mut self, number: u32, text: &str, wrong: &Wrong) {
        eprintln!("{}", wrong.message);
        if is_missed(&wrong.message, self.missed) {
            self.missed += 1;
            eprintln!("  left out: line {number}, {text}");
        }
    }
}

/// Carries out operations as one change, and takes note of those that are refused, the first of them
/// being number `first`.
///
/// A change that a table has no room for is refused as a whole. Then its halves are tried, so that
/// what there is room for is done, as it would be line by line.
fn send(
    session: &mut Session<'_>,
    ops: &[Request],
    first: usize,
    errors: &mut HashMap<usize, Error>,
) -> Result<(), Stop> {
    let batch = Request::Batch(Batch { ops: ops.to_vec(), partial: true });
    match session.client()?.ask(&batch)? {
        Ok(answer) => {
            let Batched { errors: refused, .. } = crate::cli::client::typed(answer)?;
            errors.extend(refused.into_iter().map(|r| (first + r.op, r.error)));
        }
        Err(error) if error.code == ErrorCode::TooLarge && ops.len() > 1 => {
            let (before, after) = ops.split_at(ops.len() / 2);
            send(session, before, first, errors)?;
            send(session, after, first + before.len(), errors)?;
        }
        Err(error) => errors.extend((first..first + ops.len()).map(|op| (op, error.clone()))),
    }
    Ok(())
}

/// The request of a line, whatever is there: whether that is right is for the director to say.
fn request(line: &Line, services: &Services) -> Result<Request, Wrong> {
    match line.command {
        Command::Clear => Ok(Request::ServiceClear(NoArguments {})),
        Command::Set => Ok(Request::TimeoutsSet(timeouts(line.timeouts))),
        Command::AddServer | Command::EditServer | Command::DeleteServer => {
            let of = target(line).ok_or_else(|| refused("Service not defined"))?;
            let there = line.real.and_then(|(real, _)| services.0.get(&of.key())?.get(&real));
            server(line, of, Known { gre: there.copied().flatten() })
        }
        command => {
            let of = match (target(line), line.target) {
                (Some(of), _) => of,
                (None, Some(Target::Foreign(what))) if command == Command::AddService => {
                    return Err(unsupported(what));
                }
                _ => return Err(refused("No such service")),
            };
            match command {
                Command::DeleteService => Ok(Request::ServiceDel(of)),
                _ => service(line, of),
            }
        }
    }
}

/// What the original says of a line, given what is there; `refused` is what the director says.
fn verdict(
    services: &Services,
    line: &Line,
    request: Result<Request, Wrong>,
    error: Option<Error>,
) -> Result<Request, Wrong> {
    if let Some(of) = target(line) {
        let there = services.0.get(&of.key());
        match (line.command, there) {
            (Command::AddService, Some(_)) => return Err(refused("Service already exists")),
            (Command::EditService, None) => return Err(refused("No such service")),
            (Command::AddServer | Command::EditServer | Command::DeleteServer, None) => {
                return Err(refused("Service not defined"));
            }
            _ => {}
        }
    }
    let request = request?;
    match error {
        None => Ok(request),
        Some(error) => Err(refused(message(line.command, &error))),
    }
}

/// Whether a line was refused that LVS would have carried out, when so many have been before.
fn is_missed(message: &str, before: u32) -> bool {
    match message {
        // Its virtual service may be one of those.
        "Service not defined" => before > 0,
        _ => !LVS_REFUSES.contains(&message),
    }
}

/// What the original says of lines that LVS refuses too.
const LVS_REFUSES: &[&str] = &[
    "Service already exists",
    "No such service",
    "Destination already exists",
    "No such destination",
    "Scheduler or persistence engine not found",
    "Numerical result out of range",
];
