"""The whole round on a class of 12, as Canvas, Moodle and Gradescope name what is handed in; keys; rubrics of a course.

One number everywhere: what a student's feedback says is what the gradebook imports.
"""

import ast
import csv
import json
import re
import zipfile
from dataclasses import replace

import pytest
from probing import TEXTS, hand_in
from test_grader import SHIFTED, forkserver, run, shared  # noqa: F401, fixtures
from test_marks import table

from grader.cli import EXAMPLES, main, make_parser
from grader.export.feedback import export_feedback
from grader.probes import PROBES
from grader.results.files import read_result, write_grades, write_result
from grader.results.result import ExerciseResult, Result
from grader.rubric import SENTENCES, read_rubric, rubric_text
from grader.run import batch, context, keys
from lab3.common.files import InputError

WRONG = "def gamma_func(mode='cosine'):\n    return lambda ratio: 0.5"
COLUMNS = ("gamma_func", "masked_forward")
MOODLE = ["Identifier", "Full name", "Status", "Grade", "Maximum Grade", "Last modified (submission)",
          "Feedback comments"]
PEOPLE = {  # the folder or file that the system names, without what it is; the student
    "canvas": {"linwei_100_900_lab3": "Lin, Wei", "osullivanzoe_LATE_101_901_lab3": "O'Sullivan, Zoë",
               "garciajose_102_902_lab3-1": "García, José", "garciajose_103_903_lab3": "Garcia, Jose"},
    "moodle": {"Anna Meier_51_assignsubmission_file": "Anna Meier", "Émile Zola_52_assignsubmission_file": "Émile Zola",
               "Emile Zola_53_assignsubmission_file": "Emile Zola", "王 芳_54_assignsubmission_file": "王 芳"},
    "folder": {f"submission_{number}": f"Student {number}" for number in (201, 202, 203, 204)}}


def marks_of(archive):
    """The number that each page of a zip says: a dict, file -> (mark, page)."""
    with zipfile.ZipFile(archive) as zipped:
        pages = {name: zipped.read(name).decode() for name in zipped.namelist()}
    return {name: (re.search(r'class="score"><b>([0-9.]+)</b>', page)[1], page) for name, page in pages.items()}


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rosters(folder):
    """What Canvas and Moodle export: (canvas.csv, worksheet.csv)."""
    canvas = table(folder / "gradebook.csv", ["Student", "ID", "Section", "lab3 (7)"],
                   ["    Points Possible", "", "", "8"],
                   *([name, key.replace("_LATE", "").split("_")[1], "A", ""] for key, name in PEOPLE["canvas"].items()))
    moodle = table(folder / "worksheet.csv", MOODLE, *(
        [f"Participant {key.split('_')[1]}", name, "Submitted", "", "8.00", time, ""] for (key, name), time in zip(
            PEOPLE["moodle"].items(), ["1 December 2026, 10:00 PM", "2 December 2026, 9:00 AM"] * 2, strict=True)))
    return canvas, moodle


