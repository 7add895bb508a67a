//! How much a layer may demand.

/// Limits on what an archive may demand of this machine. They exist for hostile archives: an honest image stays
/// far below the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of file content, holes of sparse files not counted.
    pub bytes: u64,
    /// Entries, those of extended headers not counted.
    pub entries: u64,
    /// How many times larger the archive may be than its compressed form, once it has grown past 64 MiB.
    pub ratio: u64,
    /// Bytes of a path.
    pub path_length: usize,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of one extended header: long names and attributes.
    pub extended_header: u64,
    /// The largest size of a sparse file, holes counted, in bytes.
    pub sparse_file: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 1 << 40,
            entries: 50_000_000,
            ratio: 5_000,
            path_length: 4_095,
            depth: 1_024,
            extended_header: 1 << 20,
            sparse_file: 1 << 43,
        }
    }
}
