"""The marks that count: the grader's, with what people added by hand, less what lateness costs.

In: `grades.csv`, and beside it, where they exist, `manual.csv`, `extensions.csv` and `submitted.csv`, which people
write and the grader never does; the policy in the rubric. Out: a `Mark` a submission. `handed_back.json` keeps what
was handed back, and when.
"""

import csv
import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from grader.results.files import COLUMNS, GRADES, number
from grader.rubric import read_rubric, read_time, rubric_of
from lab3.common.files import InputError, read_json, write_json

MANUAL, EXTENSIONS, SUBMITTED, HANDED_BACK = "manual.csv", "extensions.csv", "submitted.csv", "handed_back.json"


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
        points: column -> the points that count, by hand or the grader's.
        by_hand: the columns of these that people gave points for.
        hand_columns: column that people alone mark -> its points; without points in `points` it is not marked yet.
    """

    submission: str
    automatic: float
    most: float
    manual: float
    late: float
    final: float | None
    comment: str
    timed: bool
    points: dict = field(default_factory=dict)
    by_hand: tuple = ()
    hand_columns: dict = field(default_factory=dict)


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


def read_marks(grades, late=None, submitted=None, hand_columns=None):
    """The marks of a class.

    Args:
        grades: `grades.csv` or its folder.
        late: a `Late`; None: that of the rubric that counts for the folder.
        submitted: submission -> when it was handed in, as text, where `submitted.csv` does not say; None: what was
            known when marks were handed back.
        hand_columns: column that people alone mark -> its points; None: those of the rubric that counts for the
            folder. Columns of 0 points are left out.

    Returns:
        A dict, submission -> `Mark`.

    Raises:
        InputError: a file cannot be used, or names what does not exist.
    """
    rows, folder = read_grades(grades), folder_of(grades)
    late = late or read_rubric(rubric_of(folder)).late
    hand_columns = read_rubric(rubric_of(folder)).by_hand if hand_columns is None else hand_columns
    added, comments, by_hand = _manual(folder / MANUAL, rows, hand_columns)
    hand_columns = {column: points for column, points in hand_columns.items() if points}
    submitted = read_handed_back(folder)["submitted"] if submitted is None else submitted
    times = {name: (text, "the roster") for name, text in submitted.items() if name in rows}
    times |= {name: (text, folder / SUBMITTED) for name, text in _column(folder / SUBMITTED, "submitted", rows).items()}
    extended = _column(folder / EXTENSIONS, "deadline", rows)
    marks = {}
    for name, row in rows.items():
        text, source = times.get(name, ("", ""))
        time = read_time(text, late.zone, f"{source}: {name}")
        until = read_time(extended.get(name, ""), late.zone, f"{folder / EXTENSIONS}: {name}", deadline=True)
        percent, manual = late.percent(time, until), added.get(name, 0.0)
        final = max(0.0, row["score"] + manual) * (1 - percent / 100)
        points = {one: row[one] for one in COLUMNS if row.get(one, "") != ""} | by_hand.get(name, {})
        most = row["max_score"] + sum(hand_columns.values())
        marks[name] = Mark(name, row["score"], most, manual, percent,
                           None if row["status"] == "error" else round(final, 2), comments.get(name, ""),
                           time is not None, points, tuple(by_hand.get(name, ())), hand_columns)
    return marks


def folder_of(grades):
    """The folder of results, given itself or its `grades.csv`."""
    return Path(grades) if Path(grades).is_dir() else Path(grades).parent


def read_handed_back(folder):
    """What was handed back from a folder of results: `submitted`, submission -> time as text; `marks`, submission ->
    a list of what its marks were, the last one last, as `hand_back` writes them. Raises `InputError`."""
    path = Path(folder) / HANDED_BACK
    found = read_json(path) if path.is_file() else {"submitted": {}, "marks": {}}
    if not (isinstance(found, dict) and all(isinstance(found.get(name), dict) for name in ("submitted", "marks"))):
        raise InputError(f"{path}: is not what the grader wrote. Move it away: feedback then tells no earlier marks.")
    return found


def hand_back(folder, marks, submitted):
    """Note the marks that are handed back now, where they are new, and when submissions were handed in.

    Raises:
        SaveError: the note cannot be written.
    """
    found = read_handed_back(folder)
    for name, mark in marks.items():
        if mark.final is not None:
            found["marks"][name] = history(found, mark)
    found["submitted"] |= submitted
    write_json(Path(folder) / HANDED_BACK, found)


def history(handed_back, mark):
    """What a submission's marks were, as `read_handed_back` gives it, this one last: a list of dicts."""
    was = handed_back["marks"].get(mark.submission, [])
    now = {"final": mark.final, "manual": mark.manual, "late": mark.late, "points": mark.points}
    same = was and all(was[-1][name] == now[name] for name in now)
    return was if same else [*was, {"date": datetime.now().strftime("%Y-%m-%d"), **now}]


