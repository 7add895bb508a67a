//! What `pin` says: a line for each image, changes below it, and what it all comes to.

use std::fmt::Write as _;
use std::path::PathBuf;

use onetag_engine::pin::{
    Change, ImageFacts, Occurrence, PinFailure, PinMode, PinOutcome, PinnedFile, PinnedImage, Reason, SourceKind,
    Status, Target,
};
use onetag_oci::{Digest, Platform};
use serde_json::{Value, json};

use crate::commands::registry_error;
use crate::error::{CommandError, CommandResult, Voice};
use crate::units::decimal_size;

/// Platforms that are named in a line before it becomes too long.
const PLATFORMS_SHOWN: usize = 8;

/// Everything that is told of one call.
pub(super) struct Report<'a> {
    pub(super) outcome: &'a PinOutcome,
    pub(super) mode: PinMode,
    pub(super) is_dry_run: bool,
    pub(super) written: &'a [PathBuf],
}

impl Report<'_> {
    /// Lines for people.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        for (file, image) in self.outcome.images() {
            let (line, name) = (image.occurrence.position.line, label(&image.occurrence));
            let place = &image.occurrence.place;
            // A String takes whatever is written to it.
            let _ = writeln!(out, "{}:{line}: {place} {name}: {}", file.source.name, self.words(image));
            for detail in details(file, image) {
                let _ = writeln!(out, "    {detail}");
            }
        }
        for name in self.outcome.lock.iter().flat_map(|lock| &lock.unused) {
            let what = if self.mode == PinMode::Check {
                "not used by these files"
            } else {
                "dropped, these files do not use it"
            };
            let lock = self.outcome.lock.as_ref().map(|lock| lock.path.display().to_string()).unwrap_or_default();
            let _ = writeln!(out, "{lock}: {name}: {what}");
        }
        let _ = writeln!(out, "{}", self.summary());
        out
    }

    fn words(&self, image: &PinnedImage) -> String {
        match &image.status {
            Status::Pinned(target) => format!("{} {}", self.past("pinned to"), described(target)),
            Status::Kept(digest) => format!("kept {}", short(digest)),
            Status::Current(target) if self.mode == PinMode::Check => format!("ok, {}", described(target)),
            Status::Current(target) => format!("up to date, {}", described(target)),
            Status::Updated { from, to, .. } => {
                format!("{} {} -> {}", self.past("updated"), short(from), described(to))
            }
            Status::Skipped(Reason::Excepted) => "left alone (--except)".to_owned(),
            Status::Skipped(reason) => format!("skipped: {reason}"),
            Status::Failed(failure) => format!("FAILED: {}", cause(failure)),
            Status::Missing => "NOT PINNED".to_owned(),
            Status::Stale { pinned, current, is_gone, .. } => {
                let gone = if *is_gone { ", which its registry no longer has" } else { "" };
                format!("STALE: pinned to {}{gone}; the tag is now {}", short(pinned), short(current))
            }
            Status::Single { pinned, platform, .. } => {
                let platform =
                    platform.as_ref().map_or("a single platform".to_owned(), |platform| format!("{platform} alone"));
                format!("SINGLE PLATFORM: {} is the manifest of {platform}", short(pinned))
            }
            Status::Lacks { pinned, platforms } => {
                format!("LACKS {}: {} is not for it", list(platforms), short(pinned))
            }
        }
    }

    /// What is not done in a dry run, or because something else failed, is not told as if it were.
    fn past(&self, done: &'static str) -> String {
        if self.is_dry_run || self.outcome.has_faults() { format!("to be {done}") } else { done.to_owned() }
    }

    fn summary(&self) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for (_, image) in self.outcome.images() {
            let word = word(&image.status, self.mode);
            match counts.iter_mut().find(|(known, _)| *known == word) {
                Some((_, count)) => *count += 1,
                None => counts.push((word, 1)),
            }
        }
        let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let counts = if counts.is_empty() { "no image is named".to_owned() } else { counts.join(", ") };
        let files: Vec<String> = self.written.iter().map(|path| path.display().to_string()).collect();
        match (self.mode, files.as_slice()) {
            (PinMode::Check, _) => counts,
            (_, []) => format!("{counts}; nothing written"),
            (_, files) => format!("{counts}; wrote {}", files.join(", ")),
        }
    }

    /// The error of a call that found faults.
    pub(super) fn verdict(&self) -> CommandResult {
        let faults: Vec<&PinnedImage> =
            self.outcome.images().map(|(_, image)| image).filter(|image| image.status.is_fault()).collect();
        if faults.is_empty() {
            return Ok(());
        }
        let all = self.outcome.images().count();
        let failed = faults.iter().filter(|image| matches!(image.status, Status::Failed(_))).count();
        let count = |count: usize| if count == 1 { "1 image".to_owned() } else { format!("{count} images") };
        let message = match self.mode {
            PinMode::Check => format!("{} of {all} not as it should be", count(faults.len())),
            _ => format!("{} of {all} cannot be resolved; nothing was written", count(failed)),
        };
        let mut hints: Vec<String> = Vec::new();
        for hint in faults.iter().flat_map(|image| self.hints(image)) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        Err(hints.into_iter().fold(CommandError::new(message), CommandError::with_hint))
    }

    fn hints(&self, image: &PinnedImage) -> Vec<String> {
        let lock =
            self.outcome.lock.as_ref().map(|lock| format!(" --lock {}", lock.path.display())).unwrap_or_default();
        let files: Vec<&str> = self.outcome.files.iter().map(|file| file.source.name.as_str()).collect();
        let command = |mode: &str| format!("onetag pin{mode}{lock} -f {}", files.join(" "));
        match &image.status {
            Status::Missing => vec![command("")],
            Status::Stale { .. } => vec![command(" --update")],
            Status::Single { index: Some(_), platform, .. } => {
                let mut hints = vec![format!("{}    (pins the index in its place)", command(" --update"))];
                hints.extend(
                    platform.as_ref().map(|platform| {
                        format!("--platform {platform} says that the build is for this platform alone")
                    }),
                );
                hints
            }
            Status::Single { .. } | Status::Lacks { .. } => {
                vec!["choose an image that exists for all platforms, or build for those that it has".to_owned()]
            }
            Status::Failed(failure) => failure_hints(failure),
            _ => Vec::new(),
        }
    }

    /// One document with everything.
    pub(super) fn to_json(&self, difference: &str) -> String {
        let files: Vec<Value> = self.outcome.files.iter().map(|file| self.file_json(file)).collect();
        let mut document = json!({
            "mode": match self.mode { PinMode::Pin => "pin", PinMode::Update => "update", PinMode::Check => "check" },
            "ok": !self.outcome.has_faults(),
            "files": files,
        });
        if let Some(lock) = &self.outcome.lock {
            let changed = lock.old.as_ref() != Some(&lock.content);
            document["lock"] = json!({
                "path": lock.path, "changed": changed && self.mode != PinMode::Check, "unused": lock.unused,
            });
        }
        if self.is_dry_run {
            document["diff"] = difference.into();
        }
        document["written"] = json!(self.written);
        format!("{document:#}\n")
    }

    fn file_json(&self, file: &PinnedFile) -> Value {
        let images: Vec<Value> = file.images.iter().map(|image| self.image_json(file, image)).collect();
        let kind = match file.source.kind {
            SourceKind::Dockerfile => "dockerfile",
            SourceKind::Yaml => "yaml",
        };
        json!({"path": file.source.name, "kind": kind, "changed": file.is_changed(), "images": images})
    }

    fn image_json(&self, file: &PinnedFile, image: &PinnedImage) -> Value {
        let occurrence = &image.occurrence;
        let mut value = json!({
            "line": occurrence.position.line,
            "column": occurrence.position.column,
            "place": occurrence.place,
            "written": occurrence.written,
            "status": word(&image.status, self.mode).replace(' ', "-"),
        });
        if let Ok(reference) = &occurrence.reference {
            value["reference"] = json!(reference.without_digest().with_default_tag().to_string());
        }
        let target = |value: &mut Value, target: &Target| {
            value["digest"] = json!(target.digest);
            value["mediaType"] = json!(target.media_type);
            value["platforms"] = names(&target.platforms);
        };
        match &image.status {
            Status::Pinned(found) | Status::Current(found) => target(&mut value, found),
            Status::Kept(digest) => value["digest"] = json!(digest),
            Status::Updated { from, to, change } => {
                target(&mut value, to);
                value["old"] = json!(from);
                value["change"] = change_json(change);
            }
            Status::Skipped(reason) => value["reason"] = json!(reason.to_string()),
            Status::Failed(failure) => value["reason"] = json!(cause(failure)),
            Status::Missing => {}
            Status::Stale { pinned, current, is_gone, single } => {
                value["digest"] = json!(pinned);
                value["current"] = json!(current);
                value["gone"] = json!(is_gone);
                value["platform"] = json!(single.as_ref().map(Platform::format_all));
            }
            Status::Single { pinned, platform, index } => {
                value["digest"] = json!(pinned);
                value["platform"] = json!(platform.as_ref().map(Platform::format_all));
                value["index"] = json!(index);
            }
            Status::Lacks { pinned, platforms } => {
                value["digest"] = json!(pinned);
                value["lacks"] = names(platforms);
            }
        }
        if let Status::Skipped(reason) = &image.status
            && let Some(hint) = hint(reason, file.source.kind)
        {
            value["hint"] = json!(hint);
        }
        value
    }
}

