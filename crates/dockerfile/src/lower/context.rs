//! What a build reads before it has a Dockerfile: a remote context, or the file at a URL that is the Dockerfile.

use onetag_llb::{Graph, SourceFile, SourceOp};

use super::error::Result;
use super::nodes::{NodeKind, NodeOptions, Output};
use super::{LowerOptions, Lowering};
use crate::file::parse;
use crate::redact;
use crate::resolver::Resolver;

/// The graph of the main context alone. Its vertices are those of the whole build, so that work is done once.
///
/// # Errors
/// An address that means nothing.
pub fn lower_context(options: &LowerOptions, resolver: &dyn Resolver) -> Result<Graph> {
    alone(options, resolver, |lowering| {
        let paths = lowering.nodes.path_set();
        lowering.main_context(paths)
    })
}

/// The graph of a single file at a URL, which it gives the name `filename`.
///
/// # Errors
/// An address that means nothing.
pub fn lower_download(url: &str, filename: &str, options: &LowerOptions, resolver: &dyn Resolver) -> Result<Graph> {
    alone(options, resolver, |lowering| {
        let name = format!("[internal] load {}", redact::user_info(url));
        Ok(lowering.add_http(url, filename, None, NodeOptions::named(name)))
    })
}

/// The graph of a source alone, shown as `name`.
///
/// # Errors
/// None that a source can cause.
pub fn lower_source(source: SourceOp, name: &str, options: &LowerOptions, resolver: &dyn Resolver) -> Result<Graph> {
    alone(options, resolver, |lowering| {
        Ok(Some(lowering.nodes.add(NodeKind::Source(source), NodeOptions::named(name))))
    })
}

fn alone(
    options: &LowerOptions,
    resolver: &dyn Resolver,
    output: impl FnOnce(&mut Lowering<'_>) -> Result<Output>,
) -> Result<Graph> {
    let (file, _) = parse(b"");
    let mut lowering = Lowering::new(&file, options, resolver);
    let output = output(&mut lowering)?;
    let source = SourceFile { filename: String::new(), language: String::new(), data: Vec::new() };
    Ok(lowering.nodes.graph(output, &lowering.target_platform, source)?)
}
