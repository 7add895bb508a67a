//! Images and indexes made by hand, also such as no builder makes: written into an OCI layout, which takes anything.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use onetag_oci::{
    Descriptor, DiffId, Digest, Document, ImageConfig, Index, Manifest, ManifestDocument, Platform, RootFs, media_type,
};
use onetag_store::layer::{CompressionOptions, Compressor, EntryHeader, EntryKind, TarWriter};
use onetag_testkit::Onetag;
use onetag_testkit::user::User;

use crate::support::BINARY;

/// An ELF program of this class, byte order (1 little, 2 big) and machine, with nothing in it.
pub fn program(class: u8, order: u8, machine: u16) -> Vec<u8> {
    let half = |value: u16| if order == 1 { value.to_le_bytes() } else { value.to_be_bytes() };
    let mut file = [b"\x7fELF".as_slice(), &[class, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    file.extend(half(2));
    file.extend(half(machine));
    file.resize(if class == 2 { 64 } else { 52 }, 0);
    file
}

/// The program of a platform.
pub fn program_of(architecture: &str) -> Vec<u8> {
    match architecture {
        "amd64" => program(2, 1, 62),
        "386" => program(1, 1, 3),
        "arm64" => program(2, 1, 183),
        "arm" => program(1, 1, 40),
        "s390x" => program(2, 2, 22),
        "ppc64le" => program(2, 1, 21),
        other => panic!("no program for {other}"),
    }
}

/// A program of x86-64 that needs a level: 1 to 4.
pub fn program_of_level(level: u32) -> Vec<u8> {
    let mut file = program(2, 1, 62);
    let mut note = Vec::new();
    for number in [4, 16, 5] {
        note.extend(u32::to_le_bytes(number));
    }
    note.extend(b"GNU\0");
    for number in [0xc000_8002, 4, (1 << level) - 1, 0] {
        note.extend(u32::to_le_bytes(number));
    }
    let mut segment = 0x6474_e553_u32.to_le_bytes().to_vec();
    segment.resize(8, 0);
    segment.extend(120_u64.to_le_bytes());
    segment.resize(32, 0);
    segment.extend((note.len() as u64).to_le_bytes());
    segment.resize(56, 0);
    file[32] = 64;
    file[54] = 56;
    file[56] = 1;
    [file, segment, note].concat()
}

/// A program of x86-64 that wants a loader.
pub fn program_with_loader(loader: &str) -> Vec<u8> {
    let mut file = program(2, 1, 62);
    let mut segment = 3_u32.to_le_bytes().to_vec();
    segment.resize(8, 0);
    segment.extend(120_u64.to_le_bytes());
    segment.resize(32, 0);
    segment.extend((loader.len() as u64 + 1).to_le_bytes());
    segment.resize(56, 0);
    file[32] = 64;
    file[54] = 56;
    file[56] = 1;
    [file, segment, loader.as_bytes().to_vec(), vec![0]].concat()
}

/// A file of a layer: a path, and what it holds; a link where it begins with `->`.
pub fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = TarWriter::new(Vec::new());
    for (path, content) in files {
        let link = content.strip_prefix(b"->");
        let content = if link.is_some() { &b""[..] } else { content };
        let kind = if link.is_some() { EntryKind::Symlink } else { EntryKind::File };
        let header = EntryHeader {
            kind,
            path: path.as_bytes(),
            link: link.unwrap_or_default(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: content.len() as u64,
            mtime: 0,
            device: (0, 0),
            xattrs: &[],
        };
        archive.header(&header).expect("memory");
        archive.data(content).expect("memory");
        archive.pad(content.len() as u64).expect("memory");
    }
    archive.finish().expect("memory")
}

/// Content compressed with gzip.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(Vec::new(), CompressionOptions::default());
    compressor.write_all(content).expect("memory");
    compressor.finish().expect("memory").output
}

/// A binary and a layout to put crafted images into.
pub struct Bench {
    pub onetag: Onetag,
    pub layout: Layout,
}

/// A fresh one.
pub fn bench() -> Bench {
    let onetag = Onetag::new(BINARY, User::current());
    let layout = Layout::new(&onetag, "layout");
    Bench { onetag, layout }
}

/// An OCI layout below the work folder.
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// An empty one.
    pub fn new(onetag: &Onetag, name: &str) -> Layout {
        let layout = Layout { folder: onetag.work().join(name) };
        fs::create_dir_all(layout.folder.join("blobs/sha256")).expect("own folder");
        fs::write(layout.folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).expect("own folder");
        layout
    }

    /// Where a blob lies.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.encoded())
    }

    /// Keeps a blob.
    pub fn blob(&self, media_type: &str, content: &[u8]) -> Descriptor {
        let digest = Digest::sha256(content);
        fs::write(self.path(&digest), content).expect("own folder");
        Descriptor::new(media_type, digest, content.len() as u64)
    }

    /// An image of uncompressed layers, the lowest first.
    pub fn image(&self, platform: &str, entry_point: &[&str], layers: &[Vec<u8>]) -> Descriptor {
        self.image_with(platform, entry_point, layers, |_, _| {})
    }

    /// The same, with the config and the manifest changed before they are written.
    pub fn image_with(
        &self,
        platform: &str,
        entry_point: &[&str],
        layers: &[Vec<u8>],
        change: impl FnOnce(&mut ImageConfig, &mut Vec<Descriptor>),
    ) -> Descriptor {
        let platform: Platform = platform.parse().expect("a platform");
        let mut descriptors: Vec<Descriptor> =
            layers.iter().map(|layer| self.blob(media_type::OCI_LAYER, layer)).collect();
        let mut config = ImageConfig::new(&platform.normalize());
        let diff_ids = layers.iter().map(|layer| DiffId(Digest::sha256(layer))).collect();
        config.rootfs = RootFs { diff_ids, ..RootFs::default() };
        config.config.entrypoint = Some(entry_point.iter().map(|word| (*word).to_owned()).collect());
        change(&mut config, &mut descriptors);
        let config = self.blob(media_type::OCI_CONFIG, Document::from_value(config).bytes());
        let manifest = Document::from_value(Manifest::new(config, descriptors));
        self.blob(media_type::OCI_MANIFEST, manifest.bytes()).with_platform(platform)
    }

    /// An image whose only program is that of its platform.
    pub fn honest(&self, platform: &str) -> Descriptor {
        let parsed: Platform = platform.parse().expect("a platform");
        let program = program_of(&parsed.architecture);
        self.image(platform, &["/app"], &[layer(&[("app", &program)])])
    }

    /// An index.
    pub fn index(&self, entries: Vec<Descriptor>) -> Descriptor {
        let index = Document::from_value(Index::new(entries));
        self.blob(media_type::OCI_INDEX, index.bytes())
    }

    /// Makes a descriptor the layout's only name, and gives the reference.
    pub fn name(&self, descriptor: &Descriptor) -> String {
        let index = Document::from_value(Index::new(vec![descriptor.clone()]));
        fs::write(self.folder.join("index.json"), index.bytes()).expect("own folder");
        format!("oci:{}", self.folder.display())
    }

    /// The document that a descriptor means.
    pub fn document(&self, descriptor: &Descriptor) -> ManifestDocument {
        let bytes = fs::read(self.path(&descriptor.digest)).expect("a blob");
        ManifestDocument::parse(bytes, None).expect("a document")
    }
}
