"""Freed memory is kept for the next frame.

gRPC hands out each frame in memory that is new, and frees it when we have copied it. The C library by default
gives such pieces back to the kernel at once, which then has to zero every page again for the next frame: that
took as long as all else (79 ms of the receiver's CPU time for 100 MB instead of 39 ms).
"""

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
KEPT_BYTES = 64 << 20  # glibc's own rule reaches this, too, once a program has freed 32 MiB in one piece
PIECE_BYTES = 4 << 20


@cache
def keep_freed_memory() -> bool:
    """Let malloc keep up to `KEPT_BYTES`, in pieces of up to `PIECE_BYTES`; tell if this C library can."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc: musl, macOS, Windows
        return False
    return bool(mallopt(_MMAP_THRESHOLD, PIECE_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
