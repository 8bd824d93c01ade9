"""Restricts a process that decodes untrusted files: limited memory, no writing of files, no network, no other programs.

The last two by a seccomp filter (Linux, x86-64 and ARM64), which no code in the process can remove. Limits that a
system does not have are skipped.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import struct
import sys

MOST_MEMORY_BYTES = 4 << 30
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of the classic Berkeley packet filter
NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
ALLOW, PERMISSION_DENIED = 0x7FFF0000, 0x00050000 | 1
X32 = 0x40000000  # x86-64's second set of numbers starts here
# socket, connect, socketpair, execve, execveat, io_uring_setup (include/uapi/asm-generic/unistd.h, x86's table)
FORBIDDEN = {
    "x86_64": (0xC000003E, (41, 42, 53, 59, 322, 425)),
    "aarch64": (0xC00000B7, (198, 203, 199, 221, 281, 425)),
}


def confine() -> None:
    """Apply all restrictions to this thread and those that it will start."""
    with contextlib.suppress(ImportError):
        import resource

        limits = ((resource.RLIMIT_AS, MOST_MEMORY_BYTES), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0))
        for limit, most in limits:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(limit, (most, most))
    if sys.platform == "linux" and platform.machine() in FORBIDDEN:
        _forbid_calls(*FORBIDDEN[platform.machine()])


def _forbid_calls(architecture: int, numbers: tuple[int, ...]) -> None:
    """Let the kernel answer these system calls, and all of another architecture, with "permission denied"."""
    allow, deny = len(numbers) + 4, len(numbers) + 5  # positions of the two answers
    program = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 0, deny - 2, architecture), (LOAD, 0, 0, NUMBER)]
    program += [(AT_LEAST, deny - 4, 0, X32)]
    program += [(EQUAL, deny - index - 5, 0, number) for index, number in enumerate(numbers)]
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, PERMISSION_DENIED)]
    assert len(program) == deny + 1 == allow + 2
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0)