/// The name as written, without its digest, and what it comes to where that is not the same.
fn label(occurrence: &Occurrence) -> String {
    let written = occurrence.written.split("@sha").next().unwrap_or_default().trim_matches(['"', '\'']);
    match &occurrence.reference {
        Ok(reference) if written.contains('$') => format!("{written} ({})", reference.without_digest().familiar()),
        _ => written.to_owned(),
    }
}

/// The status in a word or two.
fn word(status: &Status, mode: PinMode) -> &'static str {
    match status {
        Status::Pinned(_) => "pinned",
        Status::Kept(_) => "kept",
        Status::Current(_) if mode == PinMode::Check => "ok",
        Status::Current(_) => "up to date",
        Status::Updated { .. } => "updated",
        Status::Skipped(_) => "skipped",
        Status::Failed(_) => "failed",
        Status::Missing => "not pinned",
        Status::Stale { .. } => "stale",
        Status::Single { .. } => "single platform",
        Status::Lacks { .. } => "lacking",
    }
}

fn details(file: &PinnedFile, image: &PinnedImage) -> Vec<String> {
    match &image.status {
        Status::Updated { change, .. } => change_lines(change),
        Status::Skipped(reason) => {
            hint(reason, file.source.kind).into_iter().map(|hint| format!("hint: {hint}")).collect()
        }
        Status::Stale { single: Some(platform), .. } => {
            vec![format!("and what is pinned is the manifest of {platform} alone")]
        }
        _ => Vec::new(),
    }
}

