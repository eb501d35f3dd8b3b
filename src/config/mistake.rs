//! What is wrong with a configuration file: where, what, and what was probably meant.
//!
//! A [`Mistakes`] is collected while a file is read and never stops the reading, so that one pass finds
//! all there is. Excerpts are cut from a copy of the text in which secrets are blanked out; nothing here
//! prints a password. It knows no keys and no types: the schema and the reader do.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::mask::masked;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// In characters, counted from 1; 0 where the file as a whole is meant.
    pub column: usize,
    pub message: String,
    /// What to write instead, where that can be said.
    pub help: Option<String>,
    /// True for something that is not there, such as a required key.
    absence: bool,
    /// The bytes of the file that are meant, cut at the end of their first line.
    span: Option<Range<usize>>,
}

impl Mistake {
    pub(super) fn is_about_absence(&self) -> bool {
        self.absence
    }
}

/// All mistakes of one file, in the order of the file.
#[derive(Clone, Debug)]
pub struct Mistakes {
    file: String,
    /// The file's text, of the same length in bytes, without its secrets.
    text: String,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// An empty list for a file with this text.
    pub(super) fn about(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), text: masked(text), list: Vec::new() }
    }

    /// A file that could not be read at all.
    pub(super) fn unreadable(file: &str, message: String) -> Self {
        let mut mistakes = Self::about(file, "");
        mistakes.push(None, message, None);
        mistakes
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Notes a mistake at `span`, or about the whole file.
    pub(super) fn push(
        &mut self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        let span = span.map(|span| self.on_one_line(span));
        let (line, column) = span.as_ref().map_or((0, 0), |span| self.position(span.start));
        self.list.push(Mistake { line, column, message: message.into(), help, absence: false, span });
    }

    /// Notes that something is not there that belongs into the section at `span`.
    pub(super) fn push_absence(&mut self, span: Option<Range<usize>>, message: String, help: String) {
        self.push(span, message, Some(help));
        if let Some(mistake) = self.list.last_mut() {
            mistake.absence = true;
        }
    }

    /// The line of a byte of the file, counted from 1.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.position(at.min(self.text.len())).0
    }

    /// Takes the mistakes of another pass over the same file.
    pub(super) fn absorb(&mut self, mistake: Mistake) {
        self.list.push(mistake);
    }

    /// The mistakes one by one, without their file.
    pub(super) fn into_list(self) -> Vec<Mistake> {
        self.list
    }

    /// Puts the list into the order of the file.
    pub(super) fn sorted(mut self) -> Self {
        self.list.sort_by_key(|mistake| (mistake.line, mistake.column));
        self.list.dedup();
        self
    }

    /// The report for people: every mistake with its place and an excerpt, then how many there are.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut report: String =
            self.list.iter().map(|mistake| self.render_one(&renderer, mistake) + "\n\n").collect();
        let count = self.list.len();
        report += &format!("{}: {count} mistake{}", self.file, if count == 1 { "" } else { "s" });
        report
    }

    fn render_one(&self, renderer: &Renderer, mistake: &Mistake) -> String {
        let group = match &mistake.span {
            Some(span) => Level::ERROR.primary_title(&mistake.message).element(
                Snippet::source(&self.text)
                    .path(&self.file)
                    .annotation(AnnotationKind::Primary.span(span.clone())),
            ),
            None => {
                let title = format!("{}: {}", self.file, mistake.message);
                Group::with_title(Level::ERROR.primary_title(title))
            }
        };
        match &mistake.help {
            Some(help) => renderer.render(&[group.element(Level::HELP.message(help))]),
            None => renderer.render(&[group]),
        }
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..at];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        (line, 1 + self.text.get(start..at).map_or(at - start, |line| line.chars().count()))
    }

    fn on_one_line(&self, span: Range<usize>) -> Range<usize> {
        let start = span.start.min(self.text.len());
        let end = span.end.clamp(start, self.text.len());
        let line_end = self.text.as_bytes()[start..end].iter().position(|byte| *byte == b'\n');
        start..line_end.map_or(end, |length| start + length)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Mistakes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let mut mistakes = Mistakes::about("f", "a = 1\nb = \"é\" x\n");
        mistakes.push(Some(15..16), "here", None);
        assert_eq!((mistakes.list[0].line, mistakes.list[0].column), (2, 9));
        assert!(mistakes.to_string().contains("f:2:9"), "{mistakes}");
    }

    #[test]
    fn columns_count_the_characters_of_a_secret() {
        let mut mistakes = Mistakes::about("f", "password = \"éé\" x\n");
        mistakes.push(Some(18..19), "here", None);
        assert_eq!((mistakes.list[0].line, mistakes.list[0].column), (1, 17));
    }

    #[test]
    fn spans_end_with_their_first_line() {
        let mut mistakes = Mistakes::about("f", "a = [\n 1,\n]\n");
        mistakes.push(Some(4..11), "list", None);
        assert_eq!(mistakes.list[0].span, Some(4..5));
    }
}
