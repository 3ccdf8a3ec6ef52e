//! From TOML text to [`Config`], with every table's errors collected.
//!
//! Each table is read on its own, so that one wrong key does not hide those in other tables.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::MAX_ISSUES;
use super::error::{Issue, Step, dotted};
use super::locate::Source;
use super::model::{Config, Neighbor, Port, Real, Service};

const TABLES: [&str; 7] =
    ["dataplane", "control", "timeouts", "scheduling", "port", "neighbor", "service"];

/// Reads a parsed text. The semantic checks come after, when this found nothing.
pub(super) fn config(source: &Source<'_>, root: &DeTable<'_>) -> Result<Config, Vec<Issue>> {
    let mut reader = Reader { source, issues: Vec::new() };
    let mut config = Config::default();
    for (name, value) in root {
        match name.get_ref().as_ref() {
            "dataplane" => reader.read_into(value, &mut config.dataplane),
            "control" => reader.read_into(value, &mut config.control),
            "timeouts" => reader.read_into(value, &mut config.timeouts),
            "scheduling" => reader.read_into(value, &mut config.scheduling),
            "port" => config.ports = reader.tables::<Port>(name, value),
            "neighbor" => config.neighbors = reader.tables::<Neighbor>(name, value),
            "service" => {
                let services = reader.services(name, value);
                config.services = services.into_iter().map(Arc::new).collect();
            }
            unknown => {
                let tables = TABLES.map(|t| format!("`{t}`")).join(", ");
                let message =
                    plain(&format!("unknown field `{unknown}`, expected one of {tables}"));
                let at = name.span().start;
                reader.push(|source| source.issue_at(at, unknown, &message));
            }
        }
    }
    if reader.issues.is_empty() { Ok(config) } else { Err(reader.issues) }
}

struct Reader<'a> {
    source: &'a Source<'a>,
    issues: Vec<Issue>,
}

impl Reader<'_> {
    /// Beyond as many as are reported, an issue is left out: to find its line takes time.
    fn push(&mut self, issue: impl FnOnce(&Source<'_>) -> Issue) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(issue(self.source));
        }
    }

    fn read<T: DeserializeOwned>(&mut self, value: &Spanned<DeValue<'_>>) -> Option<T> {
        match T::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(read) => Some(read),
            Err(error) => {
                let offset = error.span().map_or(value.span().start, |span| span.start);
                self.push(|source| issue(source, offset, error.message()));
                None
            }
        }
    }

    fn read_into<T: DeserializeOwned>(&mut self, value: &Spanned<DeValue<'_>>, into: &mut T) {
        if let Some(read) = self.read(value) {
            *into = read;
        }
    }

    /// The elements of `[[name]]`.
    fn elements<'v, 'i, N: AsRef<str>>(
        &mut self,
        name: &Spanned<N>,
        value: &'v Spanned<DeValue<'i>>,
    ) -> &'v [Spanned<DeValue<'i>>] {
        let Some(array) = value.get_ref().as_array() else {
            let key = name.get_ref().as_ref();
            let message = format!(
                "found {} {key}, expected one [[{key}]] for each",
                value.get_ref().type_str()
            );
            self.push(|source| source.issue_at(name.span().start, key, &message));
            return &[];
        };
        array
    }

    fn tables<T: DeserializeOwned>(
        &mut self,
        name: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<T> {
        self.elements(name, value).iter().filter_map(|element| self.read(element)).collect()
    }

    fn services(
        &mut self,
        name: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<Service> {
        let mut services = Vec::new();
        for element in self.elements(name, value) {
            let mut element = element.clone();
            let reals = match element.get_mut() {
                DeValue::Table(table) => table.remove_entry("real"),
                _ => None,
            };
            let reals: Vec<Real> =
                reals.map_or_else(Vec::new, |(name, value)| self.tables(&name, &value));
            if let Some(service) = self.read::<Service>(&element) {
                services.push(Service { reals, ..service });
            }
        }
        services
    }
}

/// An issue from a parser's or serde's message.
pub(super) fn issue(source: &Source<'_>, offset: usize, message: &str) -> Issue {
    let mut path = source.path_at(offset);
    let message = plain(message);
    if let Some(missing) = message.strip_prefix("missing key `").and_then(|m| m.split('`').next()) {
        path.push(Step::Key(missing.to_owned().into()));
    }
    source.issue_at(offset, &dotted(&path), &message)
}

/// Serde's message in the words of the file: keys, found, expected; and a guess for a typing
/// error in a name.
fn plain(message: &str) -> String {
    let mut text = message
        .replace("missing field", "missing key")
        .replace("unknown field", "unknown key")
        .replace("unknown variant", "unknown value")
        .replace("invalid type: ", "found ")
        .replace("invalid value: ", "found ")
        .replace("invalid length ", "found length ");
    for (rust, words) in [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected a sequence", "expected a list in square brackets"),
        ("expected path string", "expected a path"),
    ] {
        if let Some(rest) = text.strip_suffix(rust) {
            text = format!("{rest}{words}");
        }
    }
    if text.starts_with("found map, expected") || text.contains("expected struct") {
        let found = text.split(", expected").next().unwrap_or(&text).to_owned();
        text = format!("{found}, expected a table");
    }
    let names: Vec<_> = text.split('`').skip(1).step_by(2).collect();
    if text.starts_with("unknown") {
        if let Some((found, known)) = names.split_first() {
            if let Some(guess) = nearest(found, known) {
                text = format!("{text}; did you mean `{guess}`?");
            }
        }
    }
    text
}

/// The known name at most two typing errors away.
fn nearest<'n>(found: &str, known: &[&'n str]) -> Option<&'n str> {
    // Nobody mistypes by that much, and the table of distances grows with it.
    if found.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|name| (distance(found, name), *name))
        .filter(|(d, name)| *d <= 2 && *d < name.len())
        .min_by_key(|(d, _)| *d)
        .map(|(_, name)| name)
}

/// Typing errors between two names: letters missing, too many, wrong, or two swapped.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let wrong = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                wrong.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
            }
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_names_that_are_nearly_right() {
        assert_eq!(distance("wcl", "wlc"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("worker", &["workers", "eal"]), Some("workers"));
        assert_eq!(nearest("xyz", &["rr", "wrr"]), None);
    }

    #[test]
    fn says_it_in_the_words_of_the_file() {
        assert_eq!(
            plain("invalid type: string \"x\", expected u16"),
            "found string \"x\", expected a whole number from 0 to 65535"
        );
        assert_eq!(
            plain("unknown field `wieght`, expected one of `address`, `weight`"),
            "unknown key `wieght`, expected one of `address`, `weight`; did you mean `weight`?"
        );
    }
}
