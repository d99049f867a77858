"""Many processes train as one: the same curve, the same folder, one voice."""

import os
import re
import socket
import subprocess
import sys
import time
from multiprocessing import get_context

import psutil
import pytest
import torch
from conftest import ROOT
from together import PLAIN, QUICK, answered, train

from lab3 import cli
from lab3.common.files import load_tensors, read_json
from lab3.training.runs import read_metrics

pytestmark = pytest.mark.slow
SMOKE = ("train", "--preset", "smoke", "--out")
CURVE = ("train_loss", "val_loss", "val_bits", "epoch_loss", "lr")


def torchrun(*program, processes=2):
    """Start a program as torchrun does; returns the process."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
         *map(str, program)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    """Its exit status, and what it said on stdout and on stderr."""
    try:
        out, err = process.communicate(timeout=900)
    finally:
        process.kill()
    return process.returncode, out, err


def same_training(one, many, rel=1e-5, atol=1e-4):
    """Whether two runs' folders tell of the same training: losses up to `rel`, weights up to `atol`."""
    curves = [[{name: row[name] for name in ("step", *CURVE) if name in row} for row in read_metrics(run)]
              for run in (one, many)]
    assert len(curves[0]) == len(curves[1])
    for a, b in zip(*curves, strict=True):
        assert a == pytest.approx(b, rel=rel)
    assert {path.name for path in one.glob("*.safetensors")} == {path.name for path in many.glob("*.safetensors")}
    for path in one.glob("maskgit*.safetensors"):
        weights, others = load_tensors(path)[0], load_tensors(many / path.name)[0]
        for name, tensor in weights.items():
            assert (tensor.float() - others[name].float()).abs().max() < atol, (path.name, name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two folders, `one` and `two`: what one process did, and what two did with tests/together.py."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    train(two / "changing", PLAIN, parts=2)
    status, out, err = finished(torchrun(ROOT / "tests" / "together.py", two))
    assert status == 0, err
    assert out == "process 0 prints\n"
    train(two / "changing", PLAIN, resume=True)
    train(one / "plain", PLAIN)
    train(one / "quick", QUICK)
    return one, two


@pytest.mark.parametrize("answers", ["plain", "quick"])
def test_two_processes_give_the_curve_of_one(trained, answers):
    one, two = trained
    losses = [row["val_loss"] for row in read_metrics(one / answers) if "val_loss" in row]
    assert losses[-1] < losses[0] - 0.1, "the comparison says little where nothing is learnt"
    same_training(one / answers, two / answers)


def test_a_training_goes_on_with_another_number_of_processes(trained):
    one, two = trained
    assert len(read_metrics(two / "changing")) == 6, "one process, two, one: two parts each"
    same_training(one / "plain", two / "changing")


def test_logits_and_gradients_are_those_of_one_process(trained):
    found, expected = load_tensors(trained[1] / "shared.safetensors")[0], answered(lambda transformer: transformer)
    assert found.keys() == expected.keys()
    largest = {}  # gradients of one question share a scale; those of keys' biases are zero but for rounding
    for name, tensor in expected.items():
        question = name.split(":")[0], name.endswith("logits")
        largest[question] = max([largest.get(question, 0.0), *tensor.detach().abs().flatten().tolist()])
    for name, tensor in expected.items():
        scale = largest[name.split(":")[0], name.endswith("logits")]
        torch.testing.assert_close(found[name], tensor.detach(), rtol=0, atol=1e-5 * scale, msg=name)


def test_processes_differ_in_what_they_should(trained):
    first, second = read_json(trained[1] / "seen.json")
    assert (first["rank"], second["rank"]) == (0, 1)
    assert first["files"] == second["files"] == 0
    assert first["error"] == second["error"] == "refused by process 0"
    assert first["masks"] == second["masks"] and first["dropout"] != second["dropout"]


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """The folder of a training that the command line did in two processes, and what that said."""
    run = tmp_path_factory.mktemp("commanded") / "run"
    return run, *finished(torchrun("-m", "lab3", *SMOKE, run))


@pytest.mark.nightly
def test_the_command_trains_in_two_processes_and_speaks_once(commanded):
    run, status, out, err = commanded
    assert status == 0, err
    assert out.count("\n") == 1 and "is ready" in out
    assert err.count("training:   0%") == 1, "one bar"
    events = [path.name for path in run.glob("events.*")]
    assert len(events) == 1 and len(read_metrics(run)) == 4
    assert sorted(path.name for path in run.iterdir()) == sorted([
        ".lock", "checkpoint.safetensors", *events, "maskgit-20.safetensors", "maskgit-50.safetensors", "maskgit.json",
        "maskgit.safetensors", "metrics.jsonl", "tokenizer"])


@pytest.mark.nightly
def test_a_training_is_not_overwritten_and_that_is_said_once(commanded):
    run = commanded[0]
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    status, out, err = finished(torchrun("-m", "lab3", *SMOKE, run))
    assert status != 0 and not out
    assert err.count("holds a training already") == 1
    assert re.findall(r"exitcode +: (-?\d+)", err) == ["2", "2"]
    assert before == {path: path.read_bytes() for path in run.iterdir() if path.is_file()}


UNUSABLE = pytest.mark.parametrize(("arguments", "said"), [
    (["train", "--preset", "smoke"], "required: --out"),
    (["fid", "a", "b", "--features", "lite0"], "works in one process"),
])


def command(folder, number, port, arguments):
    """One of two processes that run `lab3` as if torchrun had started them; what they say goes to files."""
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "TORCHELASTIC_RUN_ID": "none"}
    sys.stdout, sys.stderr = (open(folder / name, "a", buffering=1) for name in ("out", "err"))
    sys.exit(cli.main(arguments))


