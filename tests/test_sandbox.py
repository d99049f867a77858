"""Boxes and the kernels in them: what they see, what they may use, that nothing is left."""

import contextlib
import os
import site
import socket
import sys
import sysconfig
import time
import venv
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import ROOT

from grader.kernels import sandbox
from grader.kernels.kernel import BoxedKernel, Forkserver, GraderError, Stopped
from grader.kernels.sandbox import LEVELS, USERS, Limits, best_level, box, require
from lab3.common.files import InputError

BEST = best_level()
ROOT_USER = os.geteuid() == 0
OTHERS_RUN_PYTHON = not (ROOT_USER and sandbox._as_other_user("import IPython, torch, lab3"))
LIMITS = Limits(cell=4, processes=12)
sandboxed = pytest.mark.skipif(BEST != "bubblewrap", reason="this machine gives no sandbox")


@pytest.fixture(scope="module")
def forkserver():
    made = Forkserver()
    yield made
    made.close()


@pytest.fixture(params=LEVELS)
def level(request):
    if request.param == "bubblewrap" and BEST != "bubblewrap":
        pytest.skip("this machine gives no sandbox")
    if request.param != "bubblewrap" and (request.param == "user") != ROOT_USER:
        pytest.skip("needs root" if request.param == "user" else "as root, kernels are users of their own")
    if request.param == "user" and not OTHERS_RUN_PYTHON:
        pytest.skip("no other user can run this Python")
    return request.param


def run(kernel, code, seconds=4):
    """What a cell printed."""
    sent, text = kernel.execute_cell_input(code, allow_stdin=False), ""
    kernel.await_reply(sent, timeout=seconds)
    while True:
        message = kernel.get_message("iopub", timeout=5)
        if message["parent_header"].get("msg_id") != sent:
            continue
        text += message["content"].get("text", "") + message["content"].get("ename", "")
        if message["content"].get("execution_state") == "idle":
            return text.strip()


def attempt(code):
    """Code that says whether something was done or refused."""
    return f"try:\n    {code}\n    print('done')\nexcept OSError:\n    print('refused')"


@pytest.fixture
def start(forkserver):
    """A function that starts a kernel in a box; both end with the test."""
    with contextlib.ExitStack() as stack:
        def one(level, limits=LIMITS, **options):
            made = stack.enter_context(box(level, limits, **options))
            kernel = BoxedKernel(forkserver, made, limits)
            stack.callback(kernel.stop)
            return kernel

        yield one


def marked(mark):
    """Processes whose command line holds the mark."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if mark in " ".join(process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_a_kernel_computes(start, level):
    assert run(start(level), "import torch; print(int(torch.ones(3).sum()))") == "3"


def test_a_kernel_holds_no_debugger(start, level):
    """It would take half of the kernel's start, and is made to look into other code."""
    assert run(start(level), "import sys; print(any('pydevd' in name for name in sys.modules))") == "False"


def test_files_given_can_be_read(start, level, tmp_path):
    (tmp_path / "given.txt").write_text("content")
    kernel = start(level, given=[tmp_path / "given.txt"])
    assert run(kernel, "import os; print(open(os.environ['LAB3_GIVEN'] + '/given.txt').read())") == "content"


@sandboxed
def test_no_network_and_no_other_process(start):
    kernel = start("bubblewrap")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert run(kernel, "import socket\n" + attempt(f"socket.create_connection({address}, 2)")) == "refused"
    assert int(run(kernel, "import os; print(sum(name.isdigit() for name in os.listdir('/proc')))")) < 10
    assert run(kernel, "import os\n" + attempt(f"os.kill({os.getpid()}, 9)")) == "refused"


@sandboxed
def test_the_project_the_submissions_and_the_results_are_hidden(start, tmp_path):
    (tmp_path / "grades.csv").write_text("marks")
    kernel = start("bubblewrap", hidden=[tmp_path])
    for path in (ROOT / "solutions" / "work" / "inpainting.py", ROOT / "grader" / "rubric.yml", ROOT / ".git" / "HEAD",
                 ROOT / "tests" / "conftest.py", tmp_path / "grades.csv"):
        assert path.exists()
        assert run(kernel, f"import os; print(os.path.exists({str(path)!r}))") == "False", path


