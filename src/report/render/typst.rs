//! A `table` of Typst with booktabs' rules. Every text is a string literal, so none of it is read as markup.

use crate::report::render::grid::Grid;
use crate::report::render::{CellWords, SpreadWords, columns, footnotes, title, verdict};
use crate::report::table::AblationTable;

pub fn render(table: &AblationTable) -> String {
    let columns = columns(table);
    let (n_labels, n_numbers) = (table.row_axes.len(), columns.len());
    let mut text = comment(&format!("{}: {}", table.experiment, table.question));
    text.push_str(&comment(&title(table)));
    text.push_str(&opening(n_labels, n_numbers));
    if !table.column_axes.is_empty() {
        let axes = literal(&table.column_axes.join(", "));
        let blank = "[], ".repeat(n_labels);
        text.push_str(&format!("  {blank}table.cell(colspan: {n_numbers}, align: center, {axes}),\n"));
        text.push_str(&format!("  table.hline(start: {n_labels}, stroke: 0.05em),\n"));
    }
    let headers = columns.iter().map(|column| column.header.clone());
    text.push_str(&line(table.row_axes.iter().cloned().chain(headers)));
    text.push_str("  table.hline(stroke: 0.05em),\n");
    for (row, labels) in table.row_labels.iter().enumerate() {
        let numbers = columns.iter().map(|column| column.cells[row].as_ref().map_or(String::new(), words));
        text.push_str(&line(labels.iter().cloned().chain(numbers)));
    }
    text.push_str(CLOSING);
    verdict(table).into_iter().chain(footnotes(table)).for_each(|note| text.push_str(&footnote(&note)));
    text
}

/// A grid as a table of its own.
pub fn grid(grid: &Grid) -> String {
    let mut text = comment(&grid.title);
    text.push_str(&opening(grid.label_headers.len(), grid.number_headers.len()));
    text.push_str(&line(grid.headers().cloned()));
    text.push_str("  table.hline(stroke: 0.05em),\n");
    grid.rows.iter().for_each(|row| text.push_str(&line(row.iter().cloned())));
    text.push_str(CLOSING);
    grid.notes.iter().for_each(|note| text.push_str(&footnote(note)));
    text
}

fn opening(n_labels: usize, n_numbers: usize) -> String {
    // One name in brackets needs its comma to be a list.
    let align = ["left, ".repeat(n_labels), "right, ".repeat(n_numbers)].concat();
    let align = align.trim_end();
    let columns = n_labels + n_numbers;
    format!("#table(\n  columns: {columns}, align: ({align}), stroke: none,\n  table.hline(stroke: 0.08em),\n")
}

const CLOSING: &str = "  table.hline(stroke: 0.08em),\n)\n";

fn words(words: &CellWords) -> String {
    let spread = match &words.spread {
        Some(SpreadWords::Deviation(std)) => format!(" ± {std}"),
        Some(SpreadWords::Interval(low, high)) => format!(" [{low}, {high}]"),
        None => String::new(),
    };
    let remark = words.remark.as_ref().map_or(String::new(), |remark| format!(" ({remark})"));
    format!("{}{spread}{remark}", words.mean)
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("  {},\n", cells.map(|cell| literal(&cell)).collect::<Vec<_>>().join(", "))
}

fn footnote(note: &str) -> String {
    format!("#par(text(size: 0.8em, {}))\n", literal(note))
}

fn comment(text: &str) -> String {
    format!("// {}\n", plain(text))
}

fn literal(text: &str) -> String {
    format!("\"{}\"", plain(text).replace('\\', "\\\\").replace('"', "\\\""))
}

fn plain(text: &str) -> String {
    let ends_a_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().map(|character| if ends_a_line(character) { ' ' } else { character }).collect()
}
