//! Lines, columns and keys of a TOML text.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Issue, Path, Step, dotted};

/// The text with its parsed tree, to find where something is written.
pub(super) struct Source<'a> {
    text: &'a str,
    root: &'a Spanned<DeTable<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, root: &'a Spanned<DeTable<'a>>) -> Source<'a> {
        Source { text, root }
    }

    /// An issue about the value at `path`, or about what holds it when it is not written.
    pub(super) fn issue(&self, path: &[Step], message: &str) -> Issue {
        self.issue_at(self.offset(path), &dotted(path), message)
    }

    /// An issue at a byte offset, about `key`.
    pub(super) fn issue_at(&self, offset: usize, key: &str, message: &str) -> Issue {
        let (line, column) = position(self.text, offset);
        Issue::new(Some((line, column)), key, message)
    }

    /// Where `path`, or as much of it as is written, begins.
    fn offset(&self, path: &[Step]) -> usize {
        let mut offset = 0;
        let mut table = Some(self.root.get_ref());
        let mut value: Option<&Spanned<DeValue<'_>>> = None;
        for (depth, step) in path.iter().enumerate() {
            let next = match step {
                Step::Key(key) => {
                    let Some((name, found)) =
                        table.and_then(|t| t.iter().find(|(n, _)| n.get_ref() == key))
                    else {
                        break;
                    };
                    // The last key of the path is pointed at by its name, not its value.
                    if depth + 1 == path.len() {
                        return name.span().start;
                    }
                    found
                }
                Step::Index(index) => {
                    let array = value.and_then(|v| v.get_ref().as_array());
                    let Some(found) = array.and_then(|a| a.get(*index)) else { break };
                    found
                }
            };
            offset = next.span().start;
            table = next.get_ref().as_table();
            value = Some(next);
        }
        offset
    }

    /// The innermost key at a byte offset.
    pub(super) fn path_at(&self, offset: usize) -> Path {
        let mut path = Path::new();
        in_table(self.root.get_ref(), offset, &mut path);
        path
    }
}

fn in_table(table: &DeTable<'_>, offset: usize, path: &mut Path) -> bool {
    for (name, value) in table {
        path.push(Step::Key(name.get_ref().to_string().into()));
        if name.span().contains(&offset) || in_value(value, offset, path) {
            return true;
        }
        path.pop();
    }
    false
}

fn in_value(value: &Spanned<DeValue<'_>>, offset: usize, path: &mut Path) -> bool {
    let deeper = match value.get_ref() {
        DeValue::Table(table) => in_table(table, offset, path),
        DeValue::Array(array) => array.iter().enumerate().any(|(i, element)| {
            path.push(Step::Index(i));
            let found = in_value(element, offset, path);
            if !found {
                path.pop();
            }
            found
        }),
        _ => false,
    };
    deeper || value.span().contains(&offset)
}

/// Line and column, both from 1; columns count characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::super::error::at;
    use super::*;

    #[test]
    fn finds_keys_by_path_and_paths_by_place() {
        let text = "[a]\nb = 1\n\n[[c]]\nd = \"é\"\n[[c]]\nd = [1, 2]\n[[c.e]]\nf = 1\n";
        let root = DeTable::parse(text).unwrap();
        let source = Source::new(text, &root);
        let place = |path: Path| {
            let issue = source.issue(&path, "");
            (issue.line.unwrap(), issue.column.unwrap(), issue.key)
        };
        assert_eq!(place(at!["a", "b"]), (2, 1, "a.b".into()));
        assert_eq!(place(at!["a", "missing"]).0, 1);
        assert_eq!(place(at!["c", 1, "d", 1]), (7, 9, "c.d".into()));
        assert_eq!(place(at!["c", 1, "e", 0, "f"]), (9, 1, "c.e.f".into()));
        assert_eq!(place(at!["c", 0, "missing"]).0, 4);
        assert_eq!(place(at!["nothing"]).0, 1);
        assert_eq!(source.path_at(text.find("2]").unwrap()), at!["c", 1, "d", 1]);
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("é = 1\nüü x", "é = 1\nüü x".len()), (2, 5));
        assert_eq!(position("", 7), (1, 1));
    }
}