def test_a_hidden_folder_is_hidden_wherever_links_lead_to_it(tmp_path):
    """Beside other packages: an environment's `lib64` is `lib`."""
    hidden = tmp_path / "lib" / "site-packages" / "grader"
    hidden.mkdir(parents=True)
    (tmp_path / "lib64").symlink_to("lib")
    visible = ["/usr", str(tmp_path / "lib"), str(tmp_path / "lib64")]
    assert sandbox._places(hidden, visible) == [str(hidden), str(tmp_path / "lib64" / "site-packages" / "grader")]
    assert sandbox._places(tmp_path / "lib64" / "site-packages" / "grader", visible) == sandbox._places(hidden, visible)
    assert sandbox._places(tmp_path / "gone", visible) == sandbox._places(tmp_path, visible) == []


@sandboxed
def test_an_environment_in_the_projects_own_folder_shows_no_answers(start, monkeypatch):
    monkeypatch.setattr(sandbox.sys, "prefix", str(ROOT))
    kernel = start("bubblewrap")
    for name, shown in (("lab3", "True"), ("solutions", "False"), ("grader", "False")):
        assert run(kernel, f"import os; print(os.path.exists({str(ROOT / name)!r}))") == shown, name


FINDER = """
import importlib.util, sys
MAPPING = {"edited": %r}
class Finder:
    def find_spec(name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, f"{MAPPING[name]}/__init__.py") if name in MAPPING else None
sys.meta_path.append(Finder)
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another interpreter: a virtual environment whose .pth file leads to this one, a folder and an editable install.

    It also has the user's own packages. Returns the modules that it finds there, name -> path.
    """
    venv.EnvBuilder(system_site_packages=True, symlinks=True).create(tmp_path / "venv")
    packages = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    modules = {"there": tmp_path / "elsewhere" / "there.py", "mine": tmp_path / "user" / packages / "mine.py",
               "edited": tmp_path / "project" / "edited" / "__init__.py"}
    own = tmp_path / "venv" / packages
    files = {path: f"SAID = {name!r}" for name, path in modules.items()} | {
        tmp_path / "project" / "private.txt": "", tmp_path / "elsewhere.txt": "",
        own / "__editable___edited_finder.py": FINDER % str(modules["edited"].parent),
        own / "all.pth": f"{tmp_path / 'elsewhere'}\nimport __editable___edited_finder\n"
                         f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(site, "USER_BASE", str(tmp_path / "user"))
    return modules


@sandboxed
def test_packages_of_pth_files_of_the_user_and_installed_in_place_are_seen(elsewhere, start, tmp_path):
    found = run(start("bubblewrap"), "import pathlib; print(*(path for path in pathlib.Path("
                                     f"{str(tmp_path)!r}).rglob('*') if path.is_file()))").split()
    assert {path for path in found if not path.startswith(f"{tmp_path}/venv/")} == {*map(str, elsewhere.values())}


@sandboxed
@pytest.mark.nightly
def test_packages_of_pth_files_of_the_user_and_installed_in_place_are_imported(elsewhere):
    """By kernels that this interpreter starts."""
    with contextlib.closing(Forkserver()) as forkserver, contextlib.ExitStack() as stack:
        kernel = BoxedKernel(forkserver, stack.enter_context(box("bubblewrap", LIMITS)), LIMITS)
        stack.callback(kernel.stop)
        assert run(kernel, "import there, mine, edited; print(there.SAID, mine.SAID, edited.SAID)") == (
            "there mine edited")


def test_of_what_is_imported_from_nothing_private_is_shown(tmp_path, monkeypatch):
    """Whatever PYTHONPATH or a .pth file names: neither a home, nor submissions, nor the project's answers."""
    for name in ("home/.local/lib/python3/site-packages", "home/src/tool", "class/ada/lib", "course/grades", "here"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "link").symlink_to("home")
    shown = [tmp_path / "home/.local/lib/python3/site-packages", tmp_path / "home/src/tool"]
    never = [Path("/"), tmp_path, tmp_path / "home", tmp_path / "link", tmp_path / "class", tmp_path / "class/ada",
             tmp_path / "course", tmp_path / "course/grades", tmp_path / "here", ROOT, ROOT / "grader", ROOT / "tests",
             ROOT / "solutions/work", ROOT / "notebooks"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", *map(str, [*never, *shown])]))
    found = sandbox._imported_from(sys.executable, tuple(sandbox.python_environment().items()))
    assert {*map(str, [*never, *shown])} <= {*found}, "the interpreter would import from all of these"
    visible = sandbox._visible([tmp_path / "class", tmp_path / "course/grades"])
    assert {*map(str, shown)} <= {*visible}
    assert not [one for one in never if any(one.resolve().is_relative_to(path) for path in visible)]
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "home"))
    assert str(tmp_path / "home") not in sandbox._visible(), "an environment in the home itself"


