"""The grader as instructors and students use it: marks, batches, results on disk, the self-check."""

import csv
import json
import multiprocessing
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from conftest import ROOT
from corpus import RIGHT
from probing import TEXTS, hand_in

from grader.cli import main
from grader.kernels import sandbox
from grader.kernels.graded_notebook import GradedNotebook, Outcome, explain
from grader.kernels.kernel import Forkserver
from grader.probes.probe import Probe
from grader.results.files import read_result
from grader.rubric import read_rubric
from grader.run import batch, context, grade, pool, selfcheck
from lab3.common.files import InputError
from lab3.exercises.table import EXERCISES

ANSWERS = tuple(EXERCISES)
CHEAP = ("gamma_func", "masked_forward", "frechet_distance")
SHIFTED = TEXTS["gamma_func"].replace('"square": lambda r: 1 - r**2', '"square": lambda r: (1 - r)**2')


class Shared(Forkserver):
    """One forkserver for all tests of this file: it takes seconds to start."""

    def close(self):
        pass


@pytest.fixture(scope="module")
def shared():
    made = Shared()
    yield made
    Forkserver.close(made)


@cache
def observed(seed, exercise, observe=context.observe_reference):
    """What the reference answer gives to an exercise's probes: the longest part of a small run, the same in many."""
    return observe(seed, (exercise,))


@pytest.fixture(autouse=True)
def forkserver(shared, monkeypatch):
    for module in (context, pool, selfcheck):
        monkeypatch.setattr(module, "Forkserver", lambda: shared)
    monkeypatch.setattr(context, "observe_reference", lambda seed, exercises: {
        probe: right for one in exercises for probe, right in observed(seed, one).items()})


def run(paths, out, only=CHEAP, seed=1, **options):
    """Grade, and give the results by name."""
    return {one.submission: one for one in batch.grade(paths, out, seed=seed, only=only, jobs=2, say=str, **options)}


def untimed(result):
    """The columns without times."""
    return [replace(one, seconds=0, probes=tuple(replace(probe, seconds=0) for probe in one.probes))
            for one in result.exercises]


def points(result):
    """Points by exercise."""
    return {one.exercise: one.points for one in result.exercises}


@pytest.mark.slow
def test_the_solved_lab_has_full_marks_and_the_starter_none(tmp_path):
    for name, source in (("solved", "solutions"), ("starter", "notebooks")):
        (tmp_path / "class" / name).mkdir(parents=True)
        for notebook in (ROOT / source).glob("*.ipynb"):
            shutil.copy(notebook, tmp_path / "class" / name)
    found = run([tmp_path / "class"], tmp_path / "out", only=(*ANSWERS, "fid_decoding"))
    solved, starter = found["solved"], found["starter"]
    assert solved.score == solved.max_score == 92
    assert {one.status for one in solved.exercises} == {"passed"}
    assert starter.score == 0 and {one.status for one in starter.exercises} == {"not written"}
    feedback = (tmp_path / "out" / "starter" / "feedback.html").read_text()
    assert "not written" in feedback and "of 92 points" in feedback


STYLES = {name: [text for exercise, text in RIGHT.values() if exercise == name] for name in EXERCISES}


def hand_in_apart(folder, texts):
    """A submission with a notebook for each answer, so that helpers of one do not meet those of another."""
    for name, text in texts.items():
        hand_in(folder, {name: text}, notebook=f"{name}.ipynb")


@pytest.mark.nightly
def test_right_answers_in_all_other_styles_have_full_marks(tmp_path):
    """The corpus as it is handed in: from notebooks, through the sandbox, to marks; test_corpus.py has it daily."""
    for number in range(max(map(len, STYLES.values()))):
        hand_in_apart(tmp_path / "class" / f"s{number}",
                      {name: texts[number % len(texts)] for name, texts in STYLES.items()})
    for result in run([tmp_path / "class"], tmp_path / "out", only=ANSWERS, seed=5).values():
        assert result.score == result.max_score == 80, [one for one in result.exercises if one.status != "passed"]


def floor(name):
    """How many answers stand below this one, each built on the next."""
    return max((1 + floor(other) for other in EXERCISES[name].builds_on), default=0)


FLOORS = [[name for name in EXERCISES if floor(name) == number] for number in range(max(map(floor, EXERCISES)) + 1)]
# Each exercise is right in two of six submissions, no two in the same two: in one of them any other is broken.
PAIRS = [[name for name, pair in zip(EXERCISES, combinations(range(6), 2), strict=False) if number in pair]
         for number in range(6)]


