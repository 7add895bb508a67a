//! `--progress=plain`: every step's news under its number, one step at a time.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Instant;

use jiff::Timestamp;
use onetag_oci::Digest;

use super::trace::{Step, Trace, seconds_between};
use crate::units::progress_size;

/// A step stays the shown one at least this long when others have as much to say, in seconds.
const STAY_SECONDS: f64 = 5.0;
/// A step that waits longer is shown, in seconds.
const LONGEST_WAIT_SECONDS: f64 = 10.0;
/// A status is printed again after so many seconds …
const STATUS_SECONDS: f64 = 5.0;
/// … or when so much of it was done since.
const STATUS_SHARE: f64 = 0.05;

/// Writes news in BuildKit's plain format.
#[derive(Debug)]
pub struct PlainPrinter<W> {
    out: W,
    description: String,
    current: Option<Digest>,
    has_printed: bool,
    last_index: usize,
    printed: std::collections::HashMap<String, (Timestamp, u64)>,
}

impl<W: Write> PlainPrinter<W> {
    /// A printer that starts with `#0 description`, if there is one.
    pub fn new(out: W, description: String) -> Self {
        let printed = std::collections::HashMap::new();
        Self { out, description, current: None, has_printed: false, last_index: 0, printed }
    }

    /// Prints what is new.
    pub fn print(&mut self, trace: &mut Trace) -> std::io::Result<()> {
        let (completed, mut rest): (BTreeSet<Digest>, BTreeSet<Digest>) =
            trace.updates.iter().cloned().partition(|digest| trace.steps[digest].is_completed());
        let current = self.current.clone();
        let current_completed = current.as_ref().is_some_and(|digest| completed.contains(digest));
        if let Some(current) = current.as_ref().filter(|_| current_completed) {
            self.step(trace, current)?;
        }
        let mut others: Vec<_> = completed.iter().filter(|digest| Some(*digest) != current.as_ref()).collect();
        others.sort_by_key(|digest| trace.steps[*digest].completed_at());
        for digest in others {
            self.step(trace, digest)?;
        }
        if rest.is_empty() {
            return self.show_an_open_step(trace, current.as_ref());
        }
        if let Some(current) = current.as_ref().filter(|digest| rest.contains(*digest)) {
            self.step(trace, current)?;
        }
        rest.extend(current.clone());
        let Some(chosen) = choose(trace, &rest, current.as_ref().filter(|_| !current_completed)) else { return Ok(()) };
        self.step(trace, &chosen)
    }

    /// Prints what failed steps wrote last.
    pub fn finish(&mut self, trace: &mut Trace) -> std::io::Result<()> {
        self.print(trace)?;
        self.out.write_all(&trace.failures(str::to_owned, <[u8]>::to_vec))?;
        self.out.flush()
    }

    fn show_an_open_step(&mut self, trace: &mut Trace, current: Option<&Digest>) -> std::io::Result<()> {
        let is_open = |trace: &Trace, digest: &Digest| {
            trace.steps.get(digest).is_some_and(|step| step.is_started() && !step.is_completed())
        };
        if current.is_some_and(|current| is_open(trace, current)) {
            return Ok(());
        }
        match trace.order.iter().find(|digest| is_open(trace, digest)).cloned() {
            Some(digest) => self.step(trace, &digest),
            None => Ok(()),
        }
    }

    fn step(&mut self, trace: &mut Trace, digest: &Digest) -> std::io::Result<()> {
        if self.current.as_ref() != Some(digest) {
            if let Some(old) = self.current.take().and_then(|current| trace.steps.get_mut(&current)) {
                if old.is_partial {
                    writeln!(self.out)?;
                }
                old.printed_bytes = 0;
                old.count = 0;
                writeln!(self.out, "#{} ...", old.index)?;
            }
            if self.has_printed {
                writeln!(self.out)?;
            } else if !self.description.is_empty() {
                writeln!(self.out, "#0 {}\n", self.description)?;
            }
            self.has_printed = true;
            let Some(step) = trace.steps.get_mut(digest) else { return Ok(()) };
            if step.index == 0 {
                self.last_index += 1;
                step.index = self.last_index;
            }
            writeln!(self.out, "#{} {}", step.index, step.vertex.name)?;
        }
        trace.updates.remove(digest);
        let Some(step) = trace.steps.get_mut(digest) else { return Ok(()) };
        let is_open = self.statuses(step)?;
        for warning in &step.warnings[step.warnings_printed..] {
            writeln!(self.out, "#{} WARN: {}", step.index, warning.short)?;
        }
        step.warnings_printed = step.warnings.len();
        self.lines(step)?;
        self.current = Some(digest.clone());
        if step.is_completed() && !is_open {
            self.current = None;
            step.count = 0;
            self.end(step)?;
        }
        self.out.flush()
    }

