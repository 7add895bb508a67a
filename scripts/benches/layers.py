"""Layers of many files: copied from the context, compressed, pushed; what happens when nothing or little changes; growth.

The inputs are made here, the same in every run: folders of files as installations of a scripting language have them,
125,000 of them with 2.7 GB at `--scale 1`. They are random prose, which takes gzip and zstd half as long again as real
files; `--tree FOLDER` takes real ones for the large layer.
"""
import math
import pathlib
import random
import shutil
import statistics
import subprocess

from .harness import ONETAG, PLATFORMS, Row, peak_memory, run

BUILD = ["build", "--progress", "quiet", "--allow", "network.host", "--network", "host"]
FILES, MEAN_BYTES = 125_000, 21_600
SMALL_FILES, SMALL_BYTES = 20_000, 2_000


class Content:
    """Slices of text and of bytes that hardly compress, in a mixture that gzip brings to less than a half."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        words = ["".join(self.random.choices("abcdefghijklmnoprstuvwy_", k=self.random.randint(2, 9))) for _ in range(4000)]
        ends = [" ", " ", " ", "\n    ", ".", "(", ", ", " = ", "):\n        "]
        pieces = []
        for _ in range(1_200_000):
            # Common words are the more common the earlier they stand.
            pieces.append(words[int(len(words) * self.random.random() ** 3)])
            pieces.append(self.random.choice(ends))
        self.text = "".join(pieces).encode()
        self.noise = self.random.randbytes(1 << 20)

    def file(self, size):
        noise = size if self.random.random() < 0.04 else size // 40
        noise = min(noise, len(self.noise) // 2)
        begin = self.random.randrange(len(self.noise) - noise)
        rest = size - noise
        parts = [self.noise[begin:begin + noise]]
        while rest > 0:
            length = min(rest, len(self.text) // 2)
            begin = self.random.randrange(len(self.text) - length)
            parts.append(self.text[begin:begin + length])
            rest -= length
        return b"".join(parts)


def tree(root, files, mean_bytes, seed):
    """Makes `files` files of `mean_bytes` on average below `root`; gives the bytes of all."""
    content = Content(seed)
    total = 0
    for number in range(files):
        folder = root / ("lib%d" % (number // 14_040)) / ("package%d" % (number // 156)) / ("module%d" % (number // 12))
        if number % 12 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        # Most files are small, a few hold most of the bytes.
        size = int(min(mean_bytes * content.random.lognormvariate(-1.0, 1.4), 40 * mean_bytes))
        (folder / ("file%d.py" % number)).write_bytes(content.file(size))
        total += size
    return total


class Sample:
    """A context of one COPY on nothing, and the builds of it."""

    def __init__(self, bench, name, files, mean_bytes, source=None):
        self.bench, self.name = bench, name
        self.context = bench.work / ("layers-" + name)
        if source:
            self.context.mkdir()
            subprocess.run(["cp", "-a", source, str(self.context / "files")], check=True)
            self.megabytes = measure(self.context / "files")[1] / 1e6
        else:
            self.megabytes = tree(self.context / "files", files, mean_bytes, files) / 1e6
        (self.context / "Dockerfile").write_text("FROM scratch\nCOPY files /usr/lib/\n")
        self.changes = 0
        bench.at_end(lambda: forget(name))

    def build(self, *more, tag=None):
        return [*BUILD, *more, "-t", "%s/%s:%s" % (self.bench.registry, self.name, tag or "latest"), self.context]

    def cold(self, *more):
        """Nothing of it is in the store, and nothing in the registry."""
        self.anew()
        return self.bench.onetag(*self.build("--no-cache", *(more or ["--push"])))

    def anew(self):
        run([ONETAG, "prune", "--all", "--force"], self.bench.environment)
        self.bench.prepare()
        shutil.rmtree(self.bench.work / "registry" / self.name, ignore_errors=True)

    def warm(self):
        return self.bench.onetag(*self.build("--push"))

    def changed(self):
        self.changes += 1
        path = self.context / "files" / "changed.py"
        path.write_text("change %d\n" % self.changes)
        return self.bench.onetag(*self.build("--push"))

    def memory(self, *more):
        self.anew()
        command = [ONETAG, *map(str, self.build("--no-cache", *(more or ["--push"])))]
        return peak_memory(command, self.bench.environment)

    def by_buildah(self):
        """The same by buildah: built without cache, pushed."""
        name = "%s/buildah-%s:latest" % (self.bench.registry, self.name)
        shutil.rmtree(self.bench.work / "registry" / ("buildah-" + self.name), ignore_errors=True)
        elapsed = run(["buildah", "build", "-q", "--no-cache", "-t", name, str(self.context)], self.bench.environment)
        elapsed += run(["buildah", "push", "-q", "--tls-verify=false", name], self.bench.environment)
        forget(name)
        return elapsed


def measure(folder):
    """How many files a folder holds, and their bytes."""
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file() and not path.is_symlink()]
    return len(files), sum(path.stat().st_size for path in files)


def forget(name):
    """Removes what buildah keeps outside our folder."""
    if shutil.which("buildah"):
        subprocess.run(["buildah", "rmi", "-f", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def slope(points):
    """The exponent by which time grows with size: 1 is linear. By least squares over logarithms."""
    logs = [(math.log(size), math.log(seconds)) for size, seconds in points]
    size = statistics.mean(x for x, _ in logs)
    time = statistics.mean(y for _, y in logs)
    return sum((x - size) * (y - time) for x, y in logs) / sum((x - size) ** 2 for x, _ in logs)


def rows(bench):
    large, small = max(1, int(FILES * bench.scale)), max(1, int(SMALL_FILES * bench.scale))
    samples = {}

    if bench.tree:
        large = measure(bench.tree)[0]

    def sample(name, files, mean_bytes, source=None):
        if name not in samples:
            samples[name] = Sample(bench, name, files, mean_bytes, source)
        return samples[name]

    def big():
        return sample("large", large, MEAN_BYTES, bench.tree)

    def little():
        return sample("small", small, SMALL_BYTES)

    zstd = ["-o", "type=registry,compression=zstd"]
    title = "layer: %d files" % large
    yield Row(title + ", cold, gzip, pushed", lambda: big().cold(), "buildah", lambda: big().by_buildah(), runs=1)
    yield Row(title + ", the same as a rate", lambda: big().megabytes / big().cold(), unit="MB/s", runs=1)
    yield Row(title + ", the same, peak memory", lambda: big().memory(), unit="MB", runs=1)
    yield Row(title + ", cold, zstd, pushed", lambda: big().cold(*zstd), runs=1)
    yield Row(title + ", zstd, peak memory", lambda: big().memory(*zstd), unit="MB", runs=1)
    yield Row(title + ", nothing changed, pushed", lambda: big().warm(), before=once(lambda: big().warm()))
    yield Row(title + ", one file changed, pushed", lambda: big().changed(), runs=2)
    title = "layer: %d small files" % small
    yield Row(title + ", cold, pushed", lambda: little().cold(), "buildah", lambda: little().by_buildah(), runs=3)
    yield Row(title + ", nothing changed, pushed", lambda: little().warm(), before=once(lambda: little().warm()))
    yield Row(title + ", one file changed, pushed", lambda: little().changed())
    yield Row("layers: 10 COPY on two platforms, pushed", lambda: ten(bench, sample), runs=1)
    yield Row("growth: 10^3, 10^4, 10^5 files (1 is linear)", lambda: slope(growing_files(bench, sample)), unit="", runs=1)
    yield Row("growth: 1, 10, 100 RUN steps (1 is linear)", lambda: slope(growing_steps(bench)), unit="", runs=1)
    yield Row("growth: 1, 2, 4, 8 platforms (1 is linear)", lambda: slope(growing_platforms(bench)), unit="", runs=1)


def once(work):
    """Does something before the first turn only."""
    left = [work]
    return lambda: left and left.pop()()


def ten(bench, sample):
    context = sample("small", max(1, int(SMALL_FILES * bench.scale)), SMALL_BYTES).context.parent / "layers-ten"
    if not context.exists():
        for number in range(10):
            tree(context / ("part%d" % number), max(1, int(19_000 * bench.scale)), MEAN_BYTES, number)
        copies = "".join("COPY part%d /srv/%d/\n" % (number, number) for number in range(10))
        (context / "Dockerfile").write_text("FROM scratch\n" + copies)
    shutil.rmtree(bench.work / "registry" / "ten", ignore_errors=True)
    return bench.onetag(*BUILD, "--no-cache", "--platform", "linux/amd64,linux/arm64", "--push", "-t",
                        bench.registry + "/ten:latest", context)


def growing_files(bench, sample):
    for files in [1000, 10_000, int(100_000 * max(bench.scale, 0.2))]:
        one = sample("files%d" % files, files, SMALL_BYTES)
        yield files, min(one.cold() for _ in range(3))


def growing_steps(bench):
    for steps in [1, 10, 100]:
        context = bench.work / ("steps%d" % steps)
        context.mkdir(exist_ok=True)
        lines = "".join("RUN echo %d > /f%d\n" % (number, number) for number in range(steps))
        (context / "Dockerfile").write_text("FROM %s/busybox:latest\n%s" % (bench.registry, lines))
        command = [*BUILD, "--no-cache", "--load", "-t", "steps", context]
        yield steps, min(bench.onetag(*command) for _ in range(3))


def growing_platforms(bench):
    context = bench.work / "platforms"
    context.mkdir(exist_ok=True)
    (context / "file").write_text("content\n")
    (context / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH/\n")
    names = [*PLATFORMS, "linux/386", "linux/riscv64", "linux/arm/v6"]
    for count in [1, 2, 4, 8]:
        command = [*BUILD, "--no-cache", "--platform", ",".join(names[:count]), "--push", "-t",
                   bench.registry + "/platforms:latest", context]
        yield count, min(bench.onetag(*command) for _ in range(3))
