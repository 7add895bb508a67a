//! Paths of an image resolved inside it: across layers, whiteouts and links, and never outside.

use super::file::Content;
use super::layer::{LayerContents, Said};

/// Links followed on the way to one file, as in Linux.
const LINKS_MAX: usize = 40;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A folder.
    Directory,
    /// A regular file with its permission bits.
    File { mode: u32, content: Content },
    /// A link, and what it names.
    Symlink(Vec<u8>),
    /// A device or a pipe.
    Other,
}

/// The answer lies in a layer that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread;

/// The files of an image, as far as they are known.
pub(crate) trait FileTree {
    /// What stands at a path that has no slash at either end, no `.` and `..`, and no link on the way.
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, Unread>;
}

/// Layers that were read, the topmost first; where one was not, what it and those below hold is not known.
pub(crate) struct Layers<'a>(pub(crate) Vec<Option<&'a LayerContents>>);

impl Layers<'_> {
    /// The layer that has the entry, counted from the top.
    pub(crate) fn holder(&self, path: &[u8]) -> Option<usize> {
        for (number, layer) in self.0.iter().enumerate() {
            match (*layer)?.say(path) {
                Said::Entry(_) | Said::Same(_) => return Some(number),
                Said::Removed => return None,
                Said::Nothing => {}
            }
        }
        None
    }
}

impl FileTree for Layers<'_> {
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, Unread> {
        let mut path = path.to_vec();
        // A hard link leads to its layer or one below; it counts as one step, so that a ring ends.
        let mut steps = 0;
        let mut layers = self.0.iter();
        let mut layer = layers.next();
        while let Some(current) = layer {
            match current.ok_or(Unread)?.say(&path) {
                Said::Entry(entry) => return Ok(Some(entry)),
                Said::Removed => return Ok(None),
                Said::Nothing => layer = layers.next(),
                Said::Same(target) => {
                    steps += 1;
                    if steps > LINKS_MAX {
                        return Ok(None);
                    }
                    // A link to its own name means the file that the name had below.
                    if target == path {
                        layer = layers.next();
                    }
                    path = target;
                }
            }
        }
        Ok(None)
    }
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// To this entry, which is no link, at this path with a slash in front.
    Found { path: String, entry: Entry },
    /// Nowhere: this is not there.
    Missing(String),
    /// In a circle.
    Circle(String),
}

