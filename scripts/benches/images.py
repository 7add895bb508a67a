"""Images into the local store: a large one pulled, with and without its files, a second platform of it, a long list.

The large image has ten layers; at `--scale 1` they hold 190,000 files with 4.1 GB, 1.1 GB compressed. Its platforms share
all layers but the last: amd64 and arm64 differ in a tenth of the image, and s390x has a last layer of one part in five
hundred. It is made and pushed here, by the program under test, and is the same for all that pull it.

Every turn of every program has a store of its own, and all are removed in the end: a file system that has just removed
so many files makes new ones several times slower, so that whoever came after a removal would pay for it.
"""
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import time

from .harness import ONETAG, Row, Unavailable, run, time_and_memory
from .layers import BUILD, MEAN_BYTES, once, tree

LAYERS, FILES_A_LAYER = 10, 19_000
MANY = 1000
FIRST, SECOND, SMALL = "linux/amd64", "linux/arm64", "linux/s390x"


class Folders:
    """Places that nobody has used before."""

    def __init__(self, bench, name):
        self.path, self.count = bench.work / name, 0
        bench.at_end(lambda: subprocess.run(["rm", "-rf", str(self.path)], check=False))

    def fresh(self):
        self.count += 1
        folder = self.path / str(self.count)
        folder.mkdir(parents=True)
        return folder


