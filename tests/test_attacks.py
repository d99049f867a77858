"""Hostile and malformed submissions, graded beside honest ones: nothing gained, no one else affected, nothing left."""

import csv
import html
import http.server
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from attacks import ATTACKS, FULL, RIGHT, ROOT, SECRET, TEXTS, WRITTEN, WRONG, Place, folder, marked, notebook, solved

from grader.kernels.sandbox import best_level
from grader.results.files import read_result

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(best_level() != "bubblewrap", reason="this machine gives no sandbox")]

HONEST = ("aaa", "solved", "zzz")
MAX_GRADER = 1_000_000_000  # bytes of memory that the grader's own processes may come to, all together
COMMAND = """
import dataclasses, json, os, sys
os.environ["OMP_NUM_THREADS"] = "1"
from grader.run import batch, pool
from grader import cli
from grader.kernels.sandbox import Limits
limits = Limits(**json.loads(sys.argv.pop(1)))
rubric = dataclasses.replace(batch.read_rubric(), limits=limits)
batch.read_rubric = lambda *_: rubric
pool.LONGEST = 20 * limits.cell
sys.exit(cli.main(sys.argv[1:]))
"""


@cache
def cell_limit():
    """Seconds for a cell: few, but twice what the longest honest one takes on this machine."""
    with tempfile.TemporaryDirectory() as root:
        handed_in, out = Path(root) / "in", Path(root) / "out"
        handed_in.mkdir()
        solved(handed_in / "solved")
        start(handed_in, "--out", out, "--seed", 1, "--only", *FULL, mark="limit", cell=60).communicate()
        cells = [probe.seconds for one in read_result(out / "solved").exercises for probe in one.probes]
        return max(3, math.ceil(2 * max(cells)))


def start(*arguments, mark, cell=None, **environment):
    """Begin `grade` with small limits; all its processes carry the mark in their environment."""
    limits = dict(cell=cell or cell_limit(), memory=1 << 30, processes=24, output=40 << 20, folder=100 << 20,
                  submission=30)
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, json.dumps(limits), "grade", *map(str, arguments)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"LAB3_MARK": mark} | environment)


