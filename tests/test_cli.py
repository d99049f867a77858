"""The command line as its users meet it: results where they were asked for, and one line for what cannot be used."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, lab3
from PIL import Image

from lab3 import cli
from lab3.common.files import load_tensors, save_tensors
from lab3.common.paths import SOLUTIONS
from lab3.data import photos

SMOKE = ("--preset", "smoke")


@pytest.fixture(scope="module", autouse=True)
def composed_once(cats):
    """All commands get the tests' embedded pictures: each would compose 15,000 of its own, to train on 256 of them."""
    real = photos.open_data

    def open_data(folder, *, n_train=None, **options):
        return cats if folder is None and n_train is None else real(folder, n_train=n_train, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photos, "open_data", open_data)
        yield


@pytest.fixture(scope="module")
def few_cats(cats, tmp_path_factory):
    """A folder of 60 pictures of one's own."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(cats.val[:60]):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def broken_run(smoke_run, tmp_path):
    """A copy of a run, to be broken."""
    return shutil.copytree(smoke_run, tmp_path / "run")


def run(capsys, *arguments):
    """Run a command in this process; returns the exit status and what it said on stderr."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    return status, capsys.readouterr().err


def refused(capsys, *arguments):
    """What is said about unusable input: one line, exit status 2, no traceback."""
    status, said = run(capsys, *arguments)
    said = "\n".join(line for line in said.replace("\r", "\n").splitlines() if "%|" not in line)  # progress bars
    assert status == 2, said
    assert len(said.strip().splitlines()) == 1 and "Traceback" not in said, said
    return said


def test_train_says_where_the_weights_are(smoke_run):
    assert {"maskgit.safetensors", "maskgit.json", "metrics.jsonl", "checkpoint.safetensors", "tokenizer"} <= {
        path.name for path in smoke_run.iterdir()}
    assert any(path.name.startswith("events.out.tfevents") for path in smoke_run.iterdir()), "TensorBoard"
    about = json.loads((smoke_run / "maskgit.json").read_text())
    assert about["preset"] == "smoke" and about["steps"] == 16


def test_inpaint_and_fid(capsys, smoke_run, few_cats, tmp_path):
    run_folder = tmp_path / "run"
    shutil.copytree(smoke_run, run_folder)
    out = tmp_path / "filled"
    status, said = run(capsys, "inpaint", "--run", run_folder, "--data", few_cats, "--total-iter", 2, "--out", out)
    assert status == 0, said
    counts = {folder.name: len(list(folder.iterdir())) for folder in out.iterdir() if folder.is_dir()}
    assert set(counts) == {"masked", "decoded", "pasted", "original"} and len(set(counts.values())) == 1
    settings = json.loads((out / "inpaint.json").read_text())
    assert settings["sweet_spot"] == 2 and settings["sampling"] == "argmax" and not settings["exact"]
    status, said = run(capsys, "fid", out / "decoded", out / "original", "--features", "lite0", "--json",
                       tmp_path / "fid.json")
    assert status == 0, said
    assert json.loads((tmp_path / "fid.json").read_text())["distance"] > 0


def test_audit_and_import(capsys, few_cats, tmp_path):
    shutil.copytree(few_cats, tmp_path / "twice")
    shutil.copy(few_cats / "0.png", tmp_path / "twice" / "again.png")
    assert run(capsys, "data", "audit", tmp_path / "twice", "--json", tmp_path / "audit.json")[0] == 0
    assert len(json.loads((tmp_path / "audit.json").read_text())["exact"]) == 1
    assert run(capsys, "data", "import", tmp_path / "twice", "--out", tmp_path / "clean", "--drop-duplicates")[0] == 0
    assert len(list((tmp_path / "clean").rglob("train/*.png"))) > 0


def test_a_missing_folder(capsys, tmp_path):
    for command in (["data", "audit", tmp_path / "no"], ["demo", "--data", tmp_path / "no", "--out", tmp_path / "o"],
                    ["fid", tmp_path / "no", tmp_path, "--features", "lite0"]):
        assert str(tmp_path / "no") in refused(capsys, *command)


