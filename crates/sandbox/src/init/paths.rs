//! The paths of proc and sys that a confined process must not read or write, as Docker lists them.

/// Hidden: files show `/dev/null`, folders are empty.
pub(crate) const MASKED_PROC: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// Hidden below `/sys`.
pub(crate) const MASKED_SYS: &[&str] = &["devices/virtual/powercap", "firmware"];

/// Not writable below `/proc`.
pub(crate) const READ_ONLY_PROC: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];
