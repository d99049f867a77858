"""The autograder's zip, set up and run as in Gradescope's container: its folders, Docker's rights, no network."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from probing import TEXTS, hand_in

from grader.cli import main
from grader.export import gradescope
from grader.kernels.sandbox import IN_FORCE, best_level
from grader.results.files import VISIBILITIES
from lab3.exercises.table import EXERCISES

boxed = pytest.mark.skipif(not shutil.which("bwrap") or os.geteuid() != 0,
                           reason="needs bubblewrap, and root as in a container")
# The rights that Docker leaves to root.
RIGHTS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "SYS_CHROOT", "SETFCAP")
# No namespaces, as Docker's filter of system calls has it: the grader's own filter refuses these too.
NO_NAMESPACES = f"""
import ctypes, os, sys
sys.path.insert(0, {str(ROOT / "grader" / "kernels")!r})
import forkserver
forkserver.refuse_calls(ctypes.CDLL(None))
os.execv(sys.argv[1], sys.argv[1:])
"""
THIEF = """
#| exercise: gamma_func
def gamma_func(mode="cosine"):
    space = {}
    exec(open("/autograder/source/solutions/work/gamma_func.py").read(), space)
    return space["gamma_func"](mode)
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The folder /autograder after Gradescope has built the image; packages come from this environment."""
    place = tmp_path_factory.mktemp("image")
    archive, root, tools = place / "autograder.zip", place / "autograder", place / "tools"
    assert main(["export", "gradescope", str(archive), "--seed", "3", "--only", "gamma_func", "masked_forward"]) == 0
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(root / "source")
    shutil.copy(root / "source" / "run_autograder", root)
    (root / "run_autograder").chmod(0o755)
    tools.mkdir()
    (tools / "apt-get").write_text("#!/bin/sh\necho \"$@\" >> /autograder/apt\n")
    (tools / "apt-get").chmod(0o755)
    done = container(place, root, ["bash", "/autograder/source/setup.sh"], PYTHON=sys.executable, PIP_NO_INDEX="1",
                     PATH=f"{tools}:{os.environ['PATH']}", PYTHONPATH=sysconfig.get_path("purelib"))
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def container(place, root, command, binds=(), **environment):
    """Run a command where `root` is /autograder, without network; all else can only be read.

    It has the machine's /proc: in a container with one of its own, as Docker makes it, no sandbox could mount another.
    """
    (place / "tmp").mkdir(exist_ok=True)
    (place / "tmp").chmod(0o1777)
    box = ["bwrap", "--unshare-net", "--die-with-parent", "--clearenv"]
    for name, value in ({"PATH": os.environ["PATH"], "HOME": "/tmp"} | environment).items():
        box += ["--setenv", name, value]
    for right in RIGHTS:
        box += ["--cap-add", f"CAP_{right}"]
    for path in Path("/").iterdir():
        if path.name not in ("proc", "dev", "tmp", "autograder", "root"):
            box += ["--symlink", os.readlink(path), str(path)] if path.is_symlink() else ["--ro-bind", path, path]
    box += ["--perms", "0755", "--tmpfs", "/root"]
    python = Path(os.path.realpath(sys.base_prefix))
    if python.is_relative_to("/root"):  # in the container it is open to everybody
        for path in reversed([one for one in python.parents if one != Path("/root") and one.is_relative_to("/root")]):
            box += ["--perms", "0755", "--dir", path]
        box += ["--ro-bind", python, python]
    box += ["--bind", "/proc", "/proc", "--dev", "/dev", "--bind", place / "tmp", "/tmp", "--bind", root, "/autograder"]
    for folder in (ROOT, Path(sys.prefix)):
        if folder.is_relative_to("/tmp"):  # a clone there
            box += ["--ro-bind", folder, folder]
    for source, target in [(place / "tools", place / "tools"), *binds]:
        box += ["--ro-bind", source, target]
    return subprocess.run([*map(str, box), "--chdir", "/autograder", "--", *command], capture_output=True, text=True,
                          timeout=600)


def graded(image, tmp_path, answers, *, namespaces, **files):
    """Hand in answers and other files (name -> text); returns (results.json, what was printed)."""
    root = shutil.copytree(image, tmp_path / "autograder", symlinks=True)
    hand_in(root / "submission" / "lab3" / "notebooks", answers)
    for name, text in files.items():
        (root / name).write_text(text)
    (tmp_path / "tools").mkdir()
    site = Path(next(root.glob("venv/lib/python3*/site-packages"))).relative_to(root)
    command = ["/autograder/run_autograder"]
    if not namespaces:
        command = [sys.executable, "-c", NO_NAMESPACES, *command]
    done = container(tmp_path, root, command, [(sysconfig.get_path("purelib"), Path("/autograder") / site)])
    assert done.returncode == 0, done.stderr
    return json.loads((root / "results" / "results.json").read_text()), done.stdout + done.stderr


def assert_documented(found):
    """The file holds the fields of Gradescope's specification, in its types, and no others."""
    kinds = {"score": (int, float), "execution_time": int, "output": str, "output_format": str, "visibility": str,
             "stdout_visibility": str, "tests": list, "extra_data": dict, "leaderboard": list}
    assert all(isinstance(value, kinds[name]) for name, value in found.items())
    assert {"score", "output", "stdout_visibility", "tests"} <= found.keys()
    assert found["stdout_visibility"] == "hidden" and found["visibility"] in VISIBILITIES
    kinds = {"score": (int, float), "max_score": (int, float), "status": str, "name": str, "number": str,
             "output": str, "output_format": str, "visibility": str}
    for test in found["tests"]:
        assert test.keys() == kinds.keys() and all(isinstance(test[name], kind) for name, kind in kinds.items())
        assert test["status"] in ("passed", "failed") and test["visibility"] in VISIBILITIES
        assert 0 <= test["score"] <= test["max_score"]


