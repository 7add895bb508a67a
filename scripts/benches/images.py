"""Images into the local store: a large one pulled, with and without its files, a second platform of it, a long list.

The large image has ten layers; at `--scale 1` they hold 190,000 files with 4.1 GB, 1.1 GB compressed. Its two platforms
share all layers but one. It is made and pushed here, by the program under test, and is the same for all that pull it.
"""
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import time

from .harness import ONETAG, Row, Unavailable, peak_memory, run
from .layers import BUILD, MEAN_BYTES, tree

LAYERS, FILES_A_LAYER = 10, 19_000
MANY = 1000
FIRST, SECOND = "linux/amd64", "linux/arm64"


class Large:
    """The image in the registry, and stores that pull it."""

    def __init__(self, bench):
        self.bench = bench
        self.name = bench.registry + "/large:latest"
        self.store = dict(bench.environment, ONETAG_ROOT=str(bench.work / "images-store"))
        self.files = max(1, int(FILES_A_LAYER * bench.scale))
        context = bench.work / "images-large"
        for number in range(LAYERS + 1):
            tree(context / ("part%d" % number), self.files, MEAN_BYTES, number)
        # The last layer is the one that the platforms do not share.
        (context / ("part%d" % (LAYERS - 1))).rename(context / "amd64")
        (context / ("part%d" % LAYERS)).rename(context / "arm64")
        copies = "".join("COPY part%d /srv/%d/\n" % (number, number) for number in range(LAYERS - 1))
        (context / "Dockerfile").write_text("FROM scratch\n%sARG TARGETARCH\nCOPY $TARGETARCH /srv/last/\n" % copies)
        bench.onetag(*BUILD, "--platform", FIRST + "," + SECOND, "--push", "-t", self.name, context)
        bench.at_end(self.empty)
        shutil.rmtree(context)

    def pull(self, *more):
        """What the command line is."""
        return [ONETAG, "pull", "--quiet", *more, self.name]

    def timed(self, *more):
        return run(self.pull(*more), self.store)

    def empty(self):
        run([ONETAG, "prune", "--all", "--force"], self.store)
        run([ONETAG, "builder", "prune", "--all", "--force"], self.store)

    def share_of_second(self, *more):
        """How long the second platform takes, in parts of the first."""
        self.empty()
        first = self.timed("--platform", FIRST, *more)
        return 100 * self.timed("--platform", SECOND, *more) / first


class Podman:
    """podman with a storage of its own."""

    def __init__(self, bench, name):
        self.bench, self.name = bench, name
        self.command = ["podman", "--root", str(bench.work / "podman"), "--runroot", str(bench.work / "podman-run")]
        bench.at_end(self.empty)

    def pull(self):
        return run([*self.command, "pull", "-q", "--tls-verify=false", self.name], self.bench.environment)

    def empty(self):
        if shutil.which("podman"):
            subprocess.run([*self.command, "rmi", "--all", "--force"], env=self.bench.environment,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


class Containerd:
    """A containerd of its own, started when it is first asked."""

    def __init__(self, bench, name):
        self.bench, self.name, self.process = bench, name, None
        self.socket = str(bench.work / "containerd.sock")

    def start(self):
        if self.process or shutil.which("containerd") is None:
            return
        folder = self.bench.work / "containerd"
        folder.mkdir()
        configuration = folder / "config.toml"
        configuration.write_text("version = 2\nroot = \"%s/root\"\nstate = \"%s/state\"\n[grpc]\naddress = \"%s\"\n"
                                 % (folder, folder, self.socket))
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(["containerd", "--config", str(configuration)], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        self.bench.at_end(self.stop)
        for _ in range(100):
            if subprocess.run(["ctr", "-a", self.socket, "version"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.1)

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def pull(self):
        self.start()
        if self.process is None:
            raise Unavailable("containerd is not installed")
        return run(["ctr", "-a", self.socket, "images", "pull", "--plain-http", "--platform", FIRST, self.name],
                   self.bench.environment)

    def empty(self):
        if self.process:
            subprocess.run(["ctr", "-a", self.socket, "images", "rm", "--sync", self.name], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)


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
    podman, containerd = Podman(bench, large.name), Containerd(bench, large.name)

    def anew():
        for store in [large, podman, containerd]:
            store.empty()
        shutil.rmtree(bench.work / "skopeo", ignore_errors=True)

    title = "pull: %d files in %d layers" % (large.files * LAYERS, LAYERS)
    unpacked = ["--platform", FIRST, "--unpack"]
    skopeo = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--override-arch", "amd64",
              "docker://" + large.name, "oci:%s:large" % (bench.work / "skopeo")]
    yield Row(title + ", unpacked", lambda: large.timed(*unpacked), "podman", podman.pull, before=anew, runs=3)
    yield Row(title + ", unpacked", lambda: large.timed(*unpacked), "ctr", containerd.pull, before=anew, runs=3)
    yield Row(title + ", unpacked, peak memory", lambda: peak_memory(large.pull(*unpacked), large.store), unit="MB",
              before=anew, runs=1)
    yield Row(title + ", not unpacked", lambda: large.timed("--platform", FIRST), "skopeo", skopeo, before=anew, runs=3)
    yield Row(title + ", second platform, of the first", lambda: large.share_of_second("--unpack"), unit="%", runs=3)

    many = dict(bench.environment, ONETAG_ROOT=str(bench.work / "many-store"))
    archive(bench.work / "many.tar", MANY)
    run([ONETAG, "load", "--quiet", "-i", str(bench.work / "many.tar")], many)
    yield Row("images: %d of them" % MANY, lambda: run([ONETAG, "images"], many))
    yield Row("images: the digests of %d" % MANY, lambda: run([ONETAG, "images", "--quiet"], many))
