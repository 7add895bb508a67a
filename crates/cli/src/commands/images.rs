//! `onetag images`: tag, index, platforms.

use std::rc::Rc;

use clap::Args;
use onetag_engine::images::{ImageSummary, PlatformSummary, list};
use onetag_oci::{Platform, PlatformMatcher, Reference, only};

use super::pull::short;
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;
use crate::table;
use crate::tabwriter::TabWriter;
use crate::template::Value;
use crate::units::{age, decimal_size};

/// What is shown without `--format`.
const TABLE: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.Platforms}}";
const TABLE_WITH_DIGESTS: &str =
    "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.Platforms}}";
const HEADERS: &[(&str, &str)] = &[
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Platforms", "PLATFORMS"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

/// List images: tag, index, platforms
#[derive(Args, Debug)]
pub struct ImagesArguments {
    /// Only images of this repository, tag or pattern
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pattern: Option<String>,
    /// Show what is hidden otherwise: what is attested of images
    #[arg(long, short)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output: reference=PATTERN, before=IMAGE, since=IMAGE, label=KEY[=VALUE], platform=PLATFORM, dangling=BOOL
    #[arg(long, short, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format the output: table, table TEMPLATE, json or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(long, short)]
    quiet: bool,
    /// Show the platforms of each image as a tree
    #[arg(long)]
    tree: bool,
}

/// An image under one of its names.
struct Row {
    reference: Option<Reference>,
    summary: Rc<ImageSummary>,
}

impl ImagesArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let summaries = list(context.engine()?.store()?)?;
        let mut rows = Vec::new();
        for summary in summaries.into_iter().map(Rc::new) {
            let named = summary.references().map(|name| Row { reference: Some(name), summary: Rc::clone(&summary) });
            rows.extend(named);
        }
        let mut filters = self.filter.clone();
        filters.extend(self.pattern.as_ref().map(|pattern| format!("reference={pattern}")));
        for filter in &filters {
            rows = apply(filter, rows)?;
        }
        // newest first; what has no date last, names in order
        rows.sort_by(|a, b| b.summary.created.cmp(&a.summary.created));
        if self.tree {
            return Ok(output::write(tree(&rows, self.all))?);
        }
        if self.quiet {
            let mut shown = std::collections::BTreeSet::new();
            for row in &rows {
                let digest = &row.summary.digest;
                if shown.insert(digest.clone()) {
                    output::line(if self.no_trunc { digest.as_str() } else { short(digest) })?;
                }
            }
            return Ok(());
        }
        let default = if self.digests { TABLE_WITH_DIGESTS } else { TABLE };
        let format = match self.format.as_deref() {
            None | Some("table") => default,
            Some(format) => format,
        };
        Ok(output::write(table::render(format, HEADERS, rows.iter().map(|row| self.value(row)))?)?)
    }

    fn value(&self, row: &Row) -> Value {
        let summary = &row.summary;
        let digest = &summary.digest;
        let created = summary.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let repository = row.reference.as_ref().map_or_else(|| "<none>".to_owned(), Reference::familiar_name);
        let tag = row.reference.as_ref().and_then(Reference::tag).unwrap_or("<none>");
        let size = decimal_size(summary.size);
        let columns = [
            ("Containers", "N/A".to_owned()),
            (
                "CreatedAt",
                created
                    .map_or_else(|| "N/A".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()),
            ),
            ("CreatedSince", created.map_or_else(|| "N/A".to_owned(), since)),
            ("Digest", digest.to_string()),
            ("ID", if self.no_trunc { digest.to_string() } else { short(digest).to_owned() }),
            ("Platforms", platforms(&summary.platforms)),
            ("Repository", repository),
            ("SharedSize", decimal_size(summary.shared_size)),
            ("Size", size.clone()),
            ("Tag", tag.to_owned()),
            ("UniqueSize", decimal_size(summary.size.saturating_sub(summary.shared_size))),
            ("VirtualSize", size),
        ];
        let columns = columns.into_iter().map(|(name, text)| (name.to_owned(), Value::Text(text)));
        let (summary, all) = (Rc::clone(summary), self.all);
        let manifests = move || {
            let manifests = summary.platforms.iter().map(|platform| manifest(platform, "image"));
            let attestations = summary.attestations.iter().filter(|_| all);
            Ok::<_, String>(Value::list(
                manifests.chain(attestations.map(|platform| manifest(platform, "attestation"))),
            ))
        };
        Value::map(columns.chain([("Manifests".to_owned(), Value::Lazy(Rc::new(manifests)))]))
    }
}

/// A platform for templates and JSON.
fn manifest(platform: &PlatformSummary, kind: &str) -> Value {
    Value::from_json(&serde_json::json!({
        "Available": platform.is_here,
        "Created": platform.created,
        "Digest": platform.digest,
        "Kind": kind,
        "Platform": name(platform.platform.as_ref()),
        "SharedSize": platform.shared_size,
        "Size": platform.size,
    }))
}

fn since(time: jiff::Timestamp) -> String {
    age(jiff::Timestamp::now().as_second() - time.as_second())
}

