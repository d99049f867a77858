"""A kernel in a box, as nbval wants one: it starts quickly, is watched, and cannot outlive its box.

In: a box, the nursery. Out: nbval's `RunningKernel`, with a limit of time, memory, processes and output on each cell,
and a watch that notices a dead kernel at once.
"""

import json
import secrets
import select
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from queue import Empty

import zmq
from jupyter_client.blocking import BlockingKernelClient
from nbval.kernel import RunningKernel

LARGEST = 256 << 20  # bytes of one message; a larger one ends the connection
STEP = 0.1  # seconds between two looks at what a kernel uses
PORTS = {f"{name}_port": number for number, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)}


class Stopped(Exception):
    """A kernel was stopped or died; the text says why, for the student."""


class GraderError(RuntimeError):
    """The grader itself failed, through no fault of a submission: that submission is to be tried again."""


class Nursery:
    """The process that forks kernels: see `grader.nursery`. Children of the grader that fork share it."""

    def __init__(self):
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).parent / "nursery.py"), str(theirs.fileno())],
            pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        theirs.close()

    def start(self, box, limits):
        """Fork a kernel into a box.

        Returns:
            (reply, connection): a socket that closes when the kernel ends, and how to reach the kernel.

        Raises:
            GraderError: it did not start.
        """
        connection = {"transport": "ipc", "ip": f"{box.inside}/k", "key": secrets.token_hex(16),
                      "signature_scheme": "hmac-sha256", **PORTS}
        request = {"pid": box.pid, "inside": box.inside, "outside": box.outside, "given": box.given,
                   "connection": connection,
                   "limits": {"RLIMIT_AS": limits.address_space, "RLIMIT_FSIZE": limits.file, "RLIMIT_CPU": limits.cpu,
                              "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 512, "RLIMIT_NPROC": limits.processes}}
        ours, theirs = socket.socketpair()
        answer = {}
        with suppress(OSError, ValueError):
            socket.send_fds(self.requests, [json.dumps(request).encode()], [theirs.fileno()])
            theirs.close()
            ours.settimeout(60)
            answer = json.loads(ours.makefile().readline())
        if not answer.get("ready"):
            ours.close()
            raise GraderError(answer.get("error", "a kernel did not start"))
        box.started.append(answer["kernel"])
        return ours, connection | {"ip": f"{box.outside}/k"}

    def alive(self):
        """Whether the process runs."""
        return self.process.poll() is None

    def close(self):
        """End the process; its kernels end with their boxes."""
        self.requests.close()
        self.process.kill()
        self.process.wait()


class BoxedKernel(RunningKernel):
    """A kernel for nbval. `stop` ends it; the box ends what it started."""

    def __init__(self, nursery, box, limits):
        self.box, self.limits, self.received, self.looked = box, limits, 0, 0.0
        self.waiting = deque()  # what was published while a reply was waited for
        self.reply, connection = nursery.start(box, limits)
        self.context = zmq.Context()
        self.context.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        self.kc = BlockingKernelClient(context=self.context)
        self.kc.load_connection_info(connection)
        self.kc.start_channels(stdin=False, hb=False, control=False)
        self._ensure_iopub_up()

    def get_message(self, stream, timeout=None):
        """As nbval's. Raises `Stopped` where the kernel is dead or beyond a limit, `Empty` when the time is over."""
        if stream == "iopub" and self.waiting:
            return self.waiting.popleft()
        end = time.monotonic() + (self.limits.cell if timeout is None else timeout)
        while True:
            with suppress(Empty):
                return self._take(stream, STEP)
            if time.monotonic() > end:
                raise Empty

    def await_reply(self, msg_id, timeout=None):
        """Wait for the reply to a cell, keeping what it publishes. Raises `Stopped`, also at the time limit.

        The limit is the box's, or `timeout` where that is less.
        """
        timeout = min(timeout or self.limits.cell, self.limits.cell)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with suppress(Empty):
                while time.monotonic() < end:
                    self.waiting.append(self._take("iopub", 0))
            with suppress(Empty):
                if self._take("shell", STEP)["parent_header"].get("msg_id") == msg_id:
                    return
        raise Stopped(f"stopped after {timeout:g} s")

    def _take(self, stream, timeout):
        """The next message. Raises `Empty` after `timeout` seconds, `Stopped` where the kernel is beyond a limit."""
        if time.monotonic() - self.looked > 2 * STEP:
            self._look()
        try:
            message = (self.kc.get_iopub_msg if stream == "iopub" else self.kc.get_shell_msg)(timeout=timeout)
        except Empty:
            raise
        except Exception as error:  # a message that is none
            raise Stopped(f"the kernel sent something unreadable ({type(error).__name__})") from None
        self.received += sum(map(len, message["buffers"])) + len(str(message["content"]))
        if self.received > self.limits.output:
            raise Stopped(f"stopped: more than {self.limits.output >> 20} MB of output")
        return message

    def _look(self):
        if not self.is_alive():
            raise Stopped("the kernel died")
        self.looked = time.monotonic()
        processes, memory = self.box.usage()
        if processes > self.limits.processes:
            raise Stopped(f"stopped: more than {self.limits.processes} processes")
        if memory > self.limits.memory:
            raise Stopped(f"stopped: more than {self.limits.memory / 2**30:.0f} GB of memory")

    def is_alive(self):
        """Whether its process runs."""
        return not select.select([self.reply], [], [], 0)[0]

    def interrupt(self):
        """Boxed kernels are not interrupted: they end."""

    def stop(self):
        """Close the connection; the box is closed by who made it."""
        self.kc.stop_channels()
        self.context.destroy(linger=0)
        self.reply.close()
