//! The command line, `shunt`: requests to the control socket, and tables of the answers.
#![forbid(unsafe_code)]

mod args;
mod client;
mod config;
mod context;
mod failure;
mod flow;
mod ipvsadm;
mod output;
mod service;
mod stats;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde_json::json;

use crate::config::DEFAULT_SOCKET;
use crate::control::protocol::{NoArguments, Request, Version};
use args::{Cli, Command};
use client::typed;
use context::Context;
use failure::Failure;

/// Exit status when something is refused or fails.
const FAILED: u8 = 1;
/// Exit status when the command line is wrong, as clap has it.
const USAGE: u8 = 2;

/// Runs the command line `shunt` with these arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.first().is_some_and(|name| Path::new(name).file_name() == Some("ipvsadm".as_ref()))
    {
        let socket = std::env::var_os("SHUNT_SOCKET").unwrap_or_else(|| DEFAULT_SOCKET.into());
        return ipvsadm::run(Path::new(&socket), &words(arguments.get(1..).unwrap_or_default()));
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    if let Command::Ipvsadm { arguments } = &cli.command {
        return ipvsadm::run(&cli.socket, &words(arguments));
    }
    let context = Context { socket: cli.socket, json: cli.json };
    match execute(&context, &cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has what it wanted (`| head`).
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Io(error)) => failed(&error.to_string(), FAILED),
        Err(Failure::Refused(message)) => failed(&message, FAILED),
        Err(Failure::Usage(message)) => failed(&message, USAGE),
    }
}

fn words(arguments: &[OsString]) -> Vec<String> {
    arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn failed(message: &str, status: u8) -> ExitCode {
    eprintln!("shunt: {message}");
    ExitCode::from(status)
}

fn execute(context: &Context, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Service(command) => service::service(context, command),
        Command::Server(command) => service::server(context, command),
        Command::Flow(command) => flow::flow(context, command),
        Command::Neighbor(command) => flow::neighbor(context, command),
        Command::Port(command) => flow::port(context, command),
        Command::Stats(args) => stats::stats(context, args),
        Command::Config(command) => config::config(context, command),
        // It has exit codes of its own, see `run`.
        Command::Ipvsadm { .. } => Ok(()),
        Command::Version => version(context),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "shunt", &mut script);
            output::out(&String::from_utf8_lossy(&script))
        }
        Command::Man { dir } => manual(dir),
    }
}

fn version(context: &Context) -> Result<(), Failure> {
    let ours = env!("CARGO_PKG_VERSION");
    if !context.json {
        output::out(&format!("shunt {ours}\n"))?;
    }
    let answer = context.client()?.call(&Request::Version(NoArguments {}))?;
    if context.json {
        return output::json(&json!({"client": ours, "daemon": answer}));
    }
    let daemon: Version = typed(answer)?;
    output::out(&format!(
        "shuntd {}, up {}, generation {}, configuration {}\n",
        daemon.version,
        output::time(daemon.uptime_ms),
        daemon.generation,
        daemon.config.display()
    ))
}

fn manual(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|e| {
            Failure::Refused(format!("cannot write manual pages to {}: {e}", dir.display()))
        })
}
