"""What feedback can carry out of a kernel: the grader's own words, and few bits.

In: observations that an answer forges. Out: nothing; the bounds are those of docs/INSTRUCTOR.md.
"""

import ast
import builtins
import itertools
import math
import re
import zlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from probing import TEXTS, right

from grader.kernels.graded_notebook import NO_EXCEPTION, OWED, Outcome, explain, limited
from grader.probes import PROBES, training
from grader.probes.probe import LARGEST, MOST_NUMBERS, NUMBER, Wrong, bounded, exception_name
from grader.run.grade import _known_texts
from grader.submission.submission import MAX_CODE
from lab3.common.paths import ROOT
from lab3.exercises import checks
from lab3.exercises.checks.errors import HINTS
from lab3.exercises.table import EXERCISES

SECRET = "qxqsecretqxq"
LEAVES = (None, True, False, 0, 1, -1, 3, 83697, -83697, 10**30, 0.5, 0.123456789, -7.65432e-9, 3e300, math.nan,
          math.inf, SECRET, "", [], [SECRET], {}, {SECRET: SECRET}, {"other": SECRET}, {"other": "ndarray"},
          {"value": SECRET},
          {"error": {"type": SECRET, "value_error": True, "text": SECRET, "line": 83697}},
          {"error": {"type": "KeyError", "value_error": False, "text": SECRET, "line": 3}},
          np.zeros(()), np.zeros(0), np.zeros((83, 69)), np.zeros((1, 83697)), np.zeros((0, 83, 69, 67, 82, 69)),
          np.zeros((3, 5), bool), np.full((2, 256), 83697))


def changed(value):
    """What comes of an array or a number when an answer puts other values into it."""
    if isinstance(value, np.ndarray):
        rng = np.random.default_rng(0)
        for share in (0.01, 0.3, 1):
            other = value.copy()
            where = rng.random(value.shape) < share
            other[where] = ~value[where] if value.dtype == bool else rng.permutation(value.flatten())[:where.sum()] + 1
            yield other
        yield from (value[..., :-1] if value.ndim else value, value[:1] if value.ndim else value, value[None],
                    np.swapaxes(value, 0, -1) if value.ndim else value, value.astype(float), value.astype(np.int64))
        if value.dtype.kind == "f":
            yield from (value * 1.2345678, np.full_like(value, np.nan), -value)
    elif type(value) in (int, float):
        yield from (value + 1, value * 1.2345678, -value)
    elif isinstance(value, list):
        yield from (value[:-1], [*value, *value], value[::-1])
    yield from LEAVES


def forged(value, depth=0):
    """Observations that differ from a right one at one place, or at all places of a list at once."""
    yield from changed(value)
    if depth > 4 or not isinstance(value, (dict, list)):
        return
    parts = value.items() if isinstance(value, dict) else list(enumerate(value))[:6]
    for key, part in parts:
        for other in forged(part, depth + 1):
            yield value | {key: other} if isinstance(value, dict) else [*value[:key], other, *value[key + 1:]]
    if isinstance(value, list):
        for columns in zip(*(itertools.islice(forged(part, depth + 1), 40) for part in value), strict=False):
            yield list(columns)


def measured_once(measured):
    """The same for each array of weights: nearly all that is forged leaves the weights as they are."""
    known = {}

    def measure(weights, right):
        key = weights.tobytes()
        if key not in known:
            known[key] = measured(weights, right)
        return known[key]

    return measure


@cache
def messages(exercise, name):
    """What a probe says to all that is forged: a set of (expected, got, likely)."""
    [one] = [one for one in PROBES[exercise] if one.name == name]
    wanted, found = right(exercise, one.name, 3), set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "measured", measured_once(training.measured))
        for seen in itertools.islice(forged(wanted), 1000):
            try:
                one(seen, wanted)
            except Wrong as wrong:
                found.add((wrong.expected, wrong.got, wrong.likely))
    return found


WORDS = {word for folder in ("grader/probes", "lab3/exercises") for path in (ROOT / folder).rglob("*.py")
         for word in re.findall(r"[a-z_]+", path.read_text(encoding="utf-8").lower())}
ALL = [(exercise, one) for exercise in EXERCISES for one in PROBES[exercise]]
BUILDING = [exercise for exercise, row in EXERCISES.items() if row.builds_on]
EXCEPTIONS = {name for name in vars(builtins) if exception_name({"type": name}) == name}
# Bits of what a kernel says: of each probe; of the first failure three numbers, a line and a reason; of the time; of
# the public checks a title and a reason.
A_PROBE = 8
FIRST = MOST_NUMBERS * math.log2(LARGEST + 3) + math.log2(MAX_CODE / 2) + math.log2(len(HINTS) + len(OWED) + 1)
TIME = 12  # an hour in seconds
ADVICE = {exercise: math.log2((len(checks.CHECKS[exercise]) + 1) * (len(_known_texts()) + 1)) for exercise in BUILDING}


