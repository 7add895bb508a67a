//! The rules as data.

/// A check.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The name by which it is skipped.
    pub name: &'static str,
    /// What it is about.
    pub description: &'static str,
    /// The page about it; empty where there is none.
    pub url: &'static str,
    /// Whether it has to be asked for.
    pub experimental: bool,
}

macro_rules! rules {
    ($(#[$list_attribute:meta])* $list:ident: $($(#[$attribute:meta])* $constant:ident, $name:literal, $description:literal, $url:literal, $experimental:literal;)*) => {
        $(
            $(#[$attribute])*
            #[doc = $description]
            pub static $constant: Rule =
                Rule { name: $name, description: $description, url: $url, experimental: $experimental };
        )*

        $(#[$list_attribute])*
        pub static $list: &[&Rule] = &[$(&$constant),*];
    };
}

rules! {
    /// BuildKit's rules.
    RULES:
    STAGE_NAME_CASING, "StageNameCasing",
        "Stage names should be lowercase",
        "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/", false;
    FROM_AS_CASING, "FromAsCasing",
        "The 'as' keyword should match the case of the 'from' keyword",
        "https://docs.docker.com/go/dockerfile/rule/from-as-casing/", false;
    NO_EMPTY_CONTINUATION, "NoEmptyContinuation",
        "Empty continuation lines will become errors in a future release",
        "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/", false;
    CONSISTENT_INSTRUCTION_CASING, "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
        "https://docs.docker.com/go/dockerfile/rule/consistent-instruction-casing/", false;
    DUPLICATE_STAGE_NAME, "DuplicateStageName",
        "Stage names should be unique",
        "https://docs.docker.com/go/dockerfile/rule/duplicate-stage-name/", false;
    RESERVED_STAGE_NAME, "ReservedStageName",
        "Reserved words should not be used as stage names",
        "https://docs.docker.com/go/dockerfile/rule/reserved-stage-name/", false;
    JSON_ARGS_RECOMMENDED, "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
        "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/", false;
    MAINTAINER_DEPRECATED, "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
        "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/", false;
    UNDEFINED_ARG_IN_FROM, "UndefinedArgInFrom",
        "FROM command must use declared ARGs",
        "https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/", false;
    WORKDIR_RELATIVE_PATH, "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
        "https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/", false;
    UNDEFINED_VAR, "UndefinedVar",
        "Variables should be defined before their use",
        "https://docs.docker.com/go/dockerfile/rule/undefined-var/", false;
    MULTIPLE_INSTRUCTIONS_DISALLOWED, "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
        "https://docs.docker.com/go/dockerfile/rule/multiple-instructions-disallowed/", false;
    LEGACY_KEY_VALUE_FORMAT, "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
        "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/", false;
    INVALID_BASE_IMAGE_PLATFORM, "InvalidBaseImagePlatform",
        "Base image platform does not match expected target platform",
        "", false;
    REDUNDANT_TARGET_PLATFORM, "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        "https://docs.docker.com/go/dockerfile/rule/redundant-target-platform/", false;
    SECRETS_USED_IN_ARG_OR_ENV, "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
        "https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/", false;
    INVALID_DEFAULT_ARG_IN_FROM, "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
        "https://docs.docker.com/go/dockerfile/rule/invalid-default-arg-in-from/", false;
    FROM_PLATFORM_FLAG_CONST_DISALLOWED, "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
        "https://docs.docker.com/go/dockerfile/rule/from-platform-flag-const-disallowed/", false;
    COPY_IGNORED_FILE, "CopyIgnoredFile",
        "Attempting to Copy file that is excluded by .dockerignore",
        "https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/", false;
    INVALID_DEFINITION_DESCRIPTION, "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        "https://docs.docker.com/go/dockerfile/rule/invalid-definition-description/", true;
    EXPOSE_PROTO_CASING, "ExposeProtoCasing",
        "Protocol in EXPOSE instruction should be lowercase",
        "https://docs.docker.com/go/dockerfile/rule/expose-proto-casing/", false;
    EXPOSE_INVALID_FORMAT, "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
        "https://docs.docker.com/go/dockerfile/rule/expose-invalid-format/", false;
}

rules! {
    /// Rules of our own, for work with several platforms.
    PLATFORM_RULES:
    BASE_LACKS_PLATFORM, "BaseLacksPlatform",
        "A base image should exist for every platform that is built",
        "docs/checks/base-lacks-platform.md", false;
    CHILD_DIGEST_PINNED, "ChildDigestPinned",
        "A base should be pinned to the digest of its index, not of one platform's manifest",
        "docs/checks/child-digest-pinned.md", false;
    LITERAL_ARCHITECTURE, "LiteralArchitecture",
        "A download should be chosen by the target platform, not name an architecture",
        "docs/checks/literal-architecture.md", false;
    UNDECLARED_PLATFORM_ARG, "UndeclaredPlatformArg",
        "A platform argument is only there after its ARG",
        "docs/checks/undeclared-platform-arg.md", false;
    EMULATED_BUILD_STAGE, "EmulatedBuildStage",
        "A stage whose tools can build for any platform should run on the build platform",
        "docs/checks/emulated-build-stage.md", false;
}
