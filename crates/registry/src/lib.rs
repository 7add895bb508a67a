//! The OCI distribution protocol: client and server over shared wire types.
#![forbid(unsafe_code)]
