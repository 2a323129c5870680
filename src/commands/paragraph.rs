//! Text of any length in a terminal of 80 columns.

use crate::report::render::text::printable;

const WIDTH: usize = 80;

/// Cut at blanks where words allow. The first line begins with `first`, which may stand out to the left; the others are
/// indented by `indent` blanks. Control characters become blanks.
pub fn paragraph(first: &str, indent: usize, text: &str) -> String {
    let mut line = first.to_owned();
    let mut is_begun = false;
    let mut out = String::new();
    for word in printable(text).split_whitespace() {
        let gap = usize::from(is_begun);
        if is_begun && line.chars().count() + gap + word.chars().count() > WIDTH {
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
        let long = "x".repeat(100);
        assert_eq!(paragraph("", 2, &format!("a {long} b")), format!("a\n  {long}\n  b\n"));
    }
}
