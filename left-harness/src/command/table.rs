//! Columns that line up, for people.

use crate::report::text::width;

/// Rows as lines: every column as wide as its widest cell, the last one as it is.
pub(super) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    rows.iter().map(|row| line(row, &widest)).collect()
}

fn line(row: &[String], widest: &[usize]) -> String {
    let mut line = String::new();
    for (cell, widest) in row.iter().zip(widest) {
        line.push_str(cell);
        line.push_str(&" ".repeat(widest - width(cell) + 2));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_what_is_seen() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows: Vec<Vec<String>> = vec![row(&["ä", "b", "c"]), row(&["long", "", "d"])];
        assert_eq!(lines(&rows), ["ä     b  c", "long     d"]);
    }
}
