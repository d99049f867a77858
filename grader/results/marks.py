"""The marks that count: the grader's, with what people added by hand, less what lateness costs.

In: `grades.csv`, and beside it, where they exist, `manual.csv`, `extensions.csv` and `submitted.csv`, which people
write and the grader never does; the policy in `rubric.yml`. Out: a `Mark` a submission.
"""

import csv
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml
from dateutil import parser

from grader.results.files import COLUMNS, GRADES, number
from grader.rubric import RUBRIC
from lab3.common.files import InputError

MANUAL, EXTENSIONS, SUBMITTED = "manual.csv", "extensions.csv", "submitted.csv"
DAY = 86400


@dataclass(frozen=True)
class Late:
    """What lateness costs: nothing until the grace has passed, then per cent for each day begun, up to a cap."""

    deadline: datetime | None = None
    zone: str = "UTC"
    grace_minutes: float = 0
    percent_per_day: float = 0
    at_most: float = 100

    def percent(self, submitted, extended=None):
        """Per cent of the points to take off; `extended` is this student's own deadline. Times know their zone."""
        deadline = extended or self.deadline
        if deadline is None or submitted is None:
            return 0.0
        seconds = (submitted - deadline).total_seconds()
        if seconds <= 60 * self.grace_minutes:
            return 0.0
        return float(min(self.at_most, self.percent_per_day * math.ceil(seconds / DAY)))


@dataclass(frozen=True)
class Mark:
    """One submission's mark.

    Attributes:
        automatic: the grader's points; `most`: the points that there are.
        manual: what people added, negative where they took off.
        late: per cent taken off.
        final: the mark; None where the grader broke down.
        comment: what people wrote, for the student.
        timed: whether the time of handing in is known.
    """

    submission: str
    automatic: float
    most: float
    manual: float
    late: float
    final: float | None
    comment: str
    timed: bool


def read_late(path=RUBRIC):
    """The policy of the rubric. Raises `InputError` where it cannot be used."""
    settings = (yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}).get("late") or {}
    if not isinstance(settings, dict) or settings.keys() - Late.__annotations__.keys():
        raise InputError(f"{path}: late may hold {', '.join(Late.__annotations__)}, no more.")
    zone = str(settings.get("zone", "UTC"))
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise InputError(f"{path}: late: zone {zone!r} is unknown. Write one such as Europe/Zurich.") from None
    for name in ("grace_minutes", "percent_per_day", "at_most"):
        value = settings.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise InputError(f"{path}: late: {name} must be a number that is not negative, not {value!r}.")
    if settings.get("at_most", 0) > 100:
        raise InputError(f"{path}: late: at_most is per cent, 100 at most, not {settings['at_most']!r}.")
    deadline = settings.get("deadline")
    if deadline is not None:
        deadline = read_time(str(deadline), zone, f"{path}: late: deadline", deadline=True)
    return Late(**{**settings, "zone": zone, "deadline": deadline})


