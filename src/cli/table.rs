//! Aligned columns.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::output;

/// Rows under a heading.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

/// Blanks between two columns.
const GAP: usize = 2;
/// A column is not made narrower than this.
const NARROWEST: usize = 8;
/// Columns that are of no use when they are cut.
const WHOLE: [&str; 4] = ["ID", "EVENT", "HANDLER", "RECEIVED"];

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row. Its texts may come from anywhere.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.rows.push(cells.into_iter().map(|cell| output::plain(cell.as_ref()).into_owned()).collect());
    }

    /// Prints it; on a terminal long texts are cut so that a row is a line.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        self.lines(output::columns()).iter().try_for_each(|line| output::line(line))
    }

    fn lines(&self, columns: Option<usize>) -> Vec<String> {
        let widths = self.widths(columns);
        let padded = |(cell, &width): (&String, &usize)| {
            let cell = cut(cell, width);
            let blanks = width - cell.width() + GAP;
            cell + &" ".repeat(blanks)
        };
        let line = |row: &Vec<String>| row.iter().zip(&widths).map(padded).collect::<String>().trim_end().to_owned();
        self.rows.iter().map(line).collect()
    }

    /// The width of each column. While a row is too long, the widest gives way; when none can, the last is left out.
    fn widths(&self, columns: Option<usize>) -> Vec<usize> {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
        let mut widths: Vec<usize> = (0..count).map(|column| widest(column).unwrap_or(0)).collect();
        let Some(columns) = columns else { return widths };
        while widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1) > columns && widths.len() > 1 {
            let cuttable =
                widths.iter_mut().zip(&self.rows[0]).filter(|(_, heading)| !WHOLE.contains(&heading.as_str()));
            match cuttable.map(|(width, _)| width).max() {
                Some(width) if *width > NARROWEST => *width -= 1,
                _ => drop(widths.pop()),
            }
        }
        widths
    }
}

/// Cut to this many columns of a terminal, of which it gives two to characters of East Asian scripts and to pictures.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let columns = c.width().unwrap_or(0);
        let fits = columns <= left;
        left = left.saturating_sub(columns);
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_fit() {
        let mut table = Table::new(&["KIND", "STREAM"]);
        table.row(["stream-push", "直播"]);
        table.row(["relay", "a\nb"]);
        assert_eq!(table.lines(None), ["KIND         STREAM", "stream-push  直播", "relay        a\\nb"]);
        table.row(["monitor", "a name that is much too long"]);
        for line in table.lines(Some(24)) {
            assert!(line.width() <= 24, "{line}");
        }
        assert_eq!(table.lines(Some(24))[3], "monitor      a name tha…");
        assert_eq!(table.lines(Some(12))[3], "monitor", "a column that does not fit at all is left out");
    }

    #[test]
    fn what_attackers_write_keeps_to_its_column() {
        let mut table = Table::new(&["STREAM", "KIND"]);
        for stream in ["\u{202e}gpj\u{7}", "e\u{301}\u{301}", "👩‍👩‍👧", "ﷺ直播直播直播", "\x1b[31m"]
        {
            table.row([stream, "relay"]);
        }
        for line in table.lines(Some(16)) {
            assert!(line.width() <= 16 && !line.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{200d}']), "{line:?}");
            assert!(line.contains("  KIND") || line.ends_with("  relay"), "{line:?}");
        }
    }

    #[test]
    fn ids_are_never_cut() {
        let mut table = Table::new(&["ID", "KIND"]);
        table.row(["01a204e4-b717-7010-b7b9-7f7b547e2085", "stream-interruption"]);
        assert_eq!(table.lines(Some(50))[1], "01a204e4-b717-7010-b7b9-7f7b547e2085  stream-inte…");
        assert_eq!(table.lines(Some(40))[1], "01a204e4-b717-7010-b7b9-7f7b547e2085");
    }
}
