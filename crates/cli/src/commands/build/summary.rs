//! What a build of several platforms came to, by platform, and where emulation took the time.

use std::collections::HashMap;

use jiff::Timestamp;
use onetag_engine::build::{BuildOutcome, Class};
use onetag_oci::Digest;

use crate::progress::{Vertex, clean, shorten};
use crate::tabwriter::TabWriter;
use crate::units::decimal_size;

/// Emulation is worth a word when a step of it took at least so many seconds …
const LONG_SECONDS: f64 = 2.0;
/// … and emulated steps at least this share of what the platform took.
const LARGE_SHARE: f64 = 0.5;
/// So many columns of a step's name say which it is.
const NAME_COLUMNS: usize = 60;

/// The steps of a build as they were announced and ended.
#[derive(Debug, Default)]
pub struct Steps {
    /// In the order in which they were announced, inputs first.
    order: Vec<Digest>,
    known: HashMap<Digest, Ended>,
}

/// A step and when it ran.
#[derive(Debug)]
struct Ended {
    name: String,
    class: Option<Class>,
    targets: Vec<String>,
    is_step: bool,
    is_cached: bool,
    runs: Vec<(Timestamp, Timestamp)>,
}

impl Ended {
    fn seconds(&self) -> f64 {
        self.runs.iter().map(|(start, end)| seconds(*start, *end)).sum()
    }

    fn is_emulated(&self) -> bool {
        self.class == Some(Class::Emulated)
    }
}

fn seconds(start: Timestamp, end: Timestamp) -> f64 {
    (end.as_nanosecond() - start.as_nanosecond()) as f64 / 1e9
}

impl Steps {
    /// Takes in the news of a step.
    pub fn take(&mut self, vertex: &Vertex) {
        if vertex.targets.is_empty() {
            return;
        }
        let ended = self.known.entry(vertex.digest.clone()).or_insert_with(|| {
            self.order.push(vertex.digest.clone());
            Ended {
                name: vertex.name.clone(),
                class: vertex.class,
                targets: vertex.targets.clone(),
                is_step: !vertex.inputs.is_empty() || vertex.class != Some(Class::Light),
                is_cached: false,
                runs: Vec::new(),
            }
        });
        ended.is_cached |= vertex.cached;
        if let (Some(start), Some(end), false) = (vertex.started, vertex.completed, vertex.cached) {
            ended.runs.push((start, end));
        }
    }

    fn of<'a>(&'a self, platform: &'a str) -> impl Iterator<Item = &'a Ended> {
        let steps = self.order.iter().filter_map(|digest| self.known.get(digest));
        steps.filter(move |step| step.targets.iter().any(|target| target == platform))
    }

    /// Seconds during which something of a platform ran.
    fn busy_seconds(&self, platform: &str) -> f64 {
        let mut runs: Vec<(Timestamp, Timestamp)> = self.of(platform).flat_map(|step| step.runs.clone()).collect();
        runs.sort();
        let mut total = 0.0;
        let mut until: Option<Timestamp> = None;
        for (start, end) in runs {
            let start = until.map_or(start, |until| until.max(start));
            total += seconds(start, end).max(0.0);
            until = Some(until.map_or(end, |until| until.max(end)));
        }
        total
    }

    /// A line for each platform; nothing for a build of one.
    pub fn table(&self, outcome: &BuildOutcome) -> Option<String> {
        if outcome.platforms.len() + outcome.failed.len() < 2 {
            return None;
        }
        let mut table = TabWriter::new(0, 3);
        table.line(" platform\ttime\temulated\tcached\tsize\tdigest");
        for platform in &outcome.platforms {
            let name = platform.platform.to_string();
            let size = if platform.manifest.is_some() { decimal_size(platform.size) } else { "-".to_owned() };
            let digest = platform.manifest.as_ref().map_or("-", Digest::as_str);
            table.line(format!(" {name}\t{}\t{size}\t{digest}", self.times(&name)));
        }
        for failed in &outcome.failed {
            let name = failed.platform.to_string();
            table.line(format!(" {name}\t{}\t-\tfailed", self.times(&name)));
        }
        if let (Some(descriptor), true) = (&outcome.descriptor, outcome.platforms.len() > 1) {
            table.line(format!(" index\t\t\t\t\t{}", descriptor.digest));
        }
        Some(table.finish())
    }

