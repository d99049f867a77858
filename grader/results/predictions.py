"""What a class predicted, question by question, beside what came out; no one is named.

In: submissions whose students packed their predictions. Out: a page, one file that loads nothing.
"""

import json
import statistics
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from grader.results.pages import PAGES
from grader.submission.archive import Unusable, unpacked
from grader.submission.side_by_side import read_all
from grader.submission.submission import find_submissions
from lab3.common.files import InputError, write_text
from lab3.exercises.predictions import FOLDER, QUESTIONS, checked

MOST = 20_000  # bytes of a file
BARS = 8  # rows of a number's chart, at most


@dataclass(frozen=True)
class ClassPredictions:
    """What a class predicted.

    Attributes:
        submissions: how many there are.
        with_predictions: how many of them hold predictions.
        predictions, results: dicts, question -> a list of numbers or words.
        unreadable: the names of submissions with a file that the notebooks did not write so.
    """

    submissions: int
    with_predictions: int
    predictions: dict
    results: dict
    unreadable: tuple


def read_class(paths):
    """The predictions in the submissions that some paths name.

    Raises:
        InputError: a path does not exist.
    """
    read = read_all(find_submissions(paths), read_one)
    found = {name: one for name, one in read.items() if not isinstance(one, str)}
    lists = {key: {name: [one[name][key] for one, _ in found.values() if key in one.get(name, {})]
                   for name in QUESTIONS} for key in ("prediction", "result")}
    return ClassPredictions(len(read), sum(bool(one) for one, _ in found.values()), lists["prediction"],
                            lists["result"], tuple(name for name in read if name not in found or found[name][1]))


def read_one(paths, name):
    """A submission's predictions, as `predictions.read` gives them, and whether a file of them cannot be used.

    Of several files for one notebook, the latest counts.
    """
    found, unreadable = {}, False
    for path in reversed(paths):
        try:
            with unpacked(path, lambda note: None) as entries:
                for entry in entries:
                    if entry.kind == ".json" and entry.place.parts[-3:-1] == ("work", FOLDER):
                        try:
                            text = b"".join(entry.blocks(MOST, "Pack it again"))
                            found |= checked(json.loads(text), entry.place)
                        except (InputError, Unusable, ValueError, RecursionError):
                            unreadable = True
        except (Unusable, OSError):  # `grade` says what is wrong with it
            pass
    return found, unreadable


def write_page(found, path):
    """Write the page of a `ClassPredictions`. Raises `SaveError`."""
    write_text(Path(path), PAGES.get_template("predictions.html").render(
        found=found, questions=[_shown(one, found) for one in QUESTIONS.values()]))


def _shown(question, found):
    """What the page shows of a question: how many predicted what, and what came out."""
    guesses, results = found.predictions[question.id], found.results[question.id]
    if question.choices:
        rows, result = _words(question, guesses), Counter(results).most_common(1)[0][0] if results else None
        held = [label == result for label, _ in rows]
    else:
        result = statistics.median(results) if results else None
        rows, held = _numbers(question, guesses, result)
    most = max((count for _, count in rows), default=0) or 1
    return {"question": question, "n": len(guesses), "n_results": len(results),
            "result": None if result is None else question.shown(result),
            "rows": [(label, count, 100 * count / most, here) for (label, count), here in zip(rows, held, strict=True)]}


def _words(question, guesses):
    counts = Counter(guesses)
    return [(choice, counts[choice]) for choice in question.choices]


def _numbers(question, guesses, result):
    """Rows (label, count) of one width, between round numbers, and whether the result is in each."""
    if not guesses:
        return [], []
    seen = guesses if result is None else [*guesses, result]
    low, high = min(seen), max(seen)
    if low == high:
        return [(question.shown(low), len(guesses))], [result is not None]
    edges = MaxNLocator(BARS, steps=[1, 2, 5, 10]).tick_values(low, high)
    counts, held = (np.histogram(values, edges)[0].tolist() for values in (guesses, [] if result is None else [result]))
    rows = [(f"{question.shown(a).removesuffix(question.unit).strip()} to {question.shown(b)}", count)
            for (a, b), count in zip(pairwise(edges), counts, strict=True)]
    return rows, [bool(one) for one in held]
