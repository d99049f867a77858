"""The marks of a class with its roster, and the files that Canvas and Moodle import.

In: marks, and the roster that the system itself exports. Out: whose each mark is, which of several submissions counts;
a CSV of the same students, with a column of marks; and who could not be matched.
"""

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from grader.results.files import RUN, number, short
from grader.results.marks import MANUAL, SUBMITTED, folder_of, hand_back, read_grades, read_marks, read_table
from grader.rubric import read_rubric, read_time, rubric_of
from grader.submission.submission import downloaded, safe_name
from lab3.common.files import InputError, read_json, write_text

OVERVIEW = "marks.csv"
# Columns by which a system knows a student, as its exports call them.
CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
MOODLE = ("Full name", "Identifier", "First name", "Last name", "Surname", "Username", "ID number", "Email address")
TIMES = ("submitted", "Last modified (submission)")
# Names of submissions after Canvas's downloads, NAME_LATE_ID_FILE_... or NAME_ID_canvas, and Moodle's.
DOWNLOADED = (re.compile(r"_(?:late_)?(\d+)_(?:\d+|canvas)_"), re.compile(r"_(\d+)_assignsubmission"))


@dataclass(frozen=True)
class Handover:
    """What an export did: how many marks it wrote, and what stays to be done by hand, in lines."""

    path: Path
    written: int
    remarks: tuple


@dataclass(frozen=True)
class ClassMarks:
    """The marks of a class, and whose they are.

    Attributes:
        folder: the folder of results.
        marks: submission -> `Mark`, all of them.
        counting: those that are handed back: where a student has several submissions, the chosen one.
        owners: submission -> row of the roster.
        header, rows, known: the roster, as `read_roster` gives it; empty without one.
        files: submission -> the names of what was handed in, where they were noted.
        times: submission -> when it was handed in, as the roster has it.
        remarks: what stays to be done by hand, in lines.
    """

    folder: Path
    marks: dict
    counting: dict
    owners: dict
    header: list
    rows: list
    known: list
    files: dict
    times: dict
    remarks: tuple

    def hand_back(self):
        """Note that these marks are handed back now. Raises `SaveError`."""
        hand_back(self.folder, self.counting, self.times)


def read_class(system, grades, roster=None, choose=None, rubric=None):
    """Put marks and roster together.

    Args:
        system: "canvas" or "moodle"; None: whichever the roster fits.
        grades: `grades.csv` or its folder.
        roster: as `hand_over` takes it, or None.
        choose: which of several submissions of one student counts, "latest" or "best"; None: there must be one.
        rubric: the path of the rubric; None: that of the folder, else the kit's.

    Returns:
        A `ClassMarks`.

    Raises:
        InputError: a file cannot be used, or a student has several submissions and it is not clear which counts.
    """
    folder = folder_of(grades)
    header, rows, known, owners, strangers, times = [], [], [], {}, [], None
    if roster is not None:
        header, rows, known = read_roster(roster, system)
        found = owners_of(read_grades(grades), rows, known)
        owners, strangers = ({name: row for name, row in found.items() if row is not None},
                             [name for name, row in found.items() if row is None])
        if column := next((name for name in TIMES if name in header), None):
            times = {name: row[column] for name, row in owners.items()}
    elif choose:
        raise InputError(f"--{choose}: only a roster tells which submissions are one student's. Add --roster.")
    rules = read_rubric(rubric_of(folder, rubric))
    late, marks = rules.late, read_marks(grades, rules.late, times, rules.by_hand)
    note = read_json(folder / RUN) if (folder / RUN).is_file() else {}
    files = note.get("submissions", {})
    counting = _counting(marks, owners, choose, files, folder, late.zone, known, roster)
    remarks = [f"no student of the roster: {', '.join(map(short, strangers))}. A column `submission` in "
               f"{Path(roster).name} says whose they are."] if strangers else []
    broken = [name for name, one in counting.items() if one.final is None]
    remarks += [f"without a mark, because the grader broke down: {', '.join(map(short, broken))}"] * bool(broken)
    for column in (name for name, points in rules.by_hand.items() if points):
        unmarked = [name for name, one in counting.items() if column not in one.points]
        remarks += [f"{column} not marked yet, so 0 points: {', '.join(map(short, unmarked))}. Put the points into "
                    f"{MANUAL}."] * bool(unmarked)
    untimed = [name for name, one in counting.items() if not one.timed] if late.deadline else []
    remarks += [f"no time of handing in, so not late: {', '.join(map(short, untimed))}"] * bool(untimed)
    flagged = [name for name in untimed if any(told.late for told in map(downloaded, files.get(name, ())) if told)]
    remarks += [f"marked late by Canvas, which does not say how late: {', '.join(map(short, flagged))}. Put their "
                f"times into {SUBMITTED}."] * bool(flagged)
    return ClassMarks(folder, marks, counting, owners, header, rows, known, files, times or {}, tuple(remarks))


