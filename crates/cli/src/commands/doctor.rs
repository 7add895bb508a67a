//! `onetag doctor`.

use clap::Args;
use onetag_sandbox::{How, PlatformSupport, Verdict, examine};
use serde_json::json;

use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::tabwriter::TabWriter;

/// What this host can run, how, and what to type where something is missing
#[derive(Args, Debug)]
pub struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DoctorArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let entered = onetag_sandbox::enter_user_namespace();
        let engine = context.engine()?;
        let store = engine.store()?;
        let report = examine(engine.sandbox(), &entered, store.root(), &engine.options().search_path);
        if self.json {
            let findings: Vec<_> = report
                .findings
                .iter()
                .map(|finding| {
                    json!({
                        "subject": finding.subject,
                        "verdict": word(finding.verdict),
                        "detail": finding.detail,
                        "hint": finding.hint,
                    })
                })
                .collect();
            let platforms: Vec<_> = report.platforms.iter().map(platform).collect();
            let document = json!({"findings": findings, "platforms": platforms});
            output::line(String::from_utf8_lossy(&onetag_oci::go_json_indent(&document, "  ")))?;
        } else {
            let mut table = TabWriter::new(0, 3);
            for finding in &report.findings {
                table.line(format!("{}\t{}\t{}", finding.subject, word(finding.verdict), finding.detail));
            }
            table.line("");
            for support in &report.platforms {
                table.line(format!("{}\t{}\t", support.platform, how(support)));
            }
            output::write(table.finish())?;
        }
        // What mends several findings is said once.
        let mut hints: Vec<String> = Vec::new();
        for hint in report.findings.iter().filter_map(|finding| finding.hint.clone()) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        if report.can_execute() {
            hints.iter().for_each(|hint| output::note(format!("hint: {hint}")));
            return Ok(());
        }
        let broken = report.findings.iter().find(|finding| finding.verdict == Verdict::Broken);
        let message = broken.map_or_else(String::new, |finding| format!("{}: {}", finding.subject, finding.detail));
        let error = CommandError::new(message).context("this host cannot execute images");
        Err(hints.into_iter().fold(error, CommandError::with_hint))
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "ok",
        Verdict::Limited => "limited",
        Verdict::Broken => "broken",
    }
}

/// How a platform's programs run, in words.
pub fn how(support: &PlatformSupport) -> String {
    match &support.how {
        How::Native => "native".to_owned(),
        How::Compatible => "native (compatible mode)".to_owned(),
        How::HostHandler { interpreter: Some(path) } => format!("emulated by the host's {}", path.display()),
        How::HostHandler { interpreter: None } => "emulated by the host".to_owned(),
        How::Private { interpreter, .. } => format!("emulated by {}", interpreter.display()),
        How::Unsupported { cause, .. } => format!("no: {cause}"),
    }
}

fn platform(support: &PlatformSupport) -> serde_json::Value {
    json!({"platform": support.platform.to_string(), "supported": support.is_supported(), "how": how(support)})
}
