//! `shunt config`.

use std::path::Path;

use serde_json::json;

use super::args::ConfigCommand;
use super::client::typed;
use super::output::{json as print_json, out};
use super::{context::Context, failure::Failure};
use crate::config::{Change, Config, ConfigError, read};
use crate::control::protocol::{
    Applied, Checked, ConfigSource, NoArguments, Request, SavedFile, Shown,
};
use crate::vocabulary::clip;

/// Longest name of a file that is sent with its text, in bytes; the daemon takes 255.
const MAX_NAME: usize = 200;

pub(super) fn config(context: &Context, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show => {
            let answer = context.client()?.call(&Request::ConfigShow(NoArguments {}))?;
            if context.json {
                return print_json(&answer);
            }
            let Shown { toml, .. } = typed(answer)?;
            out(&toml)
        }
        ConfigCommand::Key => key(context),
        ConfigCommand::Check { file } => check(context, file),
        ConfigCommand::Diff { file } => {
            let answer = context.client()?.call(&Request::ConfigDiff(source(file.as_deref())?))?;
            if context.json {
                return print_json(&answer);
            }
            let changes: Vec<Change> = typed(answer)?;
            out(&listing(&changes))
        }
        ConfigCommand::Apply { file } => {
            let answer = context.client()?.call(&Request::ConfigApply(source(file.as_deref())?))?;
            if context.json {
                return print_json(&answer);
            }
            let Applied { generation, changes } = typed(answer)?;
            out(&format!("{}generation {generation}\n", listing(&changes)))
        }
        ConfigCommand::Save { file: None } => {
            let answer = context.client()?.call(&Request::ConfigSave(NoArguments {}))?;
            if context.json {
                return print_json(&answer);
            }
            let SavedFile { file, backup } = typed(answer)?;
            report_saved(&file, backup.as_deref())
        }
        ConfigCommand::Save { file: Some(file) } => save_to(context, file),
    }
}

/// A new key, as the line that the configuration files of all directors are to have.
fn key(context: &Context) -> Result<(), Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::Refused(format!("the system gives no random numbers: {e}")))?;
    let key = format!("{:032x}", u128::from_be_bytes(bytes));
    if context.json {
        return print_json(&json!({ "hash_key": key }));
    }
    out(&format!("hash_key = \"{key}\"\n"))
}

fn listing(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no changes\n".to_owned();
    }
    changes.iter().map(|change| format!("{change}\n")).collect()
}

/// A file's name and text; `-` is standard input.
fn read_named(file: &Path) -> Result<(String, String), Failure> {
    if file == Path::new("-") {
        let text = read::bounded(std::io::stdin())
            .map_err(|e| Failure::Refused(format!("cannot read standard input: {e}")))?;
        return Ok(("standard input".to_owned(), text));
    }
    let text = read::any(file)
        .map_err(|error| ConfigError::Read { path: file.to_owned(), error })
        .map_err(|e| Failure::Refused(e.to_string()))?;
    Ok((clip(&file.display().to_string(), MAX_NAME), text))
}

/// What is sent of a file; none is the daemon's own, which it reads itself.
fn source(file: Option<&Path>) -> Result<ConfigSource, Failure> {
    let Some(file) = file else { return Ok(ConfigSource::default()) };
    let (name, text) = read_named(file)?;
    Ok(ConfigSource { text: Some(text), name })
}

/// Works without a daemon. As JSON, mistakes go to standard output, for editors and pipelines.
fn check(context: &Context, file: &Path) -> Result<(), Failure> {
    let (name, text) = read_named(file)?;
    let config = match Config::parse(&text, &name) {
        Ok(config) => config,
        Err(error) => {
            if context.json {
                print_json(&json!({"issues": error.issues()}))?;
            }
            return Err(Failure::Refused(error.to_string()));
        }
    };
    let checked = Checked::of(&config);
    if context.json {
        return print_json(&checked);
    }
    for warning in &checked.warnings {
        eprintln!("{name}: warning: {warning}");
    }
    out(&format!(
        "{name}: right; virtual services: {}, real servers: {}\n",
        checked.services, checked.real_servers
    ))
}

/// Written by this program, with its user's rights, not by the daemon.
fn save_to(context: &Context, file: &Path) -> Result<(), Failure> {
    let Shown { toml, .. } = context.client()?.call_for(&Request::ConfigShow(NoArguments {}))?;
    if file == Path::new("-") {
        return out(&toml);
    }
    let config = Config::parse(&toml, "the running configuration")
        .map_err(|e| Failure::Refused(e.to_string()))?;
    let saved = config
        .save(file)
        .map_err(|e| Failure::Refused(format!("cannot write {}: {e}", file.display())))?;
    if context.json {
        return print_json(&SavedFile { file: saved.file, backup: saved.backup });
    }
    report_saved(&saved.file, saved.backup.as_deref())
}

fn report_saved(file: &Path, backup: Option<&Path>) -> Result<(), Failure> {
    let kept =
        backup.map_or_else(String::new, |b| format!("; its earlier text is in {}", b.display()));
    out(&format!("wrote {}{kept}\n", file.display()))
}
