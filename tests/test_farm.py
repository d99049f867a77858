"""A class on a farm: a real scheduler and real workers on this machine, killed while they grade."""

import csv
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from farming import PATIENCE, Farm, results, wait_for, written
from probing import TEXTS, hand_in

pytest.importorskip("distributed")

from grader.results.files import read_result  # noqa: E402
from grader.rubric import read_rubric  # noqa: E402
from grader.run import dask_client, dask_worker  # noqa: E402
from grader.run.keys import grader_key  # noqa: E402
from lab3.cli import STOPPED  # noqa: E402
from lab3.common.files import InputError  # noqa: E402

CHEAP = ("gamma_func", "masked_forward")
SHIFTED = TEXTS["gamma_func"].replace('"square": lambda r: 1 - r**2', '"square": lambda r: (1 - r)**2')
ENDS = "import os\ndef gamma_func(mode='cosine'):\n    os.kill(os.getpid(), 9)"  # and takes its kernel along
ENOUGH = "8GB"  # the memory limit of a worker that grades one submission at a time


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A farm with one worker that stays."""
    made = Farm(tmp_path_factory.mktemp("farm"))
    made.worker("--no-nanny", "--memory-limit", ENOUGH)
    yield made
    made.close()


@pytest.fixture
def another(tmp_path):
    """A farm without workers, for one test."""
    (tmp_path / "farm").mkdir()
    made = Farm(tmp_path / "farm", DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    yield made
    made.close()


@contextmanager
def begin(submissions, out, *arguments, only=CHEAP, **environment):
    """Begin to grade; gives the process, which ends with the block at the latest."""
    process = subprocess.Popen(
        [sys.executable, "-m", "grader", "grade", str(submissions), "--out", str(out), "--seed", "1", "--only", *only,
         *map(str, arguments)], cwd=ROOT, env=os.environ | environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def grade(*arguments, **options):
    """Grade; gives (exit status, what was said)."""
    with begin(*arguments, **options) as process:
        said, _ = process.communicate(timeout=2 * PATIENCE)
    return process.returncode, said


def rows(out):
    """The rows of grades.csv without times."""
    return [{name: text for name, text in row.items() if name != "seconds"}
            for row in csv.DictReader((out / "grades.csv").open())]


@pytest.mark.nightly
def test_two_workers_of_three_are_killed_and_nothing_else_changes(one, tmp_path):
    """Right, partly right, unreadable and deadly answers: the results are those of one machine."""
    students = tmp_path / "class"
    for number in range(6):
        hand_in(students / f"s{number}", {"gamma_func": SHIFTED if number % 2 else TEXTS["gamma_func"],
                                          "masked_forward": TEXTS["masked_forward"]})
    hand_in(students / "s0-ends", {"gamma_func": ENDS, "masked_forward": TEXTS["masked_forward"]})
    (students / "unreadable.zip").write_bytes(b"no zip")
    status, said = grade(students, tmp_path / "here")
    assert status == 0, said

    doomed = [one.worker("--no-nanny", "--memory-limit", ENOUGH) for _ in range(2)]
    wait_for(lambda: one.logs().count("Registered to") >= len(one.started) - 1, "the workers")
    out = tmp_path / "there"
    with begin(students, out, "--scheduler", one.address) as process:
        for number, victim in enumerate(doomed, start=1):
            wait_for(lambda: len(written(out)) >= number or process.poll() is not None, "results", 2 * PATIENCE)
            assert process.poll() is None and victim.poll() is None, (process.stdout.read(), one.logs())
            victim.kill()
        said, _ = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, said
    assert len(written(out)) == 8
    assert results(out) == results(tmp_path / "here") and rows(out) == rows(tmp_path / "here")
    assert results(out)["s0-ends"].exercises[-1].status == "stopped"
    for victim in doomed:
        assert victim.returncode == -signal.SIGKILL or victim.wait() == -signal.SIGKILL


@pytest.mark.nightly
def test_an_interrupted_batch_goes_on_and_keeps_what_has_not_changed(one, tmp_path):
    students, out = tmp_path / "class", tmp_path / "out"
    for number in range(4):
        hand_in(students / f"s{number}", {"gamma_func": TEXTS["gamma_func"]})
    with begin(students, out, "--scheduler", one.address, only=["gamma_func"]) as process:
        wait_for(lambda: written(out) or process.poll() is not None, "a result", 2 * PATIENCE)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
    first = written(out)
    assert process.returncode == STOPPED and "the same command continues from there" in said and 0 < len(first) < 4
    for _ in range(2):
        status, said = grade(students, out, "--scheduler", one.address, only=["gamma_func"])
        assert status == 0, said
        assert {name: when for name, when in written(out).items() if name in first} == first
        assert len(written(out)) == 4
        first = written(out)
    hand_in(students / "s1", {"gamma_func": SHIFTED})
    status, said = grade(students, out, "--scheduler", one.address, only=["gamma_func"])
    assert {name for name, when in written(out).items() if when != first[name]} == {"s1"}


def changed_ask(folder, body):
    """A module for `--preload`, which Dask loads twice, that puts code before a worker's call of its pool server."""
    path = folder / "changed.py"
    path.write_text("import os, time\nfrom grader.run.dask_worker import PoolServer\n"
                    f"def ask(self, call):\n    {body}\n    return self.real(call)\n"
                    "if not hasattr(PoolServer, 'real'):\n    PoolServer.real, PoolServer.ask = PoolServer.ask, ask\n")
    return path


