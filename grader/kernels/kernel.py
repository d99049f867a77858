"""A kernel in a box, as nbval wants one: it starts quickly, is watched, and cannot outlive its box.

In: a box, the forkserver. Out: nbval's `RunningKernel`, with a limit of time, memory, processes and output on each
cell, and a watch that notices a dead kernel at once.
"""

import json
import math
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
from jupyter_client.session import Session
from nbval.kernel import RunningKernel

from grader.kernels.sandbox import python_environment

LARGEST = 16 << 20  # bytes of one message; a larger one ends the connection
HEADERS = 64 << 10  # bytes of all that belongs to a message beside its content
VALUE = 64  # bytes that one value takes once it is read from JSON, at least
QUEUED = 32  # messages that wait to be read; more are dropped
GRACE = 10  # seconds after a cell's limit in which its outputs must have come
PATIENCE = 3  # how many times its limit of processor seconds a cell may take by the clock: machines can be busy
START = 600  # seconds in which a kernel must start, no answer in it yet: the first one waits for PyTorch's import
STEP = 0.1  # seconds between two looks at what a kernel uses
PORTS = {f"{name}_port": number for number, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)}


class Stopped(Exception):
    """A kernel was stopped or died; the text says why, for the student."""


class GraderError(RuntimeError):
    """The grader itself failed, through no fault of a submission: that submission is to be tried again."""


