//! Contexts and Dockerfiles that have to be brought here before anything in them can be read.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use onetag_dockerfile::{LowerOptions, MainContext, lower_context, lower_download};
use onetag_llb as llb;
use onetag_oci::Digest;
use onetag_solver::ExecContext;
use onetag_store::tree::{MergedTree, Node};

use super::definition::{DEFAULT_NAME, Text};
use super::solve::GraphRun;
use super::{BuildContext, BuildError, BuildRequest, CONTEXT, Cancellation, DockerfileSource, Sink};
use crate::Engine;
use crate::cache::Imported;
use crate::op::Session;
use crate::resolve::BuildResolver;

/// A Dockerfile may be this large, in bytes.
const DOCKERFILE_LIMIT: u64 = 16 << 20;
/// How much of a download tells whether it is an archive.
const HEADER_BYTES: u64 = 1024;

/// The files of a remote context, and what the context is in the graph.
struct Fetched {
    context: MainContext,
    tree: MergedTree,
    /// The only file, where the context is one.
    only: Option<&'static str>,
}

/// What fetches for one request.
pub(super) struct Fetcher<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: &'a BuildRequest,
    pub(super) session: &'a Arc<Session>,
    pub(super) cancellation: &'a Cancellation,
    pub(super) sink: &'a Sink<'a>,
}

impl Fetcher<'_> {
    /// Whether a request needs anything of this.
    pub(super) fn is_needed(request: &BuildRequest) -> bool {
        request.context.is_remote() || matches!(request.dockerfile, DockerfileSource::Url(_))
    }

    /// The Dockerfile, fetched with the context or by itself.
    pub(super) fn text(&self) -> Result<Text, BuildError> {
        let fetched = if self.request.context.is_remote() { Some(self.context()?) } else { None };
        let context = fetched
            .as_ref()
            .map_or_else(|| MainContext::Local { name: CONTEXT.to_owned() }, |fetched| fetched.context.clone());
        let (name, path, content) = match (&self.request.dockerfile, &fetched) {
            (DockerfileSource::Url(url), _) => (DEFAULT_NAME.to_owned(), None, self.download(url)?),
            (DockerfileSource::InContext(name), Some(fetched)) => {
                let (name, content) = dockerfile_of(fetched, name)?;
                (name, None, content)
            }
            _ => {
                let text = Text::load(self.request, self.sink)?;
                (text.name, text.path, text.content)
            }
        };
        Ok(Text { name, path, content, context })
    }

    fn context(&self) -> Result<Fetched, BuildError> {
        let keep_git_dir = self.request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        let keep_git_dir = keep_git_dir.and_then(|value| onetag_dockerfile::values::parse_bool(value));
        let context = match &self.request.context {
            BuildContext::Git(url) => MainContext::Git { url: url.clone(), keep_git_dir: keep_git_dir == Some(true) },
            BuildContext::Http(url) => {
                let context = MainContext::Http { url: url.clone(), archive: false };
                let tree = self.files(&context)?;
                if !is_archive(&read(&tree, CONTEXT, HEADER_BYTES)?.unwrap_or_default()) {
                    return Ok(Fetched { context, tree, only: Some(CONTEXT) });
                }
                MainContext::Http { url: url.clone(), archive: true }
            }
            _ => MainContext::Archive { name: CONTEXT.to_owned() },
        };
        let tree = self.files(&context)?;
        Ok(Fetched { context, tree, only: None })
    }

    fn files(&self, context: &MainContext) -> Result<MergedTree, BuildError> {
        let context = |options| LowerOptions { context: context.clone(), ..options };
        Ok(self.solve(|options, resolver| lower_context(&context(options), resolver))?.0)
    }

    fn download(&self, url: &str) -> Result<Vec<u8>, BuildError> {
        let (tree, _) = self.solve(|options, resolver| lower_download(url, DEFAULT_NAME, &options, resolver))?;
        let missing = || BuildError::DockerfileNotFound { name: DEFAULT_NAME.to_owned() };
        read(&tree, DEFAULT_NAME, DOCKERFILE_LIMIT)?.ok_or_else(missing)
    }

    /// Runs a graph and gives the files that come of it, and the vertex that they come of.
    pub(super) fn solve(
        &self,
        graph: impl FnOnce(LowerOptions, &BuildResolver<'_>) -> Result<llb::Graph, onetag_dockerfile::DockerfileError>,
    ) -> Result<(MergedTree, Digest), BuildError> {
        let options = LowerOptions { build_args: self.request.build_args.clone(), ..LowerOptions::default() };
        let resolver = BuildResolver::new(&self.session.catalog, self.sink);
        let graph = graph(options, &resolver);
        let graph = graph.map_err(|source| BuildError::Dockerfile {
            source: Box::new(source),
            excerpt: None,
            hints: Vec::new(),
        })?;
        let run = GraphRun {
            engine: self.engine,
            session: self.session,
            imported: &Imported::default(),
            keep_going: false,
            exports_all: false,
            labels: Vec::new(),
            cancellation: self.cancellation,
            sink: self.sink,
        };
        let outcome = run.run(&graph, graph.roots(), None)?;
        let artifact = outcome.results.into_iter().next().unwrap_or(Err(BuildError::Cancelled))?;
        let vertex = graph.roots().first().map_or_else(|| Digest::sha256(b""), |root| root.vertex.clone());
        let context = ExecContext::new(&vertex, self.cancellation, self.sink);
        let tree = self.session.tree(&artifact, &context).map_err(|error| BuildError::Step {
            vertex: vertex.clone(),
            name: String::new(),
            source: Arc::new(error),
            excerpt: None,
            hint: None,
        })?;
        Ok((tree, vertex))
    }
}