    /// Prints the parts with news; the answer is whether one of them is under way.
    fn statuses(&mut self, step: &mut Step) -> std::io::Result<bool> {
        let mut is_open = false;
        for status in &step.statuses {
            if !step.status_updates.contains(&status.id) {
                continue;
            }
            if let Some((when, current)) = self.printed.get(&status.id)
                && status.completed.is_none()
            {
                let share = match status.total {
                    0 => 0.0,
                    total => (status.current as f64 - *current as f64) / total as f64,
                };
                if share < STATUS_SHARE && seconds_between(*when, status.timestamp) < STATUS_SECONDS {
                    continue;
                }
            }
            self.printed.insert(status.id.clone(), (status.timestamp, status.current));
            let mut line = format!("#{} {}", step.index, status.id);
            if status.total != 0 {
                line += &format!(" {} / {}", progress_size(status.current), progress_size(status.total));
            } else if status.current != 0 {
                line += &format!(" {}", progress_size(status.current));
            }
            if let Some(started) = status.started {
                let seconds = seconds_between(started, status.completed.unwrap_or(status.timestamp));
                if seconds > 0.01 {
                    line += &format!(" {seconds:.1}s");
                }
            }
            match status.completed {
                Some(_) => line += " done",
                None => is_open = true,
            }
            writeln!(self.out, "{line}")?;
        }
        step.status_updates.clear();
        Ok(is_open)
    }

    fn lines(&mut self, step: &mut Step) -> std::io::Result<()> {
        let lines = std::mem::take(&mut step.lines);
        let last = lines.len().saturating_sub(1);
        for (number, line) in lines.into_iter().enumerate() {
            let is_partial = number == last && step.is_partial;
            if number == 0 && step.printed_bytes > 0 {
                self.out.write_all(line.get(step.printed_bytes..).unwrap_or_default())?;
            } else {
                write!(self.out, "#{} ", step.index)?;
                self.out.write_all(&line)?;
            }
            if is_partial {
                step.printed_bytes = line.len();
                step.lines.push(line);
            } else {
                writeln!(self.out)?;
                step.printed_bytes = 0;
                step.remember(line);
            }
        }
        Ok(())
    }

    fn end(&mut self, step: &mut Step) -> std::io::Result<()> {
        if step.is_partial {
            writeln!(self.out)?;
            step.is_partial = false;
        }
        let index = step.index;
        if step.vertex.is_canceled() {
            writeln!(self.out, "#{index} CANCELED")
        } else if !step.vertex.error.is_empty() {
            writeln!(self.out, "#{index} ERROR: {}", step.vertex.error)
        } else if step.vertex.cached {
            writeln!(self.out, "#{index} CACHED")
        } else {
            writeln!(self.out, "#{index} DONE {:.1}s", step.seconds(Timestamp::now()))
        }
    }
}

/// Which of the steps that go on is shown next; `None` when the current one stays.
fn choose(trace: &Trace, rest: &BTreeSet<Digest>, current: Option<&Digest>) -> Option<Digest> {
    let now = Instant::now();
    let waiting = |step: &Step| step.waiting_since.map(|since| now.duration_since(since).as_secs_f64());
    let mut candidates: Vec<(&Digest, f64, f64)> = Vec::new();
    for digest in rest {
        let Some(step) = trace.steps.get(digest) else { continue };
        let Some(wait) = waiting(step) else { continue };
        candidates.push((digest, wait, step.count as f64 / wait.max(1e-9)));
    }
    let busiest = candidates.iter().max_by(|a, b| a.2.total_cmp(&b.2))?.0;
    let Some(current) = current else { return Some(busiest.clone()) };
    if let Some((digest, ..)) =
        candidates.iter().find(|(digest, wait, _)| *wait > LONGEST_WAIT_SECONDS && *digest != current)
    {
        return Some((*digest).clone());
    }
    let sum: f64 = candidates.iter().map(|(.., speed)| speed).sum();
    let (_, wait, speed) = candidates.iter().find(|(digest, ..)| *digest == current)?;
    let share = if sum > 0.0 { speed / sum } else { 0.0 };
    (STAY_SECONDS / (1.0 - share) < *wait).then(|| busiest.clone())
}