@pytest.mark.nightly
def test_a_slow_submission_holds_no_other(another, tmp_path):
    """It ends only when all others have ended, on two workers that both could wait for it."""
    opened, out = tmp_path / "opened", tmp_path / "out"
    waits = changed_ask(another.folder,
                        f"while 'a-slow' in call and not os.path.exists({str(opened)!r}): time.sleep(0.1)")
    for _ in range(2):
        another.worker("--no-nanny", "--memory-limit", ENOUGH, "--preload", waits)
    wait_for(lambda: another.logs().count("Registered to") == 2, "the workers")
    others = {"ada", "bob", "eve", "zoe"}
    for name in ("a-slow", *others):
        hand_in(tmp_path / "class" / name, {"gamma_func": TEXTS["gamma_func"]})
    with begin(tmp_path / "class", out, "--scheduler", another.address, only=["gamma_func"]) as process:
        wait_for(lambda: written(out).keys() == others or process.poll() is not None, "all others")
        opened.touch()
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert written(out).keys() == {"a-slow", *others}


@pytest.mark.nightly
def test_a_submission_that_ends_its_workers_is_an_error_and_the_rest_is_graded(another, tmp_path):
    killer = changed_ask(another.folder, "'killer' in call and os._exit(1)")
    another.worker("--memory-limit", ENOUGH, "--preload", killer)  # with a nanny, which starts it again
    for name in ("ada", "killer", "zoe"):
        hand_in(tmp_path / "class" / name, {"gamma_func": TEXTS["gamma_func"]})
    status, said = grade(tmp_path / "class", tmp_path / "out", "--scheduler", another.address, only=["gamma_func"])
    found = results(tmp_path / "out")
    assert status == 1 and "broke down on killer" in said
    assert found["ada"].score == found["zoe"].score == found["ada"].max_score
    assert found["killer"].status == "error" and "lost its worker" in found["killer"].notes[0]
    assert (tmp_path / "out" / "killer" / "error.txt").read_text().strip()


@pytest.mark.nightly
def test_the_end_of_the_scheduler_is_said_and_costs_no_result(another, tmp_path):
    another.worker("--no-nanny", "--memory-limit", ENOUGH)
    students, out = tmp_path / "class", tmp_path / "out"
    for number in range(4):
        hand_in(students / f"s{number}", {"gamma_func": TEXTS["gamma_func"]})
    with begin(students, out, "--scheduler", another.address, only=["gamma_func"],
               DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="2s") as process:
        wait_for(lambda: written(out) or process.poll() is not None, "a result", 2 * PATIENCE)
        another.started[0].kill()
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "the same command goes on" in said, said
    assert 0 < len(written(out)) < 4
    wait_for(lambda: all(one.poll() is not None for one in another.started), "the worker's end")


