"""The whole round on a class of 12 in the downloads of Canvas, Moodle and Gradescope; keys; rubrics of a course.

One number everywhere: what a student's feedback says is what the gradebook imports.
"""

import ast
import csv
import json
import re
import unicodedata
import zipfile
from dataclasses import dataclass, replace

import pytest
from probing import TEXTS, hand_in, notebook_of
from test_grader import SHIFTED, forkserver, run, shared  # noqa: F401, fixtures
from test_marks import table

from grader.cli import EXAMPLES, main, make_parser
from grader.export.feedback import export_feedback
from grader.probes import PROBES
from grader.results.files import read_result, write_grades, write_result
from grader.results.marks import read_grades
from grader.results.result import ExerciseResult, Result
from grader.rubric import SENTENCES, read_rubric, rubric_text
from grader.run import batch, context, keys
from lab3.common.files import InputError

WRONG = "def gamma_func(mode='cosine'):\n    return lambda ratio: 0.5"
COLUMNS = ("gamma_func", "masked_forward")
MOODLE = ["Identifier", "Full name", "Status", "Grade", "Maximum Grade", "Last modified (submission)",
          "Feedback comments"]


@dataclass(frozen=True)
class Student:
    """Who handed in what: `files` are those that count, `older` one handed in before."""

    number: int
    first: str
    last: str
    files: dict
    older: dict
    late: bool = False

    @property
    def slug(self):
        """The name as Canvas writes it: no accents, no spaces."""
        return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", f"{self.last}{self.first}"))).casefold()

    @property
    def gradescope(self):
        return f"submission_{1300 - self.number}"


def zipped(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def made_class():
    """12 students: a zip, a bare notebook, two files; a damaged zip; names that differ in accents or not at all."""
    names = ("Lin Wei", "O'Sullivan Zoë", "García José", "Garcia Jose", "Meier Anna", "Zola Émile", "Zola Emile",
             "王 芳", "Smith Jo", "Smith Jo", "Müller Jürgen", "Nguyễn Ann-Marie")
    for place, name in enumerate(names):
        texts = {"gamma_func": [TEXTS["gamma_func"], SHIFTED, WRONG, SHIFTED][place % 4]}
        texts |= {"masked_forward": TEXTS["masked_forward"]} if place % 4 < 2 else {}
        text = notebook_of(*(f"#| exercise: {exercise}\n{code}" for exercise, code in texts.items()))
        files = {"lab3.zip": text} if place % 3 == 0 else {"lab 3.ipynb": text}
        older = {"lab 3.ipynb": notebook_of(f"#| exercise: gamma_func\n{WRONG}")} if place % 3 == 2 else {}
        last, first = name.split()
        yield Student(100 + place, first, last, {"lab3.zip": None} if place == 10 else files, older, place % 4 == 1)


def put(folder, name, text):
    """A file that was handed in: a notebook, bare or in a zip as `lab3 handin` packs it, or a damaged zip (None)."""
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".zip") and text:
        zipped(folder / name, **{"notebooks/lab.ipynb": text})
    else:
        (folder / name).write_text(text or "no zip")


def canvas_download(folder, students):
    """A flat folder; a file handed in again has a higher number, and -1 in its name."""
    for one in students:
        late, again = "LATE_" * one.late, "-1" * bool(one.older)
        for name, text in one.older.items():
            put(folder, f"{one.slug}_{late}{one.number}_{one.number + 800}_{name}", text)
        for name, text in one.files.items():
            stem, _, suffix = name.rpartition(".")
            put(folder, f"{one.slug}_{late}{one.number}_{one.number + 900}_{stem}{again}.{suffix}", text)
    put(folder, f"{students[0].slug}_{students[0].number}_text.html", "<p>My words.</p>")


def moodle_download(folder, students):
    """A folder for each student's files, and one for each online text; nothing is there twice."""
    for one in students:
        for name, text in one.files.items():
            put(folder / f"{one.first} {one.last}_{one.number}_assignsubmission_file", name, text)
    put(folder / f"{students[0].first} {students[0].last}_{students[0].number}_assignsubmission_onlinetext",
        "onlinetext.html", "<p>My words.</p>")


def gradescope_export(folder, students):
    """A numbered folder for each student, whose zip Gradescope has unpacked, and one file about all of them."""
    lines = ["---"]
    for one in students:
        for name, text in one.files.items():
            if name.endswith(".zip") and text:
                put(folder / one.gradescope / "notebooks", "lab.ipynb", text)
            else:
                put(folder / one.gradescope, name, text)
        lines += [f"{one.gradescope}:", "  :submitters:", f"  - :name: {json.dumps(f'{one.first} {one.last}')}",
                  f"    :sid: '{one.number}'", "  :created_at: 2026-12-01 22:00:00.000000000 +01:00"]
    (folder / "submission_metadata.yml").write_text("\n".join(lines) + "\n")


DOWNLOADS = {"canvas": canvas_download, "moodle": moodle_download, "gradescope": gradescope_export}


def roster_of(system, folder, students):
    """What the gradebook's system exports. A class that hands in on Gradescope has its gradebook in Canvas."""
    if system == "moodle":
        return table(folder / "worksheet.csv", MOODLE, *(
            [f"Participant {one.number}", f"{one.first} {one.last}", "Submitted", "", "8.00",
             "2 December 2026, 9:00 AM" if one.late else "1 December 2026, 10:00 PM", ""] for one in students))
    return table(folder / "gradebook.csv", ["Student", "ID", "Section", "lab3 (7)", "submission"],
                 ["    Points Possible", "", "", "8", ""],
                 *([f"{one.last}, {one.first}", str(one.number), "A", "", one.gradescope * (system == "gradescope")]
                   for one in students))


