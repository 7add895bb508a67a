//! `build --check` and `build --call`: answers about a Dockerfile in place of a build.

use onetag_dockerfile::call::Check;
use onetag_engine::Engine;
use onetag_engine::build::BuildRequest;
use onetag_engine::builders::LOCAL_DRIVER;
use onetag_engine::flags::{Call, parse_call};

use super::{BuildArguments, explain, report};
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::progress::{Display, Mode};

impl BuildArguments {
    /// What is asked for in place of a build.
    pub(super) fn asked(&self) -> CommandResult<Option<Call>> {
        let call = parse_call(if self.check { "check" } else { &self.call })?;
        match call {
            Some(call) if !matches!(call.name.as_str(), "lint" | "outline" | "targets") => {
                Err(CommandError::new(format!("--call={} is not supported", call.name))
                    .with_hint("it takes build, check, outline and targets"))
            }
            Some(call) if !matches!(call.format.as_str(), "" | "json" | "text") => {
                Err(CommandError::new(format!("--call cannot answer as {}", call.format))
                    .with_hint("leave format= out for text, or write format=json"))
            }
            call => Ok(call),
        }
    }
}

/// Answers on standard output; progress goes where that of a build goes.
pub(super) fn answer(call: &Call, engine: &Engine, request: &BuildRequest, mode: Mode) -> CommandResult {
    let display = Display::start(mode, format!("building with \"default\" instance using {LOCAL_DRIVER} driver"));
    let report = report::Report::new(&display);
    let sink = |event| report.event(event);
    let is_json = call.format == "json";
    let answer = match call.name.as_str() {
        "targets" => engine.targets(request, &sink).map(|found| {
            let text = if is_json { found.to_json() } else { found.to_text() };
            (text, None, 0)
        }),
        "outline" => engine.outline(request, &sink).map(|found| {
            let text = if is_json { found.to_json() } else { found.to_text() };
            (text, None, 0)
        }),
        _ => engine.check(request, &sink).map(|found| {
            let check = Check { report: &found.report, filename: &found.name, source: &found.source };
            let text = if is_json { check.to_json() } else { check.to_text() };
            (text, check.error_text(), check.status())
        }),
    };
    drop(report);
    display.finish();
    let (text, error, status) = answer.map_err(explain)?;
    output::write(text)?;
    match error {
        Some(error) => Err(CommandError::new(error.trim_end())),
        None if status != 0 && !call.ignore_status => Err(CommandError::exit(status)),
        None => Ok(()),
    }
}
