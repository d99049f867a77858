"""What `lab3 handin` packs and says, and what the grader makes of it."""

import json
import shutil
import zipfile

import pytest
from conftest import ROOT
from probing import TEXTS, notebook_of

from grader.submission.submission import read_submission
from lab3.cli import main
from lab3.common.files import InputError, load_tensors, save_tensors
from lab3.common.paths import SHIPPED
from lab3.exercises import handin
from lab3.exercises.answers import answer_file
from lab3.notebook.lab import Lab
from lab3.presets import preset

CELL = "#| exercise: gamma_func\n" + TEXTS["gamma_func"].partition("#| exercise: gamma_func\n")[2]
RECORD = {"curve": [[1, 7.0]], "held_out": [[100, 4.25]]}


@pytest.fixture
def lab_folder(tmp_path):
    """A student's folder: one right answer, saved in its notebook, and a model with its record."""
    root = tmp_path / "lab"
    (root / "notebooks").mkdir(parents=True)
    (root / "work" / "run-cpu").mkdir(parents=True)
    (root / "notebooks" / "04_gamma_schedules.ipynb").write_text(notebook_of(CELL))
    (root / "work" / "gamma_func.py").write_text(answer_file(CELL))
    (root / "work" / "run-cpu" / "metrics.jsonl").write_text("{}\n")
    tensors, about = load_tensors(SHIPPED / "maskgit.safetensors")
    save_tensors(root / "work" / "maskgit.safetensors", {name: one[:2] for name, one in tensors.items()},
                 about | {"record": RECORD})
    return root


def test_it_packs_what_counts_and_says_what_is_missing(lab_folder, tmp_path, capsys):
    out = tmp_path / "mine.zip"
    assert main(["handin", str(out), "--work", str(lab_folder / "work"), "--trust-code"]) == 0
    said = capsys.readouterr().out
    for text in ("[OK]   gamma_func", "! inpainting (notebook 05) is not written yet.", "notebooks/04_gamma",
                 "SHA-256", "Things to look at before you upload it: 10."):
        assert text in said, said
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == ["handin.json", "notebooks/04_gamma_schedules.ipynb", "work/gamma_func.py",
                                              "work/maskgit.safetensors"]
        listed = json.loads(archive.read("handin.json"))
    assert listed["record"] == RECORD and set(listed["files"]) == set(archive.namelist()) - {"handin.json"}
    found = read_submission(out, tmp_path)
    assert found.notes == () and not found.answers["gamma_func"].problem and found.model


def test_the_last_cells_hand_in_when_told_to(lab_folder, capsys):
    lab = Lab("06", preset("smoke"), lab_folder / "work")
    for name in ("06_inpainting_and_fid", "07_from_nothing"):
        last = (ROOT / "solutions" / "source" / f"{name}.py").read_text().rpartition("# %%\n")[2]
        exec(last, {"lab": lab})
        assert not (lab_folder / handin.ZIP).exists(), "running all cells hands nothing in"
        exec(last.replace("saved = False", "saved = True"), {"lab": lab})
        assert "! inpainting (notebook 05) is not written yet." in capsys.readouterr().out
        (lab_folder / handin.ZIP).unlink()


def test_an_answer_that_no_notebook_holds_is_named(lab_folder, tmp_path):
    (lab_folder / "notebooks" / "04_gamma_schedules.ipynb").write_text(notebook_of("1 + 1"))
    (lab_folder / "notebooks" / "05_iterative_decoding.ipynb").write_text("{")
    missing = handin.pack_handin(tmp_path / "mine.zip", lab_folder / "work").missing
    assert any("gamma_func: the answer that was checked is not in a notebook" in one for one in missing)
    assert "05_iterative_decoding.ipynb is damaged. Open it in JupyterLab and save it." in missing


def test_a_model_without_a_record_or_damaged_is_named(lab_folder, tmp_path):
    shutil.copy(SHIPPED / "maskgit.safetensors", lab_folder / "work")
    done = handin.pack_handin(tmp_path / "mine.zip", lab_folder / "work")
    assert any("no record of its training" in one for one in done.missing) and "work/maskgit.safetensors" in done.files
    (lab_folder / "work" / "maskgit.safetensors").write_bytes(b"half")
    done = handin.pack_handin(tmp_path / "mine.zip", lab_folder / "work")
    assert any("is left out: " in one for one in done.missing) and "work/maskgit.safetensors" not in done.files


def test_what_is_too_large_or_not_there_is_one_error_and_keeps_the_older_zip(lab_folder, tmp_path, monkeypatch):
    out = tmp_path / "mine.zip"
    out.write_bytes(b"older")
    monkeypatch.setattr(handin, "MOST", 1000)
    with pytest.raises(InputError, match=r"would have .* MB, .* The largest: work/maskgit.safetensors"):
        handin.pack_handin(out, lab_folder / "work")
    shutil.rmtree(lab_folder / "notebooks")
    for work, said in (("work", "holds no notebooks"), ("gone", "no such folder of answers")):
        with pytest.raises(InputError, match=said):
            handin.pack_handin(out, lab_folder / work)
    assert out.read_bytes() == b"older"


def test_the_grader_says_what_was_lost_or_changed_and_believes_nothing(lab_folder, tmp_path):
    out = tmp_path / "mine.zip"
    handin.pack_handin(out, lab_folder / "work")
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "got")
    (tmp_path / "got" / "work" / "maskgit.safetensors").unlink()
    path = tmp_path / "got" / "notebooks" / "04_gamma_schedules.ipynb"
    path.write_text(path.read_text().replace("cosine", "cosinf"))
    found = read_submission(tmp_path / "got")
    assert found.notes == (
        "notebooks/04_gamma_schedules.ipynb was changed after lab3 handin packed it: what is here counts.",
        "work/maskgit.safetensors was packed by lab3 handin and is not here: hand in its zip as it is.")
    for text in ("[]", "{", '{"files": {"a": {"size": "x", "sha256": 1}}}', "[" * 100_000, '{"files": [1]}'):
        (tmp_path / "got" / "handin.json").write_text(text)
        assert "is not what lab3 handin wrote" in read_submission(tmp_path / "got").notes[0]
        assert read_submission(tmp_path / "got").answers == found.answers
