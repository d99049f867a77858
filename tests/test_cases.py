"""Bad input of real life, kept as files in tests/cases/: each is read, or refused with the sentence that helps."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from conftest import ROOT

from grader.results.files import LOOK
from grader.run import batch
from grader.submission import submission as submission_module
from grader.submission.submission import find_submissions, read_submission
from lab3 import cli
from lab3.common.files import InputError
from lab3.data.audit import audit, format_audit
from lab3.data.photos import open_photos
from lab3.exercises.answers import answer_file, exercise_of, run_answer
from lab3.exercises.checks import check
from lab3.metrics.distance import fid_folders

CASES = ROOT / "tests" / "cases"


def test_each_case_is_described_and_tested():
    described = re.findall(r"^\| `([\w.-]+)` \|", (CASES / "README.md").read_text(), re.MULTILINE)
    assert sorted(described) == sorted(path.name for path in CASES.iterdir() if path.is_dir())
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert all(f'CASES / "{name}"' in tests for name in described)


def value(paths):
    """What a submission's gamma_func gives, run as the grader runs it: each of these files gives another text."""
    answer = read_submission(paths).answers["gamma_func"]
    assert not answer.problem, answer
    return run_answer("gamma_func", answer_file(answer.text), "<gamma_func>")["gamma_func"]()


def test_canvas_gives_one_submission_a_student_and_the_later_file_counts():
    found = find_submissions([CASES / "canvas-download"])
    assert sorted(found) == ["evans_106_canvas", "linwei_100_canvas", "wu_105_canvas"]
    assert [path.name for path in found["linwei_100_canvas"]] == [
        "linwei_LATE_100_950_lab3-1.zip", "linwei_100_900_lab3.zip"]
    assert value(found["linwei_100_canvas"]) == "second" and value(found["wu_105_canvas"]) == "wu"
    assert "Read together as one student's" in read_submission(found["linwei_100_canvas"]).notes[0]
    [note] = read_submission(found["evans_106_canvas"]).notes
    assert note.startswith("There is no notebook in it, only evans_106_text.html.")


def test_moodle_gives_one_submission_a_student():
    found = find_submissions([CASES / "moodle-download"])
    assert sorted(found) == ["Anna_Meier_51_assignsubmission_file", "Teilnehmer_in_52_assignsubmission_file"]
    assert [value(found[name]) for name in sorted(found)] == ["anna", "52"]


def test_gradescope_gives_one_submission_a_folder():
    found = find_submissions([CASES / "gradescope-download"])
    assert {name: value(paths) for name, paths in found.items()} == {"submission_99": "99", "submission_100": "100"}


def test_a_class_is_not_taken_for_one_submission(tmp_path):
    with pytest.raises(InputError, match=r"Untitled\.ipynb lies beside ada: is this one submission, or several\?"):
        find_submissions([CASES / "class-with-stray-notebook"])
    shutil.copytree(CASES / "canvas-download", tmp_path / "sections" / "a")
    shutil.copytree(CASES / "moodle-download", tmp_path / "sections" / "b")
    with pytest.raises(InputError, match="a: holds several submissions, such as evans_106_text.html and linwei_"):
        find_submissions([tmp_path / "sections"])


def test_a_backup_counts_last():
    assert value(CASES / "backup-folder") == "new"
    assert "backup/04_gamma_schedules.ipynb, cell 1" in read_submission(
        CASES / "backup-folder").answers["gamma_func"].notes[1]


def test_an_environment_does_not_hide_the_notebook(monkeypatch):
    monkeypatch.setattr(submission_module, "MAX_NOTEBOOKS", 2)
    assert value(CASES / "environment-in-zip" / "lab3.zip") == "mine"
    submission = read_submission(CASES / "environment-in-zip" / "lab3.zip")
    assert "Of 4 notebooks, 2 are read" in submission.notes[0], "those of packages are not counted"


def test_a_notebook_saved_as_text_is_read():
    assert value(CASES / "notebook-saved-as-text") == "text"


def test_a_zip_in_a_zip_is_read():
    assert value(CASES / "zip-in-zip" / "lab3.zip") == "inner"


def test_a_marker_as_formatters_write_it_counts_everywhere():
    path = CASES / "formatted-marker" / "04_gamma_schedules.ipynb"
    cell = json.loads(path.read_text())["cells"][0]["source"]
    assert cell.startswith("%%time\n# | exercise:") and exercise_of(cell) == "gamma_func" and value(path) == "formatted"
    assert "\n#| exercise: gamma_func\n" in answer_file(cell) and "%%" not in answer_file(cell)


def test_a_merge_conflict_is_named():
    submission = read_submission(CASES / "merge-conflict")
    assert not submission.readable and "git's conflict markers" in submission.notes[0]
    assert "Keep one side" in submission.notes[0]


def test_a_zip_entry_without_a_name_is_left_out():
    submission = read_submission(CASES / "zip-entry-without-name" / "lab3.zip")
    assert submission.readable and not submission.answers["gamma_func"].problem


# Pictures

