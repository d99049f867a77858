"""What staff read about similar answers: a table of all pairs, a page for the class, and one for each pair.

In: a `Comparison`. Out: `similar.csv`, `similar.html`, and `similar/NAME+NAME.html` with both answers side by side.
Each page is one file that loads nothing; code is shown as text, whatever it holds.
"""

import csv
import io
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np

from grader.results.files import block, harmless, number
from grader.results.pages import PAGES
from grader.similar.compare import ONE_EXERCISE, OVERALL
from lab3.common.files import write_text
from lab3.exercises.table import EXERCISES

TABLE, INDEX, FOLDER = "similar.csv", "similar.html", "similar"
MOST_PAIRS = 100  # with a page; the table has all
MOST_LINES = 400  # of an answer on a page
COLOURS = 6  # of stretches; the seventh has the first one's again, and every one has a number


def write_report(comparison, out):
    """Write the table and the pages; pages of pairs that are no longer reported go.

    Args:
        comparison: a `Comparison`.
        out: a folder.

    Returns:
        The pairs reported, all of them.

    Raises:
        SaveError: a file cannot be written.
    """
    out, pairs, reported = Path(out), comparison.pairs(), comparison.reported()
    _write_table(comparison, pairs, out / TABLE)
    written = set()
    for pair in reported[:MOST_PAIRS]:
        page = out / FOLDER / _page_of(comparison, pair)
        write_text(page, PAGES.get_template("pair.html").render(_pair(comparison, pair)))
        written.add(page.name)
    for page in (out / FOLDER).glob("*+*.html"):
        if page.name not in written:
            page.unlink()
    figures = [comparison.overall[pair] for pair in pairs]
    write_text(out / INDEX, PAGES.get_template(INDEX).render(
        lines=[_line(comparison, pair) for pair in reported[:MOST_PAIRS]], reported=len(reported), pairs=len(pairs),
        compared=len(comparison.handed), skipped=comparison.skipped,
        partly=[one for one in comparison.handed if one.notes],
        exercises=EXERCISES, half=_percent(np.median(figures)), most=_percent(np.quantile(figures, 0.9)),
        overall=_percent(OVERALL), one_exercise=_percent(ONE_EXERCISE), table=TABLE))
    return reported


def _page_of(comparison, pair):
    return "+".join(sorted(comparison.handed[place].name for place in pair)) + ".html"


def _percent(figure):
    return 100 * float(figure)


def _write_table(comparison, pairs, path):
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["first", "second", "overall", *EXERCISES])
    names = [harmless(one.name) for one in comparison.handed]
    for i, j in pairs:
        figures = [comparison.alike[exercise][i, j] for exercise in EXERCISES]
        table.writerow([names[i], names[j], number(_percent(comparison.overall[i, j]), 1),
                        *("" if np.isnan(one) else number(_percent(one), 1) for one in figures)])
    write_text(path, text.getvalue())


def _line(comparison, pair):
    """A pair's line on the page for the class."""
    return {"names": [comparison.handed[place].name for place in pair],
            "address": f"{FOLDER}/{quote(_page_of(comparison, pair))}",
            "overall": _percent(comparison.overall[pair]),
            "figures": [None if np.isnan(figures[pair]) else _percent(figures[pair])
                        for figures in comparison.alike.values()]}


def _pair(comparison, pair):
    """What the page of a pair shows."""
    names, exercises = [comparison.handed[place].name for place in pair], []
    for exercise, row in EXERCISES.items():
        if np.isnan(comparison.alike[exercise][pair]):
            continue
        stretches = comparison.stretches(*pair, exercise)
        texts = [comparison.handed[place].codes[exercise].text for place in pair]
        shown, sides = _sides(texts, stretches)
        exercises.append({"id": exercise, "notebook": row.notebook, "stretches": shown,
                          "alike": _percent(comparison.alike[exercise][pair]),
                          "sides": [(side, name, *lines) for side, name, lines in
                                    zip("ab", names, sides, strict=True)]})
    return {"names": names, "overall": _percent(comparison.overall[pair]),
            "exercises": sorted(exercises, key=lambda one: -one["alike"]),
            "index": f"../{INDEX}", "others": len(comparison.handed) - 2}


def _sides(texts, stretches):
    """Two answers line by line.

    Returns:
        (shown, sides): the stretches that have a line of their own on both sides, as dicts `number, colour, first,
        second, others`; and for each text (lines, how many are left out), lines as dicts `number, text, stretch,
        begins`.
    """
    stretches = sorted(stretches, key=lambda one: one.first[1] - one.first[0])  # of two on one line, the longer has it
    owners = [{}, {}]
    for stretch in stretches:
        for owner, (first, last) in zip(owners, (stretch.first, stretch.second), strict=True):
            owner.update(dict.fromkeys(range(first, min(last, MOST_LINES) + 1), stretch))
    seen = [{id(one): one for one in owner.values()} for owner in owners]
    kept = sorted((seen[0][one] for one in seen[0].keys() & seen[1].keys()), key=lambda one: one.first)
    shown = {id(one): {"number": place, "colour": (place - 1) % COLOURS + 1, "first": _lines(one.first),
                       "second": _lines(one.second), "others": one.others} for place, one in enumerate(kept, 1)}
    sides = []
    for text, owner in zip(texts, owners, strict=True):
        rows, begun = re.split(r"\r\n|\r|\n", text.rstrip()), set()
        lines = []
        for place, row in enumerate(rows[:MOST_LINES], 1):
            stretch = shown.get(id(owner.get(place)))
            begins = stretch is not None and stretch["number"] not in begun
            begun |= {stretch["number"]} if begins else set()
            lines.append({"number": place, "text": block(row).replace("\n", " "), "stretch": stretch, "begins": begins})
        sides.append((lines, max(0, len(rows) - MOST_LINES)))
    return list(shown.values()), sides


def _lines(span):
    first, last = span
    return f"line {first}" if first == last else f"lines {first} to {last}"