def marks_of(archive):
    """The number that each page of a zip says: a dict, file -> (mark, page)."""
    with zipfile.ZipFile(archive) as zipped:
        pages = {name: zipped.read(name).decode() for name in zipped.namelist()}
    return {name: (re.search(r'class="score"><b>([0-9.]+)</b>', page)[1], page) for name, page in pages.items()}


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def whole_round(system, students, place, monkeypatch, capsys):
    """Grade, hand back, give points by hand, hand back, change a probe, grade and hand back again, import again."""
    DOWNLOADS[system](place / "class", students)
    (place / "section.yml").write_text("late: {deadline: 2026-12-01 23:59, percent_per_day: 10}\n")
    roster, out = roster_of(system, place, students), place / "out"
    book = "moodle" if system == "moodle" else "canvas"
    form = {"gradescope": "folder"}.get(system, system)
    numbers = {one.gradescope: one.number for one in students}

    def graded():
        run([place / "class"], out, only=COLUMNS, rubric=place / "section.yml")

    def handed_back(roster=roster):
        """Export marks and feedback, and check that they agree: the student's number -> page."""
        main(["export", book, "--grades", str(out), "--roster", str(roster)])
        main(["export", "feedback", form, str(place / "f.zip"), "--grades", str(out), "--roster", str(roster)])
        pages = {numbers.get(name.split("/")[0]) or int(re.search(r"_(\d+)_", name)[1]): page
                 for name, page in marks_of(place / "f.zip").items()}
        imported = {int(row["ID"]): row["lab3 (7)"] for row in rows(out / "canvas.csv")[1:]} if book == "canvas" else {
            int(row["Identifier"].split()[1]): row["Grade"] for row in rows(out / "moodle.csv")}
        assert {number: mark for number, (mark, _) in pages.items()} == imported
        assert sorted(imported) == [one.number for one in students]
        return {number: page for number, (_, page) in pages.items()}

    graded()
    assert len(rows(out / "grades.csv")) == len(students)
    first, said = handed_back(), capsys.readouterr().err
    assert ("marked late by Canvas" in said) == (system == "canvas")
    assert not any("Your mark was" in page for page in first.values())
    names = {one.number: name for one in students for name in read_grades(out) if name in (
        f"{one.slug}_{one.number}_canvas", one.gradescope) or f"_{one.number}_assign" in name}
    late = next(one.number for one in students if one.late)
    if system == "moodle":
        assert "10&nbsp;% taken off" in first[late]
    table(out / "manual.csv", ["submission", "exercise", "points", "comment"],
          [names[100], "gamma_func", "1", "copied from the slides"], [names[100], "", "0.5", "neat"])
    table(out / "submitted.csv", ["submission", "submitted"], [names[late], "2026-12-03 12:00"])
    second = handed_back()
    for text in ("copied from the slides", "neat", "Points given by hand: 1.", "gamma_func: 4 before, 1 now",
                 "Your mark was 8 on"):
        assert text in second[100], text
    before = "10" if system == "moodle" else "0"
    assert "20&nbsp;% taken off" in second[late]
    assert f"late, per cent taken off: {before} before, 20 now" in second[late]

    old = {name: read_result(out / name) for name in names.values()}
    real = keys.probe_code()
    monkeypatch.setattr(keys, "probe_code", lambda: real | {"gamma_func": [*real["gamma_func"], "weight = 20"]})
    monkeypatch.setattr(PROBES["gamma_func"][0], "weight", 20)
    graded()
    third = handed_back()
    for name, was in old.items():
        was, now = ({one.exercise: one for one in result.exercises} for result in (was, read_result(out / name)))
        assert now["masked_forward"] == was["masked_forward"], "the other exercise is not graded again"
        if was["gamma_func"].status != "unreadable":
            assert now["gamma_func"].key != was["gamma_func"].key
    changed = [page for page in third.values() if "gamma_func: " in page]
    assert len(changed) > 1 and all("Your mark was" in page for page in changed)
    assert len(list((out / "earlier").glob("*.csv"))) == 1
    assert handed_back() == third, "a second export says the same"
    again = (out / f"{book}.csv").rename(place / "again.csv")
    if system != "gradescope":  # Canvas's file has no column `submission`
        assert handed_back(again) == third, "what was exported is imported again"
    return third


@pytest.mark.nightly
@pytest.mark.parametrize("system", DOWNLOADS)
def test_a_class_of_twelve_from_hand_in_to_hand_back_and_again(system, tmp_path, monkeypatch, capsys):
    pages = whole_round(system, [*made_class()], tmp_path, monkeypatch, capsys)
    assert len(pages) == 12 and "no zip" in pages[110]


def test_three_students_from_hand_in_to_hand_back_and_again(tmp_path, monkeypatch, capsys):
    """A zip, a bare notebook that is late, and two files of one student, as Canvas gives them."""
    whole_round("canvas", [*made_class()][:3], tmp_path, monkeypatch, capsys)
    with zipfile.ZipFile(tmp_path / "f.zip") as archive:
        assert sorted(archive.namelist()) == ["garciajose_102_1002_feedback.html", "linwei_100_1000_feedback.html",
                                              "osullivanzoe_LATE_101_1001_feedback.html"]


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