@sandboxed
def test_nothing_can_be_written_outside(start, tmp_path):
    kernel = start("bubblewrap")
    for folder in ("/", "/dev", "/usr", "/etc", "/tmp", str(ROOT), str(ROOT / "lab3"), str(tmp_path),
                   os.path.expanduser("~")):
        assert run(kernel, attempt(f"open({folder + '/written_by_an_answer'!r}, 'w')")) == "refused", folder
    assert run(kernel, "open('mine', 'w').write('x'); print(open('mine').read())") == "x"


WRITABLE = """
import os
for root, folders, files in os.walk('/'):
    if root == '/proc':
        folders[:] = [one for one in folders if not one.isdigit() or one == str(os.getpid())]
    for path in (os.path.join(root, one) for one in folders + files):
        if os.access(path, os.W_OK) and not os.path.islink(path):
            print(path)
"""


@sandboxed
def test_all_that_can_be_written_is_its_own_folder_and_harmless_devices(start):
    """Settings of the machine below /proc/sys are among what root's uid alone could write."""
    found = run(start("bubblewrap"), WRITABLE, seconds=20).splitlines()
    fine = {f"/dev/{one}" for one in ("null", "zero", "full", "random", "urandom", "tty", "pts/ptmx", "shm")}
    assert not [path for path in found if path not in fine and not path.startswith("/dev/shm/")]


@sandboxed
def test_no_socket_of_the_machine_can_be_reached(start, tmp_path):
    """A path, as of the session's D-Bus or of Docker; an abstract name; another address family."""
    for address in (str(tmp_path / "socket"), f"/dev/shm/socket{os.getpid()}", f"\0lab3{os.getpid()}"):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address)
            server.listen()
            code = f"import socket; one = socket.socket(socket.AF_UNIX); one.connect({address!r})"
            assert run(start("bubblewrap"), code) in ("FileNotFoundError", "ConnectionRefusedError"), address
            if address.startswith("/"):
                os.unlink(address)
    for family in ("AF_VSOCK", "AF_PACKET", "AF_ALG"):
        kind = "SOCK_SEQPACKET" if family == "AF_ALG" else "SOCK_STREAM"
        assert run(start("bubblewrap"), f"import socket; socket.socket(socket.{family}, socket.{kind})") in (
            "PermissionError", "OSError"), family


def test_rights_are_given_up(start, level):
    status = run(start(level), "print(open('/proc/self/status').read())")
    assert "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status
    if level == "bubblewrap" or ROOT_USER:
        assert "CapBnd:\t0000000000000000" in status


def test_no_kernel_is_root(start, level):
    """Neither as it sees itself, nor as the machine sees it."""
    kernel = start(level)
    assert "0" not in run(kernel, "import os; print(*os.getresuid(), *os.getresgid(), *os.getgroups())").split()
    [process] = psutil.Process(kernel.box.parent).children()
    assert 0 not in process.uids() and (not ROOT_USER or process.uids().real in USERS)


