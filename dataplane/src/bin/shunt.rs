//! `shunt`, the command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    dataplane::cli::run(std::env::args_os())
}
