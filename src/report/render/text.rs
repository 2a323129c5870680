//! For a terminal: aligned at the decimal points, cut into blocks of columns that fit 80 characters.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};

use crate::report::render::grid::Grid;
use crate::report::render::{CellWords, Column, SpreadWords, columns, footnotes, subtitle, verdict};
use crate::report::table::AblationTable;

const WIDTH: usize = 80;
/// Blank characters between columns: the padding of the left one and the table's own joint.
const GAP: usize = PADDING + 1;
const PADDING: usize = 1;
/// All columns of labels together take no more than this in planning blocks; longer labels wrap.
const LABELS_WIDTH: usize = 32;
/// A header longer than this wraps where it is wider than the numbers below it.
const HEADER_WIDTH: usize = 20;

/// Rules above, below and under the header; no vertical lines, so that numbers can be copied.
pub const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

pub fn render(table: &AblationTable) -> String {
    let mut lines = wrap(&printable(&format!("{}: {}", table.experiment, table.question)), "");
    lines.extend(subtitle(table).iter().flat_map(|subtitle| wrap(&printable(subtitle), "")));
    let columns: Vec<NumberColumn> = columns(table).into_iter().map(NumberColumn::of).collect();
    let blocks = blocks(table, &columns).into_iter().map(|block| block_text(table, block));
    lines.push(blocks.collect::<Vec<_>>().join("\n\n"));
    for note in verdict(table).into_iter().chain(footnotes(table)) {
        lines.extend(wrap(&printable(&note), "  "));
    }
    lines.join("\n") + "\n"
}

/// A column of numbers, each padded so that decimal points and `±` stand below each other.
struct NumberColumn {
    header: String,
    cells: Vec<String>,
    cells_width: usize,
}

impl NumberColumn {
    fn of(column: Column) -> NumberColumn {
        let Column { header, cells: words } = column;
        let present = || words.iter().flatten();
        let mean_width = present().map(|words| width(&words.mean)).max().unwrap_or(0);
        let [first_width, second_width] = spread_widths(present());
        let spread_width =
            present().filter_map(|words| spread(words, first_width, second_width)).map(|text| width(&text));
        let spread_width = spread_width.max();
        let text = |words: &Option<CellWords>| {
            let Some(words) = words else { return String::new() };
            let mut text = format!("{:>mean_width$}", words.mean);
            match (spread(words, first_width, second_width), spread_width) {
                (Some(spread), _) => text.push_str(&format!(" {spread}")),
                (None, Some(spread_width)) if words.remark.is_some() => text.push_str(&" ".repeat(1 + spread_width)),
                (None, _) => {}
            }
            words.remark.iter().for_each(|remark| text.push_str(&format!(" ({remark})")));
            text
        };
        let cells: Vec<String> = words.iter().map(text).collect();
        let cells_width = cells.iter().map(|cell| width(cell)).max().unwrap_or(0);
        NumberColumn { header: printable(&header), cells, cells_width }
    }

    fn planned_width(&self) -> usize {
        self.cells_width.max(width(&self.header).min(HEADER_WIDTH)) + GAP
    }
}

/// The widest deviation or lower end, and the widest upper end.
fn spread_widths<'a>(words: impl Iterator<Item = &'a CellWords>) -> [usize; 2] {
    words.flat_map(|words| &words.spread).fold([0, 0], |[first, second], spread| match spread {
        SpreadWords::Deviation(std) => [first.max(width(std)), second],
        SpreadWords::Interval(low, high) => [first.max(width(low)), second.max(width(high))],
    })
}

/// `± 0.8` or `[60.4, 62.0]`, its numbers padded.
fn spread(words: &CellWords, first_width: usize, second_width: usize) -> Option<String> {
    match words.spread.as_ref()? {
        SpreadWords::Deviation(std) => Some(format!("± {std:>first_width$}")),
        SpreadWords::Interval(low, high) => Some(format!("[{low:>first_width$}, {high:>second_width$}]")),
    }
}

/// As many columns a block as fit beside the labels, at least one.
fn blocks<'a>(table: &AblationTable, columns: &'a [NumberColumn]) -> Vec<&'a [NumberColumn]> {
    let label_width = |axis: usize| {
        let labels = table.row_labels.iter().map(|labels| width(&labels[axis]));
        labels.chain([width(&table.row_axes[axis])]).max().unwrap_or(0) + GAP
    };
    let labels: usize = (0..table.row_axes.len()).map(label_width).sum();
    let budget = WIDTH + GAP - PADDING - labels.min(LABELS_WIDTH);
    let mut blocks = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (index, column) in columns.iter().enumerate() {
        if used > 0 && used + column.planned_width() > budget {
            blocks.push(&columns[start..index]);
            (start, used) = (index, 0);
        }
        used += column.planned_width();
    }
    if start < columns.len() {
        blocks.push(&columns[start..]);
    }
    blocks
}

fn block_text(table: &AblationTable, columns: &[NumberColumn]) -> String {
    let mut block = Table::new();
    block.load_style(STYLE).set_width(WIDTH as u16).set_content_arrangement(ContentArrangement::Dynamic);
    let axes = table.row_axes.iter().map(|axis| Cell::new(printable(axis)));
    block.set_header(axes.chain(columns.iter().map(|column| Cell::new(&column.header))).collect::<Vec<_>>());
    for (index, labels) in table.row_labels.iter().enumerate() {
        let labels = labels.iter().map(|label| Cell::new(printable(label)));
        block.add_row(labels.chain(columns.iter().map(|column| Cell::new(&column.cells[index]))).collect::<Vec<_>>());
    }
    for (index, column) in block.column_iter_mut().enumerate() {
        column.set_padding((0, PADDING as u16));
        if let Some(numbers) = index.checked_sub(table.row_axes.len()) {
            let whole = Width::Fixed((columns[numbers].cells_width + PADDING) as u16);
            column.set_constraint(ColumnConstraint::LowerBoundary(whole));
        }
    }
    block.trim_fmt()
}

/// A grid under its title; columns of numbers keep their width and labels wrap.
pub fn grid(grid: &Grid) -> String {
    let mut lines = wrap(&printable(&grid.title), "");
    let mut block = Table::new();
    block.load_style(STYLE).set_width(WIDTH as u16).set_content_arrangement(ContentArrangement::Dynamic);
    block.set_header(grid.headers().map(|header| Cell::new(printable(header))).collect::<Vec<_>>());
    for row in &grid.rows {
        block.add_row(row.iter().map(|field| Cell::new(printable(field))).collect::<Vec<_>>());
    }
    for (index, column) in block.column_iter_mut().enumerate() {
        column.set_padding((0, PADDING as u16));
        if index >= grid.label_headers.len() {
            let whole = grid.rows.iter().map(|row| width(&row[index])).max().unwrap_or(0) + PADDING;
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(whole as u16)));
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    lines.push(block.trim_fmt());
    lines.extend(grid.notes.iter().flat_map(|note| wrap(&printable(note), "  ")));
    lines.join("\n") + "\n"
}

/// Characters; each is taken to fill one place of the terminal.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Without control characters and overrides of the writing direction, which could end a line or steer the terminal.
pub fn printable(text: &str) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|character| if steers(character) { ' ' } else { character }).collect()
}

/// Cuts at blanks into lines of at most 80 characters where words allow; lines after the first are indented.
pub fn wrap(text: &str, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("{indent}{word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