class Family:
    """A process and all that descends from it, or carries its mark in the command line or the environment.

    Attributes:
        seen: the descendants seen so far.
        largest: bytes that the grader's own processes came to together; kernels have limits of their own.
    """

    def __init__(self, process, mark):
        self.mark, self.root, self.seen, self.largest = mark, psutil.Process(process.pid), set(), 0

    def look(self):
        with suppress(psutil.Error):
            self.seen.update([self.root, *self.root.children(recursive=True)])
            total = 0
            for one in [self.root, *self.root.children()]:
                with suppress(psutil.Error):
                    if "forkserver.py" not in " ".join(one.cmdline()):
                        total += one.memory_full_info().pss  # what processes share counts once
            self.largest = max(self.largest, total)

    def watch(self):
        """Look until it ends."""
        while self.root.is_running() and self.root.status() != psutil.STATUS_ZOMBIE:
            self.look()
            time.sleep(0.5)

    def alive(self):
        """What of it runs."""
        found = []
        for process in {*self.seen, *psutil.process_iter()} - {psutil.Process()}:
            with suppress(psutil.Error, OSError):
                ours = (process in self.seen or self.mark in " ".join(process.cmdline())
                        or process.environ().get("LAB3_MARK") == self.mark)
                if ours and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def left(self, seconds=2):
        """What runs also after some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.alive():
            time.sleep(0.05)
        return self.alive()


def read(out, name):
    """What stands in the results of a submission, exercise id -> its row."""
    return json.loads((out / name / "results.json").read_text())


def points(result, exercise):
    row = next(one for one in result["tests"] if one["name"].startswith(f"{exercise} ("))
    return row["score"]


def rows(out):
    with open(out / "grades.csv", newline="") as file:
        return {row["submission"]: row for row in csv.DictReader(file)}


class Server(http.server.BaseHTTPRequestHandler):
    """Serves the right answer to whoever asks."""

    asked = 0

    def do_GET(self):
        Server.asked += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(RIGHT.encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """All attacks graded at once, among honest submissions."""
    root = tmp_path_factory.mktemp("attacks")
    mark, handed_in, out = f"97531.{os.getpid()}", root / "handed_in", root / "out"
    folders = SimpleNamespace(home=root / "home", elsewhere=root / "elsewhere", temporary=Path(tempfile.mkdtemp()))
    handed_in.mkdir()
    folders.home.mkdir()
    folders.elsewhere.mkdir()
    (folders.elsewhere / "kept").write_text("ATTACKED")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        for name, one in ATTACKS.items():
            one.build(Place(handed_in / name, mark, address, folders.elsewhere))
        for name in HONEST:
            solved(handed_in / name)
        folder(handed_in / "wrong", notebook(marked(WRONG)))
        process = start(handed_in, "--out", out, "--seed", 1, "--jobs", 4, "--only", *FULL, mark=mark,
                        HOME=str(folders.home), TMPDIR=str(folders.temporary))
        family = Family(process, mark)
        threading.Thread(target=family.watch, daemon=True).start()
        try:
            output = process.communicate(timeout=1500)[0]
        finally:
            process.kill()
            left = family.left()
            server.shutdown()
    folders.temporary_left = [one for one in os.listdir(folders.temporary) if not one.startswith("torch")]
    shutil.rmtree(folders.temporary)
    return SimpleNamespace(out=out, code=process.returncode, output=output, left=left, folders=folders,
                           largest=family.largest, handed_in=handed_in)


def test_the_batch_ends(attacked):
    assert attacked.code == 0, attacked.output[-3000:]
    assert "Traceback" not in attacked.output


def test_every_submission_has_its_results(attacked):
    names = {*ATTACKS, *HONEST, "wrong"}
    assert rows(attacked.out).keys() == names
    for name in names:
        assert (attacked.out / name / "results.json").is_file() and (attacked.out / name / "feedback.html").is_file()
        assert rows(attacked.out)[name]["status"] != "error", name


@pytest.mark.parametrize("name", ATTACKS)
def test_no_point_is_gained(attacked, name):
    one = ATTACKS[name]
    assert points(read(attacked.out, name), one.exercise) == one.due, one.about


def test_none_takes_long(attacked):
    most = 20 * cell_limit()  # seconds, far from any limit
    assert not {name: row["seconds"] for name, row in rows(attacked.out).items() if float(row["seconds"]) > most}


@pytest.mark.parametrize("name", HONEST)
def test_honest_ones_lose_nothing(attacked, name):
    result = read(attacked.out, name)
    assert {exercise: points(result, exercise) for exercise in FULL} == FULL
    assert all("[FAIL]" not in one["output"] for one in result["tests"])


def test_a_wrong_answer_gets_nothing(attacked):
    assert points(read(attacked.out, "wrong"), "gamma_func") == 0


def test_nothing_is_left_running(attacked):
    assert not attacked.left, attacked.left


def test_nothing_is_written_outside(attacked):
    folders = attacked.folders
    assert list(folders.home.iterdir()) == []
    assert [one.name for one in folders.elsewhere.iterdir()] == ["kept"]
    assert folders.temporary_left == []
    for place in (ROOT, ROOT / "tests", ROOT / "work", attacked.out, attacked.out.parent, attacked.handed_in, "/",
                  "/tmp", "/dev/shm"):  # the grader's own folders lie in folders.temporary
        assert not list(Path(place).glob(f"{WRITTEN}*")), place
    assert not [one for one in attacked.out.rglob("*") if one.is_file() and one.name not in (
        "results.json", "feedback.html", "grades.csv", "class.html", "run.json", "result.json")]


def test_nothing_comes_in_over_the_network(attacked):
    assert Server.asked == 0


def test_no_answer_and_no_hidden_input_comes_out(attacked):
    lines = {line.strip()[:40] for text in TEXTS.values() for line in text.splitlines()
             if len(line.strip()) >= 30 and re.search(r"\w\(|=", line)}
    for name, one in ATTACKS.items():
        pages = "".join(file.read_text() for file in (attacked.out / name).iterdir())
        assert len(pages) < 300_000, name
        if not name.startswith("exfil"):
            continue
        assert SECRET not in pages, name
        assert "83, 69, 67" not in pages, name
        found = [line for line in lines if line in html.unescape(pages)]
        assert not found, (name, found[:3])


def test_the_grader_stays_small(attacked, record_property):
    record_property("bytes", attacked.largest)  # for --junitxml
    assert attacked.largest < MAX_GRADER, f"{attacked.largest / 1e9:.1f} GB"


# A batch that is killed


def batch(root, count=8):
    for number in range(count):
        folder(root / f"s{number}", notebook(marked(RIGHT if number % 2 else WRONG.replace("0.5", f"0.{number}"))))
    return [root, "--seed", 1, "--jobs", 2, "--only", "gamma_func", "--out"]


def test_a_killed_batch_goes_on(tmp_path):
    (tmp_path / "handed_in").mkdir()
    arguments, out = batch(tmp_path / "handed_in"), tmp_path / "killed"
    whole = start(*arguments, tmp_path / "whole", mark=f"86420.{os.getpid()}.0")
    assert whole.wait(timeout=300) == 0
    draw, kept = random.Random(os.getpid()), {}
    for number in range(1, 3):
        mark = f"86420.{os.getpid()}.{number}"
        process = start(*arguments, out, mark=mark)
        family, delay = Family(process, mark), draw.uniform(2, 9)
        time.sleep(delay)
        family.look()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not family.left(), f"killed after {delay:.2f} s"
        for file, before in kept.items():
            assert file.stat().st_mtime_ns == before, f"{file} graded again"
        kept = {file: file.stat().st_mtime_ns for file in out.glob("*/results.json")}
        for file in kept:
            json.loads(file.read_text())
    last = start(*arguments, out, mark=f"86420.{os.getpid()}.9")
    assert last.wait(timeout=300) == 0, last.stdout.read()
    for file, before in kept.items():
        assert file.stat().st_mtime_ns == before, f"{file} graded again"
    assert {name: {**row, "seconds": ""} for name, row in rows(out).items()} == \
        {name: {**row, "seconds": ""} for name, row in rows(tmp_path / "whole").items()}
    assert len(rows(out)) == 8
