//! What the end-to-end tests share: a binary with a store of its own, a registry, a base of five platforms.

use std::time::Duration;

use onetag_oci::Platform;
use onetag_testkit::fixture::{self, Image, Multi, PLATFORMS};
use onetag_testkit::host::{has_foreign_handlers, private_binfmt};
use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag, Running, Served};

/// The binary that cargo built for these tests.
pub const BINARY: &str = env!("CARGO_BIN_EXE_onetag");

/// How long a daemon may take to end.
const LIMIT: Duration = Duration::from_secs(120);

/// One way to run the binary, with its registry. Dropped in order: the registry first.
pub struct World {
    pub registry: Served,
    pub onetag: Onetag,
}

impl World {
    /// A fresh store and an empty registry for a user.
    pub fn new(user: User) -> World {
        let onetag = Onetag::new(BINARY, user);
        World { registry: Served::start(&onetag), onetag }
    }

    /// As root.
    pub fn root() -> Result<World, String> {
        Ok(World::new(User::root()?))
    }

    /// As an ordinary user with subordinate ids.
    pub fn ordinary() -> Result<World, String> {
        Ok(World::new(User::ordinary()?))
    }

    /// As whoever can: an ordinary user if there is one, else root.
    pub fn any() -> World {
        World::new(User::ordinary().unwrap_or_else(|_| User::current()))
    }

    /// A reference in the registry.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.name())
    }

    /// Imports busybox for each of `platforms`, and makes of them the index `busybox:latest` in the registry.
    pub fn push_base(&self, platforms: &[&str]) -> Result<String, String> {
        let mut line = format!("imagetools create -t {}", self.reference("busybox:latest"));
        for platform in platforms {
            let rootfs = fixture::rootfs(platform)?;
            let name = local_name(platform);
            let copy = self.onetag.work().join(format!("{name}.tar"));
            std::fs::copy(&rootfs, &copy).map_err(|error| format!("{}: {error}", rootfs.display()))?;
            self.onetag.user().own(&copy);
            self.onetag.ok(&format!("import --platform {platform} {} {name}", copy.display()));
            line.push_str(&format!(" store:{name}"));
        }
        self.onetag.ok(&line);
        Ok(self.reference("busybox:latest"))
    }

    /// [`World::push_base`] for all five platforms.
    pub fn push_five(&self) -> Result<String, String> {
        self.push_base(&PLATFORMS)
    }

    /// Writes a layout with an index of tiny images that nobody runs, and copies it to `name` in the registry.
    pub fn push_tiny(&self, name: &str, platforms: &[&str]) -> (String, Multi) {
        let image = |platform: &&str| {
            let layer = format!("not a layer, but a blob for {platform} in {name}").into_bytes();
            Image::new(platform.parse::<Platform>().expect("a platform").normalize(), layer)
        };
        let multi = Multi::new(platforms.iter().map(image).collect());
        let folder = self.onetag.work().join("tiny").join(name.replace([':', '/'], "-"));
        multi.write_layout(&folder, "tiny").expect("own folder");
        self.onetag.user().own_tree(&self.onetag.work());
        let reference = self.reference(name);
        self.onetag.ok(&format!("copy --quiet oci:{}:tiny {reference}", folder.display()));
        (reference, multi)
    }

    /// The exact bytes that a name means.
    pub fn raw(&self, name: &str) -> Vec<u8> {
        self.onetag.ok(&format!("imagetools inspect --raw {name}")).stdout
    }

    /// Whether this user can run programs of other machines here.
    pub fn runs_foreign(&self) -> Result<(), String> {
        if has_foreign_handlers() { Ok(()) } else { private_binfmt(self.onetag.user()) }
    }

    /// Writes a build context and gives its folder.
    pub fn context(&self, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> String {
        let folder = self.onetag.work().join(name);
        self.onetag.file(&format!("{name}/Dockerfile"), dockerfile);
        for (path, content) in files {
            self.onetag.file(&format!("{name}/{path}"), content);
        }
        folder.display().to_string()
    }
}

/// The local name of a platform's busybox: `linux/arm/v7` is `busybox-arm-v7`.
pub fn local_name(platform: &str) -> String {
    format!("busybox-{}", platform.trim_start_matches("linux/").replace('/', "-"))
}

/// The platform of this host, and another that it can only emulate.
pub fn native_and_foreign() -> (&'static str, &'static str) {
    if std::env::consts::ARCH == "aarch64" { ("linux/arm64", "linux/amd64") } else { ("linux/amd64", "linux/arm64") }
}

/// What `uname -m` says on a platform.
pub fn machine(platform: &str) -> &'static str {
    match platform {
        "linux/amd64" => "x86_64",
        "linux/arm64" => "aarch64",
        "linux/arm/v7" => "armv7l",
        "linux/s390x" => "s390x",
        "linux/ppc64le" => "ppc64le",
        other => panic!("no machine known for {other}"),
    }
}

/// How often steps of a build with plain progress wrote exactly this line: `#5 0.050 TEXT`.
pub fn said(finished: &Finished, text: &str) -> usize {
    let written = |line: &str| {
        let mut words = line.strip_prefix('#')?.splitn(3, ' ').skip(1);
        words.next()?.parse::<f64>().ok()?;
        words.next().map(|written| written == text)
    };
    finished.stderr.lines().filter(|line| written(line) == Some(true)).count()
}

/// A daemon that is asked to end, and waited for, with the value.
pub struct Daemon(Option<Running>);

impl Daemon {
    /// Starts a daemon and waits until a command of its client succeeds; what it said when it ends before.
    pub fn start(mut command: std::process::Command, mut ready: impl FnMut() -> bool) -> Result<Daemon, String> {
        let mut running = Running::start(&mut command);
        for _ in 0..600 {
            if ready() {
                return Ok(Daemon(Some(running)));
            }
            if !running.is_running() {
                let said = running.finish(LIMIT).stderr;
                return Err(said.lines().last().unwrap_or("it ended at once").to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(Daemon(Some(running)));
        Err("it does not become ready".to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(daemon) = self.0.take() {
            daemon.signal("TERM");
            let _ = daemon.finish(LIMIT);
        }
    }
}
