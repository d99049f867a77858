"""Boxes and the kernels in them: what they see, what they may use, that nothing is left."""

import contextlib
import os
import socket
import time

import psutil
import pytest
from conftest import ROOT

from grader.kernels.forkserver import closed_to_others
from grader.kernels.kernel import BoxedKernel, Forkserver, Stopped
from grader.kernels.sandbox import LEVELS, Limits, best_level, box, require
from lab3.common.files import InputError

BEST = best_level()
LIMITS = Limits(cell=4, processes=12)


@pytest.fixture(scope="module")
def forkserver():
    made = Forkserver()
    yield made
    made.close()


@pytest.fixture(params=LEVELS)
def level(request):
    if LEVELS.index(request.param) > LEVELS.index(BEST):
        pytest.skip(f"this machine gives no more than {BEST}")
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


def test_no_network_and_no_other_process(start, level):
    if level == "limits":
        pytest.skip("limits hide nothing")
    kernel = start(level)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert run(kernel, "import socket\n" + attempt(f"socket.create_connection({address}, 2)")) == "refused"
    assert int(run(kernel, "import os; print(sum(name.isdigit() for name in os.listdir('/proc')))")) < 10
    assert run(kernel, "import os\n" + attempt(f"os.kill({os.getpid()}, 9)")) == "refused"


def test_the_project_the_submissions_and_the_results_are_hidden(start, level, tmp_path):
    if level == "limits":
        pytest.skip("limits hide nothing")
    (tmp_path / "grades.csv").write_text("marks")
    kernel = start(level, hidden=[tmp_path])
    for path in (ROOT / "solutions" / "work" / "inpainting.py", ROOT / "grader" / "rubric.yml", ROOT / ".git" / "HEAD",
                 ROOT / "tests" / "conftest.py", tmp_path / "grades.csv"):
        assert path.exists()
        assert run(kernel, f"import os; print(os.path.exists({str(path)!r}))") == "False", path


def test_nothing_can_be_written_outside(start, level, tmp_path):
    if level == "limits":
        pytest.skip("limits hide nothing")
    kernel = start(level)
    for folder in ("/", "/dev", "/usr", "/etc", "/tmp", str(ROOT), str(ROOT / "lab3"), str(tmp_path),
                   os.path.expanduser("~")):
        assert run(kernel, attempt(f"open({folder + '/written_by_an_answer'!r}, 'w')")) == "refused", folder
    assert run(kernel, "open('mine', 'w').write('x'); print(open('mine').read())") == "x"


def test_rights_are_given_up(start, level):
    status = run(start(level), "print(open('/proc/self/status').read())")
    assert "NoNewPrivs:\t1" in status
    if level != "limits":
        assert "CapEff:\t0000000000000000" in status and "CapBnd:\t0000000000000000" in status


def test_a_dead_kernel_is_noticed_at_once(start, level):
    kernel, began = start(level), time.monotonic()
    with pytest.raises(Stopped, match="died"):
        run(kernel, "import os; os._exit(0)", seconds=60)
    assert time.monotonic() - began < 10


def test_a_cell_without_end_is_stopped(start, level):
    with pytest.raises(Stopped, match="after 1 s"):
        run(start(level), "while True:\n    try:\n        while True: pass\n    except BaseException: pass", seconds=1)


def test_waiting_costs_less_than_computing(start, level):
    """A limit of processor seconds: who waits, as on a busy machine, has longer by the clock."""
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
        run(start(level), "import os, time\nfor _ in range(50):\n    if os.fork() == 0: time.sleep(30)\ntime.sleep(30)",
            seconds=20)


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
    with box(level, LIMITS) as made:
        BoxedKernel(forkserver, made, LIMITS).stop()
    assert list(tmp_path.iterdir()) == []


def test_less_than_a_sandbox_can_be_refused():
    require("bubblewrap")
    require("namespaces")
    with pytest.raises(InputError, match="apt-get install bubblewrap"):
        require("limits")


@pytest.mark.skipif(os.geteuid() != 0 or bool(closed_to_others("/tmp/any")),
                    reason="needs root, and an interpreter that everybody may read")
def test_without_namespaces_a_kernel_of_roots_is_a_user_of_its_own(start, tmp_path):
    kernels, secret = [start("limits"), start("limits")], tmp_path / "secret"
    secret.write_text("42")
    secret.chmod(0o600)
    users = [run(kernel, "import os; print(*os.getresuid(), *os.getresgid(), os.getgroups())") for kernel in kernels]
    assert users[0] != users[1] and not {"0", "[0]"} & {*users[0].split(), *users[1].split()}
    assert run(kernels[0], attempt(f"open({str(secret)!r})")) == "refused"
    other = kernels[1].box.inside
    assert run(kernels[0], attempt(f"os.listdir({other!r})")) == "refused"
    assert run(kernels[0], "open('mine', 'w').write('x'); print(open('mine').read())") == "x"