fn name(platform: Option<&Platform>) -> String {
    platform.map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

/// The platforms here, then how many are not.
fn platforms(platforms: &[PlatformSummary]) -> String {
    let here: Vec<_> =
        platforms.iter().filter(|platform| platform.is_here).map(|platform| name(platform.platform.as_ref())).collect();
    match platforms.len() - here.len() {
        0 => here.join(", "),
        absent if here.is_empty() => format!("({absent} not here)"),
        absent => format!("{} ({absent} not here)", here.join(", ")),
    }
}

fn apply(filter: &str, rows: Vec<Row>) -> CommandResult<Vec<Row>> {
    let (key, value) = filter
        .split_once('=')
        .ok_or_else(|| CommandError::new(format!("invalid filter {filter:?}")).with_hint("filters are KEY=VALUE"))?;
    let created_of = |rows: &[Row]| {
        let found = rows.iter().find(|row| matches_reference(row, value));
        found.map(|row| row.summary.created.clone()).ok_or_else(|| CommandError::new(format!("no such image: {value}")))
    };
    let keep: Box<dyn Fn(&Row) -> bool> = match key {
        "reference" => Box::new(|row| matches_reference(row, value)),
        "dangling" => {
            let wanted = crate::arguments::go_bool(value).map_err(CommandError::new)?;
            Box::new(move |row| row.reference.is_none() == wanted)
        }
        "before" => {
            let limit = created_of(&rows)?;
            Box::new(move |row| row.summary.created < limit)
        }
        "since" => {
            let limit = created_of(&rows)?;
            Box::new(move |row| row.summary.created > limit)
        }
        "label" => Box::new(|row| {
            let (key, wanted) = value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value)));
            let labels = row.summary.platforms.iter().flat_map(|platform| &platform.labels);
            labels.into_iter().any(|(known, value)| known == key && wanted.is_none_or(|wanted| wanted == value))
        }),
        "platform" => {
            let matcher = only(&crate::context::parse_platform(value)?);
            Box::new(move |row| {
                let mut platforms = row.summary.platforms.iter().filter_map(|platform| platform.platform.as_ref());
                platforms.any(|platform| matcher.matches(platform))
            })
        }
        other => {
            return Err(CommandError::new(format!("invalid filter '{other}'"))
                .with_hint("filters are reference, before, since, label, platform and dangling"));
        }
    };
    Ok(rows.into_iter().filter(|row| keep(row)).collect())
}

fn matches_reference(row: &Row, pattern: &str) -> bool {
    let Some(reference) = &row.reference else { return false };
    let name = reference.familiar_name();
    let full = reference.familiar();
    glob(pattern, &full)
        || glob(pattern, &name)
        || glob(pattern, &reference.to_string())
        || glob(pattern, &reference.repository())
}

/// Shell patterns with `*` and `?`, neither of which matches a slash.
fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            let longest = text.find('/').unwrap_or(text.len());
            (0..=longest).filter(|at| text.is_char_boundary(*at)).any(|at| glob(rest, &text[at..]))
        }
        (Some('?'), Some(c)) if c != '/' => glob(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => glob(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

/// One line an image, one below it for each platform, and with `all` for what is attested of each.
fn tree(rows: &[Row], all: bool) -> String {
    let mut table = TabWriter::new(0, 3);
    table.line("IMAGE\tID\tSIZE\tSHARED\tCREATED\tHERE");
    for row in rows {
        let summary = &row.summary;
        let image = row.reference.as_ref().map_or_else(|| "<none>".to_owned(), Reference::familiar);
        let id = short(&summary.digest);
        let (size, shared) = (decimal_size(summary.size), decimal_size(summary.shared_size));
        table.line(format!("{image}\t{id}\t{size}\t{shared}\t{}\t", created(summary.created.as_deref())));
        let platforms = summary.platforms.iter().map(|platform| (platform, ""));
        let attestations = summary.attestations.iter().filter(|_| all).map(|platform| (platform, " attested"));
        let entries: Vec<_> = platforms.chain(attestations).collect();
        for (number, (platform, what)) in entries.iter().enumerate() {
            let branch = if number + 1 == entries.len() { "└─" } else { "├─" };
            let here = if platform.is_here { "yes" } else { "no" };
            table.line(format!(
                "{branch} {}{what}\t{}\t{}\t{}\t{}\t{here}",
                name(platform.platform.as_ref()),
                short(&platform.digest),
                decimal_size(platform.size),
                decimal_size(platform.shared_size),
                created(platform.created.as_deref()),
            ));
        }
    }
    table.finish()
}

fn created(time: Option<&str>) -> String {
    time.and_then(|time| time.parse().ok()).map_or_else(|| "-".to_owned(), since)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_stop_at_slashes() {
        assert!(glob("app*", "app:latest"));
        assert!(glob("*", "app"));
        assert!(!glob("*", "user/app"));
        assert!(glob("*/app", "user/app"));
        assert!(glob("a?p", "app"));
        assert!(!glob("a?", "app"));
        assert!(glob("ä*", "äpp"));
    }
}