/// Follows a path from the root of the image.
pub(crate) fn resolve(tree: &dyn FileTree, path: &str) -> Result<Resolved, Unread> {
    let mut todo: Vec<Vec<u8>> = parts(path.as_bytes()).rev().map(<[u8]>::to_vec).collect();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let mut last = Entry::Directory;
    while let Some(part) = todo.pop() {
        if part == b".." {
            done.pop();
            last = Entry::Directory;
            continue;
        }
        if last != Entry::Directory {
            return Ok(Resolved::Missing(show(&done, Some(&part))));
        }
        done.push(part);
        match tree.entry(&done.join(&b'/'))? {
            None => return Ok(Resolved::Missing(show(&done, None))),
            Some(Entry::Symlink(target)) => {
                links += 1;
                if links > LINKS_MAX {
                    return Ok(Resolved::Circle(path.to_owned()));
                }
                done.pop();
                if target.starts_with(b"/") {
                    done.clear();
                }
                todo.extend(parts(&target).rev().map(<[u8]>::to_vec));
                last = Entry::Directory;
            }
            Some(entry) => last = entry,
        }
    }
    Ok(Resolved::Found { path: show(&done, None), entry: last })
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

fn show(parts: &[Vec<u8>], more: Option<&[u8]>) -> String {
    let parts = parts.iter().map(Vec::as_slice).chain(more);
    parts.map(|part| format!("/{}", String::from_utf8_lossy(part))).collect::<String>()
}

#[cfg(test)]
mod tests {
    use onetag_oci::Algorithm;

    use super::*;

    /// A layer of these entries: a path, and a link or content behind `->` or `=`.
    fn archive(entries: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        {
            let mut archive = tar::Builder::new(&mut bytes);
            for entry in entries {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o755);
                header.set_size(0);
                if let Some((path, target)) = entry.split_once("->") {
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, path, target).unwrap();
                } else if let Some((path, target)) = entry.split_once("==") {
                    header.set_entry_type(tar::EntryType::Link);
                    archive.append_link(&mut header, path, target).unwrap();
                } else {
                    let (path, content) = entry.split_once('=').unwrap_or((entry, ""));
                    let is_folder = path.ends_with('/');
                    header.set_entry_type(if is_folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_bytes()).unwrap();
                }
            }
            archive.finish().unwrap();
        }
        bytes
    }

    fn layer(entries: &[&str]) -> LayerContents {
        LayerContents::read(archive(entries).as_slice(), Algorithm::Sha256).unwrap()
    }

    fn lookup(layers: &[&LayerContents], path: &str) -> String {
        match resolve(&Layers(layers.iter().map(|layer| Some(*layer)).collect()), path) {
            Ok(Resolved::Found { path, entry: Entry::File { content, .. } }) => match content {
                Content::Script { interpreter, .. } => format!("{path}={interpreter}"),
                other => format!("{path} {other:?}"),
            },
            Ok(Resolved::Found { path, entry }) => format!("{path} {entry:?}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn links_stay_inside_the_image() {
        let base = layer(&[
            "bin->usr/bin",
            "usr/bin/sh=#!a",
            "etc/up->../../../usr/bin/sh",
            "abs->/bin/sh",
            "ring->ring",
            "dir/",
        ]);
        for path in ["/bin/sh", "/usr/bin/sh", "/etc/up", "/abs", "/../../abs", "/dir/../bin/./sh"] {
            assert_eq!(lookup(&[&base], path), "/usr/bin/sh=a", "{path}");
        }
        assert_eq!(lookup(&[&base], "/bin/none"), "Ok(Missing(\"/usr/bin/none\"))");
        assert_eq!(lookup(&[&base], "/abs/x"), "Ok(Missing(\"/usr/bin/sh/x\"))");
        assert_eq!(lookup(&[&base], "/ring"), "Ok(Circle(\"/ring\"))");
        assert_eq!(lookup(&[&base], "/dir"), "/dir Directory");
    }

    #[test]
    fn upper_layers_add_replace_and_remove() {
        let base = layer(&["a/x=#!low", "a/y=#!low", "b/x=#!low", "c=#!low", "d/x=#!low", "e/x=#!low"]);
        let top = layer(&[
            "a/x=#!high",
            "a/.wh.y",
            "b/.wh..wh..opq",
            "b/z=#!high",
            ".wh.c",
            "d=#!high",
            ".wh.e",
            "e/new=#!high",
        ]);
        let both = [&top, &base];
        for (path, expected) in [
            ("/a/x", "/a/x=high"),
            ("/a/y", "Ok(Missing(\"/a/y\"))"),
            ("/b/x", "Ok(Missing(\"/b/x\"))"),
            ("/b/z", "/b/z=high"),
            ("/c", "Ok(Missing(\"/c\"))"),
            ("/d", "/d=high"),
            ("/d/x", "Ok(Missing(\"/d/x\"))"),
            ("/e/new", "/e/new=high"),
            ("/e/x", "Ok(Missing(\"/e/x\"))"),
        ] {
            assert_eq!(lookup(&both, path), expected, "{path}");
        }
    }

    #[test]
    fn hard_links_reach_layers_below() {
        let base = layer(&["a=#!low"]);
        let top = layer(&["b==a", "c==b", "d==d"]);
        assert_eq!(lookup(&[&top, &base], "/c"), "/c=low");
        assert_eq!(lookup(&[&top, &base], "/d"), "Ok(Missing(\"/d\"))");
    }

    #[test]
    fn layers_that_were_not_read_are_asked_for_only_where_they_matter() {
        let top = layer(&["app=#!x", "usr/bin/tool=#!x"]);
        let layers = Layers(vec![Some(&top), None]);
        assert!(matches!(resolve(&layers, "/app"), Ok(Resolved::Found { .. })));
        assert!(matches!(resolve(&layers, "/usr/bin/tool"), Ok(Resolved::Found { .. })));
        assert_eq!(resolve(&layers, "/usr/bin/other"), Err(Unread));
        assert_eq!(resolve(&layers, "/bin/sh"), Err(Unread));
    }

    #[test]
    fn the_diff_id_is_that_of_the_archive() {
        let bytes = archive(&["x/", "x/y=z"]);
        let read = LayerContents::read(bytes.as_slice(), Algorithm::Sha256).unwrap();
        assert_eq!(read.diff_id, onetag_oci::Digest::sha256(&bytes));
        assert!(LayerContents::read(&bytes[..700], Algorithm::Sha256).is_err());
    }
}
