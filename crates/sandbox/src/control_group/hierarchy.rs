//! Where groups can be made: which hierarchies this host has, and which of their groups this process may divide.
//!
//! A controller is in one hierarchy of the first version, or in the one of the second; hosts that have both share the controllers out.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::shown;

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// A version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    First,
    Second,
}

/// A folder in which a group can be made, and the controllers that limit it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub version: Version,
    pub parent: PathBuf,
    pub controllers: Vec<&'static str>,
}

/// The hierarchies as one process sees them.
pub(super) struct View {
    root: PathBuf,
    /// `/proc/self/cgroup`: a line for each hierarchy, `number:controllers:path`.
    membership: String,
}

impl View {
    /// This process's.
    pub(super) fn own() -> Result<Self, String> {
        let membership =
            fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
        Ok(Self { root: ROOT.into(), membership })
    }

    #[cfg(test)]
    pub(super) fn of(root: &Path, membership: &str) -> Self {
        Self { root: root.to_owned(), membership: membership.to_owned() }
    }

    /// Where a process is limited by these controllers: one place for all that are in the same hierarchy. What is not passed on to groups
    /// below yet is, where this process may do that.
    ///
    /// # Errors
    /// In words, for the first controller that cannot be had.
    pub(super) fn places(&self, controllers: &[&'static str]) -> Result<Vec<Place>, String> {
        let mut places: Vec<Place> = Vec::new();
        let mut unified = Vec::new();
        for controller in controllers {
            let Some(parent) = self.separate(controller)? else {
                unified.push(*controller);
                continue;
            };
            match places.iter_mut().find(|place| place.parent == parent) {
                Some(place) => place.controllers.push(controller),
                None => places.push(Place { version: Version::First, parent, controllers: vec![controller] }),
            }
        }
        if !unified.is_empty() {
            let parent = self.unified(&unified)?;
            places.push(Place { version: Version::Second, parent, controllers: unified });
        }
        for Place { parent, .. } in &places {
            if rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_err() {
                return Err(format!("{} is not this user's", shown(parent)));
            }
        }
        Ok(places)
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.membership.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?.trim_start_matches('/')))
        })
    }

    /// This process's group in the controller's own hierarchy; `None` where it has none.
    fn separate(&self, controller: &str) -> Result<Option<PathBuf>, String> {
        for (controllers, path) in self.lines() {
            if controllers.split(',').any(|known| known == controller) {
                // Two controllers may share a hierarchy under a joint name.
                let mut bases = [controller, controllers].into_iter().map(|folder| self.root.join(folder));
                let base = bases.find(|base| base.exists());
                let base = base.ok_or_else(|| format!("{controller} is not mounted below {}", shown(&self.root)))?;
                return Ok(Some(below(&base, path)));
            }
        }
        Ok(None)
    }

    /// A group of the second version whose children have all these controllers.
    ///
    /// A group with processes of its own must not have such children, so it is the parent of this process's, unless this is the first of all.
    fn unified(&self, controllers: &[&'static str]) -> Result<PathBuf, String> {
        let missing = || format!("no control groups are mounted at {}", shown(&self.root));
        let roots = [self.root.clone(), self.root.join("unified")];
        let root = roots.iter().find(|root| root.join("cgroup.controllers").exists()).ok_or_else(missing)?;
        let (_, path) = self
            .lines()
            .find(|(controllers, _)| controllers.is_empty())
            .ok_or("this process has no control group of the second version")?;
        let own = below(root, path);
        let mut candidates = vec![own.clone()];
        candidates.extend(own.parent().filter(|parent| parent.starts_with(root)).map(Path::to_owned));
        candidates.retain(|folder| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok());
        let lacking = |folder: &Path| -> Vec<&'static str> {
            let passed_on = words(&folder.join("cgroup.subtree_control"));
            controllers.iter().copied().filter(|controller| !passed_on.iter().any(|word| word == controller)).collect()
        };
        if let Some(ready) = candidates.iter().find(|folder| lacking(folder).is_empty()) {
            return Ok(ready.clone());
        }
        for folder in &candidates {
            let available = words(&folder.join("cgroup.controllers"));
            let wanted = lacking(folder);
            // All or none: nothing is passed on that helps nobody.
            if !wanted.iter().all(|controller| available.iter().any(|word| word == controller)) {
                continue;
            }
            let line: Vec<String> = wanted.iter().map(|controller| format!("+{controller}")).collect();
            if fs::write(folder.join("cgroup.subtree_control"), line.join(" ")).is_ok() {
                return Ok(folder.clone());
            }
        }
        Err(format!("the controllers {} are not delegated to {}", controllers.join(", "), shown(&own)))
    }
}