def test_the_zip_holds_two_scripts_and_no_tests(tmp_path):
    archive = tmp_path / "a.zip"
    assert gradescope.export(archive) == 100
    with zipfile.ZipFile(archive) as packed:
        modes = {one.filename: one.external_attr >> 16 & 0o777 for one in packed.infolist()}
        settings = json.loads(packed.read("gradescope.json"))
        assert_documented(json.loads(packed.read("failed.json")))
        needed = packed.read("requirements.txt").decode().splitlines()
    assert modes["setup.sh"] == modes["run_autograder"] == 0o755
    assert {name.split("/")[0] for name in modes if "/" in name} == {"lab3", "grader", "solutions", "data"}
    assert f"solutions/work/{next(iter(EXERCISES))}.py" in modes and "grader/rubric.yml" in modes
    assert settings == {"seed": None, "only": list(gradescope.read_rubric().points), "visibility": "visible"}
    assert "nbval>=0.11,<0.12" in needed and not any(one.startswith(("ruff", "jupyterlab")) for one in needed)


@pytest.mark.parametrize(("options", "said"), [
    (["--only", "07"], "--only 07"), (["--seed", "-1"], "--seed"), (["--visibility", "never"], "--visibility")])
def test_wrong_settings_are_refused(tmp_path, capsys, options, said):
    assert main(["export", "gradescope", str(tmp_path / "a.zip"), *options]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "a.zip").exists()


@boxed
@pytest.mark.slow
def test_setup_installs_with_the_pins_and_bubblewrap(image):
    assert "install" in (image / "apt").read_text() and "bubblewrap" in (image / "apt").read_text()
    assert (image / "venv" / "bin" / "python").exists()


@boxed
@pytest.mark.slow
def test_a_submission_is_graded_in_the_best_sandbox_that_there_is(image, tmp_path):
    found, printed = graded(image, tmp_path, {"gamma_func": TEXTS["gamma_func"], "masked_forward": "x = 1"},
                            namespaces=True)
    assert_documented(found)
    points = gradescope.read_rubric().points
    assert found["score"] == points["gamma_func"], printed
    assert [(one["name"].split()[0], one["score"]) for one in found["tests"]] == [
        ("masked_forward", 0), ("gamma_func", points["gamma_func"])]
    assert found["extra_data"]["sandbox"] == best_level() and found["extra_data"]["seed"] == 3
    assert IN_FORCE[best_level()] in found["output"]


@boxed
@pytest.mark.slow
def test_without_namespaces_the_level_is_recorded_and_answers_stay_unread(image, tmp_path):
    found, printed = graded(image, tmp_path, {"gamma_func": THIEF, "masked_forward": TEXTS["masked_forward"]},
                            namespaces=False)
    assert_documented(found)
    assert found["extra_data"]["sandbox"] == "user" and "without a sandbox" in found["output"], printed
    assert [one["score"] for one in found["tests"]] == [gradescope.read_rubric().points["masked_forward"], 0]
    assert "PermissionError" in found["tests"][1]["output"]


@boxed
@pytest.mark.nightly
def test_a_grader_that_breaks_down_says_so_and_shows_the_traceback_to_staff_alone(image, tmp_path):
    found, printed = graded(image, tmp_path, {"gamma_func": TEXTS["gamma_func"]}, namespaces=True,
                            **{"source/solutions/work/gamma_func.py": "{ broken"})
    assert_documented(found)
    assert found["score"] == 0 and found["output"] == gradescope.BROKEN
    assert "Traceback" in printed and "Traceback" not in json.dumps(found)


@boxed
@pytest.mark.nightly
def test_without_python_there_is_a_result_too(image, tmp_path):
    root = shutil.copytree(image, tmp_path / "copy", symlinks=True)
    for path in (root / "venv" / "bin").glob("python*"):
        path.unlink()
    found, printed = graded(root, tmp_path, {"gamma_func": TEXTS["gamma_func"]}, namespaces=True)
    assert found["output"] == gradescope.BROKEN and "venv/bin/python" in printed
