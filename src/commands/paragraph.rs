//! Text of any length in a terminal.

use crate::report::render::text::printable;

const WIDTH: usize = 80;

/// A note on stderr: cut to the width of a terminal, and one line wherever else it goes.
pub fn note(text: &str) {
    tell!("{}", noted(text, stderr_width()));
}

/// Columns of the terminal that stderr is.
fn stderr_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn noted(text: &str, width: Option<usize>) -> String {
    width.map_or_else(|| format!("note: {text}\n"), |width| cut("note: ", 2, text, width))
}

/// In 80 columns, cut at blanks where words allow. The first line begins with `first`, which may stand out to the left; the others are
/// indented by `indent` blanks. Control characters become blanks.
pub fn paragraph(first: &str, indent: usize, text: &str) -> String {
    cut(first, indent, text, WIDTH)
}

fn cut(first: &str, indent: usize, text: &str, width: usize) -> String {
    let mut line = first.to_owned();
    let mut is_begun = false;
    let mut out = String::new();
    for word in printable(text).split_whitespace() {
        let gap = usize::from(is_begun);
        if is_begun && line.chars().count() + gap + word.chars().count() > width {
            out.push_str(&line);
            out.push('\n');
            line = " ".repeat(indent);
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(word);
        is_begun = true;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_words_stay_whole() {
        let text = "word ".repeat(40);
        let cut = paragraph("  key  ", 4, &text);
        assert!(cut.lines().all(|line| line.chars().count() <= WIDTH), "{cut}");
        assert!(cut.starts_with("  key  word") && cut.lines().nth(1).is_some_and(|line| line.starts_with("    word")));
        assert_eq!(cut.split_whitespace().filter(|word| *word == "word").count(), 40);
        assert_eq!(paragraph("a: ", 2, ""), "a:\n");
        assert_eq!(paragraph("", 2, "\x1b[31mred\nline"), "[31mred line\n");
        let note = noted(&text, Some(40));
        assert!(note.lines().all(|line| line.chars().count() <= 40) && note.starts_with("note: word word"), "{note}");
        assert!(note.lines().count() == 6 && note.lines().skip(1).all(|line| line.starts_with("  word")), "{note}");
        assert_eq!(noted("a  b", None), "note: a  b\n");
        let long = "x".repeat(100);
        assert_eq!(paragraph("", 2, &format!("a {long} b")), format!("a\n  {long}\n  b\n"));
    }
}
