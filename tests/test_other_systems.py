"""Windows, macOS and unusual surroundings, as far as Linux can play them."""

import errno
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, lab3
from photo_folders import draw, save

import setup_lab
from lab3 import cli
from lab3.common import files, paths
from lab3.common.files import InputError, SaveError, load_tensors, save_tensors, write_text
from lab3.common.paths import WEIGHTS, cache_folder, work_folder
from lab3.exercises.examine import time_limit
from lab3.model.tokens import _read, _write
from lab3.training.runs import load_training, save_training

WITHOUT = {  # what Windows' Python lacks
    "modules": ("fcntl", "resource", "pwd", "grp", "termios"),
    "os": ("fork", "geteuid", "getuid", "sched_getaffinity", "O_NOFOLLOW", "O_NONBLOCK", "mkfifo", "killpg"),
    "signal": ("SIGALRM", "setitimer", "ITIMER_REAL", "SIGKILL", "SIGHUP"),
}
# Run a command of lab3 or grader as on Windows.
COMMAND = """
import os, signal, sys
# These know Windows themselves.
import torch, torch.distributed, matplotlib.font_manager, IPython, ipykernel.kernelapp, psutil, nbval.plugin
import filelock
filelock.FileLock = filelock.SoftFileLock  # this machine's takes fcntl, that of Windows msvcrt
sys.path.insert(0, "tests")
from test_other_systems import WITHOUT, WindowsFiles
from lab3.common import files
from grader.cli import main as grader
from lab3.cli import main as lab3

for name in WITHOUT["modules"]:
    sys.modules[name] = None
for module in (os, signal):
    for name in WITHOUT[module.__name__]:
        delattr(module, name)
files.os = WindowsFiles()
sys.platform = "win32"
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="plays Windows with /proc")


class WindowsFiles:
    """The module `os` with what Windows refuses."""

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, *rest):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os.open(path, *rest)

    def fsync(self, handle):
        about = Path(f"/proc/self/fdinfo/{handle}").read_text()
        if int(re.search(r"flags:\s+(\d+)", about)[1], 8) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        os.fsync(handle)

    def replace(self, source, target):
        if held(source) or held(target):
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        os.replace(source, target)


def held(path):
    """Whether this process has a file open or mapped."""
    path, links = os.path.realpath(path), []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(os.readlink(one))
    return path in links or path in Path("/proc/self/maps").read_text()


def on_windows(code):
    """Run Python code as on Windows: without what is Unix's, output in cp1252. `lab3` and `grader` are the commands."""
    return subprocess.run([sys.executable, "-c", COMMAND + code], cwd=ROOT, capture_output=True, timeout=300,
                          env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}, encoding="cp1252")


@linux
@pytest.mark.nightly
def test_windows_trains_and_goes_on(tmp_path):
    run = tmp_path / "Läufe und Modelle" / "猫"
    for more in ([], ["--resume"]):
        done = on_windows(f"sys.exit(lab3({['train', '--preset', 'smoke', '--out', str(run), *more]}))")
        assert done.returncode == 0, done.stderr
    assert "\\u732b" in done.stdout, "cp1252 has no such character"
    assert (run / WEIGHTS).is_file() and not list(run.rglob("*.part"))


@linux
def test_the_commands_that_windows_cannot_run_say_so(tmp_path):
    """All of the package can be imported; the grader's commands that need Linux say it."""
    done = on_windows(f"""
import importlib, pkgutil, lab3 as package
for module in pkgutil.walk_packages(package.__path__, "lab3."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
folder = {str(tmp_path)!r}
print([grader(command.split()) for command in (
    f"release {{folder}}", "diff a b", "grade tests/cases/einops --dry-run", f"similar tests/cases --out {{folder}}",
    f"export gradescope {{folder}}/a.zip")])""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[0, 2, 2, 2, 2]", done.stdout + done.stderr
    for said in ("diff: a: no such file", "grade: needs Linux", "similar: needs Linux", "export: needs Linux"):
        assert said in done.stderr


@linux
def test_what_was_read_can_be_replaced(tmp_path, monkeypatch):
    """A checkpoint with its optimizer's state, and cached tokens, while their tensors are in use."""
    monkeypatch.setattr(files, "os", WindowsFiles())
    model, encoded = torch.nn.Linear(50, 50), torch.ones(3, 256, dtype=torch.int16).numpy()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 50)).sum().backward()
    optimizer.step()
    parts = {"model": model}, {"optimizer": optimizer}
    save_training(tmp_path / "run", *parts, {})
    _write(tmp_path / "tokens", encoded)
    load_training(tmp_path / "run", *parts)
    kept = load_tensors(tmp_path / "run"), _read(tmp_path / "tokens", 3)
    save_training(tmp_path / "run", *parts, {"step": 2})
    _write(tmp_path / "tokens", encoded)
    assert kept[1] is not None and load_tensors(tmp_path / "run")[1]["step"] == 2
    with open(tmp_path / "run", "rb"), pytest.raises(SaveError, match="has it open"):
        save_training(tmp_path / "run", *parts, {"step": 3})


