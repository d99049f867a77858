"""A class: all submissions graded side by side, each result on disk as it ends, interrupted batches going on.

In: paths, where results go, a seed. Out: a folder for each submission, grades.csv and a page for the class.
"""

import csv
import os
import secrets
import shutil
import time
from collections import deque
from pathlib import Path

from grader.kernels.sandbox import IN_FORCE, require
from grader.results.files import GRADES, RUN, grades_table, read_result, write_grades
from grader.results.marks import read_grades
from grader.results.pages import write_all_feedback, write_class_page
from grader.rubric import NAME, read_rubric, rubric_of
from grader.run.context import run_context
from grader.run.grade import EARLIER
from grader.run.keys import grader_key
from grader.run.pool import Pool
from grader.submission.submission import find_submissions
from lab3.common.files import InputError, read_json, write_json, write_text
from lab3.common.progress import progress_bar
from lab3.exercises.table import EXERCISES


def columns_of(only, rubric):
    """The ids to grade: all with points, or those of some notebooks ("01") or ids. Raises `InputError` for others."""
    if not only:
        return tuple(name for name, points in rubric.points.items() if points)
    of = {one.id: one.notebook for one in EXERCISES.values()} | {"fid_decoding": "06", "fid_model": "06"}
    found = []
    for one in only:
        names = [name for name in rubric.points if one == name or one.zfill(2) == of[name]]
        if not names:
            raise InputError(f"--only {one}: no such notebook or exercise. Notebooks: "
                             f"{', '.join(sorted(set(of.values())))}; exercises: {', '.join(rubric.points)}.")
        found += names
    return tuple(name for name in rubric.points if name in found)


def chosen_seed(out, seed=None):
    """The seed of a run: the one given, else the one that the folder of results tells, else a new one.

    Raises:
        InputError: it is out of range.
    """
    if seed is None:
        seed = read_json(out / RUN)["seed"] if (out / RUN).is_file() else secrets.randbelow(2**31)
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed must lie in 0 ... 2^63 - 1, not {seed}.")
    return seed


def grade(paths, out, *, seed=None, jobs=None, only=(), allow_no_sandbox=False, scheduler=None, rubric=None, say=print):
    """Grade submissions.

    Args:
        paths: submissions, or folders that hold some.
        out: where results go; what is there already and unchanged is kept.
        seed: an int; None: the one in `out`, else a new one.
        jobs: how many at a time, a core each; None: as many as there are cores.
        only: numbers of notebooks or ids.
        allow_no_sandbox: grade where there is no sandbox, too.
        scheduler: the address of a Dask scheduler, whose workers grade; None: this machine does.
        rubric: the path of a rubric, which is copied to `out` and counts there from now on; None: the one in `out`,
            else the kit's.
        say: is called with lines for people.

    Returns:
        A list of `Result`s, by name.

    Raises:
        InputError: nothing to grade, a wrong setting, or `out` holds the marks of other submissions.
    """
    found, out = find_submissions(paths), Path(out).resolve()
    keep_marks(found, out)
    found = {name: tuple(Path(os.path.abspath(path)) for path in group) for name, group in found.items()}
    hidden = sorted({out, *(path.resolve().parent for group in found.values() for path in group)})
    rules = read_rubric(rubric_of(out, rubric))
    columns, seed = columns_of(only, rules), chosen_seed(out, seed)
    run = {"seed": seed, "grader": grader_key(seed),
           "submissions": {name: [path.name for path in group] for name, group in found.items()}}
    if rubric is not None:
        write_text(out / NAME, Path(rubric).read_text(encoding="utf-8"))
    if scheduler is not None:
        from grader.run.dask_client import grade_there

        say(f"seed {seed}, scheduler: {scheduler}")
        grade_there(found, out, run, columns, hidden, scheduler, allow_no_sandbox, rules)
    else:
        level = require(allow_no_sandbox)
        if level == "user":
            os.umask(0o077)  # results are closed to kernels
        say(f"seed {seed}. {IN_FORCE[level]} ({level})")
        with run_context(seed, columns, level, hidden, rules) as context:
            write_json(out / RUN, run | {"sandbox": context.level})
            run_all(deque(found.items()), out, context, jobs or os.cpu_count())
    results = [read_result(out / name) for name in sorted(found)]
    if kept := keep_grades(results, out):
        say(f"the marks changed; those from before are in {kept}")
    if older := [one.submission for one in results if any(note.startswith(EARLIER) for note in one.notes)]:
        say(f"columns that --only left alone, though something has changed since, in {len(older)} submissions, such as "
            f"{', '.join(older[:3])}: grade without --only to renew them")
    write_grades(results, out / GRADES)
    write_class_page(results, out / "class.html")
    write_all_feedback(results, out)
    return results


def keep_grades(results, out):
    """Keep a copy of `grades.csv` where its marks are not those of the results: its path, or None."""
    path, untold = out / GRADES, ("seconds", "seed", "sandbox")
    if not path.is_file():
        return None
    before = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    now = list(csv.DictReader(grades_table(results).splitlines()))
    if [{name: cell for name, cell in row.items() if name not in untold} for row in before] == [
            {name: cell for name, cell in row.items() if name not in untold} for row in now]:
        return None
    copy, number = out / "earlier" / f"grades-until-{time.strftime('%Y%m%d-%H%M%S')}.csv", 1
    while copy.exists():
        number += 1
        copy = copy.with_name(f"{copy.stem.partition('_')[0]}_{number}.csv")
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(path, copy)
    return copy


def keep_marks(found, out):
    """Raise `InputError` where a folder of results has marks of submissions that are not among those found."""
    others = sorted(read_grades(out).keys() - found.keys()) if (out / GRADES).is_file() else []
    if others:
        raise InputError(f"{out / GRADES}: has marks that this run would drop, {len(others)} in all, such as those of "
                         f"{', '.join(others[:3])}. Name all submissions of the class, or another folder with --out; "
                         f"if you no longer need these marks, move {GRADES} away.")


def run_all(pending, out, context, jobs):
    """Grade submissions, a deque of (name, paths), into `out`: keep `jobs` processes at work, each on one."""
    pool = Pool(context)
    bar = progress_bar(total=len(pending), desc="grading", unit="submission")
    try:
        while pending or pool.running:
            while pending and len(pool.running) < jobs:
                pool.start(*pending.popleft(), out)
            for _ in pool.ended():
                bar.update()
    finally:
        bar.close()
        pool.close()


