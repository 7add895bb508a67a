//! From any Dockerfile to graphs and image configs for two platforms, with one answer to every question.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::resolver::IgnoreFile;
use onetag_dockerfile::{
    Dockerfile, LowerOptions, NamedContext, ResolveError, ResolveOptions, ResolvedImage, Resolver, lower, mistakes, parse,
};
use onetag_llb::SourceOp;
use onetag_oci::{Digest, ImageConfig, Platform, Reference};

/// Knows every image, and contexts of a few names.
struct Fixed;

impl Resolver for Fixed {
    fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
        _: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError> {
        let mut config = ImageConfig::new(platform);
        config.config.on_build = vec!["RUN trigger".to_owned(), "COPY . /".to_owned()];
        config.config.env = vec!["PATH=/bin".to_owned(), "BASE=base".to_owned()];
        Ok(ResolvedImage {
            reference: reference.clone(),
            digest: Digest::sha256(reference.to_string().as_bytes()),
            config,
            config_bytes: Vec::new(),
        })
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        Ok(Some(IgnoreFile { name: ".dockerignore".to_owned(), content: b"*.o\n!keep.o\n".to_vec() }))
    }

    fn named_context(&self, name: &str) -> Result<Option<NamedContext>, ResolveError> {
        Ok(match name {
            "local" => Some(NamedContext::Local { name: "local".to_owned(), ignore: None }),
            "image" => Some(NamedContext::Image("busybox".to_owned())),
            "git" => Some(NamedContext::Git("https://example.com/a.git#main:folder".to_owned())),
            "stage" => Some(NamedContext::Stage("0".to_owned())),
            _ => None,
        })
    }

    fn source_time(&self, _: &SourceOp, _: &str) -> Result<Option<i64>, ResolveError> {
        Ok(Some(1_700_000_000))
    }
}

fuzz_target!(|text: &[u8]| {
    let (file, errors) = parse(text);
    let has_errors = !errors.is_empty();
    let _ = mistakes(&file, &LowerOptions::default(), errors);
    if !has_errors {
        ["amd64", "arm64"].map(|architecture| lower_for(&file, architecture));
    }
});

/// The same text means the same graph, and every error has its place.
fn lower_for(file: &Dockerfile, architecture: &str) {
    let options = LowerOptions {
        build_platform: Platform::linux("amd64"),
        target_platform: Some(Platform::linux(architecture)),
        ..LowerOptions::default()
    };
    match (lower(file, &options, &Fixed), lower(file, &options, &Fixed)) {
        (Ok(first), Ok(second)) => assert_eq!(first.graph.to_definition(), second.graph.to_definition()),
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string());
            for diagnostic in first.diagnostics() {
                let _ = (diagnostic.excerpt("Dockerfile", &file.source), diagnostic.underline(&file.source));
            }
        }
        _ => panic!("one Dockerfile, two answers"),
    }
}