def test_a_kernel_that_would_be_root_does_not_start(forkserver, level):
    if not ROOT_USER:
        pytest.skip("needs root")
    with box(level, LIMITS) as made, pytest.raises(GraderError, match="not be root"):
        BoxedKernel(forkserver, replace(made, user=0), LIMITS)


CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall({}), os.strerror(ctypes.get_errno()))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_system_calls_that_no_answer_needs_are_refused(start, level):
    kernel = start(level)
    for call in ("56, 0x10000000 | 17, 0, 0, 0, 0", "56, 0x00020000 | 17, 0, 0, 0, 0",  # clone
                 "272, 0x10000000",  # unshare
                 "206, 64, ctypes.byref(ctypes.c_ulong())", "240, b'/queue', 0o102, 0o600, None",  # io_setup, mq_open
                 "319, b'file', 0", "29, 0, 1 << 20, 0o1600", "425, 8, None",  # memfd_create, shmget, io_uring_setup
                 "101, 0, 0, 0, 0", "165, 0, 0, 0, 0, 0"):  # ptrace, mount
        assert run(kernel, CALL.format(call)) == "-1 Operation not permitted", call


FILL = {
    "files": "for number in range(10 ** 7): open(str(number), 'w').close()",
    "sockets": "import socket, os\nkept = []\nfor _ in range(6):\n    if os.fork() == 0: break\n"
               "while True:\n    try: kept += socket.socketpair()\n    except OSError: pass",
    "memory": "block = bytes(1 << 20)\nfor number in range(60):\n    with open(str(number), 'wb') as file:\n"
              "        for _ in range(10): file.write(block)",
}


@sandboxed
@pytest.mark.parametrize("what", FILL)
def test_what_is_kept_beside_processes_is_limited(start, what):
    """Empty files and sockets take the machine's memory, and no process is seen to hold it."""
    limits = Limits(cell=10, memory=(500 << 20) if what == "memory" else 4 << 30, folder=1 << 30, files=2000)
    with pytest.raises(Stopped, match=f"more than .* {what}|died"):
        run(start("bubblewrap", limits), FILL[what] + "\nimport time; time.sleep(5)", seconds=15)


@sandboxed
def test_where_there_is_a_memory_cgroup_it_holds_the_kernel_and_goes_with_it(start):
    kernel = start("bubblewrap")
    group = kernel.box.group
    if group is None:
        pytest.skip("no memory cgroup can be had here")
    [process] = psutil.Process(kernel.box.parent).children()
    assert str(process.pid) in (group / "cgroup.procs").read_text().split()
    kernel.stop()
    kernel.box.close()
    assert not group.exists()


def test_a_dead_kernel_is_noticed_at_once(start, level):
    kernel, began = start(level), time.monotonic()
    with pytest.raises(Stopped, match="died"):
        run(kernel, "import os; os._exit(0)", seconds=60)
    assert time.monotonic() - began < 10


def test_a_cell_without_end_is_stopped(start, level):
    with pytest.raises(Stopped, match="after 1 s"):
        run(start(level), "while True:\n    try:\n        while True: pass\n    except BaseException: pass", seconds=1)


def test_waiting_costs_less_than_computing(start, level, monkeypatch):
    """A limit of processor seconds: who waits, as on a busy machine, has longer by the clock."""
    monkeypatch.setattr("grader.kernels.kernel.PATIENCE", 30)  # this machine may be busy
    kernel = start(level, Limits(cell=1))
    assert run(kernel, "import time; time.sleep(1.5); print('done')") == "done"
    with pytest.raises(Stopped, match="after 1 s of a processor's time"):
        run(kernel, "while True: pass")


def test_memory_is_limited(start, level):
    kernel = start(level, Limits(cell=20, memory=1 << 30, address_space=8 << 30))
    with pytest.raises(Stopped, match="memory|died"):
        run(kernel, "kept = []\nwhile True: kept.append(bytearray(b'1') * 50_000_000)", seconds=20)
    kernel = start(level, Limits(address_space=8 << 30))
    assert "Error" in run(kernel, "bytearray(9 << 30)")


