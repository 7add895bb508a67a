"""What every row is measured with: one registry, one store, one base of five platforms, and how a row is printed."""
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
ONETAG = os.environ.get("ONETAG", str(TARGET / "onetag"))
FIXTURES = pathlib.Path(os.environ.get("ONETAG_FIXTURES", TOP / "target" / "fixtures"))
PLATFORMS = {"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm/v7": "arm-v7",
             "linux/s390x": "s390x", "linux/ppc64le": "ppc64le"}


class Unavailable(Exception):
    """A program that cannot do the work on this machine, with its last words."""


def run(command, environment, **options):
    """Runs a command to its end and gives the wall time in seconds; its output only where it fails."""
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    elapsed = time.perf_counter() - started
    if done.returncode != 0:
        words = done.stdout.decode(errors="replace").strip()
        raise Unavailable("%s\n%s" % (" ".join(map(str, command)), words[-2000:]))
    return elapsed


def time_and_memory(command, environment):
    """Runs a command to its end and gives the wall time in seconds and the peak resident memory of its largest process
    in MB."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # A process of its own, since the kernel's figure is the largest of all children so far.
        os.close(reader)
        status = 1
        try:
            elapsed = run(command, environment)
            kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            os.write(writer, ("%r %d" % (elapsed, kilobytes)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        figures = pipe.read().split()
    if os.waitpid(child, 0)[1] != 0:
        raise Unavailable(" ".join(map(str, command)))
    return float(figures[0]), int(figures[1]) / 1024


def peak_memory(command, environment):
    """As `time_and_memory`, the memory alone."""
    return time_and_memory(command, environment)[1]


class Row:
    """One line of the report: a title, our measurement and, where there is one, the same by a peer.

    `ours` takes nothing and gives a figure in `unit`, seconds unless told. `peer` is a command to be timed, or a
    callable like `ours`; `peer_name` is the program, looked for in PATH. `before` runs, uncounted, before each turn.
    A first turn that is not counted warms caches, unless the row is `cold`.
    """

    def __init__(self, title, ours, peer_name=None, peer=None, unit="s", before=None, runs=None, cold=False):
        self.title, self.ours, self.peer_name, self.peer = title, ours, peer_name, peer
        self.unit, self.before, self.runs, self.cold = unit, before, runs, cold

    def figure(self, value):
        return "%9.1f ms" % (value * 1000) if self.unit == "s" else "%9.2f %s" % (value, self.unit)


class Bench:
    """One run over all rows. Everything lies in `work`, which goes afterwards."""

    def __init__(self, work, runs, scale=1.0, tree=None):
        self.work, self.runs, self.scale, self.tree = pathlib.Path(work), runs, scale, tree
        self.environment = dict(os.environ, ONETAG_ROOT=str(self.work / "store"), DOCKER_CONFIG=str(self.work / "docker"),
                                PATH="%s:%s" % (FIXTURES / "qemu/bin", os.environ["PATH"]))
        # Some programs insist on the file.
        (self.work / "docker").mkdir()
        (self.work / "docker" / "config.json").write_text("{}")
        self.environment.pop("DOCKER_DEFAULT_PLATFORM", None)
        self.registry_process, self.registry = self.serve(self.work / "registry")
        self._at_end = []

    def serve(self, folder):
        """Starts our registry over a folder; gives the process and its address."""
        path = folder.with_suffix(".log")
        with open(path, "wb") as log:
            process = subprocess.Popen([ONETAG, "registry", "serve", "--addr", "127.0.0.1:0", "--root", str(folder)],
                                       env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT)
        for _ in range(200):
            found = re.search(r"127\.0\.0\.1:\d+", path.read_text())
            if found:
                return process, found.group(0)
            time.sleep(0.02)
        process.kill()
        raise RuntimeError("the registry did not start")

    def at_end(self, work):
        """Does something when all rows are through, whatever became of them."""
        self._at_end.append(work)

    def close(self):
        for work in reversed(self._at_end):
            work()
        subprocess.run([ONETAG, "prune", "--all", "--force"], env=self.environment, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)
        self.registry_process.terminate()
        self.registry_process.wait()

    def onetag(self, *arguments):
        """Runs the binary under test and gives the wall time in seconds."""
        return run([ONETAG, *map(str, arguments)], self.environment)

    def prepare(self):
        """Puts the base of five platforms into the store and the registry."""
        sources = []
        for platform, short in PLATFORMS.items():
            self.onetag("import", "--platform", platform, FIXTURES / "rootfs" / (short + ".tar"), "base-" + short)
            sources.append("store:base-" + short)
        self.onetag("imagetools", "create", "-t", self.registry + "/busybox:latest", *sources)

    def _peer(self, row):
        """The peer's measurement, or why there is none."""
        if row.peer is None:
            return None, row.peer_name and "%s: not compared" % row.peer_name
        if shutil.which(row.peer_name, path=self.environment["PATH"]) is None:
            return None, "%s absent" % row.peer_name
        if callable(row.peer):
            return row.peer, None
        return lambda: run(row.peer, self.environment), None

    def report(self, row):
        """Measures one row, both programs in turn, and prints the medians and their ratio."""
        before = row.before or (lambda: None)
        peer, absence = self._peer(row)
        mine, theirs = [], []
        for counted in [False] * (not row.cold) + [True] * (row.runs or self.runs):
            before()
            figure = row.ours()
            if counted:
                mine.append(figure)
            if peer:
                before()
                try:
                    figure = peer()
                except Unavailable as error:
                    peer, absence = None, "%s fails here (%s)" % (row.peer_name, str(error).splitlines()[-1])
                    continue
                if counted:
                    theirs.append(figure)
        median = statistics.median(mine)
        line = "%-62s %s" % (row.title, row.figure(median))
        if peer and theirs:
            other = statistics.median(theirs)
            line += "   %s %s   ratio %.3f" % (row.peer_name, row.figure(other), median / other)
        elif absence:
            line += "   " + absence
        print(line, flush=True)
