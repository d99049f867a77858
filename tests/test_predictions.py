"""Predictions: a guess is kept before its result, shown beside it, handed in on request, and counted for the class."""

import json
import re
import zipfile

import pytest
from probing import notebook_of

from grader.cli import main as grader
from lab3.cli import main
from lab3.common.files import InputError, SaveError
from lab3.common.paths import ROOT
from lab3.exercises import predictions
from lab3.exercises.predictions import QUESTIONS
from lab3.notebook.lab import Lab
from lab3.presets import preset

SOURCES = sorted((ROOT / "solutions" / "source").glob("0*.py"))


@pytest.fixture
def lab(tmp_path):
    return Lab("03", preset("smoke"), tmp_path / "work")


def test_every_question_is_asked_and_answered_once_in_its_notebook():
    for kind in ("predict", "observe"):
        asked = [(source.stem[:2], name) for source in SOURCES
                 for name in re.findall(rf'lab\.{kind}\("(\w+)"', source.read_text())]
        assert sorted(asked) == sorted((one.notebook, one.id) for one in QUESTIONS.values())
    assert len(QUESTIONS) >= 10 and len({one.notebook for one in QUESTIONS.values()}) == len(SOURCES)


def test_a_guess_is_kept_and_shown_beside_the_result(lab, capsys):
    lab.predict("first_loss", 3)
    kept = lab.work / "predictions" / "03.json"
    assert json.loads(kept.read_text()) == {"first_loss": {"prediction": 3.0}} and capsys.readouterr().out == ""
    lab.predict("first_loss", 1024)  # before the result it may change
    lab.observe("first_loss", 6.9345)
    assert capsys.readouterr().out == "first_loss: you predicted 1,024 nats, the result is 6.93 nats.\n"
    lab.predict("first_loss", 7)
    assert capsys.readouterr().out == "first_loss: your first prediction, 1,024 nats, stays.\n"
    lab.observe("first_loss", 6.9345)
    assert "you predicted 1,024" in capsys.readouterr().out


def test_nothing_is_kept_or_said_without_a_guess(lab, capsys):
    lab.predict("first_step", ...)
    lab.observe("first_step", "linear")
    assert capsys.readouterr().out == "" and not (lab.work / "predictions").exists()


@pytest.mark.parametrize("name, guess, said", [
    ("first_loss", "seven", r"first_loss: a prediction is a number of 0 or more, in nats, not 'seven'\."),
    ("first_loss", float("nan"), "not nan"), ("first_loss", -1, "0 or more, in nats, not -1"),
    ("first_loss", True, "not True"), ("first_loss", float("inf"), "not inf"),
    ("seen_tokens", 130, "a number from 0 to 100, in %, not 130"),
    ("first_loss", None, "not None"), ("first_step", "cubic", "one of 'linear', 'cosine', 'square', not 'cubic'"),
    ("first_step", 1, "not 1"), ("first_los", 1, "question 'first_los' does not exist")])
def test_a_guess_that_a_question_does_not_take_is_one_sentence(tmp_path, name, guess, said):
    with pytest.raises(InputError, match=said) as caught:
        predictions.predict(tmp_path, name, guess)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_damaged_file_is_named_and_a_full_disk_stops_no_cell(lab, capsys, monkeypatch):
    kept = predictions.file_of(lab.work, "03")
    kept.parent.mkdir(parents=True)
    for text in ("{", "[]", '{"first_loss": 3}', '{"first_loss": {"prediction": "x"}}'):
        kept.write_text(text)
        with pytest.raises(InputError, match=r"03\.json: .*Delete it"):
            lab.predict("first_loss", 3)
        assert kept.read_text() == text
    kept.unlink()

    def full(path, value):
        raise SaveError(f"{path}: could not be saved (No space left on device).")

    monkeypatch.setattr(predictions, "write_json", full)
    lab.predict("first_loss", 3)
    assert "03.json: could not be saved" in capsys.readouterr().out


def handed_in(folder, *, share=True, **guesses):
    """A student's zip, with some predictions and results."""
    work = folder / "work"
    work.mkdir(parents=True)
    (folder / "04_gamma_schedules.ipynb").write_text(notebook_of("1 + 1"))
    for name, (guess, result) in guesses.items():
        predictions.predict(work, name, guess)
        if result is not None:
            predictions.observe(work, name, result)
    out = folder.with_suffix(".zip")
    assert main(["handin", str(out), "--work", str(work), "--trust-code", *(["--predictions"] if share else [])]) == 0
    return out


def test_predictions_are_handed_in_on_request_alone_and_counted_without_names(tmp_path, capsys):
    students = tmp_path / "class"
    zips = [handed_in(students / "adams", first_step=("cosine", "linear"), seen_tokens=(90, 0.4)),
            handed_in(students / "baker", first_step=("linear", None), seen_tokens=(10, 0.6)),
            handed_in(students / "clark", share=False, first_step=("square", "linear"))]
    with zipfile.ZipFile(zips[0]) as archive:
        assert {"work/predictions/02.json", "work/predictions/04.json"} < set(archive.namelist())
    with zipfile.ZipFile(zips[2]) as archive:
        assert not any("predictions" in name for name in archive.namelist())
    broken = tmp_path / "dawson" / "work" / "predictions"
    broken.mkdir(parents=True)
    (broken / "04.json").write_text('{"first_step": {"prediction": "<script>"}}')
    (broken / "02.json").write_text("[" * 15_000)
    capsys.readouterr()
    out = tmp_path / "page.html"
    assert grader(["predictions", *map(str, zips), str(tmp_path / "dawson"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "2 of 4 submissions hold predictions" in said.out and "dawson: a file of predictions" in said.err
    page = out.read_text()
    assert not re.search("adams|baker|clark|dawson|<script", page)
    first_step = page[page.index('id="first_step"'):page.index('id="taken_at_once"')]
    rows = re.findall(r'<th scope="row">(.+?)</th><td class="number">(\d+)<', first_step)
    assert rows == [("linear (the result)", "1"), ("cosine", "1"), ("square", "0")]
    assert "Result: linear, from 1 notebook." in first_step
    numbers = page[page.index('id="seen_tokens"'):page.index('id="first_loss"')]
    rows = re.findall(r'<th scope="row">(.+?)</th><td class="number">(\d+)<', numbers)
    assert rows == [("0 to 20 % (the result)", "1"), ("20 to 40 %", "0"), ("40 to 60 %", "0"), ("60 to 80 %", "0"),
                    ("80 to 100 %", "1")]
    assert "Result: 0.5 %, from 2 notebooks." in numbers