def test_processes_are_limited(start, level):
    with pytest.raises(Stopped, match="processes|died"):
        run(start(level), "import os, time\nfor _ in range(50):\n    try:\n        if os.fork() == 0: time.sleep(30)\n"
                          "    except OSError: pass\ntime.sleep(30)", seconds=20)


def test_output_is_limited(start, level):
    with pytest.raises(Stopped, match="output"):
        run(start(level, Limits(output=1 << 20)), "while True: print('x' * 10_000)", seconds=10)


def test_files_are_limited(start, level):
    assert "Error" in run(start(level, Limits(file=1 << 20)), "open('big', 'wb').write(b'1' * (2 << 20))")


DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp('sleep', ['sleep', '{mark}'])
    os._exit(0)
"""


@pytest.mark.parametrize("leave", [
    "import subprocess; subprocess.Popen(['sleep', '{mark}'])",
    "import subprocess; subprocess.Popen(['sleep', '{mark}'], start_new_session=True)",
    DAEMON,
], ids=["child", "session", "daemon"])
def test_nothing_is_left_running(forkserver, level, leave):
    mark = f"97531.{os.getpid()}"
    with box(level, LIMITS) as made:
        kernel = BoxedKernel(forkserver, made, LIMITS)
        run(kernel, leave.format(mark=mark))
        for _ in range(50):
            if marked(mark):
                break
            time.sleep(0.05)
        assert marked(mark)
        kernel.stop()
    for _ in range(50):
        if not marked(mark):
            break
        time.sleep(0.05)
    assert not marked(mark)


def test_boxes_leave_no_folder(forkserver, level, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for path in (tmp_path, *tmp_path.parents[:2]):  # kernels may be other users
        with contextlib.suppress(PermissionError):
            path.chmod(0o711)
    with box(level, LIMITS) as made:
        BoxedKernel(forkserver, made, LIMITS).stop()
    assert list(tmp_path.iterdir()) == []


def test_less_than_a_sandbox_is_refused_where_it_is_not_allowed(monkeypatch):
    monkeypatch.setattr(sandbox, "best_level", lambda: "user" if ROOT_USER else "limits")
    with pytest.raises(InputError, match="apt-get install bubblewrap.*--allow-no-sandbox"):
        require()
    if OTHERS_RUN_PYTHON:
        assert require(allow_no_sandbox=True) != "bubblewrap"
    else:
        with pytest.raises(InputError, match="never root.*not in /root"):
            require(allow_no_sandbox=True)


def test_packages_that_only_their_owner_reads_are_named(monkeypatch, tmp_path):
    if not ROOT_USER:
        pytest.skip("needs root")
    tmp_path.chmod(0o700)
    monkeypatch.setattr(sandbox, "_visible", lambda hidden=(): [str(tmp_path)])
    with pytest.raises(InputError, match=r"chmod -R o\+rX"):
        require(allow_no_sandbox=True)


@pytest.mark.skipif(not (ROOT_USER and OTHERS_RUN_PYTHON), reason="needs root, and Python that all users may read")
def test_without_a_sandbox_a_kernel_of_roots_is_a_user_of_its_own(start, tmp_path):
    kernels, secret = [start("user"), start("user")], tmp_path / "secret"
    secret.write_text("42")
    secret.chmod(0o600)
    users = [run(kernel, "import os; print(*os.getresuid(), *os.getresgid(), os.getgroups())") for kernel in kernels]
    assert users[0] != users[1] and not {"0", "[0]"} & {*users[0].split(), *users[1].split()}
    assert run(kernels[0], attempt(f"open({str(secret)!r})")) == "refused"
    other = kernels[1].box.inside
    assert run(kernels[0], attempt(f"os.listdir({other!r})")) == "refused"
    assert run(kernels[0], "open('mine', 'w').write('x'); print(open('mine').read())") == "x"
