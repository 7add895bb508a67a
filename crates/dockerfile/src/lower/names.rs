//! What progress calls a step, and what history says of it.

use onetag_oci::Platform;

use crate::redact;
use crate::shell::{Environment, Lex};

/// The counters that number a stage's steps.
pub(crate) struct StepCounter {
    /// The stage's name; empty where the Dockerfile has one stage.
    pub stage: String,
    /// Steps named so far.
    pub index: usize,
    /// Steps in all; 0 for images that are no stage.
    pub total: usize,
    /// Whether the current instruction is a trigger of the base image.
    pub is_on_build: bool,
    /// Whether names carry the platform.
    pub with_platform: bool,
}

impl StepCounter {
    /// Counts a step and names it: `[linux/amd64->arm64 build 2/7] RUN make`.
    pub(crate) fn next(&mut self, text: &str, platform: Option<&Platform>, environment: &dyn Environment) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        self.index += 1;
        self.name(text, platform, environment)
    }

    /// Names the step that was counted last.
    pub(crate) fn name(&self, text: &str, platform: Option<&Platform>, environment: &dyn Environment) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        let mut name = String::from("[");
        if let Some(platform) = platform.filter(|_| self.with_platform) {
            name.push_str(&platform.format_all());
            name.push_str(&target_suffix(platform, target_platform(environment)));
            name.push(' ');
        }
        if !self.stage.is_empty() {
            name.push_str(&self.stage);
            name.push(' ');
        }
        let width = self.total.to_string().len();
        name.push_str(&format!("{:>width$}/{}] ", self.index, self.total));
        if self.is_on_build {
            name.push_str("ONBUILD ");
        }
        name + text
    }
}

/// `->arm64` where a step works for another platform than it runs on.
fn target_suffix(base: &Platform, target: Option<Platform>) -> String {
    let Some(mut target) = target else { return String::new() };
    if target.os.is_empty() {
        target.os.clone_from(&base.os);
    }
    if target.architecture.is_empty() {
        target.architecture.clone_from(&base.architecture);
    }
    let target = target.normalize();
    if target.os != base.os {
        return format!("->{}", target.format_all());
    }
    if target.architecture == base.architecture {
        return String::new();
    }
    match &target.variant {
        Some(variant) => format!("->{}/{variant}", target.architecture),
        None => format!("->{}", target.architecture),
    }
}

/// The platform that the stage's TARGET* arguments name.
fn target_platform(environment: &dyn Environment) -> Option<Platform> {
    let mut platform = Platform::default();
    let mut is_set = false;
    for name in environment.names() {
        let value = environment.get(name).unwrap_or_default();
        match name {
            "TARGETPLATFORM" => match value.parse() {
                Ok(parsed) => return Some(parsed),
                Err(_) => continue,
            },
            "TARGETOS" => platform.os = value.to_owned(),
            "TARGETARCH" => platform.architecture = value.to_owned(),
            "TARGETVARIANT" => platform.variant = Some(value.to_owned()).filter(|value| !value.is_empty()),
            _ => continue,
        }
        is_set = true;
    }
    is_set.then_some(platform)
}

/// An instruction's text with its variables replaced and its keyword in capitals.
pub(crate) fn step_text(lex: &Lex, code: &str, environment: &dyn Environment) -> String {
    let expanded = lex.process_word(code, environment).map_or_else(|_| code.to_owned(), |expanded| expanded.value);
    // Names are shown to everybody.
    let expanded = redact::user_info(&expanded);
    match expanded.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => expanded.to_uppercase(),
    }
}

/// The first line of a heredoc.
pub(crate) fn summarize(document: &str) -> String {
    let document = document.trim();
    match document.split_once('\n') {
        Some((first, _)) => format!("{}...", first.strip_suffix('\r').unwrap_or(first)),
        None => document.to_owned(),
    }
}

/// A list as Go prints it: `[a b]`.
pub(crate) fn go_list<S: AsRef<str>>(values: &[S]) -> String {
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    format!("[{}]", values.join(" "))
}

/// A duration in nanoseconds as Go prints it: `1m30s`, `1.5s`, `250ms`.
pub(crate) fn go_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let text = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let text = text.trim_end_matches('0');
        if text.is_empty() { (value / unit).to_string() } else { format!("{}.{text}", value / unit) }
    };
    let text = match total {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = fraction(total % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::super::environment::EnvironmentList;
    use super::*;

    #[test]
    fn steps_are_numbered_and_say_for_whom_they_work() {
        let mut counter =
            StepCounter { stage: "build".into(), index: 0, total: 12, is_on_build: false, with_platform: true };
        let mut environment = EnvironmentList::default();
        let amd64 = Platform::linux("amd64");
        assert_eq!(counter.next("RUN a", Some(&amd64), &environment), "[linux/amd64 build  1/12] RUN a");
        environment.set("TARGETARCH", "arm64");
        assert_eq!(counter.next("RUN b", Some(&amd64), &environment), "[linux/amd64->arm64 build  2/12] RUN b");
        environment.set("TARGETPLATFORM", "linux/arm/v6");
        assert_eq!(counter.name("RUN c", Some(&amd64), &environment), "[linux/amd64->arm/v6 build  2/12] RUN c");
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_100_000_000, "1.1s"),
            (-30_000_000_000, "-30s"),
        ] {
            assert_eq!(go_duration(nanoseconds), text);
        }
    }
}
