//! Goes through a Dockerfile and collects what it names.

use std::ops::Range;

use onetag_oci::Reference;

use super::places::Places;
use super::words::{self, Values, Words};
use super::{Expression, ImageOptions, NamedImage, Obstacle, Site, UsedPlatform};
use crate::diagnostic::Diagnostic;
use crate::file::{Dockerfile, parse};
use crate::parser::{Node, Parser, Word};
use crate::shell::{Lex, Variables};

/// The base that is no image.
const SCRATCH: &str = "scratch";

/// What the architecture arguments can be, to see whether a name is that of a stage for each.
const ARCHITECTURES: [(&str, &str); 10] = [
    ("amd64", ""),
    ("arm64", ""),
    ("arm64", "v8"),
    ("arm", "v7"),
    ("arm", "v6"),
    ("386", ""),
    ("s390x", ""),
    ("ppc64le", ""),
    ("riscv64", ""),
    ("loong64", ""),
];

/// The images that a Dockerfile names, in its order.
///
/// # Errors
/// What is wrong with the Dockerfile.
pub fn images(text: &[u8], options: &ImageOptions) -> Result<Vec<NamedImage>, Vec<Diagnostic>> {
    let (file, errors) = parse(text);
    if !errors.is_empty() {
        return Err(errors);
    }
    let nodes: Vec<Node> = Parser::new(&file.source).filter_map(Result::ok).collect();
    let mut finder = Finder {
        lex: Lex::new(file.escape),
        file: &file,
        options,
        nodes: &nodes,
        values: Values::new(),
        variables: Variables::new(),
        stages_begun: 0,
        found: Vec::new(),
    };
    for (source, node) in nodes.iter().enumerate() {
        finder.node(source, node);
    }
    let places = Places::new(text);
    Ok(finder.found.iter().map(|found| finder.named(found, &places)).collect())
}

/// An image while its name is looked at.
struct Found {
    source: usize,
    /// The bytes of the name in the joined line.
    bytes: Range<usize>,
    instruction: String,
    written: String,
    platform: UsedPlatform,
    expression: Result<Expression, Obstacle>,
    /// What the name is, where the expression cannot tell.
    reference: Option<Reference>,
}

struct Finder<'a> {
    lex: Lex,
    file: &'a Dockerfile,
    options: &'a ImageOptions,
    nodes: &'a [Node],
    /// The global arguments, with places.
    values: Values,
    /// The global arguments as the build sees them.
    variables: Variables,
    stages_begun: usize,
    found: Vec<Found>,
}

