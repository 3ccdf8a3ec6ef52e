//! What is wrong with a configuration, and where.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::vocabulary::clip;

/// One step from a table or array to what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A key of a table.
    Key(Cow<'static, str>),
    /// An element of an array.
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(key: &'static str) -> Step {
        Step::Key(Cow::Borrowed(key))
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Step {
        Step::Index(index)
    }
}

/// The way from the root of the file to a value.
pub(super) type Path = Vec<Step>;

/// A [`Path`] from keys and indices.
macro_rules! at {
    ($($step:expr),* $(,)?) => { vec![$($crate::config::error::Step::from($step)),*] };
}
pub(super) use at;

/// The keys of a path, joined by dots: `service.real.weight`.
pub(super) fn dotted(path: &[Step]) -> String {
    let keys: Vec<_> = path
        .iter()
        .filter_map(|step| match step {
            Step::Key(key) => Some(key.as_ref()),
            Step::Index(_) => None,
        })
        .collect();
    keys.join(".")
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// Line in the file, from 1; absent when the configuration is not from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in that line, from 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The key, such as `service.real.weight`; empty when it is the file as a whole.
    pub key: String,
    /// What was found and what is allowed.
    pub message: String,
}

/// Longest key and longest message of an issue, in bytes. Both quote what was found, which may be
/// anything.
const MAX_KEY: usize = 200;
pub(super) const MAX_MESSAGE: usize = 1000;

impl Issue {
    /// At a line and column. What it quotes is cut short, and has no control characters.
    pub(super) fn new(at: Option<(usize, usize)>, key: &str, message: &str) -> Issue {
        Issue {
            line: at.map(|(line, _)| line),
            column: at.map(|(_, column)| column),
            key: clip(key, MAX_KEY),
            message: clip(message, MAX_MESSAGE),
        }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Why there is no configuration.
///
/// Printed, it is one line an issue: `FILE:LINE:COLUMN: KEY: what was found, what is allowed`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It says what cannot be.
    #[error("{}", listing(file.as_deref(), issues))]
    Invalid {
        /// Name of the file; absent when the configuration is not from a file.
        file: Option<String>,
        /// All that is wrong, in the order of the file.
        issues: Vec<Issue>,
    },
}

impl ConfigError {
    /// What is wrong with the text; empty when it could not be read.
    pub fn issues(&self) -> &[Issue] {
        match self {
            ConfigError::Read { .. } => &[],
            ConfigError::Invalid { issues, .. } => issues,
        }
    }
}

fn listing(file: Option<&str>, issues: &[Issue]) -> String {
    let lines: Vec<_> = issues
        .iter()
        .map(|issue| match file {
            Some(file) if issue.line.is_some() => format!("{file}:{issue}"),
            Some(file) => format!("{file}: {issue}"),
            None => issue.to_string(),
        })
        .collect();
    lines.join("\n")
}
