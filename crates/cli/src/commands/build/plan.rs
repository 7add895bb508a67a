//! `build --plan`: what a build would do, as text or as JSON.

use std::collections::BTreeMap;

use onetag_engine::Engine;
use onetag_engine::build::{BuildPlan, BuildRequest, Class, Expectation, PlannedStep};
use onetag_engine::progress::Cancellation;
use onetag_oci::Digest;
use serde_json::{Value, json};

use super::{explain, report};
use crate::error::CommandResult;
use crate::output;
use crate::progress::{Display, Mode};
use crate::tabwriter::TabWriter;

/// How a plan is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Prints the plan on standard output; progress of what has to be looked up goes where that of a build goes.
pub(super) fn print(
    engine: &Engine,
    request: &BuildRequest,
    format: PlanFormat,
    mode: Mode,
    description: String,
    cancel: &Cancellation,
) -> CommandResult {
    let display = Display::start(mode, description);
    let report = report::Report::new(&display);
    let plan = engine.plan(request, cancel, &|event| report.event(event));
    drop(report);
    display.finish();
    let plan = plan.map_err(explain)?;
    match format {
        PlanFormat::Text => output::write(text(&plan))?,
        PlanFormat::Json => {
            let mut document = onetag_oci::go_json_indent(&document(&plan), "  ");
            document.push(b'\n');
            output::write(document)?;
        }
    }
    Ok(())
}

/// How a step runs, in one word.
fn how(class: Class) -> &'static str {
    match class {
        Class::Native => "native",
        Class::Emulated => "emulated",
        Class::Light => "files",
    }
}

/// What becomes of a step, in one word.
fn state(expectation: &Expectation) -> &'static str {
    match expectation {
        Expectation::Present => "present",
        Expectation::Fetched => "fetched",
        Expectation::Cached => "cached",
        Expectation::Executed => "run",
        Expectation::Shared { .. } => "shared",
        Expectation::Unknown { .. } => "unknown",
        Expectation::Unneeded => "not needed",
    }
}

/// How many steps of a platform have which fate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    steps: usize,
    cached: usize,
    native: usize,
    emulated: usize,
    files: usize,
    unknown: usize,
    shared: usize,
}

impl Count {
    fn of(plan: &BuildPlan, platform: &str) -> Self {
        let mut count = Self::default();
        let is_step = |step: &&PlannedStep| !step.inputs.is_empty() || step.class != Class::Light;
        let concerned = |step: &&PlannedStep| step.platforms.iter().any(|known| known == platform);
        for step in plan.steps.iter().filter(is_step).filter(concerned) {
            count.steps += 1;
            count.shared +=
                usize::from(step.platforms.len() > 1 || matches!(step.expectation, Expectation::Shared { .. }));
            match (&step.expectation, step.class) {
                (Expectation::Cached | Expectation::Unneeded, _) => count.cached += 1,
                (Expectation::Unknown { .. }, _) => count.unknown += 1,
                (Expectation::Executed | Expectation::Shared { .. }, Class::Native) => count.native += 1,
                (Expectation::Executed | Expectation::Shared { .. }, Class::Emulated) => count.emulated += 1,
                _ => count.files += 1,
            }
        }
        count
    }