@pytest.mark.parametrize("refusals", [2, 99])
def test_a_file_that_another_program_has_open_is_waited_for(tmp_path, monkeypatch, refusals):
    path, real, left = tmp_path / "a.txt", os.replace, [refusals]
    write_text(path, "old")

    def replace(*names):
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(errno.EACCES, "Access is denied")
        real(*names)

    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files, "RETRIES", (0, 0, 0, None))
    if refusals == 2:
        write_text(path, "new")
    else:
        with pytest.raises(SaveError, match=r"a\.txt.*Access is denied.*Close the program that has it open"):
            write_text(path, "new")
    assert path.read_text() == ("new" if refusals == 2 else "old") and os.listdir(tmp_path) == ["a.txt"]


def test_the_folder_is_synced_where_it_can_be(tmp_path, monkeypatch):
    synced, real = [], os.fsync
    monkeypatch.setattr(files.os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), real(handle)))
    save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(1)})
    assert synced == [(tmp_path / "a.safetensors").stat().st_ino, tmp_path.stat().st_ino]


def nothing():
    return None


def endless():
    while True:
        with_nothing = sum(range(100))
        assert with_nothing


@pytest.mark.parametrize("where", ["no alarm", "another thread"])
def test_an_endless_loop_ends_without_unix_alarm(monkeypatch, where):
    found, threads = [], threading.active_count()

    def work():
        try:
            with time_limit(0.2):
                endless()
        except TimeoutError as error:
            found.append(str(error))
        with time_limit(30):
            pass

    if where == "no alarm":
        monkeypatch.delattr(signal, "SIGALRM")
        work()
    else:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(20)
    assert found == ["it takes more than 0.2 s. Does a loop never end?"]
    time.sleep(0.01)  # nothing is left to come
    sys.setprofile(lambda *_: None)
    try:
        nothing()  # never returns in Python 3.11 where an alert is left on
    finally:
        sys.setprofile(None)
    assert threading.active_count() <= threads


def test_what_pytorch_imports_for_an_optimizer_is_not_the_answers_time(monkeypatch, tmp_path):
    """Where Python has compiled nothing yet and the machine is busy, these imports take longer than an answer may."""
    from lab3.exercises import examine

    order = []
    monkeypatch.setattr(torch.optim, "AdamW", lambda _: order.append("imports"))
    monkeypatch.setattr(examine, "time_limit", lambda _: (order.append("limit"), nullcontext())[1])
    for name in ("gamma_func", "configure_optimizers"):
        (tmp_path / f"{name}.py").write_text("1 / 0")
    assert len(list(examine.examine(tmp_path, ("gamma_func", "configure_optimizers")))) == 2
    assert order == ["limit", "imports", "limit"]


