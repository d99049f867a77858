"""What this machine does fast: its device, whether bfloat16 pays on it, how its memory is kept.

In: nothing. Out: a device and the autocast context that all training and decoding of the kit runs under.
"""

import ctypes
import os
import platform
import time
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def best_device():
    """`cuda` where there is a GPU, `cpu` elsewhere."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device):
    """The mixed-precision context of the kit: bfloat16 where this machine multiplies it faster, float32 elsewhere.

    Args:
        device: a `torch.device` or its name.

    Returns:
        A context manager.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16) if bfloat16_pays(kind) else nullcontext()


def machine_kind():
    """What kind of machine this is, in words: its processor, its cores and its GPU."""
    name = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):  # Linux alone has this file
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{name}, {cores} {'core' if cores == 1 else 'cores'}{gpu}, {platform.system()}"


def peak_memory():
    """The most memory that this process has held at once, in GB (10^9 bytes); None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024  # macOS counts in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def keep_memory():
    """Let this process keep what tensors leave behind, for the next ones.

    glibc gives a block above 32 MB back to the system at once, and each page of the next such block costs a page fault:
    a sixth of the time of a decoding in large batches. Elsewhere than with glibc nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def release_memory():
    """Give the system back what freed tensors have left in this process, in some 10 ms.

    glibc keeps blocks below 32 MB for later ones, which seldom fit: a demo would hold half as much again. Elsewhere
    than with glibc nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@cache
def bfloat16_pays(kind):
    """Whether matrix products in bfloat16 run at least 1.5 times faster than in float32 on `cpu` or `cuda`.

    On a GPU the architecture tells (Ampere and later), and so does a processor without AVX-512: it has no instructions
    for the format. Others differ too much for that, so they are timed, once a process, on products of the sizes that
    the models use; it takes some 50 ms.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX2":
        return False
    return _seconds(torch.float32) > 1.5 * _seconds(torch.bfloat16)


def _seconds(dtype):
    a, b = torch.ones(2048, 256, dtype=dtype), torch.ones(256, 512, dtype=dtype)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return min(times)