@UNUSABLE
def test_what_cannot_be_used_is_said_once(tmp_path, arguments, said):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    both = [get_context("fork").Process(target=command, args=(tmp_path, number, port, arguments))  # without imports
            for number in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
        process.kill()
    assert [process.exitcode for process in both] == [2, 2]
    assert not (tmp_path / "out").read_text() and (tmp_path / "err").read_text().count(said) == 1


@pytest.mark.nightly
@UNUSABLE
def test_torchrun_ends_with_what_cannot_be_used(arguments, said):
    status, out, err = finished(torchrun("-m", "lab3", *arguments))
    assert status != 0 and not out
    assert err.count(said) == 1
    assert re.findall(r"exitcode +: (-?\d+)", err) == ["2", "2"]


@pytest.mark.nightly
def test_an_error_in_one_process_alone_is_said(tmp_path):
    answer = (PLAIN[0] / "train_one_epoch.py").read_text()
    (tmp_path / "work").mkdir()
    failing = "    import os\n    assert os.environ['RANK'] == '0', 'mine'\n    transformer.train()\n"
    (tmp_path / "work" / "train_one_epoch.py").write_text(answer.replace("    transformer.train()\n", failing))
    status, _, err = finished(torchrun(
        "-m", "lab3", "train", "--preset", "smoke", "--work", tmp_path / "work", PLAIN[0], "--trust-code", "--out",
        tmp_path / "run"))
    assert status != 0
    assert err.count("lab3 train: ") == 1 and "failed: AssertionError: mine" in err


@pytest.mark.nightly
def test_a_killed_training_goes_on_with_one_process(commanded, tmp_path):
    run = tmp_path / "run"
    process = torchrun("-m", "lab3", *SMOKE, run)
    while not read_metrics(run):
        assert process.poll() is None
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.kill()
    assert len(read_metrics(run)) < 4, "the training ended before it was killed"
    assert not psutil.wait_procs(workers, timeout=600)[1], "what torchrun leaves behind ends by itself"
    assert cli.main([*SMOKE, str(run), "--resume"]) == 0
    same_training(commanded[0], run, rel=1e-3, atol=5e-3)  # in bfloat16 where that pays, which rounds more
