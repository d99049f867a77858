"""What all tests share: one thread, caches in a temporary folder, and a small trained run.

PyTorch is imported where it is used: the process that hands tests to others does without.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browsing import jupyter, page  # noqa: F401, fixtures
from filelock import FileLock

from lab3.exercises.table import EXERCISES

ROOT = Path(__file__).resolve().parent.parent
LONGEST = ("test_notebooks", "test_grader", "test_attacks", "test_checks", "test_corpus", "test_lab", "test_cli",
           "test_distributed", "test_handed_back", "test_gradescope", "test_farm")


def pytest_addoption(parser):
    parser.addoption("--nightly", action="store_true", help="run the long tests, and no others")


def pytest_configure(config):
    config.option.loadscopereorder = False  # of pytest-xdist: files keep the order that they have below
    for exercise in EXERCISES:
        config.addinivalue_line("markers", f"{exercise}: tests of this exercise's answers, checks and probes")


def pytest_collection_modifyitems(config, items):
    """Mark the tests that name an exercise with its id, and leave out long tests, or with --nightly all others.

    The longest files come first: no process is then left alone with one of them at the end.
    """
    for item in items:
        for exercise in EXERCISES:
            if re.search(rf"(?<!\d_){exercise}(?![a-z])", item.name):  # not 06_inpainting_and_fid, a notebook
                item.add_marker(exercise)
    wanted = config.getoption("--nightly")
    chosen, left_out = [], []
    for item in items:
        (chosen if bool(item.get_closest_marker("nightly")) == wanted else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = sorted(chosen, key=lambda item: (*LONGEST, item.path.stem).index(item.path.stem))


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory):
    """A folder that all processes of this run of the tests share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "common"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def surroundings(common_folder):
    """No cache from outside, no make around, and one thread: on a busy machine threads wait for one another."""
    import torch

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB3_CACHE", str(common_folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # a make that a test starts would say which folder it leaves
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def answers():
    """The reference answers."""
    from lab3.common.paths import SOLUTIONS
    from lab3.exercises.answers import load_answers

    return load_answers(SOLUTIONS)


@pytest.fixture(scope="session")
def cats():
    """The embedded pictures."""
    from lab3.data.cats import Cats

    return Cats()


@pytest.fixture(scope="session")
def tokenizer():
    """The shipped tokenizer."""
    from lab3.common.paths import SHIPPED, TOKENIZER
    from lab3.model.tokenizer import load_tokenizer

    return load_tokenizer(SHIPPED / TOKENIZER)


@pytest.fixture
def shell():
    """An IPython shell, as a notebook's kernel has one."""
    from IPython.core.interactiveshell import InteractiveShell

    from lab3.notebook import lab

    class Shell(InteractiveShell):
        def enable_gui(self, gui=None):
            """No windows."""

    InteractiveShell.clear_instance()
    yield Shell.instance()
    lab._watching = None
    Shell.clear_instance()


@pytest.fixture(scope="session")
def smoke_run(common_folder, tmp_path_factory):
    """A run's folder that `train --preset smoke` made, in this process: a new one would import PyTorch again.

    Tests that change it copy it.
    """
    from lab3 import cli

    folder = common_folder / "run"
    with FileLock(common_folder / "run.lock"):
        if not folder.exists():
            growing = tmp_path_factory.mktemp("smoke") / "run"
            assert cli.main(["train", "--preset", "smoke", "--out", str(growing)]) == 0
            growing.rename(folder)
    return folder


@pytest.fixture
def lab(tmp_path):
    """The original lab's layout: train 0 … 5, val 10 … 12, test 20 … 22, all different."""
    from photo_folders import draw, save, save_test

    root = tmp_path / "lab"
    for i in range(6):
        save(root / f"train/image_{i:05d}.png", draw(i))
    for i in range(3):
        save(root / f"val/image_{i:05d}.png", draw(10 + i))
        save_test(root, i, draw(20 + i))
    return root


def lab3(*arguments, timeout=300, **environment):
    """Run `python -m lab3` as a user does; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "lab3", *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
        cwd=ROOT, env=os.environ | environment)