@pytest.mark.slow
@pytest.mark.parametrize("right", [FLOORS, pytest.param(PAIRS, marks=pytest.mark.nightly)], ids=["floors", "pairs"])
def test_each_exercise_is_graded_alone(tmp_path, right):
    """Right answers, in another style than the reference's, among broken ones have full marks, and the broken none.

    In `FLOORS` all that an answer builds on is broken where it is right.
    """
    ways = ["raise RuntimeError('broken')", "def {name}(*args, **options):\n    return None", "{name} = 1",
            "class {name}:\n    def __init__(self, *args, **options):\n        raise ValueError('all wrong')"]
    for number, names in enumerate(right):
        broken = {name: ways[(number + i) % len(ways)].format(name=EXERCISES[name].defines)
                  for i, name in enumerate(EXERCISES)}
        hand_in_apart(tmp_path / "class" / f"s{number}", broken | {name: STYLES[name][0] for name in names})
    found, full = run([tmp_path / "class"], tmp_path / "out", only=ANSWERS), read_rubric().points
    for number, names in enumerate(right):
        assert points(found[f"s{number}"]) == {name: full[name] * (name in names) for name in EXERCISES}, number


def test_part_of_an_answer_has_part_of_the_points(tmp_path):
    hand_in(tmp_path / "ada", {"gamma_func": SHIFTED})
    [result] = run([tmp_path / "ada"], tmp_path / "out", only=["gamma_func"]).values()
    [marks] = result.exercises
    assert 0 < marks.points < marks.max_points and marks.status == "partly"
    wrong = [one for one in marks.probes if not one.passed]
    assert wrong and all(one.expected and one.got for one in wrong)
    assert any("square" in one.title for one in wrong)


def test_helpers_of_the_notebook_come_along(tmp_path):
    text = TEXTS["gamma_func"].replace("np.cos(np.pi * r / 2)", "falling(r)")
    helper = "from math import pi\nimport numpy\ndef falling(r):\n    return numpy.cos(pi * r / 2)\nprint(1)\n1 / 0"
    hand_in(tmp_path / "ada", {"gamma_func": text}, [helper])
    [result] = run([tmp_path / "ada"], tmp_path / "out", only=["gamma_func"]).values()
    assert result.score == result.max_score


def test_the_same_seed_gives_the_same_marks_and_is_recorded(tmp_path):
    hand_in(tmp_path / "class" / "ada", {"gamma_func": SHIFTED, "masked_forward": TEXTS["masked_forward"]})
    first, again = (run([tmp_path / "class"], tmp_path / out)["ada"] for out in ("one", "two"))
    assert untimed(first) == untimed(again)
    assert first.seed == 1 and json.loads((tmp_path / "one" / "run.json").read_text())["seed"] == 1
    [row] = csv.DictReader((tmp_path / "one" / "grades.csv").open())
    assert row["seed"] == "1" and row["sandbox"] == first.sandbox and float(row["score"]) == first.score


def test_what_is_unchanged_is_not_graded_again(tmp_path):
    names = ("ada", "ben")
    for name in names:
        hand_in(tmp_path / "class" / name, {"gamma_func": TEXTS["gamma_func"]})
    out = tmp_path / "out"
    run([tmp_path / "class"], out)
    before = {name: (out / name / "results.json").stat().st_mtime_ns for name in names}
    hand_in(tmp_path / "class" / "ben", {"gamma_func": SHIFTED})
    found = run([tmp_path / "class"], out, seed=None)
    after = {name: (out / name / "results.json").stat().st_mtime_ns for name in names}
    assert after["ada"] == before["ada"] and after["ben"] != before["ben"]
    assert points(found["ben"])["gamma_func"] < points(found["ada"])["gamma_func"]
    run([tmp_path / "class"], out, seed=2)
    assert read_result(out / "ada").seed == 2


def test_columns_graded_one_after_the_other_come_together(tmp_path):
    hand_in(tmp_path / "ada", {name: TEXTS[name] for name in CHEAP})
    run([tmp_path / "ada"], tmp_path / "out", only=["04"])
    assert list(points(read_result(tmp_path / "out" / "ada"))) == ["gamma_func"]
    run([tmp_path / "ada"], tmp_path / "out", only=["masked_forward"])
    assert list(points(read_result(tmp_path / "out" / "ada"))) == ["masked_forward", "gamma_func"]


