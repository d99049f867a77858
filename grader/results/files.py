"""The files and the lines that say how a submission did: `results.json`, `grades.csv`, parts of texts.

In: `Result`s. Out: files, each whole or not written, and text without anything that a reader's program would act on:
names, notes and messages come in part from students.
"""

import csv
import io
import json
import math
import re
import unicodedata
from pathlib import Path

from grader.kernels.sandbox import IN_FORCE
from grader.results.result import ExerciseResult, ProbeResult, Result, from_dict, to_dict
from lab3.common.files import InputError, clean, read_json, write_text
from lab3.exercises.table import EXERCISES

RESULTS, GRADES, RUN = "results.json", "grades.csv", "run.json"
# The columns of the marks: the exercises', then what the threshold of the distance gives; id -> notebook.
COLUMNS = {**{one.id: one.notebook for one in EXERCISES.values()},
           "fid_decoding": "06", "fid_model": "06"}
VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")
UNWRITTEN = ("not written", "missing")  # no use in saying probe by probe what is wrong
DECISIVE = "decisive: while this fails, the exercise gives no points"

_STEERS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # turn the direction of what follows
SAYS = "The public checks of the notebook say it too: "
FOLDED = "Correct that first: these checks may fail for the same reason."
PASSES = "The public checks of the notebook pass: what is wrong is found by hidden checks alone."
LIKELY = "Likely: "
_ADVICE = ("The public checks of the notebook", LIKELY)  # how such notes begin
LOOK = "Your instructor may review this code, because it does not show all that it calls"
_QUIET = re.compile("It uses other cells |.* counts: ")
_SHAPE = re.compile(r"shape \(([0-9, ]*)\)")


def short(text, limit=220):
    """Text on one line, as pages and terminals show it: clean, at most `limit` characters, its direction its own."""
    return _cut(" ".join(_unsteered(str(text)[:20 * limit]).split()), limit)


def block(text, most=40, limit=400):
    """Text of several lines, as terminals show it: as `short`, line by line, with the spaces that it has."""
    lines = _unsteered(str(text)[:most * limit]).splitlines()
    return "\n".join(_cut(line.expandtabs(4).rstrip(), limit) for line in lines[:most])


def _unsteered(text):
    return "".join(one for one in clean(text) if unicodedata.bidirectional(one) not in _STEERS)


def _cut(text, limit):
    return text if len(text) <= limit else text[:limit - 1] + "…"


def in_force(level):
    """What walls student code had, in a sentence."""
    return IN_FORCE.get(level, f"Sandbox: {short(level, 40)}.")


def number(value, digits=2):
    """A number without needless zeros: 6, 4.5, 0.33."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def worth(exercise):
    """The points of each probe of an `ExerciseResult`, in their order: its weight's share."""
    total = sum(probe.weight for probe in exercise.probes)
    return [exercise.max_points * probe.weight / total if total else 0.0 for probe in exercise.probes]


def reasons(exercise):
    """The failed probes of an `ExerciseResult` by what went wrong: (groups, folded), lists of lists of (probe, points).

    Decisive ones come first, then those whose likely reason is known. Where it is, or the public checks say what is
    wrong, other probes may fail for the same reason: these are folded.
    """
    found = {}
    for place, (probe, points) in enumerate(zip(exercise.probes, worth(exercise), strict=True)):
        if not probe.passed:
            reason = probe.likely or (probe.expected, probe.got, probe.place)
            found.setdefault(reason if any(reason) else place, []).append((probe, points))
    groups = sorted(found.values(), key=lambda group: (not any(probe.decisive for probe, _ in group),
                                                       not group[0][0].likely))
    known = any(note.startswith(SAYS) for note in exercise.notes) or any(group[0][0].likely for group in groups[:1])
    shown = max(1, sum(any(probe.decisive for probe, _ in group) for group in groups)) if known else len(groups)
    return groups[:shown], groups[shown:]


def sorted_notes(exercise, most=20):
    """The notes of an `ExerciseResult` as (advice, others, quiet ones, such as which cell counted)."""
    advice, others, quiet = [], [], []
    for note in exercise.notes[:most]:
        (advice if note.startswith(_ADVICE) else quiet if _QUIET.match(note) else others).append(note)
    return advice, others, quiet


def distance(exercise):
    """The distance that an `ExerciseResult` tells, a finite number; None without one."""
    try:
        found = float((exercise.details or {}).get("distance", ""))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def rows(probe):
    """What there is to say about a failed probe: a list of (label, text)."""
    return [(label, short(text)) for label, text in [
        ("expected", probe.expected), ("got", probe.got), ("shape", shape_words(probe.expected, probe.got)),
        ("at", probe.place), ("likely", probe.likely)] if text]


def shape_words(expected, got):
    """Where two texts name one shape each and they differ: in words, how. Else an empty text."""
    wanted, found = (_SHAPE.findall(text[:2000]) for text in (expected, got))
    if len(wanted) != 1 or len(found) != 1:
        return ""
    wanted, found = (re.findall("[0-9]+", one[0]) for one in (wanted, found))
    if wanted == found:
        return ""
    if len(wanted) != len(found):
        axes = "axis" if len(found) == 1 else "axes"
        return f"{len(found)} {axes} where {len(wanted)} {'is' if len(wanted) == 1 else 'are'} expected"
    if sorted(wanted) == sorted(found):
        return "the same sizes in another order: two axes are swapped" if sum(
            one != other for one, other in zip(wanted, found, strict=True)) == 2 else "the same sizes in another order"
    return ", ".join(f"axis {axis} is {other} where {one} is expected"
                     for axis, (one, other) in enumerate(zip(wanted, found, strict=True)) if one != other)


