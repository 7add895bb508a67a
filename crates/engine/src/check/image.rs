//! The image of one platform: its config, the way of its entry point, and the programs in its layers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use onetag_oci::elf::Program;
use onetag_oci::{Digest, Document, ImageConfig, Manifest, Platform, media_type};

use super::entry::{Trace, trace};
use super::layer::LayerContents;
use super::machine::{Fit, fit, names_machine};
use super::problem::{Finding, Problem, label};
use super::tree::{Layers, Unread};

/// Paths that a finding names at most.
const EXAMPLES: usize = 3;

/// Layers by digest, as far as they were read; none for one that cannot be.
pub(super) type KnownLayers = HashMap<Digest, Option<Arc<LayerContents>>>;

/// One image while it is looked at.
pub(super) struct Image {
    /// Its place among the entries.
    pub(super) entry: usize,
    /// As findings name it.
    pub(super) name: String,
    /// The platform that the index claims, else the config's; normalized.
    pub(super) platform: Platform,
    pub(super) manifest: Document<Manifest>,
    pub(super) config: Document<ImageConfig>,
    /// Where the entry point leads, once that is known.
    pub(super) trace: Option<Trace>,
    /// Whether nothing more can be learned about the entry point.
    pub(super) is_settled: bool,
    /// ELF files looked at.
    pub(super) programs: usize,
}

impl Image {
    /// Whether its programs are ELF files of an operating system that executes them.
    pub(super) fn is_looked_into(&self) -> bool {
        ["linux", "android", "freebsd", "netbsd", "openbsd", "solaris"].contains(&self.platform.os.as_str())
    }

    /// Index and config have to tell the same.
    pub(super) fn compare_config(&self, claimed: Option<&Platform>, findings: &mut Vec<Finding>) {
        let mut find = |problem| findings.push(Finding::of(&self.name, problem));
        let (layers, diff_ids) = (self.manifest.layers.len(), self.config.rootfs.diff_ids.len());
        if layers != diff_ids {
            find(Problem::LayerCount { layers, diff_ids });
        }
        let Some(claimed) = claimed else { return };
        let actual = self.config.platform();
        let (said, config) = (label(claimed), label(&actual));
        let (left, right) = (claimed.normalize(), actual.normalize());
        let is_same = left.os == right.os && left.architecture == right.architecture;
        let has_no_variant = actual.variant.is_none() && left.variant.is_some();
        if !is_same || (left.variant != right.variant && !has_no_variant) {
            find(Problem::ConfigPlatform { said, config });
        } else if has_no_variant && left.variant != right.variant {
            find(Problem::ConfigVariant { said, config });
        } else if left.os_version.is_some() && right.os_version.is_some() && left.os_version != right.os_version {
            find(Problem::ConfigPlatform { said, config });
        }
    }

    /// Follows the entry point as far as the layers that were read allow. Gives the layer to read next.
    pub(super) fn follow(&mut self, known: &KnownLayers) -> Option<usize> {
        if self.is_settled {
            return None;
        }
        self.is_settled = true;
        match trace(&self.layers(known), &self.config.config) {
            Ok(trace) => self.trace = Some(trace),
            Err(Unread) => {
                let layers = &self.manifest.layers;
                let next = layers.iter().rposition(|layer| !matches!(known.get(&layer.digest), Some(Some(_))))?;
                // A layer that cannot be read hides what is below it.
                self.is_settled = known.contains_key(&layers[next].digest);
                return (!self.is_settled).then_some(next);
            }
        }
        None
    }

