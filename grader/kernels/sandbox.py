"""Boxes that student code runs in: what it sees, what it may use, and that nothing of it is left afterwards.

In: a level of isolation, files to give, limits. Out: a `Box`, whose namespaces a process can join, and its end.

Three levels, the best that the machine allows; only the first is a sandbox:

* `bubblewrap`: its own file system with the interpreter and all that it imports from, read-only, and a private folder
  in memory; no network; own processes and shared memory.
* `user`: resource limits, and each kernel has its own user, who may read what everyone may. It needs root.
* `limits`: only resource limits. Student code may do what the grader's user may do.

No kernel is the host's root: where the grader is, each kernel is another user at every level, or does not start.
"""

import json
import os
import re
import secrets
import shutil
import site
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

import lab3
from lab3.common.files import InputError
from lab3.common.paths import SOLUTIONS

LEVELS = ("limits", "user", "bubblewrap")
GRADER = Path(__file__).resolve().parents[1]
PROJECT = GRADER.parent
PRIVATE = "/dev/shm"  # the private folder of a box, in memory; without a sandbox it is a temporary folder on disk
NEEDED = ("LANG", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")  # parts of the environment to start Python
USERS = range(20000, 60000)  # the host's user ids that kernels get where the grader is root
IN_FORCE = {  # what is said of a level in the output, in results and on pages
    "bubblewrap": "Student code runs in a sandbox: it sees Python and its packages alone, and no network.",
    "user": "Student code runs without a sandbox, as a user of its own: it can read what every user may read, and use "
            "the network.",
    "limits": "Student code runs without a sandbox: it can read and write what the grader's user may, and use the "
              "network."}


@dataclass(frozen=True)
class Limits:
    """What one kernel may use. Memory and files in bytes, times in seconds.

    `cell` counts the processor's seconds, so that a busy machine costs nobody marks; by the clock a cell may take
    `grader.kernels.kernel.PATIENCE` times as many, and all cells of a submission `submission` seconds. `files`,
    `folder` and `sockets` are counted in a sandbox alone.
    """

    memory: int = 4 << 30
    address_space: int = 12 << 30
    file: int = 64 << 20
    folder: int = 256 << 20
    files: int = 10_000
    sockets: int = 100
    processes: int = 32
    cpu: int = 600
    cell: int = 30
    submission: int = 900
    output: int = 64 << 20


@dataclass
class Box:
    """A place for one kernel.

    Attributes:
        level: one of `LEVELS`.
        holder: the process that keeps the namespaces, None without a sandbox.
        pid: the process whose namespaces are to be joined, or None.
        inside: the private folder, as the kernel sees it.
        outside: the same folder, as the grader sees it.
        given: the folder of the files given, as the kernel sees it.
        user: the kernel's user id, None where it is the grader's.
        group: the folder of its memory cgroup, None where none can be had.
        parent: the process that waits for the kernel, and inherits what the kernel leaves running.
    """

    level: str
    holder: object
    pid: int | None
    inside: str
    outside: str
    given: str
    user: int | None
    group: Path | None = None
    parent: int | None = None

    def hold(self, kernel, parent):
        """Take in a kernel's process, before it runs anything of a student's."""
        self.parent = parent
        if self.group is not None:
            with suppress(OSError):
                (self.group / "cgroup.procs").write_text(str(kernel))

    def usage(self):
        """(number of processes, resident bytes, processor seconds so far) of all that runs in the box."""
        folders = (Path(f"/proc/{self.pid}/root/proc").glob("[0-9]*") if self.holder is not None
                   else [Path(f"/proc/{one.pid}") for one in self._alive()])
        found = [used for used in map(_used, folders) if used is not None]
        return len(found), sum(memory for memory, _ in found), sum(seconds for _, seconds in found)

    def kept(self):
        """(files, bytes in files, sockets) that a sandbox keeps in memory beside its processes."""
        if self.holder is None:
            return 0, 0, 0
        try:
            used = os.statvfs(self.outside)
            sockets = re.search(r"sockets: used (\d+)", Path(f"/proc/{self.pid}/net/sockstat").read_text())
        except OSError:  # it has ended
            return 0, 0, 0
        return used.f_files - used.f_ffree, (used.f_blocks - used.f_bfree) * used.f_frsize, int(sockets[1])

    def _alive(self):
        """Without a sandbox: the kernel, what it started, and all processes of its user."""
        found = {}
        if self.parent is not None:
            with suppress(psutil.Error):
                found = {one.pid: one for one in psutil.Process(self.parent).children(recursive=True)}
        if self.user in USERS:
            for one in psutil.process_iter():
                with suppress(psutil.Error):
                    if one.uids().real == self.user:
                        found[one.pid] = one
        return [one for one in found.values() if _status(one) != psutil.STATUS_ZOMBIE]

    def close(self):
        """End everything in the box."""
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()
        else:
            for _ in range(20):  # what forks while it is being killed is found in the next round
                if not (alive := self._alive()):
                    break
                for process in alive:
                    with suppress(psutil.Error):
                        process.kill()
                time.sleep(0.02)
            shutil.rmtree(self.outside, ignore_errors=True)
        for _ in range(100 if self.group is not None else 0):  # the last process leaves it a moment later
            with suppress(OSError):
                self.group.rmdir()
                break
            time.sleep(0.01)


@contextmanager
def box(level, limits, given=(), hidden=()):
    """A box that ends with the block.

    Args:
        level: one of `LEVELS`.
        limits: a `Limits`.
        given: files that the kernel may read, under their own names.
        hidden: more folders that it must not see: submissions, results.
    """
    user = _free_user() if os.geteuid() == 0 else None
    if level == "bubblewrap":
        holder, pid = _bubblewrap(limits, given, hidden, user)
        made = Box(level, holder, pid, PRIVATE, f"/proc/{pid}/root{PRIVATE}", f"{PRIVATE}/given", user)
    else:
        folder = tempfile.mkdtemp(prefix="lab3-box-")
        (Path(folder) / "given").mkdir()
        for file in given:
            shutil.copy(file, Path(folder) / "given")
        made = Box(level, None, None, folder, folder, f"{folder}/given", user)
    try:
        if user is not None:
            os.chown(made.outside, user, user)
        made.group = _memory_group(limits.memory + limits.folder)
        yield made
    finally:
        made.close()


def _free_user():
    """A user id of `USERS` that no process has."""
    taken = set()
    for one in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            taken.add(one.stat().st_uid)
    return secrets.choice([one for one in USERS if one not in taken])


def _memory_group(limit):
    """The folder of a new memory cgroup with that limit in bytes; None where the grader may make none.

    See cgroups(7). It lies below the grader's own, or the nearest one above that hands its memory controller on.
    """
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers not in ("memory", ""):  # of version 1; of version 2
            continue
        own = Path("/sys/fs/cgroup", controllers, own[1:])
        for parent in [own, *own.parents][:-3]:
            for old in parent.glob("lab3-*"):  # of a run that was killed; one that holds a process stays
                with suppress(OSError):
                    if time.time() - old.stat().st_mtime > 3600:
                        old.rmdir()
            with suppress(OSError):
                if not controllers and "memory" not in (parent / "cgroup.subtree_control").read_text():
                    continue
                group = Path(tempfile.mkdtemp(prefix="lab3-", dir=parent))
                try:
                    (group / ("memory.limit_in_bytes" if controllers else "memory.max")).write_text(str(limit))
                    return group
                except OSError:
                    group.rmdir()
    return None


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


def python_environment():
    """The part of the environment that starts this Python with the same packages. Kernels can read it."""
    user = {"PYTHONUSERBASE": site.getuserbase()} if site.ENABLE_USER_SITE else {"PYTHONNOUSERSITE": "1"}
    return {name: os.environ[name] for name in NEEDED if name in os.environ} | user


# What a new interpreter imports from. setuptools lists the packages and modules of an editable install in a module.
IMPORTED = """
import json, sys
found = [path for name, one in sys.modules.items() if name.startswith("__editable__")
         for path in getattr(one, "MAPPING", {}).values()]
print(json.dumps([*sys.path, *found, *(f"{path}.py" for path in found)]))
"""


@cache
def _imported_from(python, environment):
    """What a kernel's interpreter imports from: site-packages, what .pth files name, the user's own, PYTHONPATH."""
    done = subprocess.run([python, "-P", "-c", IMPORTED], env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{python} does not start: {done.stderr.strip()[-300:]}")
    return [path for path in json.loads(done.stdout.splitlines()[-1]) if os.path.isabs(path) and os.path.exists(path)]


def _visible(hidden=()):
    """What the interpreter and its packages need, the package `lab3` among them; never the project as a whole.

    A folder of packages is left out if it is or holds the user's home or a hidden folder, if it lies directly in a
    hidden folder, as a submission does, if it is the current folder, or if it belongs to the project.
    """
    project = [PROJECT] if (PROJECT / "pyproject.toml").is_file() else []  # else packages lie beside the grader
    hidden = {Path(os.path.realpath(one)) for one in hidden}
    private = [Path(os.path.realpath(os.path.expanduser("~"))), *project, *hidden]

    def holds_private(folder):
        return any(one.is_relative_to(folder) for one in private)

    wanted = ["/usr", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/etc/fonts",
              *site.getsitepackages(), str(Path(lab3.__file__).parent)]
    for path in _imported_from(sys.executable, tuple(python_environment().items())):
        real = Path(os.path.realpath(path))
        own = any(real.is_relative_to(one) for one in (GRADER, SOLUTIONS.parent, *project))
        if not (own or holds_private(real) or real.parent in hidden or os.path.samefile(real, os.curdir)):
            wanted.append(path)
    for root in (Path(sys.prefix), Path(sys.base_prefix)):  # an environment can be the project's own folder
        parts = ("bin", "lib", "lib64", "include", "share", "pyvenv.cfg")
        wanted += [str(root / part) for part in parts] if holds_private(root.resolve()) else [str(root)]
    kept = []
    for path in sorted({os.path.realpath(one) for one in wanted} | set(wanted)):
        if os.path.exists(path) and not any(path.startswith(f"{one}/") for one in kept):
            kept.append(path)
    return kept


def _places(folder, visible):
    """Where a folder would be seen in a sandbox: more than once if links lead to it, such as `lib64` to `lib`."""
    folder = Path(os.path.realpath(folder))
    seen = [(one, os.path.realpath(one)) for one in visible] if folder.is_dir() else []
    return [os.path.join(one, folder.relative_to(real)) for one, real in seen if real in map(str, folder.parents)]


def _bubblewrap(limits, given, hidden, user):
    """As root no user namespace is needed: the kernel enters as its user. Else it is the grader's user in one."""
    command = ["bwrap", *(["--cap-drop", "ALL"] if user is not None else
                          ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]),
               "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--hostname", "lab3",
               "--die-with-parent", "--new-session", "--clearenv", "--dir", "/etc", "--tmpfs", "/tmp"]
    visible = _visible(hidden)
    for path in visible:
        for parent in reversed(Path(path).parents[:-1]):  # else they are closed to other users
            command += ["--dir", str(parent)]
        command += ["--ro-bind", path, path]
    for name in ("bin", "lib", "lib32", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            command += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            command += ["--ro-bind", f"/{name}", f"/{name}"]
    for path in (GRADER, SOLUTIONS.parent, *hidden):  # where the project is installed beside other packages
        command += [part for place in _places(path, visible) for part in ("--tmpfs", place)]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(limits.folder), "--tmpfs", PRIVATE,
                "--dir", f"{PRIVATE}/given"]
    for file in given:
        command += ["--ro-bind", str(file), f"{PRIVATE}/given/{Path(file).name}"]
    command += [part for path in ("/proc", "/tmp", "/dev", "/") for part in ("--remount-ro", path)]
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


@cache
def best_level():
    """The best level that works here, found by trying."""
    with suppress(OSError, psutil.Error, ValueError):
        with box("bubblewrap", Limits()):
            return "bubblewrap"
    return "user" if os.geteuid() == 0 else "limits"


def require(allow_no_sandbox=False):
    """The best level that works here.

    Raises:
        InputError: the level is not a sandbox and that was not allowed, or kernels would be root.
    """
    level = best_level()
    if level != "bubblewrap" and not allow_no_sandbox:
        raise InputError("this machine gives no sandbox: bubblewrap is not installed or not allowed here. Install it "
                         "(apt-get install bubblewrap) and allow user namespaces, or add --allow-no-sandbox where "
                         f"you trust all submissions: {IN_FORCE[level]}")
    closed = [path for path in _visible() if not os.stat(path).st_mode & 0o004] if os.geteuid() == 0 else []
    if closed:
        raise InputError(f"{closed[0]}: only its owner can read it, and kernels are never root. Let other users read "
                         f"it: chmod -R o+rX {closed[0]}")
    if level == "user" and _as_other_user("import IPython, torch, lab3"):
        raise InputError(f"kernels are never root, and no other user can run {sys.executable} here. Install Python and "
                         "lab3 where every user may read them, not in /root, or run the grader as an ordinary user.")
    return level


def _as_other_user(code):
    """The exit status of Python code that another user runs; 1 where there can be none."""
    try:
        return subprocess.run([sys.executable, "-c", code], user=USERS[0], group=USERS[0], extra_groups=[], cwd="/",
                              capture_output=True).returncode
    except OSError:
        return 1
