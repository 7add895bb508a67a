//! What can be wrong with a flag's value.

use onetag_dockerfile::flags::csv::CsvError;
use onetag_dockerfile::values::{SizeError, quote};
use onetag_oci::{PlatformError, ReferenceError};

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// The list cannot be split.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// The list of a secret cannot be split.
    #[error("failed to parse csv secret: {0}")]
    SecretCsv(CsvError),
    /// A field without its value.
    #[error("invalid value {0}")]
    NoValue(String),
    /// A field that is neither true nor false.
    #[error("invalid value {field}: strconv.ParseBool: parsing {}: invalid syntax", quote(.value))]
    NotBoolean {
        /// The field.
        field: String,
        /// Its value.
        value: String,
    },
    /// An output without a type.
    #[error("type is required for output")]
    OutputType,
    /// A cache without a type.
    #[error("type required for {}", quote(.0))]
    CacheType(String),
    /// An attestation without a type.
    #[error("attestation type not specified")]
    AttestationType,
    /// A secret of another type than `file` and `env`.
    #[error("unsupported secret type {}", quote(.0))]
    SecretType(String),
    /// A field of a secret without its value.
    #[error("invalid field '{0}' must be a key=value pair")]
    SecretField(String),
    /// A field that a secret does not have.
    #[error("unexpected key '{key}' in '{field}'")]
    SecretKey {
        /// The key.
        key: String,
        /// The field.
        field: String,
    },
    /// A build context without a value.
    #[error("invalid context value: {0}, expected key=value")]
    ContextValue(String),
    /// A build context whose name is none.
    #[error("invalid context name {name}: {source}")]
    ContextName {
        /// The name.
        name: String,
        /// Why it is none.
        source: ReferenceError,
    },
    /// Not a platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// An annotation without a value.
    #[error("invalid annotation {}, expected key=value", quote(.0))]
    AnnotationValue(String),
    /// What an annotation is put on cannot be read.
    #[error("invalid annotation type {}, expected type and optional platform in square brackets", quote(.0))]
    AnnotationTypeSyntax(String),
    /// An annotation is put on something else than there is.
    #[error("unknown annotation type {}", quote(.0))]
    AnnotationType(String),
    /// The platform of an annotation is none.
    #[error("invalid platform {}: {source}", quote(.platform))]
    AnnotationPlatform {
        /// As given.
        platform: String,
        /// Why it is none.
        source: PlatformError,
    },
    /// Not a size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// A limit without a value.
    #[error("invalid ulimit argument: {0}")]
    UlimitArgument(String),
    /// No such limit.
    #[error("invalid ulimit type: {0}")]
    UlimitType(String),
    /// More than two values.
    #[error("too many limit value arguments - {0}, can only have up to two, `soft[:hard]`")]
    UlimitValues(String),
    /// Not a number.
    #[error("strconv.ParseInt: parsing {}: {reason}", quote(.value))]
    Number {
        /// As given.
        value: String,
        /// Go's word for what is wrong.
        reason: &'static str,
    },
    /// A soft limit above the hard one.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    UlimitOrder {
        /// The soft limit.
        soft: i64,
        /// The hard limit.
        hard: i64,
    },
    /// No soft limit below a hard one.
    #[error("ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {0}")]
    UlimitUnlimited(i64),
    /// Two names in `--call`.
    #[error("invalid print value: {0}")]
    CallValue(String),
    /// A field that `--call` does not have.
    #[error("invalid print field: {0}")]
    CallField(String),
    /// `ignorestatus` that is neither true nor false.
    #[error("invalid ignorestatus print value: {value}: strconv.ParseBool: parsing {}: invalid syntax", quote(.value))]
    CallIgnoreStatus {
        /// As given.
        value: String,
    },
    /// No such entitlement.
    #[error("unknown entitlement {0}")]
    Entitlement(String),
    /// An entitlement that takes no value.
    #[error("{0} does not accept a value")]
    EntitlementValue(&'static str),
    /// A field of a device without its value.
    #[error("invalid device config {}", quote(.0))]
    DeviceConfig(String),
    /// A field that a device does not have.
    #[error("unknown device config key {}", quote(.0))]
    DeviceKey(String),
}
