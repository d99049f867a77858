"""Boxes that student code runs in: what it sees, what it may use, and that nothing of it is left afterwards.

In: a level of isolation, files to give, limits. Out: a `Box`, whose namespaces a process can join, and its end.

Three levels, the best that the machine allows:

* `bubblewrap`: a file system of its own, read-only interpreter and packages, a private /tmp in memory; no network; own
  processes, users and shared memory.
* `namespaces`: the same without bubblewrap. The host's file system is visible, but cannot be written; the project,
  the submissions and the results are covered up.
* `limits`: resource limits alone. Student code could read what the grader's user may read; where that is root, each
  kernel is a user of its own, who reads what everybody may read.
"""

import ctypes
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

import lab3
from lab3.common.files import InputError

LEVELS = ("limits", "namespaces", "bubblewrap")
PROJECT = Path(__file__).resolve().parents[2]
PRIVATE = "/dev/shm"  # the private folder of a box, in memory; in `limits` it is a temporary folder on disk


@dataclass(frozen=True)
class Limits:
    """What one kernel may use. Memory and files in bytes, times in seconds.

    `cell` counts the processor's seconds, so that a busy machine costs nobody marks; by the clock a cell may take
    `grader.kernels.kernel.PATIENCE` times as many.
    """

    memory: int = 4 << 30
    address_space: int = 12 << 30
    file: int = 64 << 20
    folder: int = 256 << 20
    processes: int = 32
    cpu: int = 600
    cell: int = 30
    output: int = 64 << 20


@dataclass
class Box:
    """A place for one kernel.

    Attributes:
        level: one of `LEVELS`.
        holder: the process that keeps the namespaces, None in `limits`.
        pid: the process whose namespaces are to be joined, or None.
        inside: the private folder, as the kernel sees it.
        outside: the same folder, as the grader sees it.
        given: the folder of the files given, as the kernel sees it.
        started: processes to end with the box.
    """

    level: str
    holder: object
    pid: int | None
    inside: str
    outside: str
    given: str
    started: list = field(default_factory=list)

    def usage(self):
        """(number of processes, resident bytes, processor seconds so far) of all that runs in the box."""
        folders = (Path(f"/proc/{self.pid}/root/proc").glob("[0-9]*") if self.holder is not None
                   else [Path(f"/proc/{one.pid}") for one in self._family()])
        found = [used for used in map(_used, folders) if used is not None]
        return len(found), sum(memory for memory, _ in found), sum(seconds for _, seconds in found)

    def _family(self):
        """Without namespaces: the processes that were started, and their descendants."""
        found = {}
        for pid in self.started:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                found |= {one.pid: one for one in [process, *process.children(recursive=True)]}
        return list(found.values())

    def close(self):
        """End everything in the box."""
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()
        else:
            for _ in range(20):  # what forks while it is being killed is found in the next round
                if not (alive := self._session()):
                    break
                for process in alive:
                    with suppress(psutil.Error):
                        process.kill()
                time.sleep(0.02)
            shutil.rmtree(self.outside, ignore_errors=True)

    def _session(self):
        """Without namespaces: the family, and all whose environment names this box."""
        found = {one.pid: one for one in self._family()}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.cwd().startswith(self.outside) or process.environ().get("LAB3_BOX") == self.outside:
                    found[process.pid] = process
        found.pop(os.getpid(), None)
        return [one for one in found.values() if one.is_running() and _status(one) != psutil.STATUS_ZOMBIE]


@contextmanager
def box(level, limits, given=(), hidden=()):
    """A box that ends with the block.

    Args:
        level: one of `LEVELS`.
        limits: a `Limits`.
        given: files that the kernel may read, under their own names.
        hidden: more folders that it must not see: submissions, results.
    """
    if level == "limits":
        folder = tempfile.mkdtemp(prefix="lab3-box-")
        (Path(folder) / "given").mkdir()
        for file in given:
            shutil.copy(file, Path(folder) / "given")
        made = Box(level, None, None, folder, folder, f"{folder}/given")
    else:
        holder, pid = {"bubblewrap": _bubblewrap, "namespaces": _namespaces}[level](limits, given, hidden)
        made = Box(level, holder, pid, PRIVATE, f"/proc/{pid}/root{PRIVATE}", f"{PRIVATE}/given")
    try:
        yield made
    finally:
        made.close()


def _used(folder):
    """(resident bytes, processor seconds with ended children) of a process, a folder of /proc; None: it has ended."""
    try:
        fields = (folder / "stat").read_bytes().rpartition(b") ")[2].split()  # from the third on, see proc(5)
    except OSError:
        return None
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _status(process):
    with suppress(psutil.Error):
        return process.status()
    return psutil.STATUS_ZOMBIE


