//! The image model: digests, references, platforms, descriptors, indexes, manifests and configs, as pure types.
#![forbid(unsafe_code)]