class Forkserver:
    """The process that forks kernels: see `grader.kernels.forkserver`. Children of the grader that fork share it."""

    def __init__(self):
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).parent / "forkserver.py"), str(theirs.fileno())],
            pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=python_environment() | {"OMP_NUM_THREADS": "1"})
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
        request = {"pid": box.pid, "inside": box.inside, "given": box.given, "user": box.user,
                   "connection": connection,
                   "limits": {"RLIMIT_AS": limits.address_space, "RLIMIT_FSIZE": limits.file, "RLIMIT_CPU": limits.cpu,
                              "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 128, "RLIMIT_MSGQUEUE": 0}}
        if box.level != "limits":  # there, all that the grader's user runs would count; threads count everywhere
            request["limits"]["RLIMIT_NPROC"] = 2 * limits.processes
        ours, theirs = socket.socketpair()
        answer = {}
        with suppress(OSError, ValueError):
            socket.send_fds(self.requests, [json.dumps(request).encode()], [theirs.fileno()])
            theirs.close()
            ours.settimeout(START)
            answer = json.loads(ours.makefile().readline())
        if not answer.get("ready"):
            ours.close()
            raise GraderError(answer.get("error", "a kernel did not start"))
        box.hold(answer["kernel"], answer["parent"])
        return ours, connection | {"ip": f"{box.outside}/k"}

    def alive(self):
        """Whether the process runs."""
        return self.process.poll() is None

    def close(self):
        """End the process; its kernels end with their boxes."""
        self.requests.close()
        self.process.kill()
        self.process.wait()


def well_formed(message):
    """Whether a message holds what nbval reads of it, in the types of Jupyter's protocol."""
    content = message["content"]
    texts = {"status": ("execution_state",), "stream": ("name", "text"), "error": ("ename", "evalue")}
    return (isinstance(message["msg_type"], str) and isinstance(message["parent_header"], dict)
            and isinstance(content, dict)
            and all(isinstance(content.get(name), str) for name in texts.get(message["msg_type"], ()))
            and isinstance(content.get("data", {}), dict) and isinstance(content.get("metadata", {}), dict)
            and isinstance(content.get("traceback", []), list) and isinstance(content.get("transient", {}), dict))


class TooMuch(Exception):
    """A kernel sent more than it may."""


class BoundedSession(Session):
    """Jupyter's messages, counted before they are parsed, by what they take in memory afterwards."""

    def __init__(self, most):
        """`most`: bytes."""
        super().__init__()
        self.most, self.received = most, 0

    def deserialize(self, frames, content=True, copy=True):
        """As Jupyter's, without buffers. Raises `TooMuch`, and ValueError for headers that are too large."""
        values = sum(frame.count(mark) for frame in frames[1:5] for mark in (b",", b"[", b"{"))
        self.received += sum(map(len, frames)) + VALUE * values
        if self.received > self.most:
            raise TooMuch
        if sum(map(len, frames[:4])) > HEADERS:
            raise ValueError("headers too large")
        return super().deserialize(frames[:5], content, copy)


class BoxedKernel(RunningKernel):
    """A kernel for nbval. `stop` ends it; the box ends what it started."""

    def __init__(self, forkserver, box, limits):
        self.box, self.limits, self.looked, self.end = box, limits, 0.0, math.inf
        self.used = math.inf  # processor seconds before the cell that runs
        self.waiting = deque()  # what was published while a reply was waited for
        self.reply, connection = forkserver.start(box, limits)
        self.context = zmq.Context()
        self.context.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        self.context.setsockopt(zmq.RCVHWM, QUEUED)
        self.kc = BlockingKernelClient(context=self.context, session=BoundedSession(limits.output))
        self.kc.load_connection_info(connection)
        self.kc.start_channels(stdin=False, hb=False, control=False)
        self.monitor = self.kc.iopub_channel.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._ensure_iopub_up()

    def execute_cell_input(self, cell_input, allow_stdin=None):
        """As nbval's. Whatever the kernel sends from now on, the cell ends in time."""
        self.end = time.monotonic() + PATIENCE * self.limits.cell + GRACE
        self.used = self.box.usage()[2]
        return super().execute_cell_input(cell_input, allow_stdin)

    def get_message(self, stream, timeout=None):
        """As nbval's. Raises `Stopped` where the kernel is dead or beyond a limit, `Empty` where it does not start."""
        if stream == "iopub" and self.waiting:
            return self.waiting.popleft()
        end = time.monotonic() + (PATIENCE * self.limits.cell if timeout is None else timeout)
        while True:
            with suppress(Empty):
                return self._take(stream, STEP)
            if time.monotonic() > end:
                if self.end < math.inf:
                    raise Stopped("the cell's outputs did not end")
                raise Empty

    def await_reply(self, msg_id, timeout=None):
        """Wait for the reply to a cell, keeping what it publishes. Raises `Stopped`, also at the time limit.

        By the clock, the limit is `PATIENCE` times that of the box, or `timeout` where that is less.
        """
        most = PATIENCE * self.limits.cell
        timeout = min(timeout or most, most)
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
        if time.monotonic() > self.end:
            raise Stopped(f"stopped after {PATIENCE * self.limits.cell:g} s")
        try:
            message = (self.kc.get_iopub_msg if stream == "iopub" else self.kc.get_shell_msg)(timeout=timeout)
            if not well_formed(message):
                raise ValueError("no message of the protocol")
        except Empty:
            raise
        except TooMuch:
            raise Stopped(f"stopped: more than {self.limits.output >> 20} MB of output") from None
        except Exception as error:  # a message that is none
            raise Stopped(f"the kernel sent something unreadable ({type(error).__name__})") from None
        return message

    def _look(self):
        cut = self.monitor.poll(0)  # by the kernel's end, which is known soon after, or by too large a message
        if not self.is_alive(0.5 if cut else 0):
            raise Stopped("the kernel died")
        if cut:
            raise Stopped(f"stopped: more than {LARGEST >> 20} MB of output at once")
        self.looked = time.monotonic()
        processes, memory, seconds = self.box.usage()
        if seconds - self.used > self.limits.cell:
            raise Stopped(f"stopped after {self.limits.cell:g} s of a processor's time")
        if processes > self.limits.processes:
            raise Stopped(f"stopped: more than {self.limits.processes} processes")
        files, in_files, sockets = self.box.kept()
        if memory + in_files > self.limits.memory:
            raise Stopped(f"stopped: more than {self.limits.memory / 2**30:.0f} GB of memory")
        for count, most, what in ((files, self.limits.files, "files"), (sockets, self.limits.sockets, "sockets")):
            if count > most:
                raise Stopped(f"stopped: more than {most:,} {what}")

    def is_alive(self, seconds=0):
        """Whether its process runs, and goes on for so long."""
        return not select.select([self.reply], [], [], seconds)[0]

    def interrupt(self):
        """Boxed kernels are not interrupted: they end."""

    def stop(self):
        """Close the connection; the box is closed by who made it."""
        self.kc.stop_channels()
        self.context.destroy(linger=0)
        self.reply.close()
