//! An engine with a store of its own, a registry that counts requests, and contexts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use onetag_engine::build::{BuildError, BuildOutcome, BuildRequest};
use onetag_engine::export::{ExportOptions, Target};
use onetag_engine::progress::{Cancellation, Event};
use onetag_engine::{Engine, EngineOptions};
use onetag_oci::{Descriptor, Digest, ManifestDocument, Platform, Reference, media_type};
use onetag_testkit::fault::{FaultyRegistry, Request};
use onetag_testkit::fixture::{self, Image, Multi};
use onetag_testkit::folder;
use onetag_testkit::registry::InProcess;
use tempfile::TempDir;

/// Everything a build test needs; disappears with the value.
pub struct Setup {
    pub engine: Engine,
    pub registry: FaultyRegistry,
    upstream: InProcess,
    folder: TempDir,
}

/// What happened in a build: vertices by name.
#[derive(Debug, Default)]
pub struct Log {
    names: BTreeMap<Digest, String>,
    pub started: Vec<String>,
    pub cached: Vec<String>,
    pub output: String,
    pub warnings: Vec<String>,
}

impl Log {
    fn take(&mut self, event: Event) {
        match event {
            Event::Planned(vertices) => {
                self.names.extend(vertices.into_iter().map(|vertex| (vertex.digest, vertex.name)));
            }
            Event::Started { vertex, .. } => self.started.extend(self.names.get(&vertex).cloned()),
            Event::Cached { vertex, .. } => self.cached.extend(self.names.get(&vertex).cloned()),
            Event::Log { data, .. } => self.output.push_str(&String::from_utf8_lossy(&data)),
            Event::Warning { message, .. } => self.warnings.push(message),
            Event::Completed { .. } | Event::Status { .. } => {}
        }
    }

    /// How many vertices whose name holds `text` were executed.
    pub fn executed(&self, text: &str) -> usize {
        self.started.iter().filter(|name| name.contains(text)).count()
    }

    /// How many vertices whose name holds `text` were found in the cache or shared.
    pub fn found(&self, text: &str) -> usize {
        self.cached.iter().filter(|name| name.contains(text)).count()
    }
}

impl Setup {
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("onetag-engine-").unwrap();
        let upstream = InProcess::start();
        let registry = FaultyRegistry::start(upstream.address());
        let search_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
        let mut options = EngineOptions { root: folder.path().join("store"), search_path, ..EngineOptions::default() };
        options.emulator_folders.extend(fixture::qemu().ok());
        Self { engine: Engine::open(options), registry, upstream, folder }
    }

    /// Another store over the same registry.
    pub fn another(&self, name: &str) -> Engine {
        let root = self.folder.path().join(name);
        Engine::open(EngineOptions { root, ..self.engine.options().clone() })
    }

    /// A context of files; `Dockerfile` may name the registry as `REGISTRY`.
    pub fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.folder.path().join(name);
        for (path, content) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content.replace("REGISTRY", &self.registry.name())).unwrap();
        }
        root
    }

    /// A reference in the registry.
    pub fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.registry.name())).unwrap()
    }

    /// Puts an image into the registry, not through the counting proxy.
    pub fn publish(&self, image: &Multi, name: &str) {
        let client = self.engine.client().unwrap();
        let reference = Reference::parse(&format!("{}/{name}", self.upstream.name())).unwrap();
        for image in &image.images {
            publish_platform(client, image, &reference);
        }
        client.push_manifest(&reference, image.index.bytes(), media_type::OCI_INDEX).unwrap();
    }

    /// As [`Setup::publish`], the manifest of one platform alone.
    pub fn publish_bare(&self, image: &Image, name: &str) {
        let client = self.engine.client().unwrap();
        let reference = Reference::parse(&format!("{}/{name}", self.upstream.name())).unwrap();
        publish_platform(client, image, &reference);
        client.push_manifest(&reference, image.manifest.bytes(), media_type::OCI_MANIFEST).unwrap();
    }

    /// A request for `platforms` of a context.
    pub fn request(&self, context: &Path, platforms: &[&str]) -> BuildRequest {
        let mut request = BuildRequest::new(context.to_owned());
        request.platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
        request
    }

    /// As [`Setup::request`], pushed under a name.
    pub fn pushed(&self, context: &Path, platforms: &[&str], name: &str) -> BuildRequest {
        let mut request = self.request(context, platforms);
        request.tags.push(self.reference(name));
        request.outputs.push(ExportOptions::new(Target::Push));
        request
    }

    pub fn build(&self, request: &BuildRequest) -> (BuildOutcome, Log) {
        build(&self.engine, request)
    }

    pub fn try_build(&self, request: &BuildRequest) -> (Result<BuildOutcome, BuildError>, Log) {
        try_build(&self.engine, request, &Cancellation::new())
    }

    /// What the registry was asked for since the last call.
    pub fn requests(&self) -> Vec<Request> {
        let requests = self.registry.requests();
        self.registry.clear();
        requests
    }

    /// The image that a name means in the registry.
    pub fn pulled(&self, name: &str) -> ManifestDocument {
        let reference = Reference::parse(&format!("{}/{name}", self.upstream.name())).unwrap();
        self.engine.client().unwrap().manifest(&reference).unwrap()
    }
}

fn publish_platform(client: &onetag_registry::Client, image: &Image, reference: &Reference) {
    for (digest, bytes) in image.blobs() {
        let descriptor = Descriptor::new("application/octet-stream", digest.clone(), bytes.len() as u64);
        if digest == *image.manifest.digest() {
            let reference = reference.without_tag().with_digest(digest);
            client.push_manifest(&reference, bytes, media_type::OCI_MANIFEST).unwrap();
        } else {
            client.push_blob(reference, &descriptor, &bytes.to_vec(), &[]).unwrap();
        }
    }
}

pub fn build(engine: &Engine, request: &BuildRequest) -> (BuildOutcome, Log) {
    let (result, log) = try_build(engine, request, &Cancellation::new());
    (result.unwrap_or_else(|error| panic!("{}\n{log:#?}", text(&error))), log)
}

pub fn try_build(
    engine: &Engine,
    request: &BuildRequest,
    cancellation: &Cancellation,
) -> (Result<BuildOutcome, BuildError>, Log) {
    let log = Mutex::new(Log::default());
    let result = engine.build(request, cancellation, &|event| log.lock().unwrap().take(event));
    (result, log.into_inner().unwrap())
}

/// An error with its causes in one line, as the terminal shows it.
pub fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// An image of one small file for each platform; nothing in it can be executed.
pub fn small(platforms: &[&str]) -> Multi {
    let image = |platform: &&str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(platform.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "platform", platform.as_bytes()).unwrap();
        Image::new(platform.parse::<Platform>().unwrap(), archive.into_inner().unwrap())
    };
    Multi::new(platforms.iter().map(image).collect())
}

/// Why steps cannot run here, if they cannot.
pub fn steps() -> Result<Multi, String> {
    if !rustix::process::getuid().is_root() {
        return Err("steps in a test program need root".to_owned());
    }
    folder::fixtures()?;
    fixture::busybox()
}
