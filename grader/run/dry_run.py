"""What a run would grade, and what looks wrong, before anything is run.

In: submissions and, where one is named, the roster. Out: lines for the terminal. No code of a submission is run, and
nothing is written.
"""

import re
from collections import defaultdict
from pathlib import Path

from grader.results.files import short
from grader.results.roster import owners_of, points_possible, read_roster
from grader.rubric import read_rubric, rubric_of
from grader.run.batch import columns_of, keep_marks
from grader.submission.side_by_side import read_all
from grader.submission.submission import find_submissions, opened
from lab3.exercises.table import EXERCISES

QUIET = re.compile("there are no notebooks beside it|Read together as")  # in notes that say how it is read


def dry_run(paths, out=None, only=(), roster=None, rubric=None, say=print):
    """Say for each submission which notebooks and answers are found, and what looks wrong.

    Args:
        paths, only: as `grade` takes them.
        out: the folder of results that the run would have, or None.
        roster: the roster of Canvas or Moodle, or None.
        rubric: the path of a rubric; None: the one in `out`, else the kit's.

    Returns:
        How many things look wrong.

    Raises:
        InputError: a path, `only` or the roster cannot be used, or `out` holds the marks of other submissions.
    """
    found, rules = find_submissions(paths), read_rubric(rubric_of(out or ".", rubric) if out or rubric else None)
    exercises = [name for name in columns_of(only, rules) if name in EXERCISES]
    owners, rows, known = {}, [], ("",)
    if roster is not None:
        _, rows, known = read_roster(roster)
        owners = owners_of(found, rows, known)
    if out is not None:
        keep_marks(found, Path(out).resolve())
    read = read_all(found, read_one)
    wrong, same, rivals = defaultdict(list), defaultdict(list), defaultdict(list)
    for name, one in read.items():
        wrong[name] += [one] if isinstance(one, str) else problems(one, exercises)
        if not isinstance(one, str) and one.readable:
            same[one.digest].append(name)
        if owners.get(name):
            rivals[id(owners[name])].append(name)
        elif roster is not None:
            wrong[name].append("Not on the roster. Add a column `submission` to the roster that says whose it is.")
    for names, what in [*((group, "Same content as") for group in same.values()),
                        *((group, "Same student as") for group in rivals.values())]:
        for name in names:
            wrong[name] += [f"{what} {', '.join(other for other in names if other != name)}."] * (len(names) > 1)
    for name, one in read.items():
        student = f" ({owners[name][known[0]]})" if owners.get(name) else ""
        say(short(f"{name}{student}: {' + '.join(path.name for path in found[name])}", 400))
        if not isinstance(one, str):
            say(f"    {short(summary(one, exercises), 400)}")
        for problem in wrong[name]:
            say(f"  ! {short(problem, 400)}")
    handed = {id(row) for row in owners.values()}
    absent = [row[known[0]] for row in rows if id(row) not in handed and not points_possible(row)]
    if absent:
        say(short(f"nothing handed in: {', '.join(absent)}", 2000))
    count = sum(map(len, wrong.values()))
    say(f"Submissions that would be graded: {len(found)}. Things that look wrong: {count}. Nothing was run.")
    return count


def read_one(paths, name):
    """A submission, as `read_all` reads it."""
    with opened(paths, name) as submission:
        return submission


def problems(submission, exercises):
    """What looks wrong in a submission, a list of texts."""
    answers = [submission.answers[name] for name in exercises]
    return [*(note for note in submission.notes if not QUIET.search(note)),
            *(f"{one.exercise}: {one.problem}" for one in answers
              if one.problem not in (None, "missing", "not written"))]


def summary(submission, exercises):
    """Which notebooks and answers a submission has, on one line."""
    found = [name for name in exercises if not submission.answers[name].problem]
    answers = f"all {len(found)}" if len(found) == len(exercises) else ", ".join(found) or "none"
    return (f"notebooks: {', '.join(submission.notebooks) or 'none'}; answers: {answers}; "
            f"model: {'yes' if submission.model else 'no'}")