/// A group below a hierarchy's root; one outside of what this process sees (`/../…`) counts as the root.
fn below(root: &Path, path: &str) -> PathBuf {
    if path.split('/').any(|part| part == "..") { root.to_owned() } else { root.join(path) }
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a hierarchy: groups with the controllers they have and those they pass on.
    fn hierarchy(folder: &Path, groups: &[(&str, &str, &str)]) {
        for (path, controllers, passed_on) in groups {
            let group = folder.join(path);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.controllers"), controllers).unwrap();
            fs::write(group.join("cgroup.subtree_control"), passed_on).unwrap();
        }
    }

    fn passed_on(folder: &Path) -> String {
        fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap()
    }

    #[test]
    fn the_first_version_has_a_place_for_each_hierarchy() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["memory/a/b", "cpu,cpuacct", "pids"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let view = View::of(root, "5:memory:/a/b\n3:cpu,cpuacct:/\n2:pids:/\n0::/a\n");
        let places = view.places(&["memory", "cpu", "pids"]).unwrap();
        let parents: Vec<_> = places.iter().map(|place| place.parent.strip_prefix(root).unwrap()).collect();
        assert_eq!(parents, ["memory/a/b", "cpu,cpuacct", "pids"].map(Path::new));
        assert!(places.iter().all(|place| place.version == Version::First));
        // Controllers of one hierarchy limit one group: a process can be in no two of it.
        let joint = View::of(root, "3:cpu,cpuacct:/\n").places(&["cpu", "cpuacct"]).unwrap();
        assert_eq!((joint.len(), joint[0].controllers.clone()), (1, vec!["cpu", "cpuacct"]));
        // A path outside of this namespace is not followed.
        let outside = View::of(root, "2:pids:/../../other\n").places(&["pids"]).unwrap();
        assert_eq!(outside[0].parent, root.join("pids/"));
        assert!(View::of(root, "2:freezer:/\n").places(&["freezer"]).unwrap_err().contains("not mounted"));
        assert!(View::of(root, "").places(&["pids"]).unwrap_err().contains("no control groups are mounted"));
    }

    #[test]
    fn the_second_version_takes_what_is_delegated() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let all = "cpuset cpu io memory pids\n";
        hierarchy(
            root,
            &[("", all, all), ("app.slice", all, "memory pids\n"), ("app.slice/run.scope", "memory pids\n", "")],
        );
        let view = View::of(root, "0::/app.slice/run.scope\n");
        let place = |controllers: &[&'static str]| view.places(controllers).map(|places| places[0].clone());
        let memory = place(&["memory", "pids"]).unwrap();
        assert_eq!((memory.version, memory.parent), (Version::Second, root.join("app.slice")));
        assert_eq!(passed_on(&root.join("app.slice")), "memory pids\n", "nothing is changed");
        // What the parent has and does not pass on yet is asked for, that alone.
        assert_eq!(place(&["memory", "cpu"]).unwrap().parent, root.join("app.slice"));
        assert_eq!(passed_on(&root.join("app.slice")), "+cpu");
        assert!(place(&["hugetlb"]).unwrap_err().contains("hugetlb are not delegated"));
        // The root of what this process sees has no parent to turn to.
        let top = View::of(root, "0::/\n");
        assert_eq!(top.places(&["memory"]).unwrap()[0].parent, root.join(""));
    }

    #[test]
    fn a_host_with_both_versions_shares_the_controllers_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("memory")).unwrap();
        hierarchy(&root.join("unified"), &[("", "pids\n", "pids\n"), ("own", "pids\n", "")]);
        let view = View::of(root, "4:memory:/\n0::/own\n");
        let places = view.places(&["memory", "pids"]).unwrap();
        let versions: Vec<_> = places.iter().map(|place| (place.version, place.controllers.clone())).collect();
        assert_eq!(versions, [(Version::First, vec!["memory"]), (Version::Second, vec!["pids"])]);
        assert_eq!(places[1].parent, root.join("unified/"));
    }
}