    /// How long a platform took, how much of it was emulated, and how many of its steps were cached.
    fn times(&self, platform: &str) -> String {
        let emulated: f64 = self.of(platform).filter(|step| step.is_emulated()).map(Ended::seconds).sum();
        let emulated = if emulated > 0.0 { format!("{emulated:.1}s") } else { "-".to_owned() };
        let steps = self.of(platform).filter(|step| step.is_step).count();
        let cached = self.of(platform).filter(|step| step.is_step && step.is_cached).count();
        format!("{:.1}s\t{emulated}\t{cached}/{steps}", self.busy_seconds(platform))
    }

    /// Where emulation took most of a platform's time, and what can be done about it.
    pub fn advice(&self, outcome: &BuildOutcome) -> Vec<String> {
        let mut advice: Vec<(String, Vec<String>, String)> = Vec::new();
        for platform in outcome.platforms.iter().map(|platform| platform.platform.to_string()) {
            let Some((step, what)) = self.dominating(&platform) else { continue };
            let emulated: f64 = self.of(&platform).filter(|step| step.is_emulated()).map(Ended::seconds).sum();
            let times = format!("{platform} {emulated:.1}s of {:.1}s", self.busy_seconds(&platform));
            match advice.iter_mut().find(|(known, ..)| *known == step) {
                Some((_, platforms, _)) => platforms.push(times),
                None => advice.push((step, vec![times], what)),
            }
        }
        let line = |(step, platforms, what): (String, Vec<String>, String)| {
            format!(
                "WARNING: emulation took most of the time ({}), the longest step being {step}: {what}",
                platforms.join(", ")
            )
        };
        advice.into_iter().map(line).collect()
    }

    /// The longest emulated step of a platform that emulation dominates, and what can be done about it.
    fn dominating(&self, platform: &str) -> Option<(String, String)> {
        let emulated: Vec<&Ended> = self.of(platform).filter(|step| step.is_emulated()).collect();
        let longest = emulated.iter().max_by(|a, b| a.seconds().total_cmp(&b.seconds()))?;
        let sum: f64 = emulated.iter().map(|step| step.seconds()).sum();
        if longest.seconds() < LONG_SECONDS || sum < self.busy_seconds(platform) * LARGE_SHARE {
            return None;
        }
        let (stage, step) = stage_and_step(&clean(&longest.name));
        let step = match shorten(&step, NAME_COLUMNS) {
            whole if whole.len() == step.len() => step,
            part => format!("{part}…"),
        };
        let last = self.of(platform).last().map(|step| stage_and_step(&step.name).0);
        let what = match &stage {
            Some(stage) if last.as_ref() != Some(&Some(stage.clone())) => format!(
                "stage \"{stage}\" would run natively as `FROM --platform=$BUILDPLATFORM … AS {stage}`, with $TARGETARCH \
                 telling its tools what to build for"
            ),
            _ => "a stage of its own, `FROM --platform=$BUILDPLATFORM … AS build`, would run it natively, and \
                  `COPY --from=build` takes over what it makes"
                .to_owned(),
        };
        Some((step, what))
    }
}

