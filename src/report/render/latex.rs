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
            '–' => escaped.push_str("--"),
            '“' => escaped.push_str("``"),
            '”' => escaped.push_str("''"),
            '…' => escaped.push_str("\\dots{}"),
            control if control.is_control() => escaped.push(' '),
            other => match in_math(other) {
                Some(command) => escaped.extend(["$", command, "$"]),
                None => escaped.push(other),
            },
        }
    }
    escaped
}

/// What pdfLaTeX knows in formulas alone, or by a package only: signs and Greek letters.
fn in_math(character: char) -> Option<&'static str> {
    const SIGNS: &[(char, &str)] = &[
        ('−', "-"),
        ('±', "\\pm"),
        ('×', "\\times"),
        ('·', "\\cdot"),
        ('÷', "\\div"),
        ('→', "\\to"),
        ('←', "\\leftarrow"),
        ('↔', "\\leftrightarrow"),
        ('↑', "\\uparrow"),
        ('↓', "\\downarrow"),
        ('⇒', "\\Rightarrow"),
        ('≤', "\\le"),
        ('≥', "\\ge"),
        ('≠', "\\ne"),
        ('≈', "\\approx"),
        ('∞', "\\infty"),
        ('√', "\\surd"),
        ('∈', "\\in"),
        ('∑', "\\sum"),
        ('∂', "\\partial"),
        ('∇', "\\nabla"),
        ('ℓ', "\\ell"),
        ('′', "'"),
        ('″', "''"),
        ('¹', "^1"),
        ('²', "^2"),
        ('³', "^3"),
        ('°', "^\\circ"),
        // The sign of a millionth, and the letter.
        ('µ', "\\mu"),
        ('μ', "\\mu"),
    ];
    const GREEK: &[(char, &str)] = &[
        ('α', "\\alpha"),
        ('β', "\\beta"),
        ('γ', "\\gamma"),
        ('δ', "\\delta"),
        ('ε', "\\varepsilon"),
        ('ζ', "\\zeta"),
        ('η', "\\eta"),
        ('θ', "\\theta"),
        ('κ', "\\kappa"),
        ('λ', "\\lambda"),
        ('ν', "\\nu"),
        ('ξ', "\\xi"),
        ('π', "\\pi"),
        ('ρ', "\\rho"),
        ('σ', "\\sigma"),
        ('τ', "\\tau"),
        ('φ', "\\varphi"),
        ('χ', "\\chi"),
        ('ψ', "\\psi"),
        ('ω', "\\omega"),
        ('Γ', "\\Gamma"),
        ('Δ', "\\Delta"),
        ('Θ', "\\Theta"),
        ('Λ', "\\Lambda"),
        ('Ξ', "\\Xi"),
        ('Π', "\\Pi"),
        ('Σ', "\\Sigma"),
        ('Φ', "\\Phi"),
        ('Ψ', "\\Psi"),
        ('Ω', "\\Omega"),
    ];
    SIGNS.iter().chain(GREEK).find(|(sign, _)| *sign == character).map(|(_, command)| *command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_latex_takes_for_itself_is_escaped() {
        let check = |text: &str, expected: &str| assert_eq!(escape(text), expected, "{text}");
        check("a_b & 50% of #1, $x$ {y}", "a\\_b \\& 50\\% of \\#1, \\$x\\$ \\{y\\}");
        check("C:\\~^", "C:\\textbackslash{}\\textasciitilde{}\\textasciicircum{}");
        check("<|>", "\\textless{}\\textbar{}\\textgreater{}");
        check("[1]*", "{[}1]{*}");
        check("\"a\"", "\\char34{}a\\char34{}");
        check("a\n\tb\u{1b}", "a  b ");
        check("“a…” – b", "``a\\dots{}'' -- b");
    }

    #[test]
    fn signs_and_greek_letters_are_formulas() {
        let check = |text: &str, expected: &str| assert_eq!(escape(text), expected, "{text}");
        check("32 × 32 → 0.5 ± 0.1", "32 $\\times$ 32 $\\to$ 0.5 $\\pm$ 0.1");
        check("τ ≤ −0.5", "$\\tau$ $\\le$ $-$0.5");
        check("σ²", "$\\sigma$$^2$");
        // Latin letters of any language go as they are.
        check("größer, café, œ", "größer, café, œ");
    }
}