@pytest.mark.nightly
def test_a_class_of_twelve_from_hand_in_to_hand_back_and_again(tmp_path, monkeypatch, capsys):
    for system, people in PEOPLE.items():
        for place, name in enumerate(people):
            hand_in(tmp_path / system / name, {"gamma_func": [TEXTS["gamma_func"], SHIFTED, WRONG, SHIFTED][place],
                                               "masked_forward": TEXTS["masked_forward"]})
    rubric = tmp_path / "section.yml"
    rubric.write_text("late: {deadline: 2026-12-01 23:59, percent_per_day: 10}\n")
    gradebooks = dict(zip(("canvas", "moodle"), rosters(tmp_path), strict=True))

    def graded(system):
        run([tmp_path / system], tmp_path / "out" / system, only=COLUMNS, rubric=rubric)

    def handed_back(system):
        """Export marks and feedback, and check that they agree: submission's place in the zip -> page."""
        out, roster = tmp_path / "out" / system, []
        if system in gradebooks:
            roster = ["--roster", str(gradebooks[system])]
            main(["export", system, "--grades", str(out), *roster])
        main(["export", "feedback", system, str(tmp_path / f"{system}.zip"), "--grades", str(out), *roster])
        pages = marks_of(tmp_path / f"{system}.zip")
        if system == "canvas":
            imported = {row["ID"]: row["lab3 (7)"] for row in rows(out / "canvas.csv")[1:]}
            told = {re.findall(r"_(\d+)_", name)[0]: mark for name, (mark, _) in pages.items()}
        elif system == "moodle":
            imported = {row["Identifier"].split()[1]: row["Grade"] for row in rows(out / "moodle.csv")}
            told = {name.split("_")[1]: mark for name, (mark, _) in pages.items()}
        else:
            imported = {row["submission"]: f"{float(row['score']):g}" for row in rows(out / "grades.csv")}
            told = {name.split("/")[0]: mark for name, (mark, _) in pages.items()}
        assert len(told) == 4 and told == imported
        return {name: page for name, (_, page) in pages.items()}

    for system in PEOPLE:
        graded(system)
    first = {system: handed_back(system) for system in PEOPLE}
    assert "marked late by Canvas" in capsys.readouterr().err
    assert sorted(first["canvas"])[:2] == ["garciajose_102_902_feedback.html", "garciajose_103_903_feedback.html"]
    assert "Emile Zola_53_assignsubmission_file_/feedback.html" in first["moodle"]
    assert "10&nbsp;% taken off" in first["moodle"]["Émile Zola_52_assignsubmission_file_/feedback.html"]
    assert not any("Your mark was" in page for pages in first.values() for page in pages.values())

    table(tmp_path / "out" / "canvas" / "manual.csv", ["submission", "exercise", "points", "comment"],
          ["linwei_100_canvas", "gamma_func", "1", "copied from the slides"], ["linwei_100_canvas", "", "0.5", "neat"])
    table(tmp_path / "out" / "canvas" / "submitted.csv", ["submission", "submitted"],
          ["osullivanzoe_101_canvas", "2026-12-03 12:00"])
    second = handed_back("canvas")
    wei, zoe = second["linwei_100_900_feedback.html"], second["osullivanzoe_LATE_101_901_feedback.html"]
    for text in ("copied from the slides", "neat", "Points given by hand: 1.", "gamma_func: 4 before, 1 now",
                 "Your mark was 8 on"):
        assert text in wei, text
    assert "20&nbsp;% taken off" in zoe and "late, per cent taken off: 0 before, 20 now" in zoe

    before = {name: read_result(path.parent) for system in PEOPLE
              for path in (tmp_path / "out" / system).glob("*/results.json") for name in [path.parent]}
    real = keys.probe_code()
    monkeypatch.setattr(keys, "probe_code", lambda: real | {"gamma_func": [*real["gamma_func"], "weight = 20"]})
    monkeypatch.setattr(PROBES["gamma_func"][0], "weight", 20)
    for system in PEOPLE:
        graded(system)
    third = {system: handed_back(system) for system in PEOPLE}
    for folder, old in before.items():
        now = {one.exercise: one for one in read_result(folder).exercises}
        was = {one.exercise: one for one in old.exercises}
        assert now["masked_forward"] == was["masked_forward"], "the other exercise is not graded again"
        assert now["gamma_func"].key != was["gamma_func"].key
    changed = [page for pages in third.values() for page in pages.values() if "gamma_func: " in page]
    assert changed and all("Your mark was" in page for page in changed)
    for system in PEOPLE:
        assert len(list((tmp_path / "out" / system / "earlier").glob("*.csv"))) == 1
    assert handed_back("moodle") == third["moodle"], "a second export says the same"
    gradebooks["moodle"] = tmp_path / "out" / "moodle" / "moodle.csv"
    assert handed_back("moodle") == third["moodle"], "what was exported is imported again"


def test_only_never_loses_a_column_and_keeps_the_older_table(tmp_path, monkeypatch):
    hand_in(tmp_path / "ada", {name: TEXTS[name] for name in COLUMNS})
    out = tmp_path / "out"
    first = run([tmp_path / "ada"], out, only=COLUMNS)["ada"]
    assert len({one.key for one in first.exercises}) == 2 and not (out / "earlier").exists()
    real = context.column_keys
    monkeypatch.setattr(context, "column_keys", lambda *given: {name: f"{key}!" for name, key in real(*given).items()})
    hand_in(tmp_path / "ada", {"gamma_func": SHIFTED, "masked_forward": TEXTS["masked_forward"]})
    now = run([tmp_path / "ada"], out, only=["gamma_func"])["ada"]
    assert now.exercises[0] == first.exercises[0] and now.exercises[1].points < first.exercises[1].points
    assert any("Not graded again" in note and "masked_forward" in note for note in now.notes)
    [older] = (out / "earlier").glob("grades-until-*.csv")
    assert float(rows(older)[0]["score"]) == first.score > now.score == float(rows(out / "grades.csv")[0]["score"])


def topics():
    return {path.stem: path.read_text() for path in (keys.GRADER / "probes").glob("*.py")
            if path.stem not in ("__init__", "probe", "inside", "filling")}


def changed_by(stem, old, new):
    """The exercises whose probes a change of a file of probes reaches."""
    before = topics()
    assert before[stem].count(old) >= 1
    after = before | {stem: before[stem].replace(old, new, 1)}
    code = keys.probe_code(after)
    return [name for name, text in keys.probe_code(before).items() if code[name] != text]