def _visible():
    """Folders that the interpreter and its packages need, the package `lab3` among them."""
    wanted = ["/usr", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/etc/fonts", sys.prefix,
              sys.base_prefix, *site.getsitepackages(), str(Path(lab3.__file__).parent)]
    kept = []
    for path in sorted({os.path.realpath(one) for one in wanted} | set(wanted)):
        if os.path.exists(path) and not any(path.startswith(f"{one}/") for one in kept):
            kept.append(path)
    return kept


def _bubblewrap(limits, given, hidden):
    command = ["bwrap", "--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-net", "--unshare-ipc",
               "--unshare-uts", "--uid", "65534", "--gid", "65534", "--hostname", "lab3", "--die-with-parent",
               "--new-session", "--clearenv", "--dir", "/etc", "--tmpfs", "/tmp"]
    for path in _visible():
        command += ["--ro-bind", path, path]
    for name in ("bin", "lib", "lib32", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            command += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            command += ["--ro-bind", f"/{name}", f"/{name}"]
    for path in (str(PROJECT / "grader"), *map(str, hidden)):  # where the project is installed beside other packages
        if any(path.startswith(f"{one}/") for one in _visible()) and os.path.isdir(path):
            command += ["--tmpfs", path]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(limits.folder), "--tmpfs", PRIVATE]
    for file in given:
        command += ["--ro-bind", str(file), f"{PRIVATE}/given/{Path(file).name}"]
    command += ["--remount-ro", "/tmp", "--remount-ro", "/dev", "--remount-ro", "/"]
    ours, theirs = os.pipe()
    try:
        holder = _start([*command, "--info-fd", str(theirs), "--", "/bin/sleep", "infinity"], pass_fds=(theirs,))
    finally:
        os.close(theirs)
    with open(ours, encoding="utf-8") as info:  # it ends when bubblewrap has told all
        text = info.read()
    pid = json.loads(text)["child-pid"] if text else 0
    _until(lambda: psutil.Process(pid).children()[0].name() == "sleep", holder)
    return holder, pid


# What the first process of a box of the level `namespaces` does: cover folders, forbid writing, stay.
COVER = """
set -e
echo 0 > /proc/sys/user/max_user_namespaces || true
mount -t tmpfs -o size="$1",mode=1777 tmpfs /dev/shm
mkdir /dev/shm/given
n=$2
shift 2
while [ "$n" -gt 0 ]; do cp "$1" /dev/shm/given/; shift; n=$((n - 1)); done
for folder in "$@"; do if [ -d "$folder" ]; then mount -t tmpfs -o ro tmpfs "$folder"; fi; done
while read -r _ place _ options _; do
    case "$place" in /dev/shm|/proc|/proc/*) ;;
    *) mount -o "remount,bind,ro,${options#r[ow],}" "$place" 2>/dev/null || true ;; esac
done < /proc/self/mounts
exec sleep infinity
"""


def _namespaces(limits, given, hidden):
    kept = {Path(one).resolve() for one in _visible()}
    temporary = {Path(one).resolve() for one in (tempfile.gettempdir(), os.environ.get("TMPDIR", "/tmp"), "/tmp")}
    covered = [one for root in (PROJECT, *temporary) if root.is_dir() for one in map(Path.resolve, root.iterdir())
               if one.is_dir() and not any(path == one or one in path.parents for path in kept)]
    covered += [Path(one).resolve() for one in hidden if Path(one).is_dir()]
    holder = _start(
        ["unshare", "--user", "--map-root-user", "--net", "--pid", "--ipc", "--uts", "--mount", "--fork",
         "--kill-child", "--mount-proc", "sh", "-c", COVER, "sh", str(limits.folder), str(len(given)), *map(str, given),
         *map(str, covered)], preexec_fn=_die_with_parent)
    _until(lambda: psutil.Process(holder.pid).children()[0].name() == "sleep", holder)
    return holder, psutil.Process(holder.pid).children()[0].pid


def _start(command, **options):
    """A process of a box. Its environment can be read inside, so nothing of the grader's is there."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env={"PATH": os.environ.get("PATH", os.defpath)}, **options)


def _until(ready, holder, seconds=10):
    """Wait for a box. Raises OSError where it ends or does not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and holder.poll() is None:
        with suppress(psutil.Error, IndexError):
            if ready():
                return
        time.sleep(0.005)
    holder.kill()
    raise OSError(f"no box: {holder.communicate()[1].decode(errors='replace').strip()[:300]}")


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@cache
def best_level():
    """The best level that works here, found by trying."""
    for level in reversed(LEVELS[1:]):
        with suppress(OSError, psutil.Error):
            with box(level, Limits()):
                return level
    return "limits"


def require(level):
    """Refuse to go on with less than namespaces.

    Raises:
        InputError: it is less, with what to do.
    """
    if level == "limits":
        raise InputError("this machine gives no sandbox: neither bubblewrap nor user namespaces work. Install "
                         "bubblewrap (apt-get install bubblewrap) and allow unprivileged user namespaces, or leave "
                         "--require-sandbox out, with submissions that you trust.")
