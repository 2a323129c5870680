//! A plain table with a title and notes, which every form for people can write.

use crate::report::render::{Format, latex, markdown, text, typst};

/// Labels in the left columns, numbers in the right ones.
pub struct Grid {
    pub title: String,
    pub label_headers: Vec<String>,
    pub number_headers: Vec<String>,
    /// As many fields each as there are headers.
    pub rows: Vec<Vec<String>>,
    pub notes: Vec<String>,
}

impl Grid {
    /// Absent as CSV, where another table would be another file.
    pub fn render(&self, format: Format) -> Option<String> {
        match format {
            Format::Text => Some(text::grid(self)),
            Format::Markdown => Some(markdown::grid(self)),
            Format::Latex => Some(latex::grid(self)),
            Format::Typst => Some(typst::grid(self)),
            Format::Csv => None,
        }
    }

    pub fn headers(&self) -> impl Iterator<Item = &String> {
        self.label_headers.iter().chain(&self.number_headers)
    }
}
