//! Processes in an image's root file system: namespaces, mounts, ids, capabilities, seccomp and emulation.
