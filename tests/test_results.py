"""What grading writes: files that others read, pages that people read, whatever a submission puts into them."""

import csv
import html
import json
import math
import random
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import yaml
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grader.kernels.sandbox import IN_FORCE
from grader.results import files, pages
from grader.results.result import ExerciseResult, ProbeResult, Result
from lab3.common.files import InputError

POINTS = yaml.safe_load((ROOT / "grader" / "rubric.yml").read_text())["points"]
HOSTILE = [
    "<script>alert(1)</script>", "</title><img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "{{ 7 * 7 }}",
    "شكل الموتر خاطئ \u202e(2, 3)", "שלום עולם", "猫の形 🐱 ё", "two\nlines\r\nand\x1b[31m\x00\x07\t tabs", "W" * 5000,
    "word " * 3000, "\ud800 half", "=HYPERLINK(\"http://example.com\")", "http://example.com/x.js", "a\u0301" * 300]
TITLES = ("The mask is bool and of the right shape.", "Exactly the asked share of each row is hidden.",
          "Each row hides places of its own.", "The same generator state gives the same mask.",
          "A ratio outside [0, 1] is refused.")
WRONG = (  # expected, got, likely, place
    ("logits of shape (2, 256, 1024)", "shape (2, 256, 1025)", "the mask token's logit is still there", ""),
    ("targets of shape (4, 256)", "shape (256, 4)", "", ""),
    ("32 hidden in each row", "from 21 to 44", "top-k over the flattened batch: each row must rank its own tokens", ""),
    ("no exception", "RuntimeError: mat1 and mat2 shapes cannot be multiplied (512x768 and 64x64)",
     "two shapes do not fit: print both on the line before, and name each axis",
     "line 14 of multi_head_attention: x = self.query(x).view(B, T, self.num_heads, -1)"),
    ("a ValueError that names ratio, for ratio=1.5", "no error", "", ""))


def exercise(name, draw, text=None):
    """An exercise as it may come out; `text` stands everywhere where students have a say."""
    most, kind = POINTS[name], draw.choices(("passed", "partly", "failed", "not written", "missing", "stopped"),
                                            (10, 4, 2, 1, .5, .5))[0]
    asked = 0 if kind in ("not written", "missing") else 1 if name.startswith("fid") else draw.randint(3, 5)
    probes = []
    for number in range(asked):
        passed = kind == "passed" or kind == "partly" and number != 1
        wrong = ("",) * 4 if passed else [text or part for part in draw.choice(WRONG)]
        probes.append(ProbeResult(f"probe_{number}", text or TITLES[number], 1 + number % 3, passed, *wrong[:3],
                                  place=wrong[3], seconds=draw.random()))
    share = sum(one.weight for one in probes if one.passed) / max(1, sum(one.weight for one in probes))
    notes = (text or "Cell 7 counts: the last of two that hold this exercise.",) * (draw.random() < .3 or bool(text))
    details = {"distance": f"{draw.uniform(20, 90):.2f}", "threshold": "45"} if name.startswith("fid") else None
    return ExerciseResult(name, most * share, most, kind, tuple(probes), notes, text and {text: text} or details, .5)


def marks(name, seed=0, text=None):
    """The marks of one submission, as they may come out."""
    draw = random.Random(repr((name, seed)))
    found = tuple(exercise(one, draw, text) for one in POINTS)
    return Result(name, sum(one.points for one in found), 100.0, "graded", draw.choice(("bubblewrap", "limits")),
                  draw.uniform(20, 90), 17, "0123456789abcdef", found, (text,) if text else ())


def crowd(size):
    """A class, with one submission that cannot be read and one at which the grader failed."""
    names = [f"student-{number:03d}" for number in range(size)]
    found = [marks(name) for name in names]
    for place, status, note in [(4, "unreadable", "x.ipynb: not readable as JSON."), (7, "error", "see the log")]:
        if place < size:
            found[place] = replace(found[place], status=status, score=0.0, exercises=(), notes=(note,))
    return found