@pytest.mark.slow
def test_workers_that_lack_something_are_refused_by_name(another, tmp_path):
    own = dask_worker.GRADER + grader_key(None)
    lacking = {"plain": "", "older": f"{dask_worker.GRADER}0123=1 MEMORY=8e9", "open": f"{own}=1 MEMORY=8e9",
               "small": f"{own}=1 sandbox=1 MEMORY=2e9"}
    for name, resources in lacking.items():
        another.worker("--no-nanny", "--name", name, *(["--resources", resources] if resources else []), preload=None)
    wait_for(lambda: another.logs().count("Registered to") == 4, "the workers")
    hand_in(tmp_path / "ada", {"gamma_func": TEXTS["gamma_func"]})
    status, said = grade(tmp_path / "ada", tmp_path / "out", "--scheduler", another.address)
    assert status == 2 and "no worker can grade" in said
    for name, words in {"plain": "--preload grader.run.dask_worker", "older": "another version of lab3",
                        "open": "no sandbox", "small": "2.0 GB of memory"}.items():
        [line] = [line for line in said.splitlines() if f"worker {name} on" in line and "no worker can" not in line]
        assert words in line
    assert not written(tmp_path / "out")


def certificates(folder):
    """A certificate that signs itself, for all of a farm, and its key; as Dask's options and as its environment."""
    folder.mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab3",
                    "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    names = {"ca-file": "cert.pem", "cert": "cert.pem", "key": "key.pem"}
    options = [part for name, file in names.items() for part in (f"--tls-{name}", str(folder / file))]
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    return ["--protocol", "tls", *options], {
        f"{tls}CA_FILE": cert, f"{tls}CLIENT__CERT": cert, f"{tls}CLIENT__KEY": key}


@pytest.mark.nightly
def test_over_tls_and_nobody_without_the_certificates(tmp_path):
    options, environment = certificates(tmp_path / "tls")
    (tmp_path / "farm").mkdir()
    encrypted = Farm(tmp_path / "farm", *options)
    try:
        encrypted.worker("--no-nanny", "--memory-limit", ENOUGH)
        assert encrypted.address.startswith("tls://")
        hand_in(tmp_path / "ada", {"gamma_func": TEXTS["gamma_func"]})
        status, said = grade(tmp_path / "ada", tmp_path / "out", "--scheduler", encrypted.address, only=["gamma_func"])
        assert status == 2 and "certificates" in said and not (tmp_path / "out").exists()
        status, said = grade(tmp_path / "ada", tmp_path / "out", "--scheduler", encrypted.address, only=["gamma_func"],
                             **environment)
        assert status == 0, said + encrypted.logs()
        assert read_result(tmp_path / "out" / "ada").score == read_rubric().points["gamma_func"]
    finally:
        encrypted.close()


@pytest.mark.slow
def test_where_no_scheduler_answers_is_one_line(tmp_path):
    hand_in(tmp_path / "ada", {})
    status, said = grade(tmp_path / "ada", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9",
                         DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="1s")
    [line] = [line for line in said.splitlines() if not line.startswith("seed")]
    assert status == 2 and line.startswith("grader grade: --scheduler tcp://127.0.0.1:9: no Dask scheduler")


def test_a_worker_that_sees_other_files_ends_the_batch_and_gives_no_marks(tmp_path):
    folder = hand_in(tmp_path / "ada", {})
    call = {"name": "ada", "paths": [str(folder)], "fingerprint": [dask_worker.fingerprint(folder)], "done": None}
    for change in (lambda: (folder / "more.txt").write_text(""), lambda: folder.rename(tmp_path / "elsewhere")):
        change()
        answer = dask_worker.grade_submission("{}", json.dumps(call))
        with pytest.raises(InputError, match="sees another file there"):
            future = SimpleNamespace(status="finished", result=lambda: answer)
            dask_client._take(future, "ada", [folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_two_machines_compare_is_there_for_files_and_folders(tmp_path):
    file = Path(tmp_path, "ada.zip")
    file.write_bytes(b"12345")
    found = [dask_worker.fingerprint(path) for path in (file, tmp_path, tmp_path / "no")]
    assert found == [5, ["ada.zip"], None]


def test_jobs_and_notebooks_do_not_go_with_a_scheduler(tmp_path, capsys):
    from grader.cli import main

    for arguments in ([str(tmp_path), "--jobs", "2"], ["one.ipynb"]):
        assert main(["grade", *arguments, "--out", str(tmp_path / "out"), "--scheduler", "tcp://127.0.0.1:9"]) == 2
        assert "Leave out" in capsys.readouterr().err
