"""The files and the lines that say how a submission did: `results.json`, `grades.csv`, text for the terminal.

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

from grader.result import ExerciseResult, ProbeResult, Result, from_dict, to_dict
from lab3.exercises import EXERCISES
from lab3.files import InputError, read_json, write_text

RESULTS, GRADES = "results.json", "grades.csv"
# The columns of the marks: the exercises', then what the threshold of the distance gives; id -> notebook.
COLUMNS = {**{exercise: notebook for exercise, (_, notebook) in EXERCISES.items()},
           "fid_decoding": "06", "fid_model": "06"}
VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")
WORDS = {"passed": "[OK]", "partly": "[FAIL]", "failed": "[FAIL]", "stopped": "[STOP]", "not written": "[TODO]",
         "missing": "[TODO]"}
UNWRITTEN = ("not written", "missing")  # no use in saying probe by probe what is wrong
NOT_FINAL = "Self-check: only the public checks ran. The hidden probes did not, so no marks are final."

_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, half characters
_STEERS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # turn the direction of what follows
_SHAPE = re.compile(r"shape \(([0-9, ]*)\)")


def clean(text):
    """Text that every reader takes: no control characters but line ends and tab, nothing that UTF-8 cannot hold."""
    return _UNREADABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def short(text, limit=220):
    """Text on one line, as pages and terminals show it: clean, at most `limit` characters, its direction its own."""
    text = clean(str(text)[:20 * limit])
    text = "".join(one for one in text if unicodedata.bidirectional(one) not in _STEERS)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit - 1] + "…"


def number(value, digits=2):
    """A number without needless zeros: 6, 4.5, 0.33."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def worth(exercise):
    """The points of each probe of an `ExerciseResult`, in their order: its weight's share."""
    total = sum(probe.weight for probe in exercise.probes)
    return [exercise.max_points * probe.weight / total if total else 0.0 for probe in exercise.probes]


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


def summary(result):
    """A `Result` as lines for the terminal."""
    lines = []
    for one in result.exercises:
        lines.append(f"{WORDS.get(one.status, '[FAIL]'):<6} {short(one.exercise, 40):<22} "
                     f"{number(one.points):>5} / {number(one.max_points)}")
        lines += [f"       {'note':<9} {short(note)}" for note in one.notes[:20]]
        for probe in one.probes:
            if not probe.passed and one.status not in UNWRITTEN:
                lines += [f"       {label:<9} {text}" for label, text in [("failed", short(probe.title)), *rows(probe)]]
    lines += [short(note, 400) for note in result.notes[:20]]
    if result.status != "graded":
        lines.append(f"Not graded: {short(result.status, 40)}.")
    lines.append(f"Score  {number(result.score)} / {number(result.max_score)}")
    if result.mode == "self-check":
        lines.append(NOT_FINAL)
    return "\n".join(lines)


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
    output += [f"Sandbox: {short(result.sandbox, 40)}. Seed: {result.seed}."]
    output += [NOT_FINAL] * (result.mode == "self-check")
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
    lines = [f"Status: {short(one.status, 40)}", *(f"Note: {short(note)}" for note in one.notes[:20]),
             *(f"{short(name, 60)}: {short(value, 60)}" for name, value in list((one.details or {}).items())[:20])]
    for probe, points in zip(one.probes, worth(one), strict=True):
        lines.append(f"{'ok    ' if probe.passed else 'not ok'}  {short(probe.title)} ({number(points)})")
        if not probe.passed and one.status not in UNWRITTEN:
            lines += [f"        {label:<9} {text}" for label, text in rows(probe)]
    notebook = COLUMNS.get(one.exercise)
    return {"name": short(one.exercise, 60) + (f" (notebook {notebook})" if notebook else ""), "number": str(place),
            "score": one.points, "max_score": one.max_points,
            "status": "passed" if one.status == "passed" else "failed",
            "output": "\n".join(lines), "output_format": "text", "visibility": visibility}


def _leaderboard(result):
    """The distance of the student's decoding, where it was measured."""
    for one in result.exercises:
        if one.exercise == "fid_decoding":
            try:
                distance = float((one.details or {}).get("distance", ""))
            except ValueError:
                continue
            if math.isfinite(distance):
                return [{"name": "Distance (lower is better)", "value": distance, "order": "asc"}]
    return []


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
    """Write the marks of a class as CSV, a row a submission, sorted; an exercise that was not graded is left empty.

    Args:
        results: `Result`s.
        path: the file.
        columns: the ids of the rubric.

    Raises:
        SaveError: the file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["submission", "score", "max_score", "status", "sandbox", "seconds", "seed", *columns])
    for result in sorted(results, key=lambda one: one.submission):
        points = {one.exercise: number(one.points) for one in result.exercises}
        table.writerow([_harmless(result.submission), number(result.score), number(result.max_score),
                        _harmless(result.status), _harmless(result.sandbox), number(result.seconds, 1), result.seed,
                        *(points.get(column, "") for column in columns)])
    write_text(path, text.getvalue())


def _harmless(name):
    """Text that no spreadsheet takes for a formula."""
    text = short(name, 200)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) else text