def read_time(text, zone, where, deadline=False):
    """A time that knows its zone: `zone`'s where the text names none; None for an empty text or a dash.

    Args:
        text: as ISO 8601 has it, or with the month's English name, as Moodle writes it.
        deadline: whether the hour must be named.

    Raises:
        InputError: it cannot be read; the message begins with `where`.
    """
    if text.strip() in ("", "-"):
        return None
    try:
        if not re.search("[A-Za-z]{3}", text):  # 03/04/2026 is one day here, another there
            time = datetime.fromisoformat(text.strip())
        else:
            time = parser.parse(text)
        if deadline and ":" not in text:
            raise ValueError("no hour")
    except (ValueError, OverflowError):
        raise InputError(f"{where}: {text!r} is no time. Write it such as 2026-12-01 23:59.") from None
    return (time if time.tzinfo else time.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def read_table(path, needed=()):
    """A CSV file as people and systems write them: with commas, semicolons or tabs, a byte order mark or none.

    Returns:
        (header, rows): the names of the columns as they stand there, and a dict a row.

    Raises:
        InputError: no such file, no text, or a column of `needed` is missing.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text ({error}). Save it as CSV in UTF-8.") from None
    first = text.split("\n", 1)[0]
    try:
        lines = csv.reader(text.splitlines(keepends=True), delimiter=max(",;\t", key=first.count), strict=True)
        header, *rows = [[cell.strip() for cell in line] for line in lines if any(cell.strip() for cell in line)]
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: not readable as CSV ({error}). Save it again as CSV in UTF-8.") from None
    missing = [name for name in needed if name not in header]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]}. Its first line must name {', '.join(needed)}.")
    wrong = next((place for place, row in enumerate(rows, 2) if len(row) > len(header)), None)
    if wrong:
        raise InputError(f"{path}: row {wrong} has more cells than the first. Put texts with commas into quotes.")
    return header, [dict(zip(header, row + [""] * (len(header) - len(row)))) for row in rows]


def read_grades(path):
    """The rows of `grades.csv`, or of the one in a folder: a dict, submission -> row. Raises `InputError`."""
    path = Path(path)
    path = path / GRADES if path.is_dir() else path
    _, rows = read_table(path, ("submission", "score", "max_score", "status"))
    for row in rows:
        for name in {"score", "max_score", *COLUMNS} & row.keys():
            if row[name] or name in ("score", "max_score"):
                row[name] = _points(row[name], f"{path}: {row['submission']}: {name}")
    return {row["submission"]: row for row in rows}


def read_marks(grades, late=None, submitted=None):
    """The marks of a class.

    Args:
        grades: `grades.csv` or its folder.
        late: a `Late`; None: the rubric's.
        submitted: submission -> when it was handed in, as text, where `submitted.csv` does not say.

    Returns:
        A dict, submission -> `Mark`.

    Raises:
        InputError: a file cannot be used, or names what does not exist.
    """
    rows, late = read_grades(grades), late or read_late()
    folder = Path(grades) if Path(grades).is_dir() else Path(grades).parent
    added, comments = _manual(folder / MANUAL, rows)
    times = {name: (text, "the roster") for name, text in (submitted or {}).items()}
    times |= {name: (text, folder / SUBMITTED) for name, text in _column(folder / SUBMITTED, "submitted", rows).items()}
    extended = _column(folder / EXTENSIONS, "deadline", rows)
    marks = {}
    for name, row in rows.items():
        text, source = times.get(name, ("", ""))
        time = read_time(text, late.zone, f"{source}: {name}")
        until = read_time(extended.get(name, ""), late.zone, f"{folder / EXTENSIONS}: {name}", deadline=True)
        percent, manual = late.percent(time, until), added.get(name, 0.0)
        final = max(0.0, row["score"] + manual) * (1 - percent / 100)
        marks[name] = Mark(name, row["score"], row["max_score"], manual, percent,
                           None if row["status"] == "error" else round(final, 2), comments.get(name, ""),
                           time is not None)
    return marks


def _manual(path, rows):
    """What `manual.csv` adds: (submission -> points, submission -> comment).

    Points for an exercise take the place of the grader's, whatever those are after a regrade; points without an
    exercise are added.
    """
    added, comments, seen = {}, {}, set()
    if not path.is_file():
        return added, comments
    _, lines = read_table(path, ("submission", "exercise", "points", "comment"))
    for place, line in enumerate(lines, 2):
        name, exercise, where = line["submission"], line["exercise"], f"{path}, row {place}"
        _known(name, rows, where)
        if exercise and line["points"]:
            if exercise not in COLUMNS or rows[name].get(exercise, "") == "":
                raise InputError(f"{where}: {exercise!r} was not graded. Name one of {', '.join(COLUMNS)}, or leave it "
                                 "empty to add to the whole.")
            if (name, exercise) in seen:
                raise InputError(f"{where}: {exercise} of {name} has points already. Keep one of the two rows.")
            seen.add((name, exercise))
            points = _points(line["points"], where)
            if points < 0:
                raise InputError(f"{where}: points of an exercise are not negative. Leave the exercise empty to take "
                                 "points off the whole.")
            added[name] = added.get(name, 0.0) + points - rows[name][exercise]
        elif line["points"]:
            added[name] = added.get(name, 0.0) + _points(line["points"], where)
        if line["comment"]:
            said = f"{exercise}: {line['comment']}" if exercise else line["comment"]
            comments[name] = f"{comments[name]}\n{said}" if name in comments else said
    return added, comments


def _column(path, name, rows):
    """The column of a file beside `grades.csv` by submission; nothing where there is no such file."""
    if not path.is_file():
        return {}
    _, lines = read_table(path, ("submission", name))
    for place, line in enumerate(lines, 2):
        _known(line["submission"], rows, f"{path}, row {place}")
    return {line["submission"]: line[name] for line in lines}


def _known(name, rows, where):
    if name not in rows:
        raise InputError(f"{where}: no submission {name!r} in {GRADES}. Write the name as it stands there.")


def _points(text, where):
    try:
        points = float(text)
    except ValueError:
        points = math.nan
    if not math.isfinite(points):
        raise InputError(f"{where}: {text!r} is no number of points. Write one such as 4.5.")
    return points


def differences(old, new):
    """What a regrade changed.

    Args:
        old, new: `grades.csv` files, or folders that hold one.

    Returns:
        Lines: one for each submission with another mark, then one for all.

    Raises:
        InputError: a file cannot be used.
    """
    old, new = read_grades(old), read_grades(new)
    lines, up, down = [], 0, 0
    both = sorted(old.keys() & new.keys())
    for name in both:
        before, after = old[name], new[name]
        parts = [f"{column} {_shown(before.get(column, ''))} -> {_shown(after.get(column, ''))}"
                 for column in COLUMNS if before.get(column, "") != after.get(column, "")]
        parts += [f"{before['status']} -> {after['status']}"] * (before["status"] != after["status"])
        if before["score"] != after["score"] or parts:
            up, down = up + (after["score"] > before["score"]), down + (after["score"] < before["score"])
            lines.append(f"{name}: {_shown(before['score'])} -> {_shown(after['score'])}"
                         + (f" ({', '.join(parts)})" if parts else ""))
    changed = len(lines)
    for names, where in ((old.keys() - new.keys(), "OLD"), (new.keys() - old.keys(), "NEW")):
        lines += [f"only in {where}: {', '.join(sorted(names))}"] * bool(names)
    means = [sum(rows[name]["score"] for name in both) / max(1, len(both)) for rows in (old, new)]
    return [*lines, f"{changed} of {len(both)} submissions changed: {up} higher, {down} lower; "
                    f"mean {number(means[0])} -> {number(means[1])}"]


def _shown(points):
    return "-" if points == "" else number(points)
