//! Go's types of the image model, as templates of `imagetools inspect` see them.

use crate::template::{Field, Kind, Schema};

const fn field(name: &'static str, json: &'static str, kind: Kind) -> Field {
    Field { name, json, kind, omit_empty: true }
}

const fn always(name: &'static str, json: &'static str, kind: Kind) -> Field {
    Field { name, json, kind, omit_empty: false }
}

/// `v1.Platform`.
static PLATFORM: Schema = Schema {
    type_name: "v1.Platform",
    fields: &[
        always("Architecture", "architecture", Kind::Text),
        always("OS", "os", Kind::Text),
        field("OSVersion", "os.version", Kind::Text),
        field("OSFeatures", "os.features", Kind::Texts),
        field("Variant", "variant", Kind::Text),
    ],
};

/// `v1.Descriptor`.
pub static DESCRIPTOR: Schema = Schema {
    type_name: "v1.Descriptor",
    fields: &[
        always("MediaType", "mediaType", Kind::Text),
        always("Digest", "digest", Kind::Text),
        always("Size", "size", Kind::Int),
        field("URLs", "urls", Kind::Texts),
        field("Annotations", "annotations", Kind::TextMap),
        field("Data", "data", Kind::Text),
        field("Platform", "platform", Kind::Pointer(&PLATFORM)),
        field("ArtifactType", "artifactType", Kind::Text),
    ],
};

/// An index with what describes it, as buildx puts the two together.
pub static INDEX: Schema = Schema {
    type_name: "imagetools.index",
    fields: &[
        always("SchemaVersion", "schemaVersion", Kind::Int),
        field("MediaType", "mediaType", Kind::Text),
        always("Digest", "digest", Kind::Text),
        always("Size", "size", Kind::Int),
        always("Manifests", "manifests", Kind::Structs(&DESCRIPTOR)),
        field("Annotations", "annotations", Kind::TextMap),
    ],
};

/// `v1.ImageConfig`.
static IMAGE_CONFIG: Schema = Schema {
    type_name: "v1.ImageConfig",
    fields: &[
        field("User", "User", Kind::Text),
        field("ExposedPorts", "ExposedPorts", Kind::Any),
        field("Env", "Env", Kind::Texts),
        field("Entrypoint", "Entrypoint", Kind::Texts),
        field("Cmd", "Cmd", Kind::Texts),
        field("Volumes", "Volumes", Kind::Any),
        field("WorkingDir", "WorkingDir", Kind::Text),
        field("Labels", "Labels", Kind::TextMap),
        field("StopSignal", "StopSignal", Kind::Text),
        field("ArgsEscaped", "ArgsEscaped", Kind::Bool),
    ],
};

/// `v1.RootFS`.
static ROOT_FS: Schema = Schema {
    type_name: "v1.RootFS",
    fields: &[always("Type", "type", Kind::Text), always("DiffIDs", "diff_ids", Kind::Texts)],
};

/// `v1.History`.
static HISTORY: Schema = Schema {
    type_name: "v1.History",
    fields: &[
        field("Created", "created", Kind::TextPointer),
        field("CreatedBy", "created_by", Kind::Text),
        field("Author", "author", Kind::Text),
        field("Comment", "comment", Kind::Text),
        field("EmptyLayer", "empty_layer", Kind::Bool),
    ],
};

/// `v1.Image`.
pub static IMAGE: Schema = Schema {
    type_name: "v1.Image",
    fields: &[
        field("Created", "created", Kind::TextPointer),
        field("Author", "author", Kind::Text),
        field("Platform", "", Kind::Embedded(&PLATFORM)),
        field("Config", "config", Kind::Struct(&IMAGE_CONFIG)),
        always("RootFS", "rootfs", Kind::Struct(&ROOT_FS)),
        field("History", "history", Kind::Structs(&HISTORY)),
    ],
};
