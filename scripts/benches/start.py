"""What every command costs before it does anything."""
from .harness import Row


def rows(bench):
    return [Row("start: version", lambda: bench.onetag("version"), "skopeo", ["skopeo", "--version"])]
