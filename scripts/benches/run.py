"""Single containers."""
from .harness import Row


def rows(bench):
    container = ["run", "--rm", "--network", "host"]
    return [
        Row("run: a native container", lambda: bench.onetag(*container, "base-amd64", "true")),
        Row("run: a container under QEMU (arm64)",
            lambda: bench.onetag(*container, "--platform", "linux/arm64", "base-arm64", "true")),
    ]
