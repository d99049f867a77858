"""The parent of all kernels: it has imported PyTorch once, and forks a kernel into each box that the grader makes.

In: requests over a socket, one a kernel. Out: kernels, and a message when one has ended. It runs as a separate process
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

NAMESPACES = 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # mount, pid, net, ipc, uts
NEW_USER, NEW_CGROUP = 0x10000000, 0x02000000
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
READY = "ready"
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
CAPABILITY_VERSION = 0x20080522
# System calls that a kernel has no use for: memory that no process is seen to hold, namespaces, mounts, other
# processes. Linux's numbers, by machine: its audit architecture, then each call's.
REFUSED = {
    "x86_64": (0xC000003E, {
        "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240,
        "io_setup": 206, "io_uring_setup": 425, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166,
        "pivot_root": 155, "chroot": 161, "open_tree": 428, "move_mount": 429, "fsopen": 430, "mount_setattr": 442,
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_getfd": 438, "kcmp": 312,
        "keyctl": 250, "add_key": 248, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "fanotify_init": 300}),
    "aarch64": (0xC00000B7, {
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180,
        "io_setup": 0, "io_uring_setup": 425, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39,
        "pivot_root": 41, "chroot": 51, "open_tree": 428, "move_mount": 429, "fsopen": 430, "mount_setattr": 442,
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "pidfd_getfd": 438, "kcmp": 272,
        "keyctl": 219, "add_key": 217, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "fanotify_init": 262}),
}
PARTLY = {"x86_64": (56, 435, 41), "aarch64": (220, 435, 198)}  # clone, clone3, socket
FAMILIES = (1, 2, 10, 16)  # of sockets: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; a network namespace bounds no other


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
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what a kernel leaves running stays below this process
    if request["pid"] is not None:
        holder = os.pidfd_open(request["pid"])
        if libc.setns(holder, NAMESPACES | (NEW_USER if request["user"] is None else 0)):
            error = os.strerror(ctypes.get_errno())
            reply.sendall(json.dumps({"error": f"the sandbox could not be joined: {error}"}).encode() + b"\n")
            return 1
    ready, tell = os.pipe()
    kernel = os.fork()
    if kernel == 0:
        try:
            reply.close()
            os.dup2(tell, 3)
            run_kernel(libc, request)
        except Exception as error:
            with suppress(OSError):
                os.write(3, f"a kernel did not start: {type(error).__name__}: {error}".encode()[:500])
        finally:
            os._exit(1)
    os.close(tell)
    said = os.read(ready, 500).decode(errors="replace")
    answer = {"kernel": kernel, "parent": os.getpid(), "ready": said == READY, "error": said or "a kernel died"}
    reply.sendall(json.dumps(answer).encode() + b"\n")
    os.waitpid(kernel, 0)
    return 0


def run_kernel(libc, request):
    """Become a kernel: give up every right, keep to the limits, then serve. Descriptor 3 hears when it is ready."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    change_user(request["user"])
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    os.chdir(request["inside"])
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    refuse_calls(libc)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.closerange(4, 65536)
    os.environ.clear()
    os.environ.update(PATH="/usr/bin:/bin", HOME=request["inside"], USER="student", LANG="C.UTF-8", OMP_NUM_THREADS="1",
                      TMPDIR=request["inside"], LAB3_GIVEN=request["given"],
                      IPYTHONDIR=f"{request['inside']}/.ipython", MPLBACKEND="agg", MPLCONFIGDIR=request["inside"])
    tempfile.tempdir = None  # the parent's own is not there
    for name, value in request["limits"].items():
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))
    os.umask(0o077)

    from ipykernel.kernelapp import IPKernelApp

    connection = Path(request["inside"], "connection.json")
    connection.write_text(json.dumps(request["connection"]))
    app = IPKernelApp.instance(quiet=True, log_level=50)
    app.initialize(["-f", str(connection), "--HistoryManager.enabled=False"])
    sys.modules["lab3_probes"].load_ipython_extension(app.shell)
    os.write(3, READY.encode())
    os.close(3)
    app.start()


def change_user(user):
    """Go on as that user, where one is given. Raises PermissionError where that fails, or the process is still root."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if 0 in os.getresuid():
        raise PermissionError("a kernel must not be root")


def refuse_calls(libc):
    """Let the calls of `REFUSED`, new namespaces and unusual sockets fail, in this process and all that it starts.

    A filter is a program of 8-byte instructions (code, jump where true, jump where false, value), see Linux's
    Documentation/userspace-api/seccomp_filter.rst. On other machines nothing is refused.
    """
    machine = os.uname().machine
    if machine not in REFUSED:
        return
    (architecture, calls), (clone, clone3, new_socket) = REFUSED[machine], PARTLY[machine]
    load, equal, above, any_bit, answer = 0x20, 0x15, 0x25, 0x45, 0x06
    allow, end = (answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x80000000)
    refuse = (answer, 0, 0, 0x00050000 | errno.EPERM)
    number, argument = (load, 0, 0, 0), (load, 0, 0, 16)  # of the call, and its first one's lower half
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), end,
               number, (above, 0, 1, 0x3FFFFFFF), refuse,  # numbers above belong to another interface
               (equal, 0, 1, clone3), (answer, 0, 0, 0x00050000 | errno.ENOSYS),  # its flags cannot be read here
               (equal, 0, 4, clone), argument, (any_bit, 0, 1, NAMESPACES | NEW_USER | NEW_CGROUP), refuse, allow,
               (equal, 0, len(FAMILIES) + 3, new_socket), argument]
    program += [(equal, len(FAMILIES) - n, 0, family) for n, family in enumerate(FAMILIES)]
    program += [refuse, allow]
    program += [(equal, len(calls) - n, 0, one) for n, one in enumerate(calls.values())]
    program += [allow, refuse]
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