    fn text(&self) -> String {
        let parts = [
            (self.cached, "cached"),
            (self.native, "to run natively"),
            (self.emulated, "to run under emulation"),
            (self.files, "to copy files"),
            (self.unknown, "not known yet"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
        let steps = if self.steps == 1 { "1 step".to_owned() } else { format!("{} steps", self.steps) };
        let shared =
            if self.shared > 0 { format!("; {} shared with other platforms", self.shared) } else { String::new() };
        format!("{steps}: {}{shared}", if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") })
    }
}

fn text(plan: &BuildPlan) -> String {
    let names: BTreeMap<&Digest, &str> = plan.steps.iter().map(|step| (&step.digest, step.name.as_str())).collect();
    let mut platforms: Vec<&String> = Vec::new();
    for platform in
        plan.platforms.iter().filter(|platform| plan.steps.iter().any(|step| step.platforms.contains(platform)))
    {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    let mut out = TabWriter::new(0, 3);
    for platform in &plan.platforms {
        out.line(format!("{platform}\t{}", Count::of(plan, platform).text()));
    }
    let mut text = out.finish();
    for group in groups(plan, &platforms) {
        let title = match group.as_slice() {
            [only] => only.clone(),
            all if all.len() == platforms.len() => format!("shared by all {} platforms", all.len()),
            some => format!("shared by {}", some.join(", ")),
        };
        text += &format!("\n{title}\n");
        let mut lines = TabWriter::new(0, 2);
        for step in plan.steps.iter().filter(|step| step.platforms == group) {
            let how = if step.class == Class::Light { "" } else { how(step.class) };
            lines.line(format!("  {}\t{how}\t{}", state(&step.expectation), step.name));
            if let Some(remark) = remark(step, &names) {
                lines.line(format!("  \t\t  {remark}"));
            }
        }
        text += &lines.finish();
    }
    text
}

/// The sets of platforms that steps belong to: the largest first, then in the order of the platforms.
fn groups(plan: &BuildPlan, platforms: &[&String]) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    for step in &plan.steps {
        if !step.platforms.is_empty() && !groups.contains(&step.platforms) {
            groups.push(step.platforms.clone());
        }
    }
    let place = |group: &[String]| platforms.iter().position(|platform| group.first() == Some(platform));
    groups.sort_by_key(|group| (usize::MAX - group.len(), place(group)));
    groups
}

/// What is to be said of a step beyond its state.
fn remark(step: &PlannedStep, names: &BTreeMap<&Digest, &str>) -> Option<String> {
    let name = |digest: &Digest| names.get(digest).copied().unwrap_or_default().to_owned();
    match &step.expectation {
        Expectation::Unknown { until } => Some(format!("unknown until {} is done", name(until))),
        Expectation::Shared { with } => Some(format!("the same as {}", name(with))),
        _ => None,
    }
}

fn document(plan: &BuildPlan) -> Value {
    let platform = |platform: &String| {
        let count = Count::of(plan, platform);
        json!({
            "platform": platform, "steps": count.steps, "cached": count.cached, "native": count.native,
            "emulated": count.emulated, "files": count.files, "unknown": count.unknown, "shared": count.shared,
        })
    };
    let step = |step: &PlannedStep| {
        let mut value = json!({
            "digest": step.digest, "name": step.name, "inputs": step.inputs, "platforms": step.platforms,
            "class": how(step.class), "state": state(&step.expectation),
        });
        match &step.expectation {
            Expectation::Unknown { until } => value["until"] = json!(until),
            Expectation::Shared { with } => value["with"] = json!(with),
            _ => {}
        }
        value
    };
    json!({
        "platforms": plan.platforms.iter().map(platform).collect::<Vec<_>>(),
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, class: Class, platforms: &[&str], expectation: Expectation) -> PlannedStep {
        PlannedStep {
            digest: Digest::sha256(name.as_bytes()),
            name: name.to_owned(),
            inputs: vec![Digest::sha256(b"input")],
            class,
            platforms: platforms.iter().map(ToString::to_string).collect(),
            expectation,
        }
    }

    #[test]
    fn a_plan_is_told_by_platform() {
        let both = ["linux/amd64", "linux/arm64"];
        let run = "[linux/amd64 build 2/2] RUN make";
        let plan = BuildPlan {
            platforms: both.map(str::to_owned).to_vec(),
            steps: vec![
                step(run, Class::Native, &both, Expectation::Executed),
                step("[linux/amd64 2/2] RUN a", Class::Native, &both[..1], Expectation::Cached),
                step(
                    "[linux/arm64 2/2] RUN a",
                    Class::Emulated,
                    &both[1..],
                    Expectation::Unknown { until: Digest::sha256(run.as_bytes()) },
                ),
            ],
        };
        assert_eq!(
            text(&plan),
            "linux/amd64   2 steps: 1 cached, 1 to run natively; 1 shared with other platforms\n\
             linux/arm64   2 steps: 1 to run natively, 1 not known yet; 1 shared with other platforms\n\
             \nshared by all 2 platforms\n  run  native  [linux/amd64 build 2/2] RUN make\n\
             \nlinux/amd64\n  cached  native  [linux/amd64 2/2] RUN a\n\
             \nlinux/arm64\n  unknown  emulated  [linux/arm64 2/2] RUN a\n                       \
             unknown until [linux/amd64 build 2/2] RUN make is done\n"
        );
        assert_eq!(document(&plan)["steps"][2]["until"], json!(Digest::sha256(run.as_bytes())));
    }
}
