//! `onetag check`: does an index tell the truth?

use clap::Args;
use onetag_engine::check::{CheckOptions, CheckReport, EntryKind, Severity, check};
use onetag_engine::content::Location;
use serde_json::{Value, json};

use super::registry_error;
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::output;
use crate::tabwriter::TabWriter;
use crate::units::decimal_size;

/// Does an index tell the truth: platforms, programs, blobs
///
/// Index, config and the programs that the entry point starts have to name the same machine, and every blob has to be
/// there with its size. Exits with 1 when something is not so, with 0 when there are only warnings.
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// The images: NAME, store:NAME, oci:PATH[:NAME], oci-archive:FILE or docker-archive:FILE
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Read every layer: all programs, and all digests
    #[arg(long)]
    all: bool,
    /// Look into the images of these platforms only
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl CheckArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let locations: Vec<Location> = self.names.iter().map(|name| Location::parse(name)).collect::<Result<_, _>>()?;
        let platforms = self.platform.iter().map(|text| parse_platform(text)).collect::<CommandResult<_>>()?;
        let options = CheckOptions { all: self.all, platforms };
        let engine = context.engine()?;
        let cancel = interrupt::listen();
        let mut reports = Vec::new();
        for location in &locations {
            let report = check(engine, location, &options, &cancel).map_err(|error| match cancel.is_cancelled() {
                true => CommandError::interrupted(),
                false => registry_error(error).context(format!("cannot check {location}")),
            })?;
            if !self.json {
                let gap = if reports.is_empty() { "" } else { "\n" };
                output::write(format!("{gap}{}", text(&report)))?;
            }
            reports.push(report);
        }
        if self.json {
            let all: Vec<Value> = reports.iter().map(document).collect();
            output::line(String::from_utf8_lossy(&onetag_oci::go_json_indent(&all, "  ")))?;
        }
        verdict(&reports)
    }
}

/// Fails when an index says something that is not so.
fn verdict(reports: &[CheckReport]) -> CommandResult {
    let lying: Vec<&CheckReport> = reports.iter().filter(|report| report.lies()).collect();
    match lying.as_slice() {
        [] => Ok(()),
        [one] => {
            let count = one.count(Severity::Error);
            let what = if count == 1 { "error" } else { "errors" };
            Err(CommandError::new(format!("{} does not tell the truth: {count} {what}", one.reference)))
        }
        several => {
            Err(CommandError::new(format!("{} of {} images do not tell the truth", several.len(), reports.len())))
        }
    }
}

fn text(report: &CheckReport) -> String {
    let mut out = TabWriter::new(0, 1);
    out.line(format!("Name:\t{}", report.reference));
    out.line(format!("MediaType:\t{}", report.media_type));
    out.line(format!("Digest:\t{}", report.digest));
    let mut out = out.finish();
    out.push('\n');
    let mut table = TabWriter::new(0, 3);
    table.line("PLATFORM\tCONFIG\tENTRY POINT\tMACHINE\tPROGRAMS\tBLOBS\tVERDICT");
    for entry in &report.entries {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let config = match entry.kind {
            EntryKind::Image => or_dash(&entry.config),
            kind => format!("({})", kind.name()),
        };
        let verdict = verdict_of(entry.verdict, entry.kind);
        let (entry_point, machine) = (or_dash(&entry.entry_point), or_dash(&entry.machine));
        let (platform, programs, blobs) = (&entry.platform, entry.programs, entry.blobs);
        table.line(format!("{platform}\t{config}\t{entry_point}\t{machine}\t{programs}\t{blobs}\t{verdict}"));
    }
    out += &table.finish();
    if !report.findings.is_empty() {
        out.push('\n');
    }
    let mut last_hint = None;
    for finding in &report.findings {
        let platform = finding.platform.as_ref().map(|platform| format!("{platform}: ")).unwrap_or_default();
        out += &format!("{}: {platform}{}\n", finding.problem.severity().name(), finding.problem);
        let hint = finding.problem.hint();
        // Findings of one kind follow each other, and their hint need not.
        if let Some(hint) = hint.as_ref().filter(|_| hint != last_hint) {
            out += &format!("hint: {hint}\n");
        }
        last_hint = hint;
    }
    let read = match report.layers_read {
        0 => "no layer read".to_owned(),
        1 => format!("1 layer read ({})", decimal_size(report.bytes_read)),
        count => format!("{count} layers read ({})", decimal_size(report.bytes_read)),
    };
    let count = |severity: Severity, one: &str, many: &str| match report.count(severity) {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let (errors, warnings) =
        (count(Severity::Error, "error", "errors"), count(Severity::Warning, "warning", "warnings"));
    out + &format!("\n{errors}, {warnings}; {read}\n")
}

fn verdict_of(verdict: Option<Severity>, kind: EntryKind) -> &'static str {
    match (verdict, kind) {
        (Some(Severity::Error), _) => "lie",
        (Some(Severity::Warning), _) => "warning",
        (_, EntryKind::Unknown) => "not here",
        (Some(Severity::Note) | None, _) => "ok",
    }
}

fn document(report: &CheckReport) -> Value {
    let entries: Vec<Value> = report
        .entries
        .iter()
        .map(|entry| {
            json!({
                "platform": entry.platform,
                "kind": entry.kind.name(),
                "digest": entry.digest,
                "config": entry.config,
                "entryPoint": entry.entry_point,
                "machine": entry.machine,
                "programs": entry.programs,
                "blobs": entry.blobs,
                "verdict": verdict_of(entry.verdict, entry.kind),
            })
        })
        .collect();
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.problem.severity().name(),
                "code": finding.problem.code(),
                "platform": finding.platform,
                "message": finding.problem.to_string(),
                "hint": finding.problem.hint(),
            })
        })
        .collect();
    json!({
        "name": report.reference,
        "mediaType": report.media_type,
        "digest": report.digest,
        "tellsTruth": !report.lies(),
        "platforms": entries,
        "findings": findings,
        "layersRead": report.layers_read,
        "bytesRead": report.bytes_read,
    })
}