    fn layers<'k>(&self, known: &'k KnownLayers) -> Layers<'k> {
        let layers = self.manifest.layers.iter().rev();
        Layers(layers.map(|layer| known.get(&layer.digest)?.as_deref()).collect())
    }

    /// What the entry point's way and the programs in the layers say of the platform.
    pub(super) fn judge(&mut self, known: &KnownLayers, findings: &mut Vec<Finding>) {
        let foreign = self.manifest.layers.iter().filter(|layer| media_type::is_nondistributable(&layer.media_type));
        let foreign = foreign.count();
        if foreign > 0 {
            findings.push(Finding::of(&self.name, Problem::ForeignLayers { count: foreign }));
        }
        if !self.is_looked_into() {
            let os = self.platform.os.clone();
            findings.push(Finding::of(&self.name, Problem::NotLooked { os }));
            return;
        }
        if let Some(trace) = &self.trace {
            let problems = judge_trace(trace, &self.platform);
            findings.extend(problems.into_iter().map(|problem| Finding::of(&self.name, problem)));
        }
        self.judge_layers(known, findings);
        self.compare_layers(known, findings);
    }

    /// Layers have to be what the config says they unpack to, and compressed as their media type says.
    fn compare_layers(&self, known: &KnownLayers, findings: &mut Vec<Finding>) {
        for (number, layer) in self.manifest.layers.iter().enumerate() {
            let Some(Some(contents)) = known.get(&layer.digest) else { continue };
            let digest = layer.digest.clone();
            if let Some(said) = self.config.rootfs.diff_ids.get(number)
                && said.0 != contents.diff_id
            {
                let (said, actual) = (said.0.clone(), contents.diff_id.clone());
                findings.push(Finding::of(&self.name, Problem::DiffId { digest: digest.clone(), said, actual }));
            }
            if media_type::layer_compression(&layer.media_type).is_some_and(|said| said != contents.compression) {
                let actual = match contents.compression {
                    onetag_oci::Compression::None => "not compressed",
                    onetag_oci::Compression::Gzip => "compressed with gzip",
                    onetag_oci::Compression::Zstd => "compressed with zstd",
                };
                let problem = Problem::Compression { digest, said: layer.media_type.clone(), actual };
                findings.push(Finding::of(&self.name, problem));
            }
        }
    }

    /// Looks at every ELF file that was seen. Those that a container cannot see count, but tell nothing.
    fn judge_layers(&mut self, known: &KnownLayers, findings: &mut Vec<Finding>) {
        let layers = self.layers(known);
        let on_the_way: Vec<&str> =
            self.trace.iter().flat_map(|trace| &trace.steps).map(|step| step.path.as_str()).collect();
        let mut groups = Groups::default();
        for (number, layer) in layers.0.iter().enumerate() {
            let Some(layer) = layer else { break };
            for (path, program) in layer.elf_files() {
                self.programs += 1;
                let shown = format!("/{}", String::from_utf8_lossy(path));
                if layers.holder(path) == Some(number) && !on_the_way.contains(&shown.as_str()) {
                    groups.add(shown, program, layer.is_executable(path), &self.platform);
                }
            }
        }
        findings.extend(groups.problems(&self.platform).map(|problem| Finding::of(&self.name, problem)));
    }
}

/// What the way of an entry point says of a platform, which MUST be normalized.
pub(crate) fn judge_trace(trace: &Trace, platform: &Platform) -> Vec<Problem> {
    let mut problems = Vec::new();
    for step in &trace.steps {
        let (role, path) = (step.role.name(), step.path.clone());
        let (machine, name) = (step.program.header.machine_name(), platform.format_all());
        match fit(&step.program, platform) {
            Fit::Same => {}
            Fit::Foreign => problems.push(Problem::Foreign { role, path, machine, platform: name }),
            Fit::Compatible => problems.push(Problem::Compatible { role, path, machine, platform: name }),
            Fit::TooNew(needed) => {
                let needed = needed.variant();
                problems.push(Problem::TooNew { role, path, machine, needed, platform: name });
            }
        }
    }
    match (&trace.problem, &trace.command) {
        // A foreign program explains by itself why its loader is not there.
        (Some(_), _) if problems.iter().any(|problem| matches!(problem, Problem::Foreign { .. })) => {}
        (Some(problem), _) => problems.push(Problem::Entry(problem.clone())),
        (None, None) => problems.push(Problem::NoEntryPoint),
        (None, Some(_)) => {}
    }
    problems
}

/// Files that do not suit, by what is wrong with them.
#[derive(Default)]
pub(crate) struct Groups {
    programs: BTreeMap<String, Vec<String>>,
    files: BTreeMap<String, Vec<String>>,
    newer: BTreeMap<(String, String), Vec<String>>,
}

impl Groups {
    /// Takes a file of an image of this platform, which MUST be normalized.
    pub(crate) fn add(&mut self, path: String, program: &Program, is_executable: bool, platform: &Platform) {
        let machine = program.header.machine_name();
        match fit(program, platform) {
            Fit::Same | Fit::Compatible => {}
            // Loaders choose among these by what the processor can.
            Fit::TooNew(_) if path.contains("hwcaps") => {}
            Fit::TooNew(needed) => self.newer.entry((machine, needed.variant())).or_default().push(path),
            Fit::Foreign => {
                let is_meant = names_machine(&path, program.header.architecture());
                let group = match program.is_program() && is_executable && !is_meant {
                    true => &mut self.programs,
                    false => &mut self.files,
                };
                group.entry(machine).or_default().push(path);
            }
        }
    }

    /// One problem for each group.
    pub(crate) fn problems(self, platform: &Platform) -> impl Iterator<Item = Problem> {
        let platform = platform.format_all();
        let other = platform.clone();
        let short = |mut paths: Vec<String>| {
            let count = paths.len();
            paths.sort();
            paths.truncate(EXAMPLES);
            (count, paths)
        };
        let programs = self.programs.into_iter().map(move |(machine, paths)| {
            let (count, paths) = short(paths);
            Problem::ForeignPrograms { machine, platform: platform.clone(), count, paths }
        });
        let files = self.files.into_iter().map(move |(machine, paths)| {
            let (count, paths) = short(paths);
            Problem::ForeignFiles { machine, count, paths }
        });
        let newer = self.newer.into_iter().map(move |((machine, needed), paths)| {
            let (count, paths) = short(paths);
            Problem::NewerFiles { machine, needed, platform: other.clone(), count, paths }
        });
        programs.chain(files).chain(newer)
    }
}