def changes(versions):
    """What changed from the last marks but one to the last: a list of texts, the first about the whole; or empty."""
    if len(versions) < 2:
        return []
    was, now = versions[-2:]
    columns = [*COLUMNS, *(name for name in was["points"] | now["points"] if name not in COLUMNS)]
    parts = [(name, was["points"].get(name), now["points"].get(name)) for name in columns]
    parts += [("points by hand", was["manual"], now["manual"]), ("late, per cent taken off", was["late"], now["late"])]
    return [f"Your mark was {number(was['final'])} on {was['date']} and is {number(now['final'])} now.",
            *(f"{name}: {_shown(before)} before, {_shown(after)} now" for name, before, after in parts
              if before != after)]


def _manual(path, rows, hand_columns):
    """What `manual.csv` adds: (submission -> points added, submission -> comment, submission -> column -> points).

    Points for an exercise take the place of the grader's, whatever those are after a regrade; points without an
    exercise are added. A column that people alone mark is named in `exercise` like an exercise, or is a column of
    the file, whose cells are its points.
    """
    added, comments, by_hand = {}, {}, {}
    if not path.is_file():
        return added, comments, by_hand
    _, lines = read_table(path, ("submission", "exercise", "points", "comment"))
    for place, line in enumerate(lines, 2):
        name, exercise, where = line["submission"], line["exercise"], f"{path}, row {place}"
        _known(name, rows, where)
        for column, text in [(exercise, line["points"]), *((one, line.get(one, "")) for one in hand_columns)]:
            if not text:
                continue
            points, given = _points(text, where), by_hand.setdefault(name, {})
            if column:
                before = _before(column, points, rows[name], hand_columns, where)
                if column in given:
                    raise InputError(f"{where}: {column} of {name} has points already. Keep one of the two.")
                given[column] = points
                points -= before
            added[name] = added.get(name, 0.0) + points
        if line["comment"]:
            said = f"{exercise}: {line['comment']}" if exercise else line["comment"]
            comments[name] = f"{comments[name]}\n{said}" if name in comments else said
    return added, comments, by_hand


def _before(column, points, row, hand_columns, where):
    """The grader's points, whose place a column's points by hand take; 0 in a column that people alone mark.

    Raises:
        InputError: the column cannot have these points.
    """
    if points < 0:
        raise InputError(f"{where}: points of {column} are not negative. Leave the exercise empty to take points off "
                         "the whole.")
    if column not in hand_columns:
        if column not in COLUMNS or row.get(column, "") == "":
            raise InputError(f"{where}: {column!r} was not graded. Name one of "
                             f"{', '.join((*COLUMNS, *hand_columns))}, or leave it empty to add to the whole.")
        return row[column]
    if points > hand_columns[column]:
        raise InputError(f"{where}: {column} has {number(hand_columns[column])} points at most by the rubric "
                         f"(by_hand), not {number(points)}. More goes into a row without an exercise.")
    return 0.0


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
        Lines: one for each submission with another mark, one for columns that only one of them has, one for all.

    Raises:
        InputError: a file cannot be used.
    """
    old, new = read_grades(old), read_grades(new)
    graded = [{column for column in COLUMNS if any(row.get(column, "") != "" for row in rows.values())}
              for rows in (old, new)]
    lines, up, down = [], 0, 0
    both, shared = sorted(old.keys() & new.keys()), [column for column in COLUMNS if column in graded[0] & graded[1]]
    for name in both:
        before, after = old[name], new[name]
        parts = [f"{column} {_shown(before.get(column))} -> {_shown(after.get(column))}"
                 for column in shared if before.get(column, "") != after.get(column, "")]
        parts += [f"{before['status']} -> {after['status']}"] * (before["status"] != after["status"])
        if parts or graded[0] == graded[1] and before["score"] != after["score"]:
            sums = [sum(row.get(column) or 0 for column in shared) for row in (before, after)]
            up, down = up + (sums[1] > sums[0]), down + (sums[1] < sums[0])
            lines.append(f"{name}: {_shown(before['score'])} -> {_shown(after['score'])}"
                         + (f" ({', '.join(parts)})" if parts else ""))
    changed = len(lines)
    for columns, where in ((graded[0] - graded[1], "OLD"), (graded[1] - graded[0], "NEW")):
        lines += [f"graded only in {where}: {', '.join(one for one in COLUMNS if one in columns)}"] * bool(columns)
    for names, where in ((old.keys() - new.keys(), "OLD"), (new.keys() - old.keys(), "NEW")):
        lines += [f"only in {where}: {', '.join(sorted(names))}"] * bool(names)
    means = [sum(rows[name]["score"] for name in both) / max(1, len(both)) for rows in (old, new)]
    return [*lines, f"{changed} of {len(both)} submissions changed: {up} higher, {down} lower; "
                    f"mean {number(means[0])} -> {number(means[1])}"]


def _shown(points):
    return "-" if points in ("", None) else number(points)
