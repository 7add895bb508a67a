//! What the live view shows: a line for each step, by platform where there are several.
//!
//! Steps that no image needs (loading, exporting) stand alone, as they began; steps of several platforms stand under a
//! heading of their own, and then come the platforms. What runs under emulation says so.

use jiff::Timestamp;
use onetag_engine::build::Class;

use super::palette::Palette;
use super::text::clean;
use super::trace::{Step, Trace, seconds_between};
use crate::units::progress_size;

/// How soon a line goes when there is not room for all; the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// What has ended.
    Ended,
    /// Output of a running step.
    Output,
    /// A part of a running step.
    Part,
    /// A running step, or the heading of a platform.
    Running,
}

/// One line of the display.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What stands at the left.
    pub text: String,
    /// What stands after it, and is cut later: an amount.
    pub amount: String,
    /// What stands at the right: how long it took.
    pub right: String,
    /// What stands before that where the window is wide enough: how it runs.
    pub how: &'static str,
    /// The sequence that colours it.
    pub style: String,
    /// How soon it goes.
    pub weight: Weight,
}

/// Makes the lines of a build.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The colours.
    pub palette: &'a Palette,
    /// So many lines of a running step's output are shown.
    pub log_lines: usize,
    /// The time.
    pub now: Timestamp,
}

