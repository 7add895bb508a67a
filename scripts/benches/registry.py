"""The registry under load, beside Debian's docker-registry, and the client beside skopeo."""
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.request

from .harness import TARGET, Row, Unavailable, run

LOAD = os.environ.get("ONETAG_LOAD", str(TARGET / "load"))
SECONDS = 2
CONFIGURATION = """version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s}, cache: {blobdescriptor: inmemory}}
http: {addr: "%s"}
"""


def load(*arguments):
    """Runs the load generator and gives what it measured."""
    done = subprocess.run([LOAD, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Unavailable("load: " + done.stderr.decode(errors="replace").strip())
    return json.loads(done.stdout)


class Registry:
    """One of the two registries, with the same content in it."""

    def __init__(self, process, address):
        self.process, self.address = process, address

    def _ask(self, method, path, body=None, headers=None):
        target = path if path.startswith("http") else "http://%s%s" % (self.address, path)
        request = urllib.request.Request(target, data=body, method=method, headers=headers or {})
        with urllib.request.urlopen(request) as answer:
            return answer.headers

    def push(self, repository, blob):
        """Pushes a blob; gives its digest."""
        digest = "sha256:" + hashlib.sha256(blob).hexdigest()
        location = self._ask("POST", "/v2/%s/blobs/uploads/" % repository, b"")["Location"]
        self._ask("PUT", "%s%sdigest=%s" % (location, "&" if "?" in location else "?", digest), blob,
                  {"Content-Type": "application/octet-stream"})
        return digest

    def tag(self, repository, tag, layers):
        """Pushes an image of blobs that are there, all of them layers but the first."""
        kind = "application/vnd.oci.image.%s"
        described = [{"mediaType": kind % ("layer.v1.tar" if number else "config.v1+json"), "digest": digest, "size": size}
                     for number, (digest, size) in enumerate(layers)]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind % "manifest.v1+json", "config": described[0],
                               "layers": described[1:]}).encode()
        self._ask("PUT", "/v2/%s/manifests/%s" % (repository, tag), manifest, {"Content-Type": kind % "manifest.v1+json"})

    def memory(self, path):
        """Resident memory in MB, at most, while 256 connections ask for a path."""
        child = subprocess.Popen([LOAD, "get", self.address, path, "256", str(SECONDS)], stdout=subprocess.DEVNULL)
        most = 0
        while child.poll() is None:
            status = pathlib.Path("/proc/%d/status" % self.process.pid).read_text()
            most = max(most, int(status.split("VmRSS:")[1].split()[0]))
            time.sleep(0.05)
        if child.returncode != 0:
            raise Unavailable("load: status %d" % child.returncode)
        return most / 1024


def docker_registry(bench):
    """Starts Debian's registry; None where it is not installed."""
    if shutil.which("docker-registry") is None:
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % probe.getsockname()[1]
    configuration = bench.work / "docker-registry.yml"
    configuration.write_text(CONFIGURATION % (bench.work / "docker-registry", address))
    with open(bench.work / "docker-registry.log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(configuration)], env=bench.environment,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    bench.at_end(lambda: (process.terminate(), process.wait()))
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", int(address.split(":")[1]))).close()
            return Registry(process, address)
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("docker-registry did not start")


def fill(registry, small, large):
    """The same content for both; gives the digests of the small and the large blob."""
    digests = registry.push("bench/app", small), registry.push("bench/app", large)
    config = registry.push("bench/app", b"{}")
    registry.tag("bench/app", "v1", [(config, 2), (digests[0], len(small))])
    return digests


def pulls(bench, ours):
    """The client: an image of 1.1 GB into an OCI layout."""
    layers = [(ours.push("bench/large", b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'), 78)]
    for _ in range(11):
        blob = os.urandom(100_000_000)
        layers.append((ours.push("bench/large", blob), len(blob)))
    ours.tag("bench/large", "v1", layers)
    image, layout = ours.address + "/bench/large:v1", bench.work / "layout"
    command = ["skopeo", "copy", "--src-tls-verify=false", "docker://" + image, "oci:%s:v1" % layout]
    yield Row("pull: 1.1 GB in 11 layers into an OCI layout", lambda: bench.onetag("copy", "--quiet", image, "oci:%s:v1" % layout),
              "skopeo", command, before=lambda: shutil.rmtree(layout, ignore_errors=True), runs=3)


def rows(bench):
    if not os.access(LOAD, os.X_OK):
        print("registry: no load generator at %s (make bench builds it)" % LOAD)
        return
    process, address = bench.serve(bench.work / "loaded")
    bench.at_end(lambda: (process.terminate(), process.wait()))
    ours, theirs = Registry(process, address), docker_registry(bench)
    small, large = os.urandom(1_000_000), os.urandom(300_000_000)
    digests = [fill(registry, small, large) for registry in (ours, theirs) if registry][0]
    del large
    blob = ["/v2/bench/app/blobs/" + digest for digest in digests]
    manifest = "/v2/bench/app/manifests/v1"
    peer = "docker-registry"

    def both(title, measure, unit, runs=3):
        yield Row(title, lambda: measure(ours), peer, theirs and (lambda: measure(theirs)), unit=unit, runs=runs)

    def get(path, connections, figure, scale=1.0):
        return lambda registry: load("get", registry.address, path, connections, SECONDS)[figure] / scale

    def push(registry):
        return load("push", registry.address, "bench/push", 200, 1_000_000, 4)["seconds"]

    yield from both("registry: manifest GET, 32 connections", get(manifest, 32, "requests_per_second"), "1/s")
    yield from both("registry: manifest GET, 32 connections, 99th percentile", get(manifest, 32, "p99_ms"), "ms")
    yield from both("registry: blobs of 1 MB, 8 connections", get(blob[0], 8, "bytes_per_second", 1e6), "MB/s")
    yield from both("registry: a blob of 300 MB, 1 connection", get(blob[1], 1, "bytes_per_second", 1e6), "MB/s")
    yield from both("registry: push of 200 blobs of 1 MB, 4 connections", push, "s")
    yield from both("registry: resident memory, 256 connections for manifests", lambda r: r.memory(manifest), "MB")
    yield from both("registry: resident memory, 256 connections for blobs of 1 MB", lambda r: r.memory(blob[0]), "MB")
    yield from pulls(bench, ours)
