//! `--progress=tty`: the steps redrawn in place, never larger than the window.

use std::io::Write;

use jiff::Timestamp;

use super::palette::{Palette, RESET};
use super::rows::{Row, Rows, clamp, output_line};
use super::text::{align, clean, clean_but_colours, columns, shorten};
use super::trace::{Trace, seconds_between};

/// A narrower window does not tell of each step how it runs.
const WIDE_COLUMNS: usize = 60;
/// A narrower window has a shorter title.
const TITLE_COLUMNS: usize = 30;

/// The size of a window in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

/// Redraws the state of a build on a terminal.
#[derive(Debug)]
pub struct TtyPrinter<W> {
    out: W,
    description: String,
    started: Timestamp,
    palette: Palette,
    log_lines: usize,
    /// The columns that each line of the last frame takes.
    drawn: Vec<usize>,
}

impl<W: Write> TtyPrinter<W> {
    /// A display that starts where the cursor is.
    pub fn new(out: W, description: String, palette: Palette, log_lines: usize) -> Self {
        Self { out, description, started: Timestamp::now(), palette, log_lines, drawn: Vec::new() }
    }

    /// Redraws everything; the last time (`is_final`) nothing is cut to the height of the window.
    pub fn draw(&mut self, trace: &mut Trace, window: Window, is_final: bool) -> std::io::Result<()> {
        trace.shorten_output(self.log_lines);
        let now = Timestamp::now();
        let rows = Rows { palette: &self.palette, log_lines: self.log_lines, now };
        let mut rows = rows.of(trace);
        if !is_final {
            rows = clamp(rows, window.height.saturating_sub(2));
        }
        let mut frame = String::from("\x1b[?25l");
        let above = self.lines_above(window.width);
        if above > 0 {
            frame += &format!("\x1b[{above}A");
        }
        frame += "\r";
        self.drawn.clear();
        // A line as wide as the window would be joined with the next one when the window becomes wider.
        let width = window.width.saturating_sub(1);
        let title = self.title(trace, now, is_final, width);
        let has_room = columns(&title) + columns(&self.description) + 1 < width;
        let description = if has_room { self.description.clone() } else { String::new() };
        self.line(&mut frame, &align(&title, &description, width), "");
        for row in &rows {
            self.line(&mut frame, &layout(row, width), &row.style);
        }
        frame += "\x1b[J\x1b[?25h";
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }

    /// Draws the end state and what failed steps wrote last.
    pub fn finish(&mut self, trace: &mut Trace, window: Window) -> std::io::Result<()> {
        self.draw(trace, window, true)?;
        let clean_output = if self.palette == Palette::none() { clean } else { clean_but_colours };
        let failures = trace.failures(clean, |line| output_line(line, clean_output).into_bytes());
        self.out.write_all(&failures)?;
        self.out.flush()
    }

    fn title(&self, trace: &Trace, now: Timestamp, is_final: bool, width: usize) -> String {
        let (completed, total) = trace.progress();
        let finished = if is_final && completed == total && total > 0 { " FINISHED" } else { "" };
        let seconds = seconds_between(self.started, now);
        let building = if width < TITLE_COLUMNS { "" } else { "Building " };
        format!("[+] {building}{seconds:.1}s ({completed}/{total}){finished}")
    }

    fn line(&mut self, frame: &mut String, text: &str, style: &str) {
        self.drawn.push(columns(text));
        if style.is_empty() {
            *frame += &format!("{text}\x1b[K\n");
        } else {
            *frame += &format!("{style}{text}{RESET}\x1b[K\n");
        }
    }

    /// How many lines of the window the last frame takes, which is more than it had when the window became narrower.
    fn lines_above(&self, width: usize) -> usize {
        self.drawn.iter().map(|columns| columns.div_ceil(width.max(1)).max(1)).sum()
    }
}

fn layout(row: &Row, width: usize) -> String {
    let right = match row.how {
        how if how.is_empty() || width < WIDE_COLUMNS => row.right.clone(),
        how => format!("{how} {}", row.right),
    };
    let room = width.saturating_sub(columns(&right) + 2);
    if !row.amount.is_empty() && room > columns(&row.amount) + 8 {
        let text = shorten(&row.text, room - columns(&row.amount) - 1);
        return align(&format!("{text} {}", row.amount), &right, width);
    }
    align(&row.text, &right, width)
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Row, Weight};
    use super::{Palette, TtyPrinter, layout};

    #[test]
    fn a_narrow_line_keeps_what_tells_most() {
        let row = Row {
            text: " linux/arm64 (emulated)".to_owned(),
            amount: "1/4".to_owned(),
            right: "1.0s".to_owned(),
            how: "emulated",
            style: String::new(),
            weight: Weight::Running,
        };
        assert_eq!(layout(&row, 60), format!(" linux/arm64 (emulated) 1/4{}emulated 1.0s", " ".repeat(20)));
        assert_eq!(layout(&row, 40), format!(" linux/arm64 (emulated) 1/4{}1.0s", " ".repeat(9)));
        assert_eq!(layout(&row, 19), " linux/ar 1/4  1.0s");
        assert_eq!(layout(&row, 6), "  1.0s");
    }

    #[test]
    fn a_narrower_window_has_more_lines_above_the_cursor() {
        let mut printer = TtyPrinter::new(Vec::new(), String::new(), Palette::none(), 6);
        printer.drawn = vec![80, 40, 0];
        assert_eq!(printer.lines_above(80), 3);
        assert_eq!(printer.lines_above(40), 4);
        assert_eq!(printer.lines_above(30), 6);
        assert_eq!(printer.lines_above(0), 121);
    }
}
