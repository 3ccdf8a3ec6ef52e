//! Tables for people.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, presets};

use super::failure::Failure;

/// A table without lines, as `ip` and `kubectl` print them: easy to read, easy to cut.
pub(super) struct Table(comfy_table::Table);

impl Table {
    /// A table with these headings; a heading with a leading `>` is of a column of numbers.
    pub(super) fn new<S: AsRef<str>>(headings: impl IntoIterator<Item = S>) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING);
        let mut right = Vec::new();
        let mut header = Vec::new();
        for heading in headings {
            let heading = heading.as_ref();
            right.push(heading.starts_with('>'));
            header.push(heading.trim_start_matches('>').to_uppercase());
        }
        table.set_header(header);
        for (i, right) in right.into_iter().enumerate() {
            if let Some(column) = table.column_mut(i) {
                column.set_padding((0, 2));
                if right {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Table(table)
    }

    /// Adds a row.
    pub(super) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.0.add_row(cells.into_iter().map(|cell| Cell::new(cell.into())));
    }

    /// The table, a line a row.
    pub(super) fn text(&self) -> String {
        let mut text = self.0.trim_fmt();
        text.push('\n');
        text
    }
}

/// Writes to standard output.
pub(super) fn out(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Writes one line of JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|e| Failure::Refused(e.to_string()))?;
    out(&format!("{text}\n"))
}

/// Milliseconds as people say them, whole seconds from ten on.
pub(super) fn time(millis: u64) -> String {
    if millis < 10_000 {
        format!("{}.{}s", millis / 1000, millis % 1000 / 100)
    } else {
        humantime::format_duration(std::time::Duration::from_secs(millis / 1000)).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_nothing_trails() {
        let mut table = Table::new(["name", ">packets"]);
        table.row(["a", "1"]);
        table.row(["long name", "12345678"]);
        assert_eq!(table.text(), "NAME        PACKETS\na                 1\nlong name  12345678\n");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(time(1234), "1.2s");
        assert_eq!(time(3_723_999), "1h 2m 3s");
    }
}