/// The stage that a step's name tells, and the name without the platform:
/// `[linux/arm64 build 2/3] RUN make` is `build` and `[build 2/3] RUN make`.
fn stage_and_step(name: &str) -> (Option<String>, String) {
    let Some((inside, rest)) = name.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return (None, name.to_owned());
    };
    let words: Vec<&str> = inside.split(' ').collect();
    match words.as_slice() {
        [_, stage, number] => (Some((*stage).to_owned()), format!("[{stage} {number}]{rest}")),
        [_, number] => (None, format!("[{number}]{rest}")),
        _ => (None, name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onetag_engine::build::PlatformOutcome;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
    }

    fn step(name: &str, class: Class, targets: &[&str], run: Option<(i64, i64)>) -> Vertex {
        Vertex {
            digest: Digest::sha256(name.as_bytes()),
            inputs: vec![Digest::sha256(b"input")],
            name: name.to_owned(),
            started: run.map(|(start, _)| at(start)),
            completed: run.map(|(_, end)| at(end)),
            cached: false,
            error: String::new(),
            class: Some(class),
            targets: targets.iter().map(ToString::to_string).collect(),
        }
    }

    fn outcome(platforms: &[&str]) -> BuildOutcome {
        let platform = |name: &&str| PlatformOutcome {
            platform: name.parse().unwrap(),
            manifest: Some(Digest::sha256(name.as_bytes())),
            config: None,
            size: 1_500_000,
        };
        BuildOutcome {
            provenance: Vec::new(),
            descriptor: None,
            config_digest: None,
            names: Vec::new(),
            platforms: platforms.iter().map(platform).collect(),
            failed: Vec::new(),
        }
    }

    #[test]
    fn each_platform_has_its_line() {
        let both = ["linux/amd64", "linux/arm64"];
        let mut steps = Steps::default();
        steps.take(&step("[linux/amd64 build 2/2] RUN make", Class::Native, &both, Some((0, 1000))));
        steps.take(&step("[linux/amd64 stage-1 2/2] RUN a", Class::Native, &both[..1], Some((500, 1500))));
        let mut cached = step("[linux/arm64 stage-1 2/2] RUN a", Class::Emulated, &both[1..], Some((500, 500)));
        cached.cached = true;
        steps.take(&cached);
        let table = steps.table(&outcome(&both)).unwrap();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["platform", "time", "emulated", "cached", "size", "digest"]);
        assert_eq!(lines[1][..5], ["linux/amd64", "1.5s", "-", "0/2", "1.5MB"]);
        assert_eq!(lines[2][..5], ["linux/arm64", "1.0s", "-", "1/2", "1.5MB"]);
        assert!(steps.table(&outcome(&both[..1])).is_none());
        assert!(steps.advice(&outcome(&both)).is_empty());
    }

    #[test]
    fn a_stage_that_could_move_is_named() {
        let mut steps = Steps::default();
        for (platform, end) in [("linux/arm64", 9000), ("linux/s390x", 12000)] {
            let name = format!("[{platform} build 2/2] RUN make");
            steps.take(&step(&name, Class::Emulated, &[platform], Some((0, end))));
            let name = format!("[{platform} stage-1 2/2] RUN true");
            steps.take(&step(&name, Class::Emulated, &[platform], Some((end, end + 1000))));
        }
        let advice = steps.advice(&outcome(&["linux/arm64", "linux/s390x"]));
        assert_eq!(advice.len(), 1, "{advice:?}");
        for part in
            ["linux/arm64 10.0s of 10.0s, linux/s390x 13.0s of 13.0s", "[build 2/2] RUN make", "stage \"build\""]
        {
            assert!(advice[0].contains(part), "{advice:?}");
        }
    }

    #[test]
    fn a_long_step_is_named_by_its_beginning() {
        let mut steps = Steps::default();
        let name = format!("[linux/arm64 2/2] RUN \x1b[2J{}", "make; ".repeat(100));
        steps.take(&step(&name, Class::Emulated, &["linux/arm64"], Some((0, 9000))));
        let advice = steps.advice(&outcome(&["linux/arm64"]));
        assert!(advice[0].contains("[2/2] RUN make; make; ") && advice[0].contains("…: a stage"), "{advice:?}");
        assert!(advice[0].len() < 400 && !advice[0].contains('\x1b'), "{advice:?}");
    }

    #[test]
    fn a_last_stage_is_split_rather_than_moved() {
        let mut steps = Steps::default();
        steps.take(&step("[linux/arm64 2/2] RUN make", Class::Emulated, &["linux/arm64"], Some((0, 9000))));
        let advice = steps.advice(&outcome(&["linux/arm64"]));
        assert!(advice[0].contains("COPY --from=build"), "{advice:?}");
    }
}