impl Rows<'_> {
    /// All lines.
    pub fn of(&self, trace: &Trace) -> Vec<Row> {
        let steps: Vec<&Step> = trace.order.iter().filter_map(|digest| trace.steps.get(digest)).collect();
        let mut groups: Vec<&[String]> = Vec::new();
        let mut planned: Vec<&Step> = trace.steps.values().filter(|step| !step.vertex.targets.is_empty()).collect();
        // A platform that nothing runs for yet has its place already.
        planned.sort_by_key(|step| step.vertex.targets.len());
        let targets = trace.targets();
        for step in planned {
            if !groups.contains(&step.vertex.targets.as_slice()) {
                groups.push(&step.vertex.targets);
            }
        }
        if targets.len() < 2 {
            return steps.iter().flat_map(|step| self.step(step, None)).collect();
        }
        let place = |group: &&[String]| targets.iter().position(|target| group.first() == Some(target));
        groups.sort_by_key(|group| (group.len() < 2, usize::MAX - group.len(), place(group)));
        let first = steps.iter().position(|step| !step.vertex.targets.is_empty()).unwrap_or(steps.len());
        let alone = |steps: &[&Step]| -> Vec<Row> {
            let alone = steps.iter().filter(|step| step.vertex.targets.is_empty());
            alone.flat_map(|step| self.step(step, None)).collect()
        };
        let mut rows = alone(&steps[..first]);
        for group in groups {
            self.group(trace, &steps, group, targets.len(), &mut rows);
        }
        rows.extend(alone(&steps[first..]));
        rows
    }

    fn group(&self, trace: &Trace, steps: &[&Step], group: &[String], platforms: usize, rows: &mut Vec<Row>) {
        let of_group = |step: &&Step| step.vertex.targets == group;
        let started: Vec<&Step> = steps.iter().copied().filter(|step| of_group(step)).collect();
        let all: Vec<&Step> = trace.steps.values().filter(of_group).collect();
        let ended = started.iter().filter(|step| step.is_completed()).count();
        let name = match group {
            [only] => only.clone(),
            all if all.len() == platforms => format!("shared by all {platforms} platforms"),
            some => format!("shared by {}", some.join(", ")),
        };
        let is_emulated = all.iter().any(|step| step.is_emulated());
        let is_process = all.iter().any(|step| step.vertex.class == Some(Class::Native));
        let how = match (is_emulated, is_process) {
            (true, true) => " (native and emulated)",
            (true, false) => " (emulated)",
            (false, true) => " (native)",
            (false, false) => "",
        };
        let seconds = span(&started, self.now);
        rows.push(Row {
            text: format!(" {name}{how}"),
            amount: format!("{ended}/{}", all.len()),
            how: "",
            right: if started.is_empty() { String::new() } else { format!("{:.1}s", rounded(seconds)) },
            style: self.palette.heading.clone(),
            weight: Weight::Running,
        });
        rows.extend(started.iter().flat_map(|step| self.step(step, group.first())));
    }

    /// The lines of a step. Under the heading of a platform its name goes without it.
    fn step(&self, step: &Step, platform: Option<&String>) -> Vec<Row> {
        let mut rows = Vec::new();
        let is_completed = step.is_completed();
        let palette = self.palette;
        let (prefix, style) = match step {
            step if step.vertex.is_canceled() => ("CANCELED ", &palette.cancel),
            step if !step.vertex.error.is_empty() => ("ERROR ", &palette.error),
            step if step.vertex.cached => ("CACHED ", &palette.run),
            step if !is_completed && step.is_emulated() => ("", &palette.emulated),
            _ => ("", &palette.run),
        };
        let name = clean(&step.vertex.name);
        let name = if platform.is_some() { without_platform(&name) } else { name };
        let is_styled = is_completed || step.is_emulated();
        rows.push(Row {
            text: format!(" => {prefix}{name}"),
            amount: String::new(),
            right: format!("{:.1}s", rounded(step.seconds(self.now))),
            how: if step.is_emulated() && !step.vertex.cached { "emulated" } else { "" },
            style: if is_styled { style.clone() } else { String::new() },
            weight: if is_completed { Weight::Ended } else { Weight::Running },
        });
        self.parts(step, is_completed, &mut rows);
        for warning in &step.warnings {
            rows.push(Row {
                text: format!(" WARN: {}", clean(&warning.short)),
                amount: String::new(),
                right: String::new(),
                how: "",
                style: palette.warning.clone(),
                weight: if is_completed { Weight::Ended } else { Weight::Part },
            });
        }
        if !is_completed {
            for log in &step.lines[step.lines.len().saturating_sub(self.log_lines)..] {
                rows.push(Row {
                    text: format!(" => => # {}", output_line(log, clean)),
                    amount: String::new(),
                    right: String::new(),
                    how: "",
                    style: palette.faint.clone(),
                    weight: Weight::Output,
                });
            }
        }
        rows
    }

    fn parts(&self, step: &Step, is_completed: bool, rows: &mut Vec<Row>) {
        for status in &step.statuses {
            let amount = match (status.total, status.current) {
                (0, 0) => String::new(),
                (0, current) => progress_size(current),
                (total, current) => format!("{} / {}", progress_size(current), progress_size(total)),
            };
            let end = |_| status.completed.unwrap_or(self.now);
            let seconds = status.started.map(|start| rounded(seconds_between(start, end(()))));
            let is_completed = is_completed || status.completed.is_some();
            rows.push(Row {
                text: format!(" => => {}", clean(&status.id)),
                amount,
                right: seconds.map(|seconds| format!("{seconds:.1}s")).unwrap_or_default(),
                how: "",
                style: if is_completed { self.palette.run.clone() } else { String::new() },
                weight: if is_completed { Weight::Ended } else { Weight::Part },
            });
        }
    }
}

/// A line of output with its time, of which a carriage return in the output takes nothing away.
pub fn output_line(line: &[u8], clean: fn(&str) -> String) -> String {
    let line = String::from_utf8_lossy(line);
    match line.split_once(' ') {
        Some((time, said)) => format!("{time} {}", clean(said)),
        None => clean(&line),
    }
}

/// `[linux/amd64->arm64 build 2/2] RUN make` without the platform.
fn without_platform(name: &str) -> String {
    let Some((inside, rest)) = name.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return name.to_owned();
    };
    match inside.split_once(' ') {
        Some((platform, inside)) if platform.contains('/') && !platform.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("[{inside}]{rest}")
        }
        _ => name.to_owned(),
    }
}