def test_a_damaged_result_is_made_again(tmp_path):
    hand_in(tmp_path / "ada", {"gamma_func": TEXTS["gamma_func"]})
    run([tmp_path / "ada"], tmp_path / "out", only=["gamma_func"])
    (tmp_path / "out" / "ada" / "results.json").write_text("{")
    [result] = run([tmp_path / "ada"], tmp_path / "out", only=["gamma_func"]).values()
    assert result.score == result.max_score == read_result(tmp_path / "out" / "ada").score


def test_marks_of_other_submissions_are_kept(tmp_path):
    for name in ("class/ada", "class/ben", "other/cy"):
        hand_in(tmp_path / name, {"gamma_func": TEXTS["gamma_func"]})
    out = tmp_path / "out"
    run([tmp_path / "class" / "ada"], out, only=["gamma_func"])
    run([tmp_path / "class"], out, only=["gamma_func"])  # the same class goes on
    before = (out / "grades.csv").read_text()
    for paths in ([tmp_path / "other"], [tmp_path / "class" / "ada"]):
        with pytest.raises(InputError, match="has marks that this run would drop, [12] in all, .* another folder"):
            run(paths, out, only=["gamma_func"])
    assert (out / "grades.csv").read_text() == before and not (out / "cy").exists()


def test_a_dry_run_says_what_is_there_and_what_looks_wrong(tmp_path, capsys):
    place = tmp_path / "class"
    for name in ("adalovelace_11_90_lab.ipynb", "adalovelace_11_91_lab-1.ipynb", "stranger_19_92_lab.ipynb"):
        hand_in(place, {"gamma_func": TEXTS["gamma_func"], "perplexity": "x = 1"}, notebook=name)
    hand_in(place / "Ada Lovelace", {"masked_forward": "def masked_forward(:"})
    (place / "bob_12_93_lab.zip").write_bytes(b"no zip")
    roster = tmp_path / "roster.csv"
    roster.write_text('Student,ID,lab3 (7)\n  Points Possible,,100\n"Lovelace, Ada",11,\n"Bo, Bob",12,\n'
                      '"Dahl, Dan",13,\n')
    arguments = ["grade", str(place), "--dry-run", "--only", "04", "masked_forward", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--roster", str(roster)]) == 1
    said = capsys.readouterr().out
    for line in ("adalovelace_11_canvas (Lovelace, Ada): adalovelace_11_91_lab-1.ipynb + adalovelace_11_90_lab.ipynb\n"
                 "    notebooks: adalovelace_11_91_lab-1.ipynb, adalovelace_11_90_lab.ipynb; answers: gamma_func; ",
                 "cell 2: exercise 'perplexity' does not exist", "  ! Same student as Ada_Lovelace.",
                 "  ! masked_forward: lab.ipynb, cell 1: syntax error", "  ! bob_12_93_lab.zip: it is no zip",
                 "stranger_19_canvas: stranger_19_92_lab.ipynb", "  ! Not on the roster.",
                 "nothing handed in: Dahl, Dan", "Submissions that would be graded: 4. Things that look wrong: 8."):
        assert line in said, said
    assert "Points Possible" not in said and not (tmp_path / "out").exists()
    hand_in(tmp_path / "right", {"gamma_func": TEXTS["gamma_func"]})
    assert main(["grade", str(tmp_path / "right"), "--dry-run", "--only", "04"]) == 0
    assert "answers: all 1;" in capsys.readouterr().out


def test_an_unreadable_submission_costs_itself_alone(tmp_path):
    hand_in(tmp_path / "class" / "ada", {"gamma_func": TEXTS["gamma_func"]})
    (tmp_path / "class" / "ben.zip").write_bytes(b"no zip")
    found = run([tmp_path / "class"], tmp_path / "out", only=["gamma_func"])
    assert found["ada"].score == found["ada"].max_score
    assert found["ben"].score == 0 and found["ben"].status == "unreadable" and found["ben"].notes


def test_a_grader_that_breaks_down_is_no_zero_in_silence(tmp_path, monkeypatch):
    """A submission on which the grader itself fails is tried again, then marked as an error, and the rest goes on."""
    for name in ("ada", "ben"):
        hand_in(tmp_path / "class" / name, {"gamma_func": TEXTS["gamma_func"]})
    real = pool.grade_one

    def breaks(path, name, context, done):
        if name == "ben":
            raise RuntimeError("no memory left")
        return real(path, name, context, done)

    monkeypatch.setattr(pool, "grade_one", breaks)
    found = run([tmp_path / "class"], tmp_path / "out", only=["gamma_func"])
    assert found["ada"].score == found["ada"].max_score
    assert found["ben"].status == "error" and "says nothing about the answers" in found["ben"].notes[0]
    monkeypatch.setattr(pool, "grade_one", real)
    found = run([tmp_path / "class"], tmp_path / "out", only=["gamma_func"])
    assert found["ben"].score == found["ben"].max_score


def test_a_forkserver_that_died_is_replaced(tmp_path, monkeypatch):
    hand_in(tmp_path / "ada", {"gamma_func": TEXTS["gamma_func"]})
    dead = Shared.__new__(Shared)
    dead.process = subprocess.Popen(["true"])
    dead.process.wait()
    monkeypatch.setattr(context, "Forkserver", lambda: dead)
    [result] = run([tmp_path / "ada"], tmp_path / "out", only=["gamma_func"]).values()
    assert result.score == result.max_score


def marks(outcomes, probes):
    """The exercise's result for probes of weight 1 that passed or not."""
    sheet = GradedNotebook("gamma_func", {}, probes, {}, {})
    sheet.outcomes = {f"probe-{one.name}": Outcome(passed, "this", "that") for one, passed in zip(probes, outcomes)}
    return grade.marks(sheet, grade_answer(), 9)


def grade_answer():
    from grader.submission.submission import Answer

    return Answer("gamma_func", "")


def probes(**options):
    """Three probes; options go to the last."""
    def first(answer, draw): ...
    def second(answer, draw): ...
    def third(answer, draw): ...
    for one in (first, second, third):
        one.__doc__ = "A title."
    return [Probe("gamma_func", 1, first), Probe("gamma_func", 1, second), Probe("gamma_func", 1, third, **options)]


def test_what_can_be_guessed_counts_beside_others_only():
    assert marks([False, False, True], probes(guessable=True)).points == 0
    assert marks([True, False, True], probes(guessable=True)).points == 6
    assert marks([False, False, True], probes()).points == 3


def test_a_decisive_probe_decides():
    assert marks([True, True, False], probes(decisive=True)).points == 0
    assert marks([True, True, True], probes(decisive=True)).points == 9


SECRET = "def sample_mask(batch): secret"


@pytest.mark.parametrize("error, got", [
    ({"type": "ValueError", "text": SECRET, "line": 12}, "ValueError"),
    ({"type": SECRET, "text": "", "line": 12}, "Exception"),
    ({"type": "print", "text": "", "line": 12}, "Exception"),
    ({"type": "RuntimeError", "text": "mat1 and mat2 shapes cannot be multiplied (4x8 and 16x16)", "line": 11},
     "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x8 and 16x16)"),
    ({"type": "NameError", "text": "name 'rank' is not defined", "line": 12}, "NameError: rank is not defined"),
    ({"type": "NameError", "text": "name 'secret' is not defined", "line": 12}, "NameError"),
    ({"type": "KeyError", "line": "12"}, "KeyError"),
    ({}, "Exception"),
    ("text", "Exception"),
])
def test_nothing_that_an_answer_says_comes_through(error, got):
    outcome = explain(error, "def f():\n    return rank")
    assert outcome.got == got and not outcome.passed
    assert "secret" not in f"{outcome.likely}{outcome.place}{outcome.expected}"
    if isinstance(error, dict) and error.get("line") == 12:
        assert outcome.place == "return rank"


def test_shapes_that_an_answer_raises_itself_are_not_shown():
    text = "def f(x):\n    raise RuntimeError(f\"shape '[{int(x)}]' is invalid for input of size 7\")"
    error = {"type": "RuntimeError", "text": "shape '[42]' is invalid for input of size 7", "line": 12}
    assert explain(error, text).got == "RuntimeError"
    error["text"] = "shape '[42, 31415]' is invalid for input of size 123456"
    assert explain(error, "def f(x):\n    return x.view(3)").got == \
        "RuntimeError: shape '[42, …]' is invalid for input of size …"


def test_public_checks_say_what_is_known_beforehand():
    def advice(message):
        return grade.public_advice("gamma_func", Outcome(True, seen={"passed": False, "message": message}))

    said = ("[FAIL] gamma_func: another mode is refused at once\n       expected  x\n"
            "       likely    the angle lacks pi")
    assert advice(said) == ("The public checks of the notebook say it too: Another mode is refused at once.",
                            "Likely: the angle lacks pi")
    assert advice(f"[FAIL] gamma_func: {SECRET}\n       likely    {SECRET}") == ()
    assert advice(f"[FAIL] gamma_func: another mode is refused at once\n       likely    {SECRET}") == (
        "The public checks of the notebook say it too: Another mode is refused at once.",)
    assert advice(None) == () == grade.public_advice("gamma_func", None)


def test_columns_are_named_by_notebook_or_id():
    rubric = read_rubric()
    assert batch.columns_of((), rubric) == tuple(rubric.points)
    assert batch.columns_of(["5", "gamma_func"], rubric) == ("gamma_func", "inpainting", "iterative_decode")
    assert batch.columns_of(["06"], rubric) == ("frechet_distance", "fid_decoding", "fid_model")
    with pytest.raises(InputError, match="no such notebook or exercise"):
        batch.columns_of(["07"], rubric)


def test_the_rubric_has_every_column():
    rubric = read_rubric()
    assert sum(rubric.points.values()) == 100 and min(rubric.points.values()) > 0


def test_what_an_answer_builds_on_comes_before_it():
    for name, one in EXERCISES.items():
        assert name not in one.builds_on and set(one.builds_on) <= set(EXERCISES)


@pytest.mark.parametrize("arguments, words", [
    (["grade", "nowhere", "--out", "out"], "nowhere"),
    (["grade", "."], "--out is missing"),
    (["grade", ".", "--out", "out", "--jobs", "0"], "--jobs must be at least 1"),
    (["grade", ".", "--out", "out", "--seed", "-1"], "--seed must lie in"),
    (["grade", ".", "--out", "out", "--only", "99"], "--only 99"),
    (["grade", "one.ipynb", ".", "--out", "out"], "self-check"),
    (["grade", ".", "--out", "out", "--roster", "r.csv"], "--roster goes with --dry-run"),
    (["grade", ".", "--dry-run", "--roster", "r.csv"], "r.csv: no such file"),
])
def test_wrong_usage_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hand_in(tmp_path, {})
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said and said.startswith("grader grade: ")


def test_without_a_sandbox_nothing_is_graded(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "best_level", lambda: "limits")
    hand_in(tmp_path / "ada", {})
    with pytest.raises(InputError, match="bubblewrap"):
        run([tmp_path / "ada"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def forked(target, *arguments):
    """A process that calls a function, as the pool starts one."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def keep_scratch_folder(connection):
    with context.scratch_folder() as folder:
        connection.send(folder)
        connection.recv()


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_has_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    connections = [multiprocessing.Pipe() for _ in range(2)]
    runs = [forked(keep_scratch_folder, theirs) for _, theirs in connections]
    killed, alive = (Path(ours.recv()) for ours, _ in connections)
    runs[0].kill()
    runs[0].join()
    assert killed.is_dir() and alive.is_dir()
    with context.scratch_folder() as own:
        assert {*tmp_path.iterdir()} == {alive, Path(own)}
    connections[1][0].send("end")
    runs[1].join()
    assert runs[1].exitcode == 0 and not any(tmp_path.iterdir())


def take_memory():
    pool.limit_memory(200 << 20)
    kept = bytearray(100 << 20)
    try:
        kept += bytearray(200 << 20)
    except MemoryError:
        raise SystemExit(42) from None


def test_a_job_takes_no_more_memory_than_it_may():
    process = forked(take_memory)
    process.join()
    assert process.exitcode == 42


def test_the_self_check_of_a_notebook(tmp_path, capsys):
    hand_in(tmp_path, {"gamma_func": SHIFTED, "masked_forward": TEXTS["masked_forward"],
                       "mvtm_loss": "def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):\n"
                                    "    raise NotImplementedError"})
    assert main(["grade", str(tmp_path / "lab.ipynb")]) == 1
    said = capsys.readouterr().out
    assert "[FAIL] gamma_func" in said and "[OK]   masked_forward" in said and "[TODO] mvtm_loss" in said
    assert "1 of 3 answers pass the public checks" in said and "no marks" in said


def test_the_self_check_of_a_solved_notebook(capsys):
    assert main(["grade", str(ROOT / "solutions" / "05_iterative_decoding.ipynb")]) == 0
    assert "2 of 2 answers pass" in capsys.readouterr().out
