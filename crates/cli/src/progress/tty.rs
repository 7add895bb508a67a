//! `--progress=tty`: the steps redrawn in place, never larger than the window.

use std::io::Write;

use jiff::Timestamp;

use super::trace::{Step, Trace, seconds_between};
use crate::units::progress_size;

/// So many lines of a running step's output are shown under it.
const LOG_LINES: usize = 6;

/// Redraws the state of a build on a terminal.
#[derive(Debug)]
pub struct TtyPrinter<W> {
    out: W,
    description: String,
    started: Timestamp,
    drawn_lines: usize,
    colour: bool,
}

/// One line of the display: text on the left, a timer on the right.
struct Row {
    text: String,
    status: String,
    seconds: Option<f64>,
    style: &'static str,
    is_completed: bool,
}

const BLUE: &str = "\x1b[34m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const FAINT: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

impl<W: Write> TtyPrinter<W> {
    /// A display that starts where the cursor is.
    pub fn new(out: W, description: String, colour: bool) -> Self {
        Self { out, description, started: Timestamp::now(), drawn_lines: 0, colour }
    }

    /// Redraws everything; the last time (`is_final`) nothing is cut to the height of the window.
    pub fn draw(&mut self, trace: &Trace, width: usize, height: usize, is_final: bool) -> std::io::Result<()> {
        let now = Timestamp::now();
        let (completed, total) = trace.progress();
        let finished = if is_final && completed == total && total > 0 { " FINISHED" } else { "" };
        let seconds = seconds_between(self.started, now);
        let title = format!("[+] Building {seconds:.1}s ({completed}/{total}){finished}");
        let mut rows = Vec::new();
        for digest in &trace.order {
            step_rows(&trace.steps[digest], now, &mut rows);
        }
        if !is_final {
            rows = clamp(rows, height.saturating_sub(2));
        }
        let mut frame = String::from("\x1b[?25l");
        if self.drawn_lines > 0 {
            frame += &format!("\x1b[{}A", self.drawn_lines);
        }
        frame += &line(&align(&title, &self.description, width), "", self.colour);
        for row in &rows {
            let timer = row.seconds.map(|seconds| format!("{seconds:.1}s")).unwrap_or_default();
            let mut text = format!(" {}", row.text);
            let room = width.saturating_sub(timer.len() + 2);
            if !row.status.is_empty() && room > row.status.len() + 21 {
                text = format!("{} {}", shorten(&text, room - row.status.len() - 1), row.status);
            }
            frame += &line(&align(&text, &timer, width), row.style, self.colour);
        }
        frame += "\x1b[J\x1b[?25h";
        self.drawn_lines = rows.len() + 1;
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }

    /// Draws the end state and what failed steps wrote last.
    pub fn finish(&mut self, trace: &mut Trace, width: usize, height: usize) -> std::io::Result<()> {
        self.draw(trace, width, height, true)?;
        self.out.write_all(&trace.failures())?;
        self.out.flush()
    }
}

fn step_rows(step: &Step, now: Timestamp, rows: &mut Vec<Row>) {
    let is_completed = step.is_completed();
    let (prefix, style) = if step.vertex.is_canceled() {
        ("CANCELED ", YELLOW)
    } else if !step.vertex.error.is_empty() {
        ("ERROR ", RED)
    } else if step.vertex.cached {
        ("CACHED ", BLUE)
    } else {
        ("", BLUE)
    };
    rows.push(Row {
        text: format!("=> {prefix}{}", clean(&step.vertex.name)),
        status: String::new(),
        seconds: Some(rounded(step.seconds(now))),
        style: if is_completed { style } else { "" },
        is_completed,
    });
    for status in &step.statuses {
        let amount = match (status.total, status.current) {
            (0, 0) => String::new(),
            (0, current) => progress_size(current),
            (total, current) => format!("{} / {}", progress_size(current), progress_size(total)),
        };
        let seconds = status.started.map(|start| rounded(seconds_between(start, status.completed.unwrap_or(now))));
        let is_completed = is_completed || status.completed.is_some();
        let style = if is_completed { BLUE } else { "" };
        rows.push(Row { text: format!("=> => {}", clean(&status.id)), status: amount, seconds, style, is_completed });
    }
    for warning in &step.warnings {
        let text = format!("WARN: {}", clean(&warning.short));
        rows.push(Row { text, status: String::new(), seconds: None, style: YELLOW, is_completed });
    }
    if !is_completed {
        for log in &step.lines[step.lines.len().saturating_sub(LOG_LINES)..] {
            let text = format!("=> => # {}", clean(&String::from_utf8_lossy(log)));
            rows.push(Row { text, status: String::new(), seconds: None, style: FAINT, is_completed: false });
        }
    }
}

fn rounded(seconds: f64) -> f64 {
    if seconds < 0.05 { 0.0 } else { seconds }
}

/// Keeps what goes on and, of what has ended, the newest that fits.
fn clamp(rows: Vec<Row>, limit: usize) -> Vec<Row> {
    if rows.len() <= limit {
        return rows;
    }
    let open = rows.iter().filter(|row| !row.is_completed).count();
    let mut completed_to_drop =
        rows.iter().filter(|row| row.is_completed).count().saturating_sub(limit.saturating_sub(open));
    let mut kept: Vec<Row> = rows
        .into_iter()
        .filter(|row| {
            let drop = row.is_completed && completed_to_drop > 0;
            completed_to_drop -= usize::from(drop);
            !drop
        })
        .collect();
    kept.truncate(limit);
    kept
}

/// Text without what would move the cursor.
fn clean(text: &str) -> String {
    // a carriage return starts the line anew, as on a terminal
    let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' => skip_escape(&mut characters),
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn skip_escape(characters: &mut std::str::Chars<'_>) {
    if characters.clone().next() != Some('[') {
        characters.next();
        return;
    }
    characters.next();
    for c in characters.by_ref() {
        if ('@'..='~').contains(&c) {
            return;
        }
    }
}

fn shorten(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn align(left: &str, right: &str, width: usize) -> String {
    if right.is_empty() {
        return shorten(left, width);
    }
    let room = width.saturating_sub(right.chars().count() + 1);
    let left = shorten(left, room);
    format!("{left:room$} {right}")
}

fn line(text: &str, style: &str, colour: bool) -> String {
    if style.is_empty() || !colour { format!("{text}\x1b[K\n") } else { format!("{style}{text}{RESET}\x1b[K\n") }
}

#[cfg(test)]
mod tests {
    use super::{Row, align, clamp, clean};

    #[test]
    fn control_sequences_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mred\x1b[0m\tb\x07"), "ared b");
        assert_eq!(clean("10%\r50%\r100%\r"), "100%");
        assert_eq!(clean("\x1b[2J\x1b]0;x"), "0;x");
    }

    #[test]
    fn lines_never_exceed_the_window() {
        assert_eq!(align(&"x".repeat(100), "1.0s", 20), format!("{} 1.0s", "x".repeat(15)));
        assert_eq!(align("left", "1.0s", 14), "left      1.0s");
    }

    #[test]
    fn what_goes_on_is_kept() {
        let row = |text: &str, is_completed| Row {
            text: text.to_owned(),
            status: String::new(),
            seconds: None,
            style: "",
            is_completed,
        };
        let rows = vec![row("a", true), row("b", false), row("c", true), row("d", true)];
        let kept: Vec<_> = clamp(rows, 2).into_iter().map(|row| row.text).collect();
        assert_eq!(kept, ["b", "d"]);
    }
}