def test_a_picture_whose_name_is_not_utf8_is_audited(tmp_path, capfd):
    for number in range(3):
        save(tmp_path / "latin" / f"{number}.png", draw(number))
    os.rename(bytes(tmp_path / "latin" / "0.png"), bytes(tmp_path / "latin") + b"/caf\xe9.png")
    (tmp_path / "latin" / "猫.png").write_bytes(b"no picture")
    done = lab3("data", "audit", tmp_path / "latin", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
    assert "\\u732b.png" in done.stdout
    assert cli.main(["data", "audit", str(tmp_path / "latin")]) == 0
    assert "猫.png" in capfd.readouterr().out


def test_output_that_is_no_stream_of_text_is_left_alone(monkeypatch):
    from lab3.cli import print_any_text

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    print_any_text()


def no_home(monkeypatch):
    monkeypatch.setattr(paths.Path, "expanduser", lambda path: _no_home() if str(path).startswith("~") else path)


def _no_home():
    raise RuntimeError("Could not determine home directory.")


def test_without_a_home_the_named_cache_is_used(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    no_home(monkeypatch)
    monkeypatch.setenv("LAB3_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LAB3_CACHE")
    with pytest.raises(InputError, match="no home folder on this machine. Set LAB3_CACHE to a folder's full path"):
        cache_folder()
    monkeypatch.setenv("LAB3_WORK", "~/work")
    with pytest.raises(InputError, match="Set LAB3_WORK"):
        work_folder()


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("LAB3_WORK", "~/Мои ответы")
    monkeypatch.setenv("LAB3_CACHE", "~/cache")
    assert work_folder() == tmp_path / "Мои ответы" and cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("LAB3_WORK")
    assert work_folder() == ROOT / "work"


def test_no_two_files_differ_in_case_alone_or_have_a_name_that_windows_keeps():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\n")[:-1]
    if listed.returncode:
        pytest.skip("no clone")
    assert len({name.lower() for name in names}) == len(names)
    kept = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
    for name in names:
        for part in name.split("/"):
            assert part.split(".")[0].lower() not in kept and not set(part) & set('<>:"\\|?*'), name
            assert part == part.rstrip(". "), name


@pytest.mark.parametrize(("system", "said"), [
    (("Linux", "x86_64", ""), None), (("Windows", "AMD64", ""), None), (("Darwin", "arm64", "14.0"), None),
    (("Darwin", "arm64", "13.7.2"), "this is macOS 13.7.2. Update macOS"),
    (("Darwin", "x86_64", "15.1"), "no builds for Macs with Intel processors any more")])
def test_what_cannot_be_installed_is_said_before_pip_says_it(system, said):
    for version in ((3, 11), (3, 14)):
        why = setup_lab.refusal(version, *system)
        assert why is None if said is None else said in why
    assert "this is 3.10" in setup_lab.refusal((3, 10), *system)


def test_setting_up_leaves_out_what_is_meant_for_another_python():
    mine = {"PATH": "/bin", "PIP_USER": "1", "PYTHONPATH": "/other", "PIP_CACHE_DIR": "/cache"}
    plain = {"PATH": "/bin", "PIP_CACHE_DIR": "/cache"}
    assert setup_lab.surroundings(mine, gpu=False, system="Windows") == plain
    assert setup_lab.surroundings(mine, gpu=True, system="Linux") == plain
    assert setup_lab.surroundings(mine, gpu=False, system="Linux") == plain | {
        "PIP_EXTRA_INDEX_URL": setup_lab.CPU_INDEX}
    chosen = plain | {"PIP_INDEX_URL": "https://mirror"}
    assert setup_lab.surroundings(chosen, gpu=False, system="Linux") == chosen
    settings = "global.extra-index-url='file:///packages/simple'\n"
    assert setup_lab.surroundings(mine, gpu=False, system="Linux", settings=settings) == plain


@pytest.mark.parametrize(("name", "place"), [("nt", "Scripts/python.exe"), ("posix", "bin/python")])
def test_setting_up_makes_an_environment_and_installs_into_it(monkeypatch, tmp_path, capsys, name, place):
    run = []
    monkeypatch.setattr(setup_lab, "refusal", lambda: None)
    monkeypatch.setattr(setup_lab, "os", SimpleNamespace(name=name, environ={}))

    def done(command, **_):
        if "config" in command:
            return SimpleNamespace(returncode=0, stdout="")
        run.append(command)
        return SimpleNamespace(returncode=len(run) // 3)

    monkeypatch.setattr(setup_lab.subprocess, "run", done)
    folder = tmp_path / "Größe und Übung"
    assert setup_lab.main(["--venv", str(folder), ".[lab]", "./grader"]) == 0
    assert run[0][1:] == ["-m", "venv", str(folder)] and run[1][0] == str(folder / place)
    assert run[1][-4:] == ["-e", ".[lab]", "-e", "./grader"]
    assert f'"{folder / place}" -m lab3 lab' in capsys.readouterr().out
    assert setup_lab.main([]) == 1 and len(run) == 3, "what fails is not followed by more"


def test_what_is_not_installed_costs_one_sentence(monkeypatch, tmp_path):
    from lab3.metrics.distance import load_extractor
    from lab3.report.report import report
    from lab3.training.runs import Metrics, read_metrics

    missing = ("torch.utils.tensorboard", "torchvision", "pytorch_fid", "scipy", "reportlab")
    for name in (*missing, *(name for name in sys.modules if name.startswith("reportlab."))):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "lab3.report.pdf", raising=False)
    with Metrics(tmp_path) as metrics:
        metrics.write(1, loss=2.0)
    assert read_metrics(tmp_path)[0]["loss"] == 2.0
    with pytest.raises(InputError, match=r'reportlab: pip install "maskgit-lab\[report\]"'):
        report(tmp_path, tmp_path / "report.html")
    with pytest.raises(InputError, match="FID needs the package torchvision: pip install"):
        load_extractor("inception")