@pytest.mark.parametrize("exercise, one", ALL, ids=[f"{exercise}-{one.name}" for exercise, one in ALL])
def test_a_message_holds_words_of_the_grader_and_few_small_numbers(exercise, one):
    for expected, got, likely in messages(exercise, one.name):
        words = set(re.findall(r"[a-z_]+", f"{expected} {got} {likely}".lower()))
        assert words <= WORDS | {name.lower() for name in EXCEPTIONS}, words - WORDS
        numbers = NUMBER.findall(got)
        assert len(numbers) <= MOST_NUMBERS and all(abs(float(number)) <= LARGEST for number in numbers), got
        assert all(number.isdigit() or float(number) == float(f"{float(number):.2g}") for number in numbers), got
        assert not re.search("83697|1234567|7.65432|1.23456", likely), likely


@pytest.mark.parametrize("exercise", BUILDING)
def test_a_probe_says_one_of_few_things_beside_the_numbers_and_lines_of_the_first_failure(exercise):
    for one in PROBES[exercise]:
        told = {tuple(NUMBER.sub("…", text) for text in message) for message in messages(exercise, one.name)}
        told |= {(*message[:1], kind) for message in told for kind in EXCEPTIONS if "KeyError" in message[1]}
        assert len(told) + 3 <= 2**A_PROBE, one.name  # it passes, is stopped, or ends with another exception


def test_a_reference_answer_takes_many_uploads():
    """The figures of docs/INSTRUCTOR.md: uploads that the code of each answer takes, without what explains it."""
    uploads = {}
    for name in {name for exercise in BUILDING for name in EXERCISES[exercise].builds_on}:
        tree = ast.parse(TEXTS[name])
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                node.body = node.body[1:]
        bits = sum(A_PROBE * len(PROBES[exercise]) + FIRST + ADVICE[exercise] for exercise in BUILDING
                   if name in EXERCISES[exercise].builds_on) + TIME
        uploads[name] = math.ceil(8 * len(zlib.compress(ast.unparse(tree).encode(), 9)) / bits)
    said = ", ".join(f"`{name}` {count}" for name, count in sorted(uploads.items(), key=lambda one: -one[1]))
    assert said in " ".join((ROOT / "docs" / "INSTRUCTOR.md").read_text(encoding="utf-8").split())


def test_one_line_and_the_numbers_of_one_failure_are_told_where_other_answers_are_in_the_kernel():
    """An attack: the lines of exceptions and the sizes of results spell the answer that is given."""
    text = "def iterative_decode():\n" + "\n".join(f"    raise {kind}" for kind in ("KeyError", "ValueError"))
    error = {"type": "KeyError", "value_error": False, "text": SECRET, "line": 0}
    lines = range(len(text.splitlines()) + 12)
    found = [explain(error | {"line": line, "type": kind}, text, alone=False)
             for line in lines for kind in ("KeyError", "ValueError")]
    found += [Outcome(False, "z_final of shape (2, 16)", f"shape (2, {n})") for n in range(17, 40)]
    told = []
    for one in found:
        told.append(limited(one, told))
    assert len({one.place for one in told if one.place}) <= 1
    assert len({(one.got, one.likely) for one in told if one.expected == NO_EXCEPTION}) == 2
    assert {one.got for one in told[-23:]} == {"shape (…, …)"}
    assert limited(replace(told[0], stopped=True, got="more than 60 s"), told).got == "more than 60 s"
    again = Outcome(False, "z_final of shape (2, 16)", "shape (2, 17)")
    assert limited(again, [again]) == again and limited(Outcome(True), told) == Outcome(True)


@pytest.mark.parametrize("got, said", [
    ("shape (2, 1025)", "shape (2, 1025)"), ("shape (2, 83697)", "shape (2, a long axis)"),
    ("83697 of them", "a large number of them"), ("shares that differ by up to 0.123456", "shares that differ by up to "
                                                  "0.12"),
    ("1, 2, 3, 4, 5", "1, 2, 3, …, …"), ("-3.4567e-300 or nan", "-3.5e-300 or nan"), ("float64", "float64"),
    (f"{10**400}", "a large number")])
def test_numbers_of_what_came_are_bounded(got, said):
    """An attack: shapes, counts and floats that spell text."""
    assert bounded(got) == said == Wrong("a result", got).got
