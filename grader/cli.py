"""The command line: `python -m grader COMMAND`.

In: arguments. Out: results, and an exit status: 0 done, 1 the work itself failed, 2 wrong usage or unusable input.
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

from grader.results.files import short
from lab3.cli import print_any_text
from lab3.common.files import InputError, SaveError


def make_parser():
    """The parser of all commands."""
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show where an error came from")
    parser = argparse.ArgumentParser(prog="grader", description="Grade submissions of the lab.")
    commands = parser.add_subparsers(dest="command", required=True)
    grade = commands.add_parser("grade", parents=[debug], help="grade submissions; a single notebook: a self-check")
    grade.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSION",
                       help="a folder or a zip with notebooks, or a folder that holds many of them; a single .ipynb "
                            "gets the public checks alone")
    grade.add_argument("--out", type=Path, metavar="DIR", help="where results go; it may hold earlier ones")
    grade.add_argument("--seed", type=int, help="default: the one of DIR, else a new one")
    grade.add_argument("--jobs", type=int, help="submissions at a time; default: one a core")
    grade.add_argument("--scheduler", metavar="ADDRESS",
                       help="grade on the workers of this Dask scheduler, such as tcp://head:8786 (docs/FARM.md)")
    grade.add_argument("--only", nargs="+", default=(), metavar="ID",
                       help="numbers of notebooks, such as 01, or exercises")
    walls = grade.add_mutually_exclusive_group()
    walls.add_argument("--allow-no-sandbox", action="store_true",
                       help="grade without bubblewrap, too: for submissions that you trust")
    walls.add_argument("--require-sandbox", action="store_true",
                       help="refuse to grade without bubblewrap (the default)")
    grade.add_argument("--dry-run", action="store_true",
                       help="run nothing: list submissions, notebooks and answers, and what looks wrong")
    grade.add_argument("--roster", type=Path, metavar="roster.csv",
                       help="with --dry-run: what Canvas or Moodle exports, to say whose each submission is")
    export = commands.add_parser("export", help="for Gradescope, Canvas, Moodle")
    systems = export.add_subparsers(dest="system", required=True, metavar="gradescope|canvas|moodle")
    gradescope = systems.add_parser("gradescope", parents=[debug], help="the zip of an autograder")
    gradescope.add_argument("out", type=Path, metavar="OUT.zip")
    gradescope.add_argument("--seed", type=int, help="default: another one for each submission")
    gradescope.add_argument("--only", nargs="+", default=(), metavar="ID", help="as in grade")
    gradescope.add_argument("--visibility", default="visible", metavar="WHEN",
                            help="when students see the tests: visible (default), after_due_date, after_published, "
                                 "hidden")
    for system, roster in (("canvas", "the gradebook that Canvas exports"),
                           ("moodle", "the grading worksheet or the list of participants that Moodle exports")):
        table = systems.add_parser(system, parents=[debug], help="the marks, as a CSV to import")
        table.add_argument("out", type=Path, nargs="?", metavar="OUT.csv",
                           help=f"default: {system}.csv beside the grades")
        table.add_argument("--grades", type=Path, required=True, metavar="grades.csv",
                           help="what manual.csv, extensions.csv and submitted.csv beside it say counts")
        table.add_argument("--roster", type=Path, required=True, metavar="roster.csv", help=roster)
        table.add_argument("--assignment", default="lab3", metavar="NAME", help="the column of marks; default: lab3")
    diff = commands.add_parser("diff", parents=[debug], help="what a regrade changed")
    diff.add_argument("old", type=Path, metavar="OLD", help="a grades.csv, or its folder")
    diff.add_argument("new", type=Path, metavar="NEW")
    similar = commands.add_parser("similar", parents=[debug], help="whose answers are alike: pages for staff")
    similar.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSION", help="as in grade")
    similar.add_argument("--out", type=Path, required=True, metavar="DIR", help="where table and pages go")
    give = commands.add_parser("release", parents=[debug], help="what students get, as a zip: no answers, no probes")
    give.add_argument("out", type=Path, metavar="OUT", help="the folder for lab3-VERSION.zip and its checksum")
    return parser


def main(arguments=None):
    """Run one command; returns the exit status."""
    print_any_text()
    options = make_parser().parse_args(arguments)
    try:
        reads = options.command in ("grade", "similar") or getattr(options, "system", None) == "gradescope"
        if sys.platform == "win32" and reads:
            raise InputError("needs Linux: use WSL on Windows. release, diff and export canvas or moodle run here.")
        return COMMANDS[options.command](options)
    except KeyboardInterrupt:
        print("stopped. What is done is kept; the same command goes on from there.", file=sys.stderr)
        return 1
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        unusable = isinstance(error, (InputError, SaveError))
        text = str(error) if unusable else f"failed: {type(error).__name__}: {error} (--debug shows where)"
        print(f"grader {options.command}: {' '.join(text.split())}", file=sys.stderr)
        return 2 if unusable else 1


def run_grade(options):
    if options.roster and not options.dry_run:
        raise InputError("--roster goes with --dry-run; export takes the roster of the marks.")
    if options.dry_run:
        from grader.run.dry_run import dry_run

        return 1 if dry_run(options.submissions, options.out, options.only, options.roster) else 0
    if sys.platform != "linux":
        raise InputError(f"kernels in sandboxes need Linux, not {sys.platform}: use WSL on Windows, a container on "
                         "macOS. The checks in the notebooks run everywhere.")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # before PyTorch is imported: one core a job
    notebooks = [path for path in options.submissions if path.suffix == ".ipynb"]
    if notebooks and len(notebooks) < len(options.submissions):
        raise InputError(f"{notebooks[0]}: a notebook alone is a self-check. Grade folders and zips without it.")
    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {options.jobs}.")
    if options.scheduler and (options.jobs or notebooks):
        raise InputError("--scheduler: its workers grade whole submissions, as many as they have cores. Leave out "
                         f"{'--jobs' if options.jobs else notebooks[0]}, or --scheduler.")
    if notebooks:
        from grader.run.selfcheck import self_check

        return self_check(notebooks, options.only, options.allow_no_sandbox)
    if options.out is None:
        raise InputError("--out is missing: name the folder for the results, such as --out grades.")
    from grader.run.batch import grade

    results = grade(options.submissions, options.out, seed=options.seed, jobs=options.jobs, only=options.only,
                    allow_no_sandbox=options.allow_no_sandbox, scheduler=options.scheduler)
    broken = [one.submission for one in results if one.status == "error"]
    print(f"{len(results)} submissions graded: {options.out / 'grades.csv'}, {options.out / 'class.html'}")
    if broken:
        print(f"the grader broke down on {', '.join(broken)}: the same command tries again", file=sys.stderr)
    return 1 if broken else 0


def run_similar(options):
    from grader.similar.compare import compare, read_class
    from grader.similar.pages import INDEX, write_report

    found = compare(read_class(options.submissions))
    for one in found.skipped:
        print(f"{one.name}: not compared: {short(' '.join(one.notes))}", file=sys.stderr)
    reported = write_report(found, options.out)
    print(f"{len(found.handed)} submissions compared, {len(reported)} pairs to look at: {options.out / INDEX}")
    return 0


def run_release(options):
    from grader.export.release import release

    archive = release(options.out)
    print(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB for students; {archive.name}.sha256 stands beside it")
    return 0


def run_export(options):
    if options.system != "gradescope":
        from grader.results.roster import hand_over

        done = hand_over(options.system, options.grades, options.roster, options.out, options.assignment)
        print(f"{done.path}: {done.written} marks; how each came about stands in marks.csv beside the grades")
        for remark in done.remarks:
            print(remark, file=sys.stderr)
        return 1 if done.remarks else 0
    from grader.export.gradescope import export

    points = export(options.out, seed=options.seed, only=options.only, visibility=options.visibility)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB to upload; the assignment has {points} points")
    return 0


def run_diff(options):
    from grader.results.marks import differences

    for line in differences(options.old, options.new):
        print(short(line, 2000))
    return 0


COMMANDS = {"grade": run_grade, "export": run_export, "diff": run_diff, "similar": run_similar,
            "release": run_release}
