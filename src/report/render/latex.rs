//! A `tabular` with the rules of `booktabs`, its notes as small paragraphs below.

use crate::report::render::grid::Grid;
use crate::report::render::{CellWords, NO_VALUE, SpreadWords, columns, footnotes, title, verdict};
use crate::report::table::AblationTable;

pub fn render(table: &AblationTable) -> String {
    let columns = columns(table);
    let (n_labels, n_numbers) = (table.row_axes.len(), columns.len());
    let mut text = comment(&format!("{}: {}", table.experiment, table.question));
    text.push_str(&comment(&title(table)));
    text.push_str(&format!("\\begin{{tabular}}{{{}{}}}\n\\toprule\n", "l".repeat(n_labels), "r".repeat(n_numbers)));
    if !table.column_axes.is_empty() {
        let axes = escape(&table.column_axes.join(", "));
        text.push_str(&format!("{}\\multicolumn{{{n_numbers}}}{{c}}{{{axes}}} \\\\\n", " & ".repeat(n_labels)));
        text.push_str(&format!("\\cmidrule(lr){{{}-{}}}\n", n_labels + 1, n_labels + n_numbers));
    }
    let axes = table.row_axes.iter().map(|axis| escape(axis));
    let headers = columns.iter().map(|column| escape(&column.header));
    text.push_str(&line(axes.chain(headers)));
    text.push_str("\\midrule\n");
    for (row, labels) in table.row_labels.iter().enumerate() {
        let labels = labels.iter().map(|label| escape(label));
        let numbers = columns.iter().map(|column| column.cells[row].as_ref().map_or(String::new(), words));
        text.push_str(&line(labels.chain(numbers)));
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    verdict(table).into_iter().chain(footnotes(table)).for_each(|note| text.push_str(&footnote(&note)));
    text
}

/// A grid as a `tabular`.
pub fn grid(grid: &Grid) -> String {
    let columns = format!("{}{}", "l".repeat(grid.label_headers.len()), "r".repeat(grid.number_headers.len()));
    let mut text = format!("{}\\begin{{tabular}}{{{columns}}}\n\\toprule\n", comment(&grid.title));
    text.push_str(&line(grid.headers().map(|header| escape(header))));
    text.push_str("\\midrule\n");
    grid.rows.iter().for_each(|row| text.push_str(&line(row.iter().map(|field| escape(field)))));
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    grid.notes.iter().for_each(|note| text.push_str(&footnote(note)));
    text
}

fn footnote(note: &str) -> String {
    format!("\\par{{\\footnotesize {}\\par}}\n", escape(note))
}

fn words(words: &CellWords) -> String {
    let plain = |number: &str| number.replace('−', "-");
    let mean = plain(&words.mean);
    let spread = match &words.spread {
        Some(SpreadWords::Deviation(std)) => format!("${mean} \\pm {std}$"),
        Some(SpreadWords::Interval(low, high)) => format!("${mean}$ {{[}}${}$, ${}${{]}}", plain(low), plain(high)),
        None => format!("${mean}$"),
    };
    let numbers = if words.mean == NO_VALUE { "--".to_owned() } else { spread };
    let remark = words.remark.as_ref().map_or(String::new(), |remark| format!(" ({remark})"));
    format!("{numbers}{remark}")
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("{} \\\\\n", cells.collect::<Vec<_>>().join(" & "))
}

fn comment(text: &str) -> String {
    format!(
        "% {}\n",
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect::<String>()
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', character]),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '|' => escaped.push_str("\\textbar{}"),
            '"' => escaped.push_str("\\char34{}"),
            // `\\\\` would take these, at the start of the next line, for its own arguments.
            '[' | '*' => escaped.extend(['{', character, '}']),
            '±' => escaped.push_str("$\\pm$"),
            '–' => escaped.push_str("--"),
            '−' => escaped.push_str("$-$"),
            '“' => escaped.push_str("``"),
            '”' => escaped.push_str("''"),
            '…' => escaped.push_str("\\dots{}"),
            control if control.is_control() => escaped.push(' '),
            plain => escaped.push(plain),
        }
    }
    escaped
}