def _counting(marks, owners, choose, files, folder, zone, known, roster):
    """The marks that are handed back: one for each student of the roster, and all that are nobody's."""
    of = {}
    for name in marks:
        of.setdefault(id(owners[name]) if name in owners else name, []).append(name)
    times, path = {}, folder / SUBMITTED
    if choose == "latest" and path.is_file():
        times = {row["submission"]: read_time(row["submitted"], zone, f"{path}: {row['submission']}")
                 for row in read_table(path, ("submission", "submitted"))[1]}
    counting = []
    for names in of.values():
        several = ""
        if len(names) > 1:
            several = f"{roster}: {owners[names[0]][known[0]]} has two submissions, {' and '.join(names)}"
        if several and not choose:
            raise InputError(f"{several}. Add --latest or --best, or keep the one that counts in the grades and take "
                             "the row of the other out.")
        if several and choose == "latest":
            order = {name: times.get(name) for name in names}
            if None in order.values():
                order = {name: max((told.number or 0 for told in map(downloaded, files.get(name, ())) if told),
                                   default=0) for name in names}
            if len(set(order.values())) < len(names):
                raise InputError(f"{several}, and no time tells which is the latest. Put their times into {SUBMITTED}.")
            names = [max(names, key=order.get)]
        elif several:
            names = [max(names, key=lambda name: (marks[name].final is not None, marks[name].final or 0))]
        counting += names
    return {name: marks[name] for name in marks if name in counting}


def hand_over(system, grades, roster, out=None, assignment="lab3", choose=None, rubric=None):
    """Write the file that a system imports, and beside `grades.csv` an overview of how each mark came about.

    Args:
        system: "canvas" or "moodle".
        grades: `grades.csv` or its folder.
        roster: the system's own export: Canvas's gradebook; Moodle's grading worksheet, participants or grades. A
            column `submission` names a student's submission where names do not tell.
        out: the file; None: `SYSTEM.csv` beside `grades.csv`.
        assignment: what the column of marks is called there.
        choose, rubric: as `read_class` takes them.

    Returns:
        A `Handover`.

    Raises:
        InputError: a file cannot be used, or two submissions are one student's.
        SaveError: a file cannot be written.
    """
    found = read_class(system, grades, roster, choose, rubric)
    marks, owners, known = found.marks, found.owners, found.known
    of = {id(owners[name]): one for name, one in found.counting.items() if name in owners}
    write = _canvas if system == "canvas" else _moodle
    table = write(found.header, found.rows, known, of, assignment, {one.most for one in marks.values()}, roster)
    out = Path(out) if out else found.folder / f"{system}.csv"
    _write_table(table, out)
    columns = list(next(iter(marks.values())).hand_columns) if marks else []
    _write_table([["submission", "student", "score", "manual", "late_percent", "final", "max_score", "counts",
                   "comment", *columns]] + [
        [name, owners[name][known[0]] if name in owners else "", number(one.automatic), number(one.manual),
         number(one.late), "" if one.final is None else number(one.final), number(one.most),
         "yes" if name in found.counting else "no", one.comment,
         *(number(one.points[column]) if column in one.points else "" for column in columns)]
        for name, one in sorted(marks.items())], found.folder / OVERVIEW)
    found.hand_back()
    remarks = found.remarks
    if system == "canvas" and table[0][-1] not in found.header:
        remarks += (f"{Path(roster).name} has no column {assignment}, so Canvas makes a new assignment of it. To fill "
                    "one that exists, name it with --assignment.",)
    return Handover(out, sum(one.final is not None for one in of.values()), remarks)


def read_roster(path, system=None):
    """A roster as Canvas or Moodle exports it.

    Args:
        path: the CSV.
        system: "canvas" or "moodle"; None: whichever it fits.

    Returns:
        (header, rows, known): as `read_table` gives the first two, and the columns by which a student is known.

    Raises:
        InputError: it cannot be read, or is not the system's.
    """
    header, rows = read_table(path)
    system = system or ("canvas" if "Student" in header else "moodle")
    columns = CANVAS if system == "canvas" else MOODLE
    known = [name for name in columns if name in header]
    if not known or known == ["Identifier"]:
        language = " Moodle translates its columns: set your language there to English first."
        raise InputError(f"{path}: has no column that {system.capitalize()} exports, such as {', '.join(columns[:4])}. "
                         f"Export the roster from there.{language * (system == 'moodle')}")
    return header, rows, known


