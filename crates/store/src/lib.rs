//! The local store: blobs, references, unpacked layers, leases and collection.
#![forbid(unsafe_code)]