def write_result(result, folder, visibility="visible"):
    """Write `results.json` as Gradescope reads it; `extra_data` holds the whole `Result`.

    Args:
        result: a `Result`.
        folder: where to put the file.
        visibility: when students see the tests, one of `VISIBILITIES`. Unless that is at once, neither text nor
            leaderboard tells the score.

    Raises:
        SaveError: the file cannot be written.
        ValueError: another visibility; or a number that is not finite, which JSON cannot hold.
    """
    if visibility not in VISIBILITIES:
        raise ValueError(f"visibility must be one of {', '.join(VISIBILITIES)}, not {visibility!r}")
    told = visibility == "visible"
    output = [f"Score {number(result.score)} of {number(result.max_score)}."] * told
    output += [f"Not graded: {short(result.status, 40)}."] * (result.status != "graded")
    output += [f"{in_force(result.sandbox)} Seed: {result.seed}."]
    output += [short(note, 400) for note in result.notes[:20]]
    record = {
        "score": result.score, "execution_time": round(result.seconds), "output": "\n".join(output),
        "output_format": "text", "visibility": "visible", "stdout_visibility": "hidden",
        "tests": [_test(one, place, visibility) for place, one in enumerate(result.exercises, start=1)],
        "extra_data": _cleaned(to_dict(result))}
    if told and (board := _leaderboard(result)):
        record["leaderboard"] = board
    write_text(Path(folder) / RESULTS, json.dumps(record, indent=2, allow_nan=False) + "\n")


def _test(one, place, visibility):
    """One exercise as a test of Gradescope's."""
    advice, others, quiet = sorted_notes(one)
    lines = [f"Status: {short(one.status, 40)}", *map(short, advice), *(f"Note: {short(note)}" for note in others),
             *(f"{short(name, 60)}: {short(value, 60)}" for name, value in list((one.details or {}).items())[:20])]
    groups, folded = reasons(one)
    for group in (*groups, *folded):
        lines += [FOLDED] * (group is (folded or [None])[0])
        titles = [f"{short(probe.title)} ({number(points)}){f'; {DECISIVE}' * probe.decisive}"
                  for probe, points in group]
        alone = len(group) == 1
        lines.append(f"not ok  {titles[0] if alone else f'{len(group)} checks failed for the same reason'}")
        lines += [f"        {label:<9} {text}" for label, text in rows(group[0][0])]
        lines += [f"        - {title}" for title in titles if not alone]
    lines += [f"ok      {short(probe.title)} ({number(points)})"
              for probe, points in zip(one.probes, worth(one), strict=True) if probe.passed]
    lines += [f"Note: {short(note)}" for note in quiet]
    notebook = COLUMNS.get(one.exercise)
    return {"name": short(one.exercise, 60) + (f" (notebook {notebook})" if notebook else ""), "number": str(place),
            "score": one.points, "max_score": one.max_points,
            "status": "passed" if one.status == "passed" else "failed",
            "output": "\n".join(lines), "output_format": "text", "visibility": visibility}


def _leaderboard(result):
    """The distance of the student's decoding, where it was measured."""
    return [{"name": "Distance (lower is better)", "value": distance(one), "order": "asc"}
            for one in result.exercises if one.exercise == "fid_decoding" and distance(one) is not None][:1]


def _cleaned(value):
    """The same data with every text cleaned."""
    if isinstance(value, dict):
        return {clean(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return clean(value) if isinstance(value, str) else value


def read_result(folder):
    """The `Result` that `write_result` put into a folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(folder) / RESULTS
    try:
        result = from_dict(read_json(path)["extra_data"])
        _check(result, Result)
        for exercise in result.exercises:
            _check(exercise, ExerciseResult)
            for probe in exercise.probes:
                _check(probe, ProbeResult)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: holds no marks of this grader ({type(error).__name__}: {error}). "
                         "Delete it and grade the submission again.") from None
    return result


def earlier_result(folder):
    """The `Result` in a folder; None where there is none yet, or a damaged one."""
    try:
        return read_result(folder)
    except InputError:
        return None


def _check(record, kind):
    """Raise TypeError unless every field has the type that its class names."""
    for name, wanted in kind.__annotations__.items():
        value = getattr(record, name)
        right = isinstance(value, (int, float) if wanted is float else wanted) and (
            wanted is bool or not isinstance(value, bool))
        if not right and (name, value) != ("details", None):
            raise TypeError(f"{name} is no {wanted.__name__}")
        if name == "notes" and not all(isinstance(note, str) for note in value):
            raise TypeError("a note is no text")
        if isinstance(value, float) and not math.isfinite(value):
            raise TypeError(f"{name} is not finite")


def write_grades(results, path, columns=tuple(COLUMNS)):
    """Write the marks of a class as `grades_table` gives them.

    Args:
        results: `Result`s.
        path: the file.
        columns: the ids of the rubric.

    Raises:
        SaveError: the file cannot be written.
    """
    write_text(path, grades_table(results, columns))


def grades_table(results, columns=tuple(COLUMNS)):
    """The marks of a class as CSV, a row a submission, sorted; an exercise that was not graded is left empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["submission", "score", "max_score", "status", "sandbox", "seconds", "seed", *columns])
    for result in sorted(results, key=lambda one: one.submission):
        points = {one.exercise: number(one.points) for one in result.exercises}
        table.writerow([harmless(result.submission), number(result.score), number(result.max_score),
                        harmless(result.status), harmless(result.sandbox), number(result.seconds, 1), result.seed,
                        *(points.get(column, "") for column in columns)])
    return text.getvalue()


def harmless(name):
    """Text that no spreadsheet takes for a formula."""
    text = short(name, 200)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) else text