def test_pictures_of_a_format_that_is_not_read_are_named(capsys):
    report = audit(CASES / "heic-of-a-phone", progress=False)
    assert [one.name for one in report.left_out] == ["IMG_0010.HEIC", "IMG_0011.HEIC"] and not report.unreadable
    text = format_audit(report)
    assert "[!] files left out: 2" in text and "IMG_0010.HEIC: HEIC cannot be read: save as JPEG or PNG" in text
    assert "every picture can be read" not in text
    cli._data(SimpleNamespace(data=CASES / "heic-of-a-phone", skip_unreadable=False))
    assert "left out: 2 files, such as IMG_0010.HEIC (HEIC cannot" in capsys.readouterr().err


def test_half_of_the_labs_layout_is_asked_about(tmp_path):
    for use in (audit, open_photos):
        with pytest.raises(InputError, match=r"has masked_image/, mask64/, test/ but no train/\. If this is the lab's"):
            use(CASES / "lab-without-train")
    whole = shutil.copytree(CASES / "second-download", tmp_path / "whole")
    (whole / "train").rename(whole / "Train")
    with pytest.raises(InputError, match="Rename it to train"):
        open_photos(whole)
    shutil.rmtree(whole / "Train")
    for name in ("val", "test", "masked_image"):
        shutil.rmtree(whole / name)
    with pytest.raises(InputError, match="has mask64/ but no train/"):  # else masks would be trained on
        open_photos(whole)


def test_only_the_copy_is_left_out():
    folder = CASES / "second-download"
    report = audit(folder, progress=False)
    assert [(one.name, one.reason) for one in report.left_out] == [
        ("masked_image/image_001 (1).png", "a copy of image_001.png by its name")]
    assert report.masks.pairs == 2 and not (report.masks.without_mask or report.masks.without_picture)
    assert len(open_photos(folder, progress=False).masked) == 2


def test_a_distance_reads_suffixes_of_any_case_and_names_the_rest():
    folder = CASES / "suffixes-in-capitals"
    found = fid_folders(folder, folder, "lite0")
    assert found["n"] == [3, 3] and found["distance"] < 1e-6
    assert found["left_out"] == [["left out: notes.txt (not a picture by its name)", "left out: within (a folder)"]] * 2


# Answers: the points, and what the feedback says

FILES = "answers are graded with the packages of the course alone, and without files of your own"
GRADED = {
    CASES / "else-not-implemented": (3.6, "a ValueError that names mode"),
    CASES / "dataclass-postponed": (4, ""),
    CASES / "names-in-globals": (4, ""),
    CASES / "kept-stream": (4, ""),
    CASES / "compiled-and-temporary": (15, f"{LOOK}: it uses inspect, f_code."),
    CASES / "python-3.12-syntax": (0, "Python 3.12 or newer may accept it, but answers are graded with 3.11"),
    CASES / "input": (0, "nobody can answer input() when answers are graded"),
    CASES / "cuda": (0, "answers are graded without a GPU"),
    CASES / "einops": (0, f"einops is not there | {FILES}"),
    CASES / "own-file": (0, f"curves is not there | {FILES}"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = batch.grade(list(GRADED), tmp_path_factory.mktemp("out"), seed=1, jobs=2, say=str,
                        only=["multi_head_attention", "gamma_func"])
    return {one.submission: {exercise.exercise: exercise for exercise in one.exercises} for one in found}


@pytest.mark.parametrize("case", GRADED, ids=lambda case: case.name)
def test_an_answer_is_graded_or_the_cause_is_named(results, case):
    points, said = GRADED[case]
    found = results[case.name]["multi_head_attention" if case.name.startswith("compiled") else "gamma_func"]
    lines = [*found.notes, *(f"{one.expected} | {one.got} | {one.likely}" for one in found.probes)]
    assert found.points == points, lines
    assert any(said in line for line in lines), lines
    assert found.status != "not written"


# What the notebook says before that

CHECKED = {
    CASES / "else-not-implemented": "NotImplementedError means that code is missing: raise a ValueError",
    CASES / "dataclass-postponed": "[OK]",
    CASES / "kept-stream": "[OK]",
    CASES / "input": "nobody can answer input() when answers are graded",
    CASES / "cuda": "answers are graded without a GPU",
    CASES / "einops": "import einops",
    CASES / "own-file": "import curves",
}


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.name)
def test_the_public_check_says_it_first(case, monkeypatch, tmp_path):
    """Also on a machine that has the package, the file, somebody who types."""
    for name in ("einops", "curves"):
        (tmp_path / f"{name}.py").write_text("def rearrange(x, _): return x\ndef cosine(r): return r\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("builtins.input", lambda _: "cosine")
    cells = ["".join(cell["source"]) for cell in json.loads((case / "lab.ipynb").read_text())["cells"]]
    text = answer_file("\n".join(cell for cell in cells if not cell.startswith("%%")))
    report = check("gamma_func", run_answer("gamma_func", text, tmp_path / "gamma_func.py"))
    assert report.written and CHECKED[case] in report.message
