//! A GitHub table; whatever could be read as markup is escaped.

use crate::report::render::grid::Grid;
use crate::report::render::{CellWords, SpreadWords, columns, footnotes, subtitle, verdict};
use crate::report::table::AblationTable;

pub fn render(table: &AblationTable) -> String {
    let mut text = format!("**{}**: {}\n\n", escape(&table.experiment), escape(&table.question));
    if let Some(subtitle) = subtitle(table) {
        text.push_str(&format!("{}\n\n", escape(&subtitle)));
    }
    let columns = columns(table);
    let axes = table.row_axes.iter().map(|axis| escape(axis));
    let headers = columns.iter().map(|column| escape(&column.header));
    text.push_str(&line(axes.chain(headers)));
    let left = table.row_axes.iter().map(|_| ":---".to_owned());
    text.push_str(&line(left.chain(columns.iter().map(|_| "---:".to_owned()))));
    for (row, labels) in table.row_labels.iter().enumerate() {
        let labels = labels.iter().map(|label| escape(label));
        let numbers = columns.iter().map(|column| column.cells[row].as_ref().map_or(String::new(), words));
        text.push_str(&line(labels.chain(numbers)));
    }
    text.push('\n');
    verdict(table).iter().for_each(|verdict| text.push_str(&format!("{}\n\n", escape(verdict))));
    footnotes(table).for_each(|note| text.push_str(&item(&note)));
    text
}

/// A grid under its title.
pub fn grid(grid: &Grid) -> String {
    let mut text = format!("{}\n\n", escape(&grid.title));
    text.push_str(&line(grid.headers().map(|header| escape(header))));
    let left = grid.label_headers.iter().map(|_| ":---".to_owned());
    text.push_str(&line(left.chain(grid.number_headers.iter().map(|_| "---:".to_owned()))));
    grid.rows.iter().for_each(|row| text.push_str(&line(row.iter().map(|field| escape(field)))));
    text.push('\n');
    grid.notes.iter().for_each(|note| text.push_str(&item(note)));
    text
}

fn item(note: &str) -> String {
    format!("- {}\n", escape(note))
}

fn words(words: &CellWords) -> String {
    let spread = match &words.spread {
        Some(SpreadWords::Deviation(std)) => format!(" ± {std}"),
        Some(SpreadWords::Interval(low, high)) => format!(" {}", escape(&format!("[{low}, {high}]"))),
        None => String::new(),
    };
    let remark = words.remark.as_ref().map_or(String::new(), |remark| format!(" ({remark})"));
    format!("{}{spread}{remark}", words.mean)
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let inside_a_word = before.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric());
        match character {
            '\\' | '`' | '*' | '|' | '[' | ']' | '<' | '>' | '&' | '~' | '#' | '$' => escaped.extend(['\\', character]),
            // GitHub reads no emphasis inside a word, and paths are full of these.
            '_' if !inside_a_word => escaped.push_str("\\_"),
            control if control.is_control() => escaped.push(' '),
            plain => escaped.push(plain),
        }
        before = character;
    }
    escaped
}