/// The Dockerfile of a context, by its path in there; in lower case where only that is there.
fn dockerfile_of(fetched: &Fetched, name: &str) -> Result<(String, Vec<u8>), BuildError> {
    if let Some(only) = fetched.only {
        let content = read(&fetched.tree, only, DOCKERFILE_LIMIT)?.unwrap_or_default();
        return Ok((DEFAULT_NAME.to_owned(), content));
    }
    if let Some(content) = read(&fetched.tree, name, DOCKERFILE_LIMIT)? {
        return Ok((base_name(name), content));
    }
    let path = Path::new(name);
    if path.file_name().is_some_and(|file| file == DEFAULT_NAME) {
        let lower = path.with_file_name(DEFAULT_NAME.to_lowercase());
        if let Some(content) = read(&fetched.tree, &lower.to_string_lossy(), DOCKERFILE_LIMIT)? {
            return Ok((DEFAULT_NAME.to_lowercase(), content));
        }
    }
    Err(BuildError::DockerfileNotFound { name: name.to_owned() })
}

fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// A file's first bytes; `None` where there is no such file.
fn read(tree: &MergedTree, path: &str, limit: u64) -> Result<Option<Vec<u8>>, BuildError> {
    let Some(Node::Leaf(leaf)) = tree.lookup_following(Path::new(path))? else { return Ok(None) };
    let unreadable = |source| BuildError::DockerfileUnreadable { path: path.into(), source };
    let mut content = Vec::new();
    leaf.open()?.take(limit).read_to_end(&mut content).map_err(unreadable)?;
    Ok(Some(content))
}

/// Whether content begins as an archive does: tar, by itself or compressed.
pub fn is_archive(content: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] =
        [&[0x1f, 0x8b, 8], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    COMPRESSED.iter().any(|magic| content.starts_with(magic)) || is_tar_header(content)
}

/// Whether these are the first bytes of a tar: the checksum of the header is right, which old archives have too.
fn is_tar_header(content: &[u8]) -> bool {
    let Some(header) = content.get(..512) else { return false };
    let field = header[148..156].iter().map(|&byte| char::from(byte)).collect::<String>();
    let field = field.trim_matches(|c: char| c == '\0' || c == ' ');
    let sum = |byte: (usize, &u8)| if (148..156).contains(&byte.0) { u32::from(b' ') } else { u32::from(*byte.1) };
    u32::from_str_radix(field, 8).is_ok_and(|expected| expected == header.iter().enumerate().map(sum).sum::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_from_dockerfiles() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        header.set_size(0);
        header.set_cksum();
        builder.append_data(&mut header, "Dockerfile", &[][..]).unwrap();
        assert!(is_archive(&builder.into_inner().unwrap()));
        assert!(is_archive(&[0x1f, 0x8b, 8, 0]));
        for text in ["", "FROM scratch\n", &"#".repeat(2000), &"\0".repeat(1024)] {
            assert!(!is_archive(text.as_bytes()), "{text:.10}");
        }
    }
}