class Page(HTMLParser):
    """Tags, attributes and text of a page; what it loads; ids and where links within it lead."""

    VOID = {"meta", "line", "rect", "br", "link", "img"}

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.attributes, self.texts, self.open = text, set(), [], [], []
        self.feed(text)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.texts.append(" " if tag in ("td", "th", "dd") else "")
        self.attributes += [(tag, *one) for one in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [(tag, *one) for one in attributes]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.texts.append(data)

    def said(self):
        """Its text on one line."""
        return " ".join("".join(self.texts).split())

    def __contains__(self, text):
        return text in self.said()


def feedback(folder, result):
    pages.write_feedback(result, folder)
    return Page((folder / "feedback.html").read_text(encoding="utf-8"))


def class_page(folder, found):
    pages.write_class_page(found, folder / "class.html")
    return Page((folder / "class.html").read_text(encoding="utf-8"))


def strict(path):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(path.read_text(encoding="ascii"), parse_constant=refuse)


def test_the_columns_are_those_of_the_rubric():
    assert list(files.COLUMNS) == list(POINTS)


@pytest.mark.parametrize("visibility", files.VISIBILITIES)
def test_gradescope_finds_its_fields(tmp_path, visibility):
    result = marks("ada")
    files.write_result(result, tmp_path, visibility)
    record = strict(tmp_path / "results.json")
    assert record.keys() - {"leaderboard"} == {"score", "execution_time", "output", "output_format", "visibility",
                                               "stdout_visibility", "tests", "extra_data"}
    assert (record["visibility"], record["stdout_visibility"], record["output_format"]) == ("visible", "hidden", "text")
    assert record["score"] == result.score and record["execution_time"] == round(result.seconds)
    assert [one["number"] for one in record["tests"]] == [str(number) for number in range(1, 14)]
    for test, one in zip(record["tests"], result.exercises, strict=True):
        assert test.keys() == {
            "name", "number", "score", "max_score", "status", "output", "output_format", "visibility"}
        assert test["name"].startswith(one.exercise) and test["visibility"] == visibility
        assert (test["score"], test["max_score"]) == (one.points, one.max_points)
        assert test["status"] == ("passed" if one.status == "passed" else "failed")
        assert all(probe.title in test["output"] for probe in one.probes)
    assert math.isclose(sum(one["score"] for one in record["tests"]), record["score"])
    told = visibility == "visible"
    assert ("Score" in record["output"]) is told is ("leaderboard" in record)


def test_a_failed_probe_is_told_in_full(tmp_path):
    wrong = ProbeResult("a", "The logits have no mask token.", 1, False, *WRONG[0][:3], place="line 3: return logits")
    one = ExerciseResult("masked_forward", 0, 4, "failed", (wrong,))
    files.write_result(replace(marks("ada"), exercises=(one,)), tmp_path)
    [test] = strict(tmp_path / "results.json")["tests"]
    assert test["output"].splitlines() == [
        "Status: failed", "not ok  The logits have no mask token. (4)",
        "        expected  logits of shape (2, 256, 1024)", "        got       shape (2, 256, 1025)",
        "        shape     axis 2 is 1025 where 1024 is expected", "        at        line 3: return logits",
        "        likely    the mask token's logit is still there"]


CRASH = ("no exception", "RuntimeError", "", "line 3: return loss")
NOTES = ("lab.ipynb, cell 4 counts: it has the line #| exercise: mvtm_loss.",
         "Untouched starters do not count: cell 2.",
         "The public checks of the notebook say it too: the loss is ln 10.", "Likely: the axes are swapped")


def crashed(decisive=False):
    """An exercise of which two checks fail for the same reason, and others for their own."""
    probes = [ProbeResult("d", TITLES[3], 1, False), ProbeResult("a", TITLES[0], 2, False, *CRASH),
              ProbeResult("b", TITLES[1], 1, True), ProbeResult("c", TITLES[2], 1, False, *CRASH, decisive=decisive),
              ProbeResult("e", TITLES[4], 1, False)]
    return ExerciseResult("mvtm_loss", 1, 6, "partly", tuple(probes), NOTES)


def test_what_failed_for_one_reason_is_told_together(tmp_path):
    files.write_result(replace(marks("ada"), exercises=(crashed(decisive=True),)), tmp_path)
    [test] = strict(tmp_path / "results.json")["tests"]
    assert test["output"].splitlines() == [
        "Status: partly", *NOTES[2:], f"Note: {NOTES[1]}",
        "not ok  2 checks failed for the same reason",
        "        expected  no exception", "        got       RuntimeError", "        at        line 3: return loss",
        f"        - {TITLES[0]} (2)", f"        - {TITLES[2]} (1); {files.DECISIVE}",
        files.FOLDED, f"not ok  {TITLES[3]} (1)", f"not ok  {TITLES[4]} (1)", f"ok      {TITLES[1]} (1)",
        f"Note: {NOTES[0]}"]


def test_where_a_cause_is_known_the_other_failures_are_folded():
    def told(*probes, notes=()):
        rows = tuple(ProbeResult(str(place), "T", 1, False, *texts) for place, texts in enumerate(probes))
        return [[[int(probe.name) for probe, _ in group] for group in groups]
                for groups in files.reasons(ExerciseResult("mvtm_loss", 0, 6, "failed", rows, notes))]

    one, other, named = ("a", "b"), ("c", "d"), ("e", "f", "the axes are swapped")
    assert told(one, other) == [[[0], [1]], []], "no cause is known"
    assert told(one, named, other, ("g", "h", named[2])) == [[[1, 3]], [[0], [2]]]
    assert told(one, other, notes=NOTES[2:]) == [[[0]], [[1]]]
    assert told(one, other, notes=(files.PASSES,)) == [[[0], [1]], []] and told() == [[], []]


def test_the_notes_that_are_told_apart_are_those_of_reading():
    text = (ROOT / "grader" / "submission" / "submission.py").read_text()
    assert all(part in text for part in ("} counts: {", '"It uses other cells of'))


def test_another_visibility_is_refused(tmp_path):
    with pytest.raises(ValueError, match="visibility must be one of hidden, after_due_date"):
        files.write_result(marks("ada"), tmp_path, "never")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_writes_nothing(tmp_path, value):
    with pytest.raises(ValueError):
        files.write_result(replace(marks("ada"), score=value), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_distance_that_is_not_finite_is_no_leaderboard(tmp_path):
    one = ExerciseResult("fid_decoding", 0, 12, "failed", details={"distance": "nan"})
    files.write_result(replace(marks("ada"), exercises=(one,)), tmp_path)
    assert "leaderboard" not in strict(tmp_path / "results.json")


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30)
NUMBER = st.floats(0, 1e6, allow_nan=False)
PROBE = st.builds(ProbeResult, TEXT, TEXT, st.integers(0, 9), st.booleans(), TEXT, TEXT, TEXT, TEXT, NUMBER,
                  st.booleans())
EXERCISE = st.builds(
    ExerciseResult, st.sampled_from([*POINTS, "another"]), NUMBER, NUMBER, st.sampled_from(list(pages.SIGNS)),
    st.lists(PROBE, max_size=3).map(tuple), st.lists(TEXT, max_size=2).map(tuple),
    st.none() | st.dictionaries(TEXT, TEXT, max_size=2), NUMBER)
RESULT = st.builds(
    Result, TEXT, NUMBER, NUMBER, st.sampled_from(("graded", "unreadable", "error")), TEXT, NUMBER, st.integers(), TEXT,
    st.lists(EXERCISE, max_size=4).map(tuple),
    st.lists(TEXT, max_size=2).map(tuple))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(RESULT)
def test_results_come_back_and_can_be_shown(tmp_path, result):
    files.write_result(result, tmp_path)
    strict(tmp_path / "results.json")
    assert files.read_result(tmp_path) == result
    feedback(tmp_path, result)
    class_page(tmp_path, [result])


def test_text_that_utf8_or_a_database_cannot_hold_is_replaced(tmp_path):
    files.write_result(marks("ada", text="a\ud800b\x00c\nd"), tmp_path)
    assert files.read_result(tmp_path).notes == ("a\ufffdb\ufffdc\nd",)


@pytest.mark.parametrize("damage", [
    lambda text: text[:len(text) // 2], lambda text: "", lambda text: "[]", lambda text: "{}",
    lambda text: text.replace('"submission"', '"name"'),
    lambda text: text.replace('"exercises": [', '"exercises": [3, '),
    lambda text: re.sub(r'"passed": (true|false)', '"passed": "yes"', text),
    lambda text: re.sub(r'"seed": \d+', '"seed": null', text),
    lambda text: re.sub(r'"notes": \[', '"notes": [7, ', text),
    lambda text: re.sub(r'"seconds": [\d.]+', '"seconds": Infinity', text)])
def test_damaged_results_are_named(tmp_path, damage):
    files.write_result(replace(marks("ada"), notes=("a note",)), tmp_path)
    path = tmp_path / "results.json"
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(InputError, match=r"results\.json"):
        files.read_result(tmp_path)


def test_no_results_are_named(tmp_path):
    with pytest.raises(InputError, match=r"results\.json: no such file"):
        files.read_result(tmp_path)


def test_grades_are_sorted_and_read_back(tmp_path):
    found = crowd(9)
    files.write_grades(reversed(found), tmp_path / "grades.csv")
    with open(tmp_path / "grades.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["submission", "score", "max_score", "status", "sandbox", "seconds", "seed", *POINTS]
    assert [row["submission"] for row in table] == [one.submission for one in found]
    for row, one in zip(table, found, strict=True):
        assert float(row["score"]) == round(one.score, 2) and row["seed"] == "17" and row["status"] == one.status
        points = {column.exercise: column.points for column in one.exercises}
        assert all(float(row[name]) == round(points[name], 2) if name in points else row[name] == "" for name in POINTS)


@pytest.mark.parametrize("name", ["=1+2", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", " \r\n=1", "\u202e=1", "＝1"])
def test_no_name_is_a_formula(tmp_path, name):
    files.write_grades([marks(name)], tmp_path / "grades.csv")
    with open(tmp_path / "grades.csv", newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert row["submission"].startswith("'")


@pytest.mark.parametrize("name", ['a,b', 'say "so"', "猫", "two\nlines"])
def test_names_with_separators_stay_one_cell(tmp_path, name):
    files.write_grades([marks(name)], tmp_path / "grades.csv")
    with open(tmp_path / "grades.csv", newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert row["submission"] == " ".join(name.split())


@pytest.mark.parametrize("text", HOSTILE)
def test_the_terminal_gets_plain_lines(text):
    lines = files.block(100 * f"[FAIL] {text}\n       {text}\n").splitlines()
    assert all(one.isprintable() and len(one) <= 400 for one in lines) and 0 < len(lines) <= 40
    assert any(one.startswith("       ") for one in lines) or len(text) > 5000


def test_lines_for_the_terminal_stay_as_they_are():
    text = "[FAIL] gamma_func: the values\n       expected  1\n\n       got       2"
    assert files.block(text) == text
    assert files.block("a\x1b[2Jb\tc\rd\u202ee \n") == "a\ufffd[2Jb  c\nde"


@pytest.mark.parametrize(("expected", "got", "words"), [
    ("shape (2, 3)", "shape (2, 3)", ""), ("shape (2, 3)", "nothing (None)", ""),
    ("x of shape (4, 256)", "shape (256, 4)", "the same sizes in another order: two axes are swapped"),
    ("shape (1, 2, 3)", "shape (3, 1, 2)", "the same sizes in another order"),
    ("shape (2, 3)", "shape (2, 4)", "axis 1 is 4 where 3 is expected"),
    ("shape (2, 3)", "shape (5, 4)", "axis 0 is 5 where 2 is expected, axis 1 is 4 where 3 is expected"),
    ("shape (5,)", "shape (5, 1)", "2 axes where 1 is expected"),
    ("shape (5, 1)", "shape (5,)", "1 axis where 2 are expected"),
    ("shape (5,)", "shape ()", "0 axes where 1 is expected"),
    ("shape (5,) or shape (6,)", "shape (7,)", "")])
def test_shapes_are_compared_in_words(expected, got, words):
    assert files.shape_words(expected, got) == words


TAGS = set("""html head meta title style body main h1 h2 h3 h4 p b ul li a bdi code span div section details summary
           table thead tbody tr th td dl dt dd svg desc line rect text""".split())


def assert_sound(page):
    """The page loads nothing, runs nothing, leads where it says, and names what its tables hold."""
    assert page.tags <= TAGS
    assert {name for _, name, _ in page.attributes} <= set(
        """aria-hidden aria-labelledby charset class content height href http-equiv id lang name open role scope style
        tabindex text-anchor viewbox width x x1 x2 y y1 y2""".split())
    assert "url(" not in page.text and "@import" not in page.text
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for value in (value for _, name, value in page.attributes if name == "href"):
        inside = value.startswith("#") and value[1:] in ids
        assert inside or re.fullmatch(r"[\w.%~-]*/feedback\.html", value), value
    assert sum(tag == "th" and name == "scope" for tag, name, _ in page.attributes) == len(
        re.findall("<th[ >]", page.text))


@pytest.mark.parametrize("text", HOSTILE)
def test_pages_escape_and_cut_what_students_wrote(tmp_path, text):
    result = marks(text, text=text)
    unreadable = replace(result, status="unreadable", exercises=())
    for page in (feedback(tmp_path, result), class_page(tmp_path, [result, unreadable])):
        assert_sound(page)
        assert files.short(text, 60)[:-1] in page
        assert len(page.text) < 200_000
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", page.text)


def test_feedback_tells_what_is_wrong_and_what_it_costs(tmp_path):
    probes = (ProbeResult("a", "The logits have no mask token.", 3, False, *WRONG[3][:3], place=WRONG[3][3]),
              ProbeResult("b", "The targets are the real tokens.", 1, True))
    result = replace(marks("ada"), score=4, exercises=(
        ExerciseResult("masked_forward", 1, 4, "partly", probes, ("Cell 7 counts.",)),
        ExerciseResult("gamma_func", 3, 4, "passed", (probes[1],)), ExerciseResult("mvtm_loss", 0, 6, "missing"),
        ExerciseResult("fid_model", 0, 8, "failed", details={"distance": "61.20"})))
    page = feedback(tmp_path, result)
    assert_sound(page)
    for text in ("ada", "4 of 100 points", "masked_forward · 1 of 4 points · ◐ partly", "Cell 7 counts.",
                 "✗ failed The logits have no mask token. (worth 3)", f"expected {WRONG[3][0]}", f"got {WRONG[3][1]}",
                 f"at {WRONG[3][3]}", f"likely {WRONG[3][2]}", "✓ passed The targets are the real tokens. 1",
                 "distance 61.20", "the model you trained", "seed 17", "Not every check that passed counts here"):
        assert text in page, text
    closed = ["open" in one for one in re.findall(r"<details id[^>]*>", page.text)]
    assert closed == [True, False, True, True], "what is perfect is folded"


def test_feedback_groups_what_failed_and_folds_what_passed(tmp_path):
    page = feedback(tmp_path, replace(marks("ada"), exercises=(crashed(),)))
    assert_sound(page)
    said = page.said()
    parts = [*NOTES[2:], NOTES[1], f"✗ failed {TITLES[3]} (worth 1)",
             f"✗ 3 more failed. {files.FOLDED}",
             "✗ 2 checks failed for the same reason (worth 3) expected no exception", TITLES[0],
             f"{TITLES[2]} (worth 1)", f"✗ failed {TITLES[4]} (worth 1)", "✓ 1 check passed", TITLES[1], NOTES[0]]
    places = [said.index(part) for part in parts]
    assert places == sorted(places) and said.count("RuntimeError") == 1 and files.DECISIVE not in said
    inner = ['<details class="rest">'] * 2
    assert re.findall(r"<details[^>]*>", page.text) == ['<details id="exercise-1" open>', *inner]


def test_feedback_marks_a_failed_decisive_check(tmp_path):
    page = feedback(tmp_path, replace(marks("ada"), exercises=(crashed(decisive=True),)))
    assert f"{TITLES[2]} (worth 1) {files.DECISIVE}" in page
    passed = ProbeResult("a", TITLES[0], 1, True, decisive=True)
    one = ExerciseResult("mvtm_loss", 6, 6, "passed", (passed,))
    assert files.DECISIVE not in feedback(tmp_path, replace(marks("ada"), exercises=(one,)))


def test_an_answer_that_is_not_written_is_said_once(tmp_path):
    probe = ProbeResult("a", TITLES[0], 1, False, likely="not written yet")
    one = replace(marks("ada"), exercises=(ExerciseResult("mvtm_loss", 0, 6, "not written", (probe, probe)),))
    page = feedback(tmp_path, one)
    assert "NotImplementedError" in page and TITLES[0] not in page


@pytest.mark.parametrize(("status", "text"), [("unreadable", "could not be read"), ("error", "not your fault")])
def test_feedback_without_marks_says_why(tmp_path, status, text):
    page = feedback(tmp_path, replace(marks("ada"), score=0, status=status, notes=("x.ipynb: no JSON.",)))
    assert_sound(page)
    assert text in page and "x.ipynb: no JSON." in page


@pytest.mark.parametrize("size", [0, 1, 50, 300])
def test_the_class_page_holds_everybody(tmp_path, size):
    found = crowd(size)
    page = class_page(tmp_path, found)
    assert_sound(page)
    links = {value for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert {f"{one.submission}/feedback.html" for one in found} <= links
    if size:
        assert f"{size} submission" in page and "17." in page
        heights = [float(value) for tag, name, value in page.attributes if tag == "rect" and name == "height"]
        assert len(heights) == pages.BINS and max(heights) == 150
    else:
        assert "No submissions." in page
    if size > 7:
        assert "not readable as JSON" in page and f"{size - 2} graded" in page


def test_a_class_that_nobody_could_grade(tmp_path):
    found = [replace(one, status="unreadable", exercises=(), score=0) for one in crowd(2)]
    page = class_page(tmp_path, found)
    assert_sound(page)
    assert "0 graded" in page and "mean" not in page


def test_most_failed_probes_come_first_with_their_usual_reason(tmp_path):
    def one(name, *failed):
        probes = tuple(ProbeResult(title, title, 1, title not in failed, likely=f"{reason}-{title}")
                       for title, reason in (("first", "a"), ("second", "a" if name != "c" else "b"), ("third", "a")))
        return replace(marks(name), exercises=(ExerciseResult("mvtm_loss", 1, 6, "partly", probes),))

    empty = ExerciseResult("mvtm_loss", 0, 6, "not written", (ProbeResult("third", "third", 1, False),))
    page = class_page(tmp_path, [one("a", "second"), one("b", "first", "second"), one("c", "second"), one("d"),
                                 replace(marks("e"), exercises=(empty,))])
    text = page.said()[page.said().index("What most get wrong"):]
    assert text.index("second mvtm_loss 75 % (3 of 4) a-second (2)") < text.index("first mvtm_loss 25 % (1 of 4)")
    assert "third mvtm_loss" not in text
    stopped = ExerciseResult("mvtm_loss", 0, 6, "stopped", (ProbeResult("third", "third", 1, False),))
    assert "No check failed." in class_page(tmp_path, [replace(marks("f"), exercises=(stopped,))])


def test_distances_of_a_class(tmp_path):
    def one(name, *distances):
        return replace(marks(name), exercises=tuple(
            ExerciseResult(column, 1, 8, "partly", details={"distance": text} if text else None)
            for column, text in zip(("fid_decoding", "fid_model"), distances, strict=True)))

    page = class_page(tmp_path, [one("a", "40.00", ""), one("b", "61.50", "nan"), one("c", "", "soon")])
    assert_sound(page)
    assert "Of Measured Mean Best Worst fid_decoding 2 50.75 40.00 61.50 What most get wrong" in page
    assert "Distances" not in class_page(tmp_path, [one("c", "", "")])


def test_models_that_draw_the_same_codes_are_named_together(tmp_path):
    """An attack: one model for several students, with noise on its weights."""
    def one(name, codes):
        text = "".join(f"{code:04d}" for code in codes)
        return replace(marks(name), exercises=(ExerciseResult("fid_model", 8, 8, "passed", fingerprint=text),))

    mine, others = list(range(512)), list(range(511, -1, -1))
    nearly = [*mine[:480], *others[480:]]
    page = class_page(tmp_path, [one("a", mine), one("b", others), one("c", nearly), one("d", [7] * 512), marks("e")])
    assert_sound(page)
    assert "conclude. a, c What most get wrong" in page
    assert "Models that" not in class_page(tmp_path, [one("a", mine), one("b", others)])


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([0, 50, 100.0])), max_size=40))
def test_the_histogram_counts_everybody_once(scores):
    found = [Result("a", score, most, "graded", "limits", 1, 1, "") for score, most in scores]
    bars = pages.histogram(found)
    assert sum(one["count"] for one in bars) == len(scores) and all(0 <= one["height"] <= 1 for one in bars)
    assert [one["low"] for one in bars] == list(range(0, 100, 10)) and bars[-1]["high"] == 100


def test_the_histogram_puts_scores_on_a_border_above_it():
    counts = [one["count"] for one in pages.histogram(
        [Result("a", score, 100, "graded", "limits", 1, 1, "") for score in (0, 9.99, 10, 70, 99, 100)])]
    assert counts == [2, 1, 0, 0, 0, 0, 0, 1, 0, 2]


def luminance(colour):
    colour = colour if len(colour) == 7 else "#" + "".join(2 * one for one in colour[1:])
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_text_stands_out_from_its_paper(theme):
    style = (ROOT / "grader" / "results" / "templates" / "base.html").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", re.findall(r":root \{(.+?)\}", style, re.DOTALL)[theme]))
    for ink in ("ink", "soft", "link", "good", "part", "bad"):
        for paper in ("paper", "panel", "bad-paper"):
            dark, light = sorted(luminance(colours[one]) for one in (ink, paper))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)


@pytest.mark.skipif(not (CHROMIUM := shutil.which("chromium")), reason="no Chromium on this machine")
def test_pages_fit_a_telephone(tmp_path):
    from playwright.sync_api import sync_playwright

    for number, text in enumerate([None, *HOSTILE]):
        (tmp_path / str(number)).mkdir()
        feedback(tmp_path / str(number), marks(text or "ada", text=text))
        class_page(tmp_path / str(number), [*crowd(9), marks(text or "ada", text=text)])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 700})
        said = []
        page.on("console", lambda message: said.append(message.text))
        for path in sorted(tmp_path.glob("*/*.html")):
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        browser.close()
    assert said == []


@pytest.mark.parametrize("level", IN_FORCE)
def test_what_walls_student_code_has_is_said_in_every_result_and_on_the_pages(tmp_path, level):
    one = Result("ada", 1.0, 4.0, "graded", level, 1.0, 1, "", (ExerciseResult("gamma_func", 1.0, 4.0, "partly"),))
    pages.write_feedback(one, tmp_path)
    files.write_result(one, tmp_path)
    pages.write_class_page([one], tmp_path / "class.html")
    for name in ("feedback.html", "results.json", "class.html"):
        assert IN_FORCE[level] in html.unescape((tmp_path / name).read_text()), name