impl Finder<'_> {
    fn node(&mut self, source: usize, node: &Node) {
        let keyword = node.keyword.text.to_ascii_lowercase();
        match (keyword.as_str(), &node.sub) {
            ("from", _) => self.base(source, node),
            ("arg", _) if self.stages_begun == 0 => {
                node.args.iter().for_each(|word| self.argument(source, word));
            }
            ("onbuild", Some(sub)) => self.flags(source, node, sub, "ONBUILD "),
            _ => self.flags(source, node, node, ""),
        }
    }

    /// A global `ARG`.
    fn argument(&mut self, source: usize, word: &Word) {
        let (name, default) = match word.text.split_once('=') {
            Some((name, default)) => (name, Some(default)),
            None => (word.text.as_str(), None),
        };
        if let Some(given) = self.options.build_args.get(name) {
            self.variables.set(name, given);
            self.values.insert(name.to_owned(), Ok(Expression::given(given)));
            return;
        }
        let Some(default) = default else { return };
        let value = self.expand(source, default, word.start() + name.len() + 1);
        if let Ok(expanded) = self.lex.process_word(default, &self.variables) {
            self.variables.set(name, &expanded.value);
        }
        self.values.insert(name.to_owned(), value);
    }

    /// Expands a word, and makes sure that it comes to what the build takes it for.
    fn expand(&self, source: usize, text: &str, offset: usize) -> Result<Expression, Obstacle> {
        let words = Words { escape: self.lex.escape, values: &self.values, source };
        let expression = words.expand(text, offset)?;
        let expected =
            self.lex.process_word(text, &self.variables).map_err(|error| Obstacle::Shell(Box::new(error)))?;
        if expression.text() == expected.value { Ok(expression) } else { Err(Obstacle::Spread) }
    }

    /// The image of a `FROM`.
    fn base(&mut self, source: usize, node: &Node) {
        let stages = &self.file.stages[..self.stages_begun.min(self.file.stages.len())];
        self.stages_begun += 1;
        let Some(word) = node.args.first() else { return };
        let expression = self.expand(source, &word.text, word.start());
        let is_stage = |name: &str| !name.is_empty() && stages.iter().any(|stage| stage.name == name);
        let mut reference = None;
        match &expression {
            Ok(expression) => {
                let text = expression.text();
                if is_stage(&text) || text == SCRATCH || self.is_context(&text) {
                    return;
                }
            }
            Err(Obstacle::PerPlatform { .. }) => {
                if self.for_architectures(&word.text).iter().any(|name| is_stage(name)) {
                    return;
                }
            }
            Err(Obstacle::Substitution { .. } | Obstacle::Spread) => {
                let expanded = self.lex.process_word(&word.text, &self.variables).ok();
                // What depends on the platform is not known here.
                let expanded =
                    expanded.filter(|expanded| !expanded.unmatched.iter().any(|name| words::is_automatic(name)));
                if let Some(expanded) = expanded {
                    if is_stage(&expanded.value) || expanded.value == SCRATCH || self.is_context(&expanded.value) {
                        return;
                    }
                    reference = Reference::parse(&expanded.value).ok();
                }
            }
            Err(_) => {}
        }
        self.found.push(Found {
            source,
            bytes: word.start()..word.end(),
            instruction: "FROM".to_owned(),
            written: word.text.clone(),
            platform: self.stage_platform(node),
            expression,
            reference,
        });
    }

    /// What a name that depends on the architecture comes to.
    fn for_architectures(&self, text: &str) -> Vec<String> {
        let expand = |(architecture, variant): (&str, &str)| {
            let mut variables = self.variables.clone();
            let variant_of = |separator: &str| {
                if variant.is_empty() { String::new() } else { format!("{separator}{variant}") }
            };
            for prefix in ["TARGET", "BUILD"] {
                variables.set(&format!("{prefix}ARCH"), architecture);
                variables.set(&format!("{prefix}VARIANT"), variant);
                variables.set(&format!("{prefix}OS"), "linux");
                variables.set(&format!("{prefix}PLATFORM"), &format!("linux/{architecture}{}", variant_of("/")));
            }
            self.lex.process_word(text, &variables).ok().map(|expanded| expanded.value)
        };
        ARCHITECTURES.into_iter().filter_map(expand).collect()
    }

    fn stage_platform(&self, node: &Node) -> UsedPlatform {
        let value = node.flags.iter().find_map(|flag| flag.text.strip_prefix("--platform="));
        let Some(value) = value.filter(|value| !value.is_empty()) else { return UsedPlatform::Target };
        if value.contains("BUILDPLATFORM") {
            return UsedPlatform::Build;
        }
        let expanded = self.lex.process_word(value, &self.variables).ok();
        match expanded.and_then(|expanded| expanded.value.parse().ok()) {
            Some(platform) if !value.contains("TARGET") => UsedPlatform::Fixed(Box::new(platform)),
            _ => UsedPlatform::Target,
        }
    }

    /// The images of `COPY --from` and `RUN --mount`.
    fn flags(&mut self, source: usize, outer: &Node, node: &Node, trigger: &str) {
        let keyword = node.keyword.text.to_ascii_uppercase();
        let (flag, name) = match keyword.as_str() {
            "COPY" => ("--from=", "COPY --from"),
            "RUN" => ("--mount=", "RUN --mount"),
            _ => return,
        };
        for word in node.flags.iter().filter(|word| word.text.starts_with(flag)) {
            let Some(raw) = outer.original.get(word.start()..word.end()) else { continue };
            let whole = words::flag(raw, word.start(), self.lex.escape, source);
            let value = whole.slice(flag.len()..whole.characters.len());
            let value = if keyword == "RUN" { words::mount_from(&value) } else { Some(value) };
            let Some(expression) = value.filter(|value| !value.characters.is_empty()) else { continue };
            let text = expression.text();
            let is_index = keyword == "COPY" && text.parse::<i64>().is_ok();
            let is_stage =
                self.file.stages.iter().any(|stage| !stage.name.is_empty() && stage.name == text.to_lowercase());
            if is_index || is_stage || text == SCRATCH || self.is_context(&text) {
                continue;
            }
            let first = expression.characters.first().and_then(|character| character.place.clone());
            let start = first.map_or(word.start(), |place| place.bytes.start);
            let may_be_stage = !trigger.is_empty() && !text.contains([':', '/', '@']);
            self.found.push(Found {
                source,
                bytes: start..word.end(),
                instruction: format!("{trigger}{name}"),
                written: text,
                platform: UsedPlatform::Target,
                expression: if may_be_stage { Err(Obstacle::Trigger) } else { Ok(expression) },
                reference: None,
            });
        }
    }

    /// Whether the name is that of a context, with or without a platform.
    fn is_context(&self, name: &str) -> bool {
        if self.options.contexts.is_empty() {
            return false;
        }
        let familiar = Reference::parse(name).map(|reference| reference.with_default_tag().familiar());
        let familiar = familiar.unwrap_or_else(|_| name.to_owned());
        let short = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        self.options.contexts.iter().any(|context| {
            let context = context.split("::").next().unwrap_or_default();
            context == name || context == short || context == familiar
        })
    }

    fn named(&self, found: &Found, places: &Places<'_>) -> NamedImage {
        let reference = match (&found.expression, &found.reference) {
            (Ok(expression), _) => expression.reference(),
            (Err(_), Some(reference)) => Ok(reference.clone()),
            (Err(obstacle), None) => Err(obstacle.clone()),
        };
        let site = found.expression.clone().and_then(|expression| {
            expression.reference()?;
            let site = expression.site()?;
            self.means_one_thing(&expression, &site)?;
            places.behind(&self.nodes[site.source], &site.last, &site.bytes).ok_or(Obstacle::Spread)
        });
        NamedImage {
            position: self.nodes[found.source].span(found.bytes.start, found.bytes.end).start,
            instruction: found.instruction.clone(),
            written: found.written.clone(),
            platform: found.platform.clone(),
            reference,
            site,
        }
    }

    /// Whether a digest in the default of a global `ARG` is right wherever that is used.
    fn means_one_thing(&self, expression: &Expression, site: &Site) -> Result<(), Obstacle> {
        let is_argument = self.nodes[site.source].keyword.text.eq_ignore_ascii_case("arg");
        let Some(variable) = site.variable.clone().filter(|_| is_argument) else { return Ok(()) };
        let names = [format!("${variable}"), format!("${{{variable}")];
        let shared = |line| Err(Obstacle::Shared { variable: variable.clone(), line });
        for other in &self.found {
            let is_same = match &other.expression {
                Ok(other) if !other.comes_through(&variable) => true,
                Ok(other) => other.text() == expression.text() && other.site().as_ref() == Ok(site),
                Err(_) => !names.iter().any(|name| other.written.contains(name)),
            };
            if !is_same {
                return shared(self.nodes[other.source].lines.start);
            }
        }
        let stages = self.nodes.iter().skip_while(|node| !node.keyword.text.eq_ignore_ascii_case("from"));
        for node in stages.filter(|node| node.keyword.text.eq_ignore_ascii_case("arg")) {
            for word in &node.args {
                // There, the whole reference may well have its digest; the tag alone is something else.
                let Some(Ok(value)) = self.values.get(&word.text) else { continue };
                let is_used = word.text == variable || value.comes_through(&variable);
                if is_used && value.text() != expression.text() {
                    return shared(node.lines.start);
                }
            }
        }
        Ok(())
    }
}