class Large:
    """The image in the registry, and stores that pull it."""

    def __init__(self, bench):
        self.bench = bench
        self.name = bench.registry + "/large:latest"
        self.folders = Folders(bench, "images-stores")
        self.memory = None
        self.files = max(1, int(FILES_A_LAYER * bench.scale))
        context = bench.work / "images-large"
        for number in range(LAYERS - 1):
            tree(context / ("part%d" % number), self.files, MEAN_BYTES, number)
        for number, (platform, files) in enumerate([("amd64", self.files), ("arm64", self.files),
                                                    ("s390x", max(1, self.files * LAYERS // 500))]):
            tree(context / platform, files, MEAN_BYTES, LAYERS + number)
        copies = "".join("COPY part%d /srv/%d/\n" % (number, number) for number in range(LAYERS - 1))
        (context / "Dockerfile").write_text("FROM scratch\n%sARG TARGETARCH\nCOPY $TARGETARCH /srv/last/\n" % copies)
        bench.onetag(*BUILD, "--platform", ",".join([FIRST, SECOND, SMALL]), "--push", "-t", self.name, context)
        shutil.rmtree(context)

    def pull(self, store, *more):
        """Pulls into a store and gives the time; the memory is kept for the next row."""
        environment = dict(self.bench.environment, ONETAG_ROOT=str(store))
        elapsed, self.memory = time_and_memory([ONETAG, "pull", "--quiet", *more, self.name], environment)
        return elapsed

    def anew(self, *more):
        return self.pull(self.folders.fresh(), *more)

    def share_of_second(self, second):
        """How long a second platform takes, in parts of the first."""
        store = self.folders.fresh()
        first = self.pull(store, "--platform", FIRST, "--unpack")
        return 100 * self.pull(store, "--platform", second, "--unpack") / first


class Podman:
    """podman with a storage of its own."""

    def __init__(self, bench, name):
        self.bench, self.name, self.folders = bench, name, Folders(bench, "podman")

    def pull(self):
        folder = self.folders.fresh()
        return run(["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"), "pull", "-q",
                    "--tls-verify=false", self.name], self.bench.environment)


class Containerd:
    """A containerd of its own, started anew for each turn."""

    def __init__(self, bench, name):
        self.bench, self.name, self.folders = bench, name, Folders(bench, "containerd")
        self.socket = str(bench.work / "containerd.sock")

    def pull(self):
        folder = self.folders.fresh()
        configuration = folder / "config.toml"
        configuration.write_text("version = 2\nroot = \"%s/root\"\nstate = \"%s/state\"\n[grpc]\naddress = \"%s\"\n"
                                 % (folder, folder, self.socket))
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(["containerd", "--config", str(configuration)], stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL)
        try:
            self.wait()
            return run(["ctr", "-a", self.socket, "images", "pull", "--plain-http", "--platform", FIRST, self.name],
                       self.bench.environment)
        finally:
            process.terminate()
            process.wait()

    def wait(self):
        for _ in range(100):
            if subprocess.run(["ctr", "-a", self.socket, "version"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise Unavailable("containerd does not answer")


def archive(path, count):
    """An archive of `count` images of one small layer each."""
    def add(name, content):
        header = tarfile.TarInfo(name)
        header.size = len(content)
        out.addfile(header, io.BytesIO(content))

    def blob(kind, content):
        digest = hashlib.sha256(content).hexdigest()
        add("blobs/sha256/" + digest, content)
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(content)}

    with tarfile.open(path, "w") as out:
        entries = []
        for number in range(count):
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as files:
                header = tarfile.TarInfo("file")
                content = b"image %d\n" % number
                header.size = len(content)
                files.addfile(header, io.BytesIO(content))
            layer = layer.getvalue()
            config = {"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {},
                      "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}
            manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "config": blob("config.v1+json", json.dumps(config).encode()),
                        "layers": [blob("layer.v1.tar", layer)]}
            entry = blob("manifest.v1+json", json.dumps(manifest).encode())
            entry["annotations"] = {"io.containerd.image.name": "docker.io/library/many%d:latest" % number}
            entries.append(entry)
        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


def rows(bench):
    large = Large(bench)
    podman, containerd, layouts = Podman(bench, large.name), Containerd(bench, large.name), Folders(bench, "skopeo")
    # Six gigabytes a turn and program at scale 1, and nothing is removed until the end.
    turns = {"runs": 1, "cold": True} if bench.scale > 0.5 else {"runs": 3}

    def skopeo():
        return run(["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--override-arch", "amd64",
                    "docker://" + large.name, "oci:%s:large" % layouts.fresh()], bench.environment)

    title = "pull: %d files in %d layers" % (large.files * LAYERS, LAYERS)
    unpacked = ["--platform", FIRST, "--unpack"]
    yield Row(title + ", unpacked", lambda: large.anew(*unpacked), "podman", podman.pull, **turns)
    yield Row(title + ", unpacked, peak memory", lambda: large.memory, unit="MB", runs=1, cold=True)
    yield Row(title + ", unpacked", lambda: large.anew(*unpacked), "ctr", containerd.pull, **turns)
    yield Row(title + ", not unpacked", lambda: large.anew("--platform", FIRST), "skopeo", skopeo, **turns)
    yield Row(title + ", not unpacked, peak memory", lambda: large.memory, unit="MB", runs=1, cold=True)
    for second, part in [(SECOND, "a tenth"), (SMALL, "1/500")]:
        yield Row("pull: second platform, %s its own, of the first" % part,
                  lambda second=second: large.share_of_second(second), unit="%", **turns)

    many = dict(bench.environment, ONETAG_ROOT=str(bench.work / "many-store"))
    archive(bench.work / "many.tar", MANY)
    run([ONETAG, "load", "--quiet", "-i", str(bench.work / "many.tar")], many)
    yield Row("images: %d of them" % MANY, lambda: run([ONETAG, "images"], many), before=once(lambda: settle(many)))
    yield Row("images: the digests of %d" % MANY, lambda: run([ONETAG, "images", "--quiet"], many))

    def changed():
        run([ONETAG, "tag", "many1", "again%d" % time.monotonic_ns()], many)

    yield Row("images: %d of them, just after a change" % MANY, lambda: run([ONETAG, "images"], many), before=changed)


def settle(environment):
    """Lets the store rest for as long as a list of it is not kept."""
    time.sleep(4)
    run([ONETAG, "images"], environment)