/// What to do about a reason; variables of compose files are not build arguments.
fn hint(reason: &Reason, kind: SourceKind) -> Option<String> {
    use onetag_dockerfile::images::Obstacle;
    match (reason, kind) {
        (Reason::Obstacle(Obstacle::NoValue { variable }), SourceKind::Yaml) => {
            Some(format!("a default can be pinned: ${{{variable}:-…}}"))
        }
        (Reason::Obstacle(Obstacle::Composed { .. } | Obstacle::Substitution { .. }), SourceKind::Yaml) => {
            Some("one variable for the whole name can be pinned: ${IMAGE:-NAME:TAG}".to_owned())
        }
        _ => reason.hint(),
    }
}

fn change_lines(change: &Change) -> Vec<String> {
    if !change.is_known {
        return vec!["what was pinned is no longer in its registry".to_owned()];
    }
    let mut lines = Vec::new();
    let signed = |sign: &str, platforms: &[Platform]| -> Vec<String> {
        platforms.iter().map(|platform| format!("{sign}{platform}")).collect()
    };
    let platforms = [signed("+", &change.gained), signed("-", &change.lost)].concat();
    if !platforms.is_empty() {
        lines.push(format!("platforms: {}", platforms.join(" ")));
    }
    if let Some(image) = &change.image {
        let created = |facts: &ImageFacts| facts.created.as_deref().map_or_else(|| "unknown".to_owned(), to_seconds);
        lines.push(format!("created:   {} -> {}", created(&image.from), created(&image.to)));
        let (from, to) = (decimal_size(image.from.size), decimal_size(image.to.size));
        lines.push(format!("size:      {from} -> {to} ({})", image.platform));
    }
    lines
}

/// A time without what is below a second.
fn to_seconds(time: &str) -> String {
    time.parse::<jiff::Timestamp>()
        .map_or_else(|_| time.to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn change_json(change: &Change) -> Value {
    let facts = |facts: &ImageFacts| json!({"created": facts.created, "size": facts.size});
    json!({
        "known": change.is_known,
        "gained": names(&change.gained),
        "lost": names(&change.lost),
        "image": change.image.as_ref().map(|image| json!({
            "platform": image.platform.format_all(), "from": facts(&image.from), "to": facts(&image.to),
        })),
    })
}

fn names(platforms: &[Platform]) -> Value {
    platforms.iter().map(Platform::format_all).collect::<Vec<_>>().into()
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().take(PLATFORMS_SHOWN).map(Platform::to_string).collect();
    let more = platforms.len().saturating_sub(PLATFORMS_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

fn described(target: &Target) -> String {
    let what = match (target.is_index(), target.platforms.as_slice()) {
        (true, []) => "index".to_owned(),
        (true, platforms) => format!("index: {}", list(platforms)),
        (false, []) => "one manifest".to_owned(),
        (false, platforms) => format!("{} alone", list(platforms)),
    };
    format!("{} ({what})", short(&target.digest))
}

/// The start of a digest, enough to tell it from others.
fn short(digest: &Digest) -> String {
    let text = digest.as_str();
    let end = text.find(':').map_or(text.len(), |colon| (colon + 13).min(text.len()));
    text[..end].to_owned()
}

/// The failure with its causes, in one line.
fn cause(failure: &PinFailure) -> String {
    match failure {
        PinFailure::Content(error) => {
            let text = CommandError::from(anyhow::Error::new(std::sync::Arc::clone(error))).render(Voice::Buildx);
            text.trim_start_matches("ERROR: ").trim_end().to_owned()
        }
        other => other.to_string(),
    }
}

fn failure_hints(failure: &PinFailure) -> Vec<String> {
    match failure {
        PinFailure::Name(reason) => reason.hint().into_iter().collect(),
        PinFailure::Content(error) if error.is_not_found() => {
            vec!["--except IMAGE leaves an image alone that is in no registry".to_owned()]
        }
        PinFailure::Content(error) => registry_error(std::sync::Arc::clone(error)).hints,
        PinFailure::NoMatch { .. } => vec!["leave --platform out to pin the index".to_owned()],
        PinFailure::Conflict => vec!["write the image twice, or leave --platform out".to_owned()],
    }
}
