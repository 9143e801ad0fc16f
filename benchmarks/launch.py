"""Runs one command and prints its wall seconds, CPU seconds and peak memory in bytes, as JSON.

Run as `python -I -S launch.py COMMAND ...`, by `benchmarks.harness`. Linux counts the memory that a
process shares with its parent between fork and exec as the process's own peak, so a command that
a large process starts seems large (getrusage(2), ru_maxrss). This launcher imports next to
nothing: no command measured through it reads more than the few megabytes of a bare Python too much.
"""

import os
import sys
import time

__all__: list[str] = []

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; getrusage(2) of each system


def _main(command: list[str]) -> int:
    silence = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=silence)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - began
    cpu = usage.ru_utime + usage.ru_stime
    print(f'{{"wall_s": {wall!r}, "cpu_s": {cpu!r}, "peak_rss": {usage.ru_maxrss * RSS_UNIT}}}')
    return abs(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