def test_a_folder_without_pictures(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    for command in (["data", "audit", tmp_path / "empty"],
                    ["train", "--data", tmp_path / "empty", "--out", tmp_path / "o"],
                    ["fid", tmp_path / "empty", tmp_path / "empty", "--features", "lite0"]):
        assert "empty" in refused(capsys, *command)


@pytest.mark.parametrize("content", ["truncated", "text"])
def test_a_file_that_is_no_picture(capsys, few_cats, tmp_path, content):
    folder = shutil.copytree(few_cats, tmp_path / "pictures")
    whole = (folder / "7.png").read_bytes()
    (folder / "7.png").write_bytes(whole[:len(whole) // 2] if content == "truncated" else b"not a picture at all")
    assert "7.png" in refused(capsys, "demo", "--data", folder, *SMOKE, "--out", tmp_path / "out")
    assert "7.png" in refused(capsys, "fid", folder, few_cats, "--features", "lite0")


def test_unreadable_files_are_left_out_on_request(capsys, few_cats, tmp_path):
    folder = shutil.copytree(few_cats, tmp_path / "pictures")
    (folder / "7.png").write_bytes(b"")
    out = tmp_path / "run"
    status, said = run(capsys, "train-tokenizer", "--data", folder, "--skip-unreadable", *SMOKE, "--out", out)
    assert status == 0, said
    assert (out / "tokenizer" / "tokenizer.safetensors").is_file()


def test_a_checkpoint_of_another_shape(capsys, broken_run, tmp_path):
    tensors, about = load_tensors(broken_run / "maskgit.safetensors")
    tensors["bias"] = torch.zeros(3, 3)
    save_tensors(broken_run / "maskgit.safetensors", tensors, about)
    said = refused(capsys, "inpaint", "--run", broken_run, "--out", tmp_path / "out")
    assert "maskgit.safetensors: bias has shape (3, 3), the model expects (256, 1025)" in said


@pytest.mark.parametrize("name", ["maskgit.safetensors", "tokenizer/tokenizer.safetensors"])
def test_a_truncated_checkpoint(capsys, broken_run, tmp_path, name):
    path = broken_run / name
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path}: not a complete safetensors file" in refused(
        capsys, "inpaint", "--run", broken_run, "--out", tmp_path / "out")


def test_a_truncated_training_checkpoint(capsys, broken_run):
    path = broken_run / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert "checkpoint.safetensors" in refused(capsys, "train", *SMOKE, "--resume", "--out", broken_run)


def test_a_codebook_index_out_of_range(capsys, broken_run, few_cats, tmp_path):
    work = shutil.copytree(SOLUTIONS, tmp_path / "work")
    with open(work / "iterative_decode.py", "a") as file:
        file.write("\n\ndef iterative_decode(transformer, z_indices, mask, **settings):\n"
                   "    z = z_indices.masked_fill(mask, 1024)\n    return z, [(z, mask)]\n")
    assert "1024 is among them" in refused(
        capsys, "inpaint", "--run", broken_run, "--data", few_cats, "--work", work, "--trust-code", "--out",
        tmp_path / "out")


@pytest.mark.parametrize("arguments, named", [
    (["--sweet-spot", 9, "--total-iter", 8], "sweet-spot must lie in 1 ... total-iter (8), not 9"),
    (["--total-iter", 0], "total-iter must be at least 1, not 0"),
    (["--schedule", "cubic"], "schedule must be one of linear, cosine, square, not 'cubic'"),
    (["--sampling", "best"], "sampling must be one of categorical, argmax, not 'best'"),
    (["--temperature", -1], "temperature must be 0 or more"),
])
def test_impossible_decodings(capsys, tmp_path, arguments, named):
    assert named in refused(capsys, "inpaint", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_preset(capsys, tmp_path):
    for command in ("train", "train-tokenizer", "demo"):
        assert "preset must be one of smoke, cpu, labels, report, not 'huge'" in refused(
            capsys, command, "--preset", "huge", "--out", tmp_path / "out")


def test_an_unknown_feature_set(capsys, few_cats):
    assert "vgg" in refused(capsys, "fid", few_cats, few_cats, "--features", "vgg")


def test_a_full_disk_while_saving(capsys, tmp_path, monkeypatch):
    from lab3.common import files

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    assert "No space left on device" in refused(capsys, "train", *SMOKE, "--out", tmp_path / "run")


def test_a_folder_that_cannot_be_made(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in refused(capsys, "train", *SMOKE, "--out", tmp_path / "file" / "run")


def test_an_own_data_set_without_a_tokenizer(capsys, few_cats, tmp_path):
    assert "train-tokenizer" in refused(capsys, "train", *SMOKE, "--data", few_cats, "--out", tmp_path / "run")


def test_missing_and_broken_answers(capsys, tmp_path):
    assert "no answer to multi_head_attention yet" in refused(
        capsys, "train", *SMOKE, "--work", tmp_path, "--trust-code", "--out", tmp_path / "run")
    work = shutil.copytree(SOLUTIONS, tmp_path / "work")
    (work / "mvtm_loss.py").write_text("def mvtm_loss(:\n")
    assert "the answer to mvtm_loss fails when it runs (SyntaxError" in refused(
        capsys, "train", *SMOKE, "--work", work, "--trust-code", "--out", tmp_path / "run")
    (work / "mvtm_loss.py").write_text("def loss(): pass\n")
    assert "does not define mvtm_loss" in refused(
        capsys, "train", *SMOKE, "--work", work, "--trust-code", "--out", tmp_path / "run")


def test_a_tokenizer_that_the_transformer_was_not_trained_with(capsys, broken_run, few_cats, tmp_path):
    other = tmp_path / "other.safetensors"
    tensors, about = load_tensors(broken_run / "tokenizer" / "tokenizer.safetensors")
    save_tensors(other, tensors | {"codebook": tensors["codebook"] + 1}, about)
    before = (broken_run / "tokenizer" / "tokenizer.safetensors").read_bytes()
    assert "another than" in refused(capsys, "train", *SMOKE, "--resume", "--tokenizer", other, "--out", broken_run)
    assert "holds a tokenizer already" in refused(capsys, "train-tokenizer", *SMOKE, "--out", broken_run)
    assert (broken_run / "tokenizer" / "tokenizer.safetensors").read_bytes() == before
    shutil.copy(other, broken_run / "tokenizer" / "tokenizer.safetensors")
    assert "trained on the tokens of another tokenizer" in refused(
        capsys, "inpaint", "--run", broken_run, "--data", few_cats, "--out", tmp_path / "out")


def test_a_run_whose_tokenizer_is_not_finished(capsys, smoke_run, tmp_path):
    (tmp_path / "run" / "tokenizer").mkdir(parents=True)
    shutil.copy(smoke_run / "checkpoint.safetensors", tmp_path / "run" / "tokenizer")
    assert "not trained to the end" in refused(capsys, "train", *SMOKE, "--out", tmp_path / "run")


def test_inpaint_leaves_the_runs_folder_alone(capsys, tmp_path):
    assert "no such checkpoint" in refused(capsys, "inpaint", "--run", tmp_path / "no", "--out", tmp_path / "out")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("command", ["train", "train-tokenizer"])
def test_no_epoch_is_no_training(capsys, tmp_path, command):
    assert "epochs must be at least 1, not 0" in refused(
        capsys, command, *SMOKE, "--epochs", 0, "--out", tmp_path / "run")


@pytest.mark.parametrize("command", ["train", "train-tokenizer"])
def test_more_pictures_than_there_are(capsys, lab, tmp_path, command):
    run = ("--out", tmp_path / "run", "--train-pictures")
    assert "must lie in 1 ... 252000" in refused(capsys, command, *SMOKE, *run, 252_001)
    assert f"1 ... 6, the number of training pictures in {lab}" in refused(
        capsys, command, *SMOKE, "--data", lab, *run, 7)


def test_weights_without_a_checkpoint_are_not_overwritten(capsys, broken_run):
    (broken_run / "checkpoint.safetensors").unlink()
    before = (broken_run / "maskgit.safetensors").read_bytes()
    assert "holds a training already" in refused(capsys, "train", *SMOKE, "--out", broken_run)
    assert "no checkpoint to go on from" in refused(capsys, "train", *SMOKE, "--resume", "--out", broken_run)
    assert (broken_run / "maskgit.safetensors").read_bytes() == before


def test_a_seed_out_of_range(capsys, tmp_path):
    assert "seed must lie in" in refused(capsys, "inpaint", "--seed", 2**70, "--out", tmp_path / "out")


def test_an_answer_that_is_no_text(capsys, tmp_path):
    work = shutil.copytree(SOLUTIONS, tmp_path / "work")
    (work / "gamma_func.py").write_bytes(b"\xff\xfe\x00")
    assert "gamma_func.py: not readable as text" in refused(
        capsys, "train", *SMOKE, "--work", work, "--trust-code", "--out", tmp_path / "run")


@pytest.mark.parametrize("command", ["check", "report", "train", "inpaint", "generate", "sweep"])
def test_code_of_another_folder_runs_only_where_it_is_trusted(capsys, tmp_path, command):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "gamma_func.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    said = refused(capsys, command, "--work", tmp_path / "ada", *([] if command == "check" else ["--out", "out.html"]))
    assert "grader grade" in said and "--trust-code" in said and not (tmp_path / "ran").exists()


def test_what_an_answer_says_cannot_steer_the_terminal(capsys, tmp_path):
    (tmp_path / "gamma_func.py").write_text("def gamma_func(mode='cosine'):\n    raise KeyError('mine\\x1b[2J')")
    assert cli.main(["check", "--work", str(tmp_path), "--trust-code"]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said and "mine" in said


def test_one_test_picture_is_refused_before_any_training(capsys, few_cats, tmp_path):
    (tmp_path / "few").mkdir()
    for number in range(5):
        shutil.copy(few_cats / f"{number}.png", tmp_path / "few")
    assert "too few for a distance" in refused(
        capsys, "demo", *SMOKE, "--data", tmp_path / "few", "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "run").exists()


def test_wrong_usage(capsys):
    for arguments in ([], ["fly"], ["train"], ["fid", "one", "--features", "lite0"],
                      ["inpaint", "--seed", "x", "--out", "o"]):
        refused(capsys, *arguments)


def test_work_that_fails_is_status_1_and_debug_shows_where(capsys, tmp_path):
    work = shutil.copytree(SOLUTIONS, tmp_path / "work")
    (work / "mvtm_loss.py").write_text("def mvtm_loss(logits, targets, mask): return 1 / 0\n")
    arguments = ["train", *SMOKE, "--work", work, "--trust-code", "--out", tmp_path / "run"]
    status, said = run(capsys, *arguments)
    assert status == 1 and "ZeroDivisionError" in said and "Traceback" not in said
    status, said = run(capsys, "--debug", *arguments)
    assert status == 1 and "Traceback" in said and "1 / 0" in said
    status, said = run(capsys, "fid", tmp_path / "no", tmp_path, "--features", "lite0", "--debug")
    assert status == 2 and "Traceback" in said


def test_a_command_is_a_module_too():
    done = lab3("--help")
    assert done.returncode == 0 and "train-tokenizer" in done.stdout


def test_help_needs_no_pytorch():
    code = "import sys\nfrom lab3 import cli\ntry: cli.main(['train', '--help'])\nexcept SystemExit: pass\n" \
           "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "--resume" in done.stdout, done.stderr
