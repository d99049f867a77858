"""The pages of feedback as Canvas and Moodle take them back, or as a folder for each student.

In: a folder of results, and the roster. Out: one zip, whose pages show the marks that the gradebook gets.
"""

import re
from pathlib import Path

from grader.export.release import pack
from grader.results.files import number, read_result, short
from grader.results.marks import changes, history, read_handed_back
from grader.results.pages import FEEDBACK, feedback_page
from grader.results.roster import Handover, read_class
from lab3.common.files import InputError, atomic_path

SYSTEMS = ("canvas", "moodle", "folder")
# What Canvas finds a submission by: the student's number and the file's, in the name under which it gave the file.
CANVAS = re.compile(r"((?:anon_[^_]+|.+?)(?:_LATE)?(?:_\d+)?_\d+)_.+", re.IGNORECASE)
MOODLE = re.compile(r"(.+)_(\d+)_assignsubmission", re.IGNORECASE)


def export_feedback(system, grades, out, roster=None, choose=None, rubric=None):
    """Write the zip of a class's feedback.

    Args:
        system: one of `SYSTEMS`: Canvas's "Upload Submissions", Moodle's "Upload multiple feedback files in a zip", or
            a folder for each submission.
        grades: `grades.csv` or its folder.
        out: the zip.
        roster, choose, rubric: as `read_class` takes them.

    Returns:
        A `Handover`: `written` counts pages.

    Raises:
        InputError: a file cannot be used, or `grades.csv` is not what the results say.
        SaveError: the zip cannot be written.
    """
    found = read_class(None, grades, roster, choose, rubric)
    handed_back, files, nameless = read_handed_back(found.folder), {}, []
    for name, mark in found.counting.items():
        result = read_result(found.folder / name)
        if number(result.score) != number(mark.automatic):
            raise InputError(f"{grades}: {name} has {number(mark.automatic)} points, its results.json "
                             f"{number(result.score)}. Put points of your own into manual.csv, and grade again.")
        if mark.final is None:
            continue
        place = {"canvas": _canvas, "moodle": _moodle, "folder": _folder}[system](
            name, found.owners.get(name, {}), found.files.get(name, ()))
        if place is None:
            nameless.append(name)
        else:
            files[place] = feedback_page(result, mark, changes(history(handed_back, mark))).encode()
    with atomic_path(out) as temporary:
        temporary.write_bytes(pack(files))
    found.hand_back()
    remarks = [f"without a page, because {system.capitalize()} could not tell whose it is: "
               f"{', '.join(map(short, nameless))}. Hand these back by hand."] * bool(nameless)
    return Handover(Path(out), len(files), (*found.remarks, *remarks))


def _canvas(name, owner, files):
    """As Canvas named the file that was handed in last; None where it has no number."""
    found = next((found for file in files if (found := CANVAS.fullmatch(file))), None)
    return found and f"{found[1]}_{FEEDBACK}"


def _moodle(name, owner, files):
    """As Moodle names a participant's folder: it finds them by the number after the first `_`."""
    found = next((found for file in (*files, f"{name}_") if (found := MOODLE.match(file))), None)
    digits = re.search(r"\d+$", owner.get("Identifier", ""))
    if not (found or digits):
        return None
    student = owner.get("Full name") or f"{owner.get('First name', '')} {owner.get('Last name', '')}".strip()
    student = student or found and found[1] or name
    return f"{re.sub('[_/]', ' ', student)}_{found[2] if found else digits[0]}_assignsubmission_file_/{FEEDBACK}"


def _folder(name, owner, files):
    return f"{name}/{FEEDBACK}"
