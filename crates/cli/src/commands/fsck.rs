//! `onetag fsck`.

use clap::Args;
use onetag_engine::content::Contents;
use onetag_oci::{Descriptor, Reference};
use onetag_store::{BlobWriter, Finding};

use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Check the store: every blob, name and unpacked layer
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// Take damaged content away and fetch it again from where it came
    #[arg(long)]
    repair: bool,
}

impl CheckArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        context.enter_namespace()?;
        let engine = context.engine()?;
        let store = engine.store()?;
        let report = store.check()?;
        for (name, absent) in &report.absent {
            let platform = absent.platform.as_ref().map(ToString::to_string).unwrap_or_default();
            output::note(format!("note: {name}: {platform} is not here ({})", absent.digest));
        }
        let count = report.findings.len();
        report.findings.iter().for_each(tell);
        let mut left = report.findings;
        if self.repair && count > 0 {
            let contents = Contents::new(engine);
            left =
                store.repair(left, &mut |descriptor, images, writer| fetch(&contents, descriptor, images, writer))?;
            output::note(format!("{} of {count} mended", count - left.len()));
        }
        output::line(format!("{} blobs and {} unpacked layers checked", report.blobs, report.trees))?;
        if left.is_empty() {
            return Ok(());
        }
        let error = CommandError::new(format!("{} things are damaged", left.len()));
        if self.repair {
            return Err(error.with_hint("onetag pull IMAGE    (or remove it: onetag rmi IMAGE)"));
        }
        Err(error.with_hint("onetag fsck --repair"))
    }
}

fn tell(finding: &Finding) {
    let images = if finding.images.is_empty() { String::new() } else { format!(" ({})", finding.images.join(", ")) };
    output::note(format!("{}{images}", finding.damage));
}

/// A blob from the registry of the first image that has it there. Gives whether one has.
fn fetch(contents: &Contents<'_>, descriptor: &Descriptor, images: &[String], writer: &mut BlobWriter) -> bool {
    let mut repositories = images.iter().filter_map(|image| Reference::parse(image).ok());
    repositories.any(|repository| contents.write(&repository, descriptor, writer).is_ok())
}
