//! What lowering asks the outside, answered from the context, the local store and registries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use onetag_dockerfile::git::GitReference;
use onetag_dockerfile::resolver::{IgnoreFile, NamedContext, ResolveError, ResolveOptions, ResolvedImage, Resolver};
use onetag_llb::SourceOp;
use onetag_oci::{Platform, Reference};

use crate::catalog::{Catalog, CatalogError, FoundImage};
use crate::progress::{Activity, Event, Sink};

/// Tells when a source was last changed; the text is what progress shows.
pub(crate) type TimeOf<'a> = dyn Fn(&SourceOp, &str) -> Result<Option<i64>, ResolveError> + Sync + 'a;

type Found = Result<Arc<FoundImage>, CatalogError>;

/// The answers of one build; every question is asked outside once.
pub(crate) struct BuildResolver<'a> {
    catalog: &'a Catalog,
    sink: &'a Sink<'a>,
    /// The folder of the context and the Dockerfile's path, where they are on this host.
    folder: Option<PathBuf>,
    dockerfile: Option<PathBuf>,
    contexts: BTreeMap<String, String>,
    allow_platform_mismatch: bool,
    times: Option<&'a TimeOf<'a>>,
    ignore: OnceLock<Result<Option<IgnoreFile>, Arc<std::io::Error>>>,
    images: Mutex<HashMap<String, Arc<OnceLock<Found>>>>,
    /// What was told not to be in the lock file.
    unlocked: Mutex<BTreeSet<String>>,
}

/// Why the outside had no answer.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("failed to read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: Arc<std::io::Error>,
    },
}

impl<'a> BuildResolver<'a> {
    pub(crate) fn new(catalog: &'a Catalog, sink: &'a Sink<'a>) -> Self {
        Self {
            catalog,
            sink,
            folder: None,
            dockerfile: None,
            contexts: BTreeMap::new(),
            allow_platform_mismatch: false,
            times: None,
            ignore: OnceLock::new(),
            images: Mutex::default(),
            unlocked: Mutex::default(),
        }
    }

    /// Where the context and the Dockerfile are.
    pub(crate) fn with_files(mut self, folder: Option<PathBuf>, dockerfile: Option<PathBuf>) -> Self {
        (self.folder, self.dockerfile) = (folder, dockerfile);
        self
    }

    /// What `--build-context` names.
    pub(crate) fn with_contexts(mut self, contexts: BTreeMap<String, String>) -> Self {
        self.contexts = contexts;
        self
    }

    /// Who knows when sources were last changed.
    pub(crate) fn with_times(mut self, times: &'a TimeOf<'a>) -> Self {
        self.times = Some(times);
        self
    }

    /// Takes bare manifests of other platforms.
    pub(crate) fn with_platform_mismatch(mut self, allowed: bool) -> Self {
        self.allow_platform_mismatch = allowed;
        self
    }

    fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
        options: &ResolveOptions,
    ) -> Result<Arc<FoundImage>, CatalogError> {
        let key = format!("{reference} {} {} {:?}", platform.format_all(), options.files_only, options.mode);
        let cell = Arc::clone(self.images.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        cell.get_or_init(|| {
            let activity = Activity::start(&options.log_name, self.sink);
            activity.finish(self.find(reference, platform, options))
        })
        .clone()
    }

    fn find(
        &self,
        reference: &Reference,
        platform: &Platform,
        options: &ResolveOptions,
    ) -> Result<Arc<FoundImage>, CatalogError> {
        let image = self.catalog.find(reference, platform, options.mode)?;
        self.warn_unlocked(reference, &image);
        match &image.mismatch {
            Some(actual) if !self.allow_platform_mismatch && !options.files_only => Err(CatalogError::NoMatch {
                reference: reference.to_string(),
                wanted: platform.format_all(),
                available: vec![actual.format_all()],
            }),
            Some(actual) => {
                let (wanted, actual) = (platform.format_all(), actual.format_all());
                (self.sink)(Event::Warning {
                    vertex: image.digest.clone(),
                    message: format!("{reference} is for {actual}, not for {wanted}"),
                });
                Ok(image)
            }
            None => Ok(image),
        }
    }

    /// Tells once that the lock file has nothing for an image.
    fn warn_unlocked(&self, reference: &Reference, image: &FoundImage) {
        let Some(lock) = self.catalog.lock_without(reference) else { return };
        if self.unlocked.lock().unwrap_or_else(PoisonError::into_inner).insert(reference.to_string()) {
            let lock = lock.display();
            let message =
                format!("{reference} is not in {lock}: used what its tag is now; onetag pin --lock {lock} adds it");
            (self.sink)(Event::Warning { vertex: image.digest.clone(), message });
        }
    }

    fn read_ignore_file(&self) -> std::io::Result<Option<IgnoreFile>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let beside = self.dockerfile.as_ref().map(|path| {
            let mut name = path.clone().into_os_string();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        for path in beside.into_iter().chain([folder.join(".dockerignore")]) {
            match std::fs::read(&path) {
                Ok(content) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    return Ok(Some(IgnoreFile { name, content }));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Resolver for BuildResolver<'_> {
    fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
        options: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError> {
        let image = self.image(reference, platform, options).map_err(ResolveError::new)?;
        Ok(ResolvedImage {
            reference: reference.clone(),
            digest: image.digest.clone(),
            config: image.config.value().clone(),
            config_bytes: image.config.bytes().to_vec(),
        })
    }

    fn prefetch(&self, wanted: &[(Reference, Platform, ResolveOptions)]) {
        let Some(((first_reference, first_platform, first_options), others)) = wanted.split_first() else { return };
        std::thread::scope(|scope| {
            for (reference, platform, options) in others {
                scope.spawn(move || self.image(reference, platform, options));
            }
            // Whoever asks for the image itself gets the error.
            let _ = self.image(first_reference, first_platform, first_options);
        });
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        let read = || {
            let activity = Activity::start("[internal] load .dockerignore", self.sink);
            let file = self.read_ignore_file();
            let bytes = file.as_ref().map_or(0, |file| file.as_ref().map_or(2, |file| file.content.len()));
            activity.transferred("transferring context:", bytes as u64);
            activity.finish(file).map_err(Arc::new)
        };
        self.ignore.get_or_init(read).clone().map_err(|source| {
            let path = Path::new(".dockerignore").to_owned();
            ResolveError::new(Refusal::Read { path, source })
        })
    }

    fn named_context(&self, key: &str) -> Result<Option<NamedContext>, ResolveError> {
        let Some(value) = self.contexts.get(key) else { return Ok(None) };
        if value.is_empty() {
            return Ok(None);
        }
        let context = match value.split_once("://") {
            Some(("docker-image", reference)) => NamedContext::Image(reference.to_owned()),
            Some(("http" | "https", _)) if is_git(value) => NamedContext::Git(value.clone()),
            Some(("http" | "https", _)) => NamedContext::Http(value.clone()),
            Some(("git" | "ssh", _)) => NamedContext::Git(value.clone()),
            Some(("oci-layout", _)) => {
                let digest = self.catalog.import(value).map_err(ResolveError::new)?;
                NamedContext::OciLayout { store: key.to_owned(), digest }
            }
            _ if value.starts_with("target:") => NamedContext::Stage(value["target:".len()..].to_owned()),
            // As scp writes it. What could be a folder and is there is one.
            None if is_scp_address(value) && !Path::new(value).exists() => NamedContext::Git(value.clone()),
            _ => {
                let ignore = std::fs::read(Path::new(value).join(".dockerignore")).ok();
                NamedContext::Local { name: context_name(key), ignore }
            }
        };
        Ok(Some(context))
    }

    fn source_time(&self, source: &SourceOp, log_name: &str) -> Result<Option<i64>, ResolveError> {
        self.times.map_or(Ok(None), |time_of| time_of(source, log_name))
    }
}

fn is_scp_address(text: &str) -> bool {
    // A wrong query is an error of the repository's, which is told where it is lowered.
    !text.starts_with("github.com/") && GitReference::is_source(text)
}

fn is_git(url: &str) -> bool {
    let path = url.split(['#', '?']).next().unwrap_or(url);
    path.ends_with(".git")
}

/// The name of the local source that a named context's folder becomes.
pub(crate) fn context_name(key: &str) -> String {
    format!("context:{key}")
}
