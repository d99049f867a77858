"""The parent of all kernels: it has imported PyTorch once, and forks a kernel into each box that the grader makes.

In: requests over a socket, one a kernel. Out: kernels, and the word when one has ended. It runs as a process of its own
that has never seen a submission, a probe's verdict or a right answer, so neither has any kernel that it forks.
"""

import ctypes
import errno
import importlib.util
import json
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # user mnt pid net ipc uts
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
CAPABILITY_VERSION = 0x20080522
# System calls that a kernel has no use for: memory that no process is seen to hold, namespaces, other processes.
# Linux's numbers, by machine: its audit architecture, then each call's.
REFUSED = {
    "x86_64": (0xC000003E, {
        "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "msgget": 68, "semget": 64, "io_uring_setup": 425,
        "unshare": 272, "setns": 308, "mount": 165, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "keyctl": 250, "add_key": 248, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323}),
    "aarch64": (0xC00000B7, {
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "msgget": 186, "semget": 190, "io_uring_setup": 425,
        "unshare": 97, "setns": 268, "mount": 40, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "keyctl": 219, "add_key": 217, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282}),
}


def serve(requests):
    """Fork a kernel for each request until the other end is closed."""
    while True:
        text, reply, _, _ = socket.recv_fds(requests, 1 << 16, 1)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not text:
            return
        if os.fork() == 0:
            status = 1
            try:
                requests.close()
                status = attend(json.loads(text), socket.socket(fileno=reply[0]))
            finally:
                os._exit(status)
        os.close(reply[0])


def attend(request, reply):
    """Start one kernel, say when it is ready, wait for its end, say that it has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if request["pid"] is not None:
        holder = os.pidfd_open(request["pid"])
        if libc.setns(holder, NAMESPACES):
            error = os.strerror(ctypes.get_errno())
            reply.sendall(json.dumps({"error": f"the sandbox could not be joined: {error}"}).encode() + b"\n")
            return 1
    ready, tell = os.pipe()
    kernel = os.fork()
    if kernel == 0:
        try:
            os.close(ready)
            reply.close()
            run_kernel(libc, request, tell)
        finally:
            os._exit(1)
    os.close(tell)
    bound = os.read(ready, 1) == b"1"
    reply.sendall(json.dumps({"kernel": kernel, "ready": bound}).encode() + b"\n")
    os.waitpid(kernel, 0)
    return 0


def run_kernel(libc, request, tell):
    """Become a kernel: give up every right, keep to the limits, then serve."""
    if request["pid"] is None and os.geteuid() == 0 and not closed_to_others(request["inside"]):
        change_user(request["inside"])
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    os.chdir(request["inside"])
    if request["pid"] is not None:
        for capability in range(64):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    refuse_calls(libc)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.dup2(tell, 3)
    os.closerange(4, 65536)
    os.environ.clear()
    os.environ.update(PATH="/usr/bin:/bin", HOME=request["inside"], USER="student", LANG="C.UTF-8", OMP_NUM_THREADS="1",
                      TMPDIR=request["inside"], LAB3_BOX=request["outside"], LAB3_GIVEN=request["given"],
                      IPYTHONDIR=f"{request['inside']}/.ipython", MPLBACKEND="agg", MPLCONFIGDIR=request["inside"])
    tempfile.tempdir = None  # the parent's own is not there
    for name, value in request["limits"].items():
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))

    from ipykernel.kernelapp import IPKernelApp

    connection = Path(request["inside"], "connection.json")
    connection.write_text(json.dumps(request["connection"]))
    app = IPKernelApp.instance(quiet=True, log_level=50)
    app.initialize(["-f", str(connection), "--HistoryManager.enabled=False"])
    sys.modules["lab3_probes"].load_ipython_extension(app.shell)
    os.write(3, b"1")
    os.close(3)
    app.start()


def closed_to_others(inside):
    """The folders on the way to a kernel's own and to Python that only their owners pass, as `/root` often is."""
    wanted = [inside, sys.prefix, sys.base_prefix, *filter(os.path.exists, sys.path)]
    on_the_way = {parent for path in wanted for parent in Path(os.path.realpath(path)).parents}
    return [path for path in on_the_way if not os.stat(path).st_mode & 0o001]


def change_user(inside):
    """Without namespaces, as root: go on as a user that is this kernel's alone, and owns its folder.

    Where root lacks the rights for that, as in some containers, nothing changes.
    """
    user = 20000 + os.getpid() % 40000
    with suppress(OSError):
        for folder, _, files in os.walk(inside):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(path, user, user)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def refuse_calls(libc):
    """Let the calls of `REFUSED` fail with EPERM, in this process and all that it starts.

    A filter is a program of 8-byte instructions (code, jump where true, jump where false, value), see Linux's
    Documentation/userspace-api/seccomp_filter.rst. On other machines nothing is refused.
    """
    if os.uname().machine not in REFUSED:
        return
    architecture, calls = REFUSED[os.uname().machine]
    load, equal, above, answer = 0x20, 0x15, 0x25, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, 0x80000000),  # else: end the process
               (load, 0, 0, 0), (above, len(calls) + 1, 0, 0x3FFFFFFF)]  # numbers above belong to another interface
    program += [(equal, len(calls) - n, 0, number) for n, number in enumerate(calls.values())]
    program += [(answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x00050000 | errno.EPERM)]  # allow; refuse
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(text)))
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)


def preload():
    """Import all that a kernel and an answer may want, without starting a thread."""
    sys.modules["debugpy"] = None  # ipykernel does without where it is not there; importing it is half of a start
    import ipykernel.debugger
    import ipykernel.kernelapp  # noqa: F401
    import torch
    from IPython.core import interactiveshell  # noqa: F401

    import lab3.exercises.checks
    import lab3.model.transformer  # noqa: F401
    from lab3.common.machine import keep_memory
    from lab3.exercises.fallbacks import TorchAttention

    torch.set_num_threads(1)
    keep_memory()
    torch.optim.AdamW(TorchAttention(4, 2).parameters())  # the first one imports much of PyTorch
    spec = importlib.util.spec_from_file_location("lab3_probes", Path(__file__).parents[1] / "probes" / "inside.py")
    sys.modules["lab3_probes"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
