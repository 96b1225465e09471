"""A wall clock of its own for programs, which a case can set; the monotonic one stays as it is.

A few lines of C that are loaded before the C library (``LD_PRELOAD``) add seconds from a shared
file to whatever asks for the time of day, OpenSSL included.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

from tests.battery.registry import Skipped
from tests.programs.harness import Program, Suite

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static int (*real_gettime)(clockid_t, struct timespec *);
static volatile long long *ahead;

__attribute__((constructor)) static void begin(void) {
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int fd = open(getenv("BATTERY_CLOCK"), O_RDONLY | O_CLOEXEC);
    ahead = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    if (!real_gettime || ahead == MAP_FAILED) abort();
}

int clock_gettime(clockid_t id, struct timespec *now) {
    if (!ahead) begin();
    int result = real_gettime(id, now);
    if (!result && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *ahead;
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


class ClockedSuite(Suite):
    """Starts programs whose clock :meth:`set_ahead` sets."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        compiler = shutil.which("cc")
        if compiler is None:
            raise Skipped("needs a C compiler, cc, for a clock of its own")
        source, library = directory / "clock.c", directory / "clock.so"
        source.write_text(SOURCE)
        done = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Skipped(f"cannot make a clock of its own: {done.stderr.strip()[-200:]}")
        self._ahead = directory / "ahead"
        self._ahead.write_bytes(bytes(8))
        self._env = {"LD_PRELOAD": str(library), "BATTERY_CLOCK": str(self._ahead)}

    def start(self, name: str, *args: str, env: dict[str, str] | None = None) -> Program:
        return super().start(name, *args, env={**self._env, **(env or {})})

    def set_ahead(self, seconds: int) -> None:
        """Let the programs' clock be ahead of the machine's by so much, from now on."""
        with self._ahead.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
            shared[:] = struct.pack("=q", seconds)