def test_a_changed_probe_reaches_its_exercise_alone():
    for exercise, texts in keys.probe_code().items():
        found, code = PROBES[exercise], "\n".join(texts)
        assert {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)} >= {
            one.name for one in found}, exercise
    for exercise in ("sample_mask", "eval_one_epoch", "gamma_func"):
        found = PROBES[exercise]
        stem, title = found[0].look.__module__.rpartition(".")[2], found[0].title
        assert changed_by(stem, title, f"{title} Changed.") == [exercise], exercise


def test_a_changed_helper_reaches_all_that_use_it():
    assert changed_by("masking", 'OWN = "places', 'OWN = "the places') == ["sample_mask"]
    assert changed_by("masking", "import math", "import math, os") == []
    judged = re.search(r"^def judge_masks\(.*\n", topics()["training"], re.MULTILINE)[0]
    assert changed_by("training", judged, f"{judged}    'changed'\n") == ["train_one_epoch", "eval_one_epoch"]


def test_the_rubric_prints_as_a_file_that_gives_it_again(tmp_path, capsys):
    assert main(["rubric"]) == 0
    text, kit = capsys.readouterr().out, read_rubric()
    (tmp_path / "all.yml").write_text(text)
    again = read_rubric(tmp_path / "all.yml")
    assert (again.points, again.limits, again.late, again.by_hand) == (kit.points, kit.limits, kit.late, kit.by_hand)
    assert all(f"# {sentence}" in text for sentence in SENTENCES.values())
    (tmp_path / "own.yml").write_text("points: {gamma_func: 0, inpainting: 17}\nlate: {deadline: 2026-12-01 23:59}\n")
    own = read_rubric(tmp_path / "own.yml")
    assert (own.points["inpainting"], own.points["mvtm_loss"], own.late.percent_per_day) == (17, 6, 10)
    assert "gamma_func" not in batch.columns_of((), own) and "2026-12-01T23:59" in rubric_text(own)


@pytest.mark.parametrize(("text", "said"), [
    ("points: {perplexity: 3}", "points has no field 'perplexity'"), ("points: [3]", "must hold fields"),
    ("points: {gamma_func: -1}", "gamma_func must be a number"), ("grades: {}", "has no field 'grades'"),
    ("points: {gamma_func: yes}", "must be a number"), ("limits: {cell: 0}", "must be a whole number"),
    ("thresholds: {fid_model: {tiers: []}}", "tiers must be a list"), ("points: {", "not readable as YAML"),
    ("thresholds: {fid_model: {tiers: [{at_most: 9, share: 0.5}, {at_most: 8, share: 0.4}]}}", "at_most must rise"),
    ("thresholds: {fid_model: {tiers: [{at_most: 9, share: 2}]}}", "share fall from 1")])
def test_a_rubric_that_cannot_be_used_is_one_line(tmp_path, text, said, capsys):
    path = tmp_path / "own.yml"
    path.write_text(text)
    assert main(["rubric", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error and "own.yml" in error and error.count("\n") == 1


def test_every_help_has_examples_that_can_be_parsed(capsys):
    for name, lines in EXAMPLES.items():
        path = [name] if name not in ("gradescope", "canvas", "moodle", "feedback") else ["export", name]
        with pytest.raises(SystemExit) as ended:
            main([*filter(None, path), "--help"])
        said = capsys.readouterr().out
        assert ended.value.code == 0 and all(line in said for line in lines) and "exit status: 0 done" in said
        for line in lines:
            make_parser().parse_args(line.partition(" > ")[0].replace("'Lab 3'", "lab").split()[1:])


@pytest.mark.parametrize("arguments", [["grade"], ["export", "nowhere"], ["grade", "x", "--quiet", "--verbose"], ["x"]])
def test_wrong_arguments_are_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and "--help" in error


def test_json_is_one_object_and_quiet_says_nothing(tmp_path, capsys):
    one = Result("ada", 3.0, 4.0, "graded", "limits", 1.0, 1, "", (ExerciseResult("gamma_func", 3.0, 4.0, "partly"),))
    write_grades([one], tmp_path / "grades.csv")
    arguments = ["diff", str(tmp_path), str(tmp_path)]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"][0].startswith("0 of 1 submissions changed")
    assert main([*arguments, "--quiet"]) == 0 and capsys.readouterr().out == ""


def test_a_gradebook_that_is_not_what_was_graded_is_refused(tmp_path):
    one = Result("ada", 4.0, 4.0, "graded", "limits", 1.0, 1, "", (ExerciseResult("gamma_func", 4.0, 4.0, "passed"),))
    write_result(one, tmp_path / "ada")
    write_grades([replace(one, score=3.0)], tmp_path / "grades.csv")
    with pytest.raises(InputError, match=r"ada has 3 points, its results.json 4. Put points of your own into manual"):
        export_feedback("folder", tmp_path, tmp_path / "f.zip")
    assert not (tmp_path / "f.zip").exists()
