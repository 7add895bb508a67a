//! The image fields of compose files and of Kubernetes objects.

use onetag_dockerfile::images::{Expression, Obstacle, UsedPlatform};
use saphyr_parser::ScalarStyle;

use super::super::occurrence::{Occurrence, Reason};
use super::{MAX_NODES, Node, Scalar, Tree, YamlError, variables};

/// The lists of containers of a pod.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The images that a YAML file names: `services.*.image` of compose files, the `image` of every container of
/// Kubernetes objects, however deep. A service that is built here has its own result's name there, which is left alone.
pub(in super::super) fn occurrences(content: &[u8]) -> Result<Vec<Occurrence>, YamlError> {
    let text = std::str::from_utf8(content).map_err(|_| YamlError::Encoding)?;
    let body = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let tree = Tree::parse(body)?;
    let mut finder =
        Finder { tree: &tree, text: body, base: text.len() - body.len(), left: MAX_NODES, found: Vec::new() };
    for &root in &tree.roots {
        if tree.get(root, "apiVersion").is_some() && tree.get(root, "kind").is_some() {
            finder.object(root, &mut Vec::new());
        } else if let Some(services) = tree.get(root, "services") {
            finder.services(services);
        }
    }
    if finder.left == 0 { Err(YamlError::TooLarge) } else { Ok(finder.found) }
}

struct Finder<'t> {
    tree: &'t Tree,
    text: &'t str,
    /// Where `text` begins in the file.
    base: usize,
    /// How many containers may still be looked at: aliases can make a large number of a small file.
    left: usize,
    found: Vec<Occurrence>,
}

impl Finder<'_> {
    fn services(&mut self, services: usize) {
        let Some(services) = self.tree.mapping(services) else { return };
        for &(name, service) in &services.entries {
            let Some(name) = self.tree.scalar(name) else { continue };
            if self.tree.get(service, "build").is_some() {
                continue;
            }
            let Some(image) = self.tree.get(service, "image") else { continue };
            let platform = self.tree.get(service, "platform").and_then(|platform| self.tree.scalar(platform));
            let platform = platform.and_then(|scalar| scalar.value.parse().ok());
            let platform = platform.map_or(UsedPlatform::Target, |platform| UsedPlatform::Fixed(Box::new(platform)));
            self.image(image, format!("services.{}.image", name.value), platform, true);
        }
    }

    /// Kubernetes: whatever the object is, its pods are told by their lists of containers.
    fn object(&mut self, id: usize, path: &mut Vec<String>) {
        // What an alias stands for is looked at where it is written.
        match &self.tree.nodes[id] {
            Node::Mapping(mapping) => {
                for &(key, value) in &mapping.entries {
                    let key = self.tree.scalar(key).map_or("", |scalar| scalar.value.as_str());
                    path.push(key.to_owned());
                    self.containers(key, value, path);
                    self.object(value, path);
                    path.pop();
                }
            }
            Node::Sequence(items) => {
                let name = path.pop().unwrap_or_default();
                for (index, item) in items.iter().enumerate() {
                    path.push(format!("{name}[{index}]"));
                    self.object(*item, path);
                    path.pop();
                }
                path.push(name);
            }
            Node::Scalar(_) | Node::Alias(_) => {}
        }
    }

    /// The images of the list under a key, if it is one of containers, or of volumes that are images.
    fn containers(&mut self, key: &str, list: usize, path: &[String]) {
        for (index, &item) in self.tree.items(list).iter().enumerate() {
            let (image, field) = match key {
                _ if CONTAINERS.contains(&key) => (self.tree.get(item, "image"), "image"),
                "volumes" => {
                    let volume = self.tree.get(item, "image");
                    (volume.and_then(|volume| self.tree.get(volume, "reference")), "image.reference")
                }
                _ => return,
            };
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return;
            }
            if let Some(image) = image {
                self.image(image, format!("{}[{index}].{field}", path.join(".")), UsedPlatform::Target, false);
            }
        }
    }

    fn image(&mut self, id: usize, place: String, platform: UsedPlatform, has_variables: bool) {
        let Some(scalar) = self.tree.scalar(id) else { return };
        if scalar.value.is_empty()
            || matches!((scalar.style, scalar.value.as_str()), (ScalarStyle::Plain, "~" | "null"))
        {
            return;
        }
        let expression = self.written(scalar).map_err(Reason::from).and_then(|written| match has_variables {
            true => Ok(variables::expand(&written)?),
            false => Ok(written),
        });
        let expression = if scalar.value.contains("{{") { Err(Reason::Template) } else { expression };
        let reference = match &expression {
            Ok(expression) => expression.reference().map_err(Reason::from),
            // Spread over lines or escaped, it still says what it is.
            Err(Reason::Obstacle(Obstacle::Spread)) if !has_variables || !scalar.value.contains('$') => {
                Expression::given(&scalar.value).reference().map_err(Reason::from)
            }
            Err(reason) => Err(reason.clone()),
        };
        let site = match (&reference, expression) {
            (Err(reason), _) => Err(reason.clone()),
            (Ok(_), expression) => expression.and_then(|expression| Ok(expression.site()?.bytes)),
        };
        self.found.push(Occurrence {
            position: scalar.position,
            place,
            written: scalar.value.clone(),
            platform,
            reference,
            site,
        });
    }

    /// The scalar's characters, where its bytes are just these, in one line.
    fn written(&self, scalar: &Scalar) -> Result<Expression, Obstacle> {
        let raw = self.text.get(scalar.bytes.clone()).ok_or(Obstacle::Spread)?;
        let value = scalar.value.as_str();
        let (quote, written) = match scalar.style {
            ScalarStyle::Plain => (0, value.to_owned()),
            ScalarStyle::SingleQuoted => (1, format!("'{value}'")),
            ScalarStyle::DoubleQuoted => (1, format!("\"{value}\"")),
            _ => return Err(Obstacle::Spread),
        };
        // An anchor or a tag before it is part of what the parser marks.
        let properties = raw.strip_suffix(&written).ok_or(Obstacle::Spread)?;
        let is_marked = properties.starts_with(['&', '!']) && properties.ends_with(char::is_whitespace);
        if !properties.is_empty() && !is_marked {
            return Err(Obstacle::Spread);
        }
        let first = self.base + scalar.bytes.start + properties.len() + quote;
        let mut expression = Expression::default();
        for (at, c) in value.char_indices() {
            expression.push(c, 0, first + at..first + at + c.len_utf8());
        }
        Ok(expression)
    }
}