fn rounded(seconds: f64) -> f64 {
    if seconds < 0.05 { 0.0 } else { seconds }
}

/// From the first start to the last end, or to now while something runs.
fn span(steps: &[&Step], now: Timestamp) -> f64 {
    let start = steps.iter().filter_map(|step| step.started_at()).min();
    let is_over = steps.iter().all(|step| step.is_completed());
    let end = if is_over { steps.iter().filter_map(|step| step.completed_at()).max() } else { None };
    start.map_or(0.0, |start| seconds_between(start, end.unwrap_or(now)))
}

/// Keeps the lines that fit: of what there is not room for the lightest goes first, and of that the oldest. Where not
/// even what runs fits, the last line tells how much of it is missing.
pub fn clamp(mut rows: Vec<Row>, limit: usize) -> Vec<Row> {
    for weight in [Weight::Ended, Weight::Output, Weight::Part] {
        let mut excess = rows.len().saturating_sub(limit);
        rows.retain(|row| {
            let goes = excess > 0 && row.weight == weight;
            excess -= usize::from(goes);
            !goes
        });
    }
    if rows.len() > limit {
        let missing = rows.len() - limit.saturating_sub(1);
        rows.truncate(limit.saturating_sub(1));
        if limit > 0 {
            let text = format!(" … and {missing} more lines");
            let (amount, right, style) = (String::new(), String::new(), String::new());
            rows.push(Row { text, amount, right, how: "", style, weight: Weight::Running });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{Row, Weight, clamp, clean, output_line, without_platform};

    fn row(text: &str, weight: Weight) -> Row {
        let (amount, right, style) = (String::new(), String::new(), String::new());
        Row { text: text.to_owned(), amount, right, how: "", style, weight }
    }

    #[test]
    fn what_goes_on_is_kept() {
        let rows = vec![
            row("a", Weight::Ended),
            row("b", Weight::Running),
            row("b log 1", Weight::Output),
            row("b log 2", Weight::Output),
            row("c", Weight::Ended),
        ];
        let kept = |limit| clamp(rows.clone(), limit).into_iter().map(|row| row.text).collect::<Vec<_>>();
        assert_eq!(kept(4), ["b", "b log 1", "b log 2", "c"]);
        assert_eq!(kept(2), ["b", "b log 2"]);
        assert_eq!(kept(1), ["b"]);
        assert!(kept(0).is_empty());
    }

    #[test]
    fn what_runs_and_does_not_fit_is_counted() {
        let rows: Vec<Row> = ["a", "b", "c", "d"].map(|text| row(text, Weight::Running)).into();
        let kept: Vec<String> = clamp(rows.clone(), 3).into_iter().map(|row| row.text).collect();
        assert_eq!(kept, ["a", "b", " … and 2 more lines"]);
        assert_eq!(clamp(rows.clone(), 4), rows);
        assert_eq!(clamp(rows, 1)[0].text, " … and 4 more lines");
    }

    #[test]
    fn a_line_of_output_keeps_its_time() {
        assert_eq!(output_line(b"0.177 10%\r99%", clean), "0.177 99%");
        assert_eq!(output_line(b"0.177 a b\x1b[31mc", clean), "0.177 a bc");
        assert_eq!(output_line(b"\xff", clean), "\u{fffd}");
    }

    #[test]
    fn names_go_without_the_platform_of_their_heading() {
        assert_eq!(without_platform("[linux/arm64 build 2/3] RUN x"), "[build 2/3] RUN x");
        assert_eq!(without_platform("[linux/amd64->arm64 2/3] RUN x"), "[2/3] RUN x");
        assert_eq!(without_platform("[build 2/3] RUN x"), "[build 2/3] RUN x");
        assert_eq!(without_platform("[2/3] RUN x"), "[2/3] RUN x");
        assert_eq!(without_platform("exporting"), "exporting");
    }
}