def owners_of(submissions, rows, known):
    """Whose is which submission: a dict, submission -> row of the roster, None where it is nobody's.

    A column `submission` decides; then the number in a downloaded file's name; then any known column that is the
    submission's name, or a full name put together, where it is one student's only; then the same without accents.
    """
    named, numbered, keys, plain = {}, {}, {}, {}
    for row in rows:
        if row.get("submission"):
            named[row["submission"]] = row
        for name in ("ID", "Identifier"):
            if digits := re.search(r"\d+$", row.get(name, "")):
                numbered[digits[0]] = row
        texts = [row[name] for name in known if name not in ("Section", "First name", "Last name", "Surname")]
        last = row.get("Last name") or row.get("Surname") or ""
        texts += [f"{row.get('First name', '')} {last}"] * bool(last)
        texts += [" ".join(reversed(row["Student"].split(", ")))] if ", " in row.get("Student", "") else []
        for key in {safe_name(text).casefold() for text in texts if text.strip()}:
            keys.setdefault(key, []).append(row)
            plain.setdefault(_plain(key), {})[id(row)] = row
    owners = {}
    for name in sorted(submissions):
        row = named.get(name)
        for pattern in DOWNLOADED if row is None else ():
            if found := pattern.search(f"{name.casefold()}_"):
                row = row or numbered.get(found[1])
        if row is None:
            several = keys.get(name.casefold()) or list(plain.get(_plain(name.casefold()), {}).values())
            row = several[0] if len(several) == 1 else None
        owners[name] = row
    return owners


def _plain(name):
    """A name without accents."""
    return "".join(one for one in unicodedata.normalize("NFKD", name) if not unicodedata.combining(one))


def _canvas(header, rows, known, marks, assignment, most, roster):
    """Canvas's gradebook: who it is, and the assignment's column, under the name with which Canvas knows it."""
    column = next((name for name in header if name == assignment or re.fullmatch(
        rf"{re.escape(assignment)} \(\d+\)", name)), assignment)
    table = [[*known, column]]
    if not any(points_possible(row) for row in rows):
        table.append(["    Points Possible", *[""] * (len(known) - 1), number(_one(most))])
    for row in rows:
        cell = row.get(column, "")
        if points_possible(row):
            given = _number(cell)
            if given is not None and given != _one(most):
                raise InputError(f"{roster}: {column} has {cell} points possible, the grades {number(_one(most))}. "
                                 "Set the assignment's points in Canvas and export the gradebook again.")
            cell = number(_one(most))
        elif id(row) in marks and marks[id(row)].final is not None:
            cell = number(marks[id(row)].final)
        table.append([*(row[name] for name in known), cell])
    return table


def points_possible(row):
    return row.get("Student", "").casefold() == "points possible"


def _moodle(header, rows, known, marks, assignment, most, roster):
    """Moodle's grading worksheet, filled in; or a table for its import of grades, where the roster is no worksheet."""
    worksheet = "Grade" in header and "Identifier" in header
    column, feedback = ("Grade", "Feedback comments") if worksheet else (assignment, "Feedback")
    columns = list(header if worksheet else known)
    columns += [name for name in (column, feedback) if name not in columns]
    table = [columns]
    for row in rows:
        mark, cells = marks.get(id(row)), {name: row.get(name, "") for name in columns}
        if mark and mark.final is not None:
            given = _number(row.get("Maximum Grade", "")) if worksheet else None
            if given is not None and given != mark.most:
                raise InputError(f"{roster}: the maximum grade is {number(given)}, that of the grades "
                                 f"{number(mark.most)}. Set it in Moodle and download the worksheet again.")
            cells[column] = number(mark.final)
        if mark and mark.comment and mark.comment not in cells[feedback]:
            cells[feedback] = "\n".join(filter(None, [cells[feedback], mark.comment]))
        table.append([cells[name] for name in columns])
    return table


def _one(most):
    """The points that there are. Raises `InputError` where the submissions differ."""
    if len(most) != 1:
        raise InputError(f"the submissions have different points to reach: {', '.join(map(number, sorted(most)))}. "
                         "Grade all of them with the same --only.")
    return next(iter(most))


def _number(text):
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _write_table(table, path):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    write_text(path, text.getvalue())
