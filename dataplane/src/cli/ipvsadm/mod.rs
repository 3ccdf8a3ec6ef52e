//! `ipvsadm`: the same program under another name, for the fingers and scripts of those who come
//! from LVS.
//!
//! Options, output and exit status are those of ipvsadm 1.31 on Linux 6.1, as far as Shunt has what
//! they are about; `docs/migrating-from-lvs.md` has the table. What Shunt has not got is refused
//! with a line that begins with `Shunt has no`.
//!
//! | exit status | |
//! | --- | --- |
//! | 0 | done |
//! | 1 | `-L` of a virtual service that is not there |
//! | 2 | the command line is wrong |
//! | 255 | the director refused, or the command line cannot even be read |

mod connections;
mod help;
mod list;
mod names;
mod options;
mod parse;
mod popt;
mod requests;
mod restore;
mod run;
mod save;
mod text;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use names::System;
use run::{Session, Stop};

/// Carries out a command line, without the program's name.
pub(super) fn run(socket: &Path, words: &[String]) -> ExitCode {
    let names = System::default();
    match (Session { socket, names: &names, client: None }).line(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Stop::Io(error)) => failed(&error.to_string(), 255),
        Err(Stop::Wrong(wrong)) => failed(&wrong.message, wrong.status),
    }
}

fn failed(message: &str, status: u8) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(status)
}
