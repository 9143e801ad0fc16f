"""Under any limit on memory the program ends with its table or with a line, never with a signal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="limits on memory are POSIX's")

ROOT = Path(__file__).resolve().parents[2]
LIMITS = range(0, 720, 60)  # MB
SIGNALS = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}

# The limit is set once what others wrote (Python, numpy) is loaded: what they do when memory runs
# out while they start is theirs.
PROGRAM = """
import resource, sys
import argparse, numpy
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[1]) * 2**20 // 10
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from metrics.evaluate import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
@pytest.mark.parametrize("limit", LIMITS)
def test_the_whole_program_ends_without_a_signal(limit: int, sample: Path) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit * 2**20, limit * 2**20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    arguments = [sys.executable, "-m", "metrics.evaluate", "--impl", "native"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    try:
        result = subprocess.run(
            arguments, cwd=ROOT, env=environment, preexec_fn=lower, capture_output=True, text=True
        )
    except OSError:
        return  # Python itself cannot be started
    print(limit, result.returncode, result.stderr[-300:])
