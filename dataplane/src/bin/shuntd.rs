//! `shuntd`, the daemon: arguments, logger, exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dataplane::{config, daemon};

/// Shunt's daemon: balances TCP and UDP over real servers that answer clients directly.
#[derive(Debug, Parser)]
#[command(name = "shuntd", version)]
struct Arguments {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/shunt/shunt.toml")]
    config: PathBuf,
    /// Check the configuration file and exit
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("SHUNT_LOG", "info"))
        .format_target(false)
        .init();
    let outcome = config::load(&arguments.config).map_err(anyhow::Error::from).and_then(|config| {
        for warning in config.warnings() {
            log::warn!("{}: {warning}", arguments.config.display());
        }
        if arguments.check { Ok(()) } else { daemon::run(&arguments.config, config) }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
