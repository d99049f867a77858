"""The command line: `grader COMMAND`, or `python -m grader COMMAND`.

In: arguments. Out: results, and an exit status, as `STATUSES` says.
"""

import argparse
import json
import os
import sys
import traceback
from pathlib import Path

from grader.results.files import short
from lab3 import __version__
from lab3.cli import STOPPED, Parser, print_any_text
from lab3.common.files import InputError, SaveError

STATUSES = f"""\
exit status: 0 done; 1 the work failed, or something remains to be done by hand: a line says what; 2 wrong usage, or
input that cannot be used; {STOPPED} stopped by Ctrl-C. Errors are one line, on stderr.
"""
PAGE = "https://canvas.example.edu/courses/12/assignments/34"
EXAMPLES = {
    "": ["grader grade class --out grades", "grader export canvas --grades grades --roster gradebook.csv",
         "grader export feedback canvas feedback.zip --grades grades --roster gradebook.csv"],
    "grade": ["grader grade class --dry-run --roster gradebook.csv", "grader grade class --out grades",
              "grader grade class --out grades --only 05 gamma_func",
              "grader grade class --out section-a --rubric section-a.yml", "grader grade 05_iterative_decoding.ipynb"],
    "export": ["grader export canvas --grades grades --roster gradebook.csv", "grader export gradescope lab3.zip",
               "grader export feedback moodle feedback.zip --grades grades --roster worksheet.csv"],
    "gradescope": ["grader export gradescope lab3.zip", "grader export gradescope nb05.zip --only 05"],
    "canvas": ["grader export canvas --grades grades --roster gradebook.csv --assignment 'Lab 3'",
               "grader export canvas --grades grades --roster gradebook.csv --best"],
    "moodle": ["grader export moodle --grades grades --roster worksheet.csv",
               "grader export moodle --grades grades --roster worksheet.csv --latest"],
    "feedback": ["grader export feedback moodle feedback.zip --grades grades --roster worksheet.csv",
                 "grader export feedback folder feedback.zip --grades grades"],
    "push": [f"grader push {PAGE} --grades grades --roster gradebook.csv",
             f"grader push {PAGE} --grades grades --roster gradebook.csv --send"],
    "diff": ["grader diff grades/earlier/grades-until-20261201-120000.csv grades"],
    "similar": ["grader similar class --out grades"],
    "predictions": ["grader predictions class --out predictions.html"],
    "release": ["grader release out"],
    "rubric": ["grader rubric > section-a.yml", "grader rubric section-a.yml"],
}


def make_parser():
    """The parser of all commands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    common.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    loud = common.add_mutually_exclusive_group()
    loud.add_argument("--quiet", action="store_true", help="print only errors and what remains to be done")
    loud.add_argument("--verbose", action="store_true", help="also print a line for each submission")
    rubric = argparse.ArgumentParser(add_help=False)
    rubric.add_argument("--rubric", type=Path, metavar="FILE",
                        help="points, thresholds, deadline and limits that differ from the kit's; `grader rubric` "
                             "prints all of them. Default: rubric.yml in the folder of results, where grade keeps it")

    def add(commands, name, text, parents=()):
        return commands.add_parser(name, parents=[common, *parents], help=text,
                                   description=f"{text[0].upper()}{text[1:]}.", **_ending(name))

    parser = Parser(prog="grader", description="Grade submissions of the lab.", **_ending(""))
    parser.add_argument("--version", action="version", version=f"grader {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    grade = add(commands, "grade", "grade submissions; a single notebook: a self-check", [rubric])
    grade.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSION",
                       help="a folder or a zip with notebooks, or a folder that holds many of them; a single .ipynb "
                            "gets only the public checks")
    grade.add_argument("--out", type=Path, metavar="DIR", help="where results go; it may hold earlier ones")
    grade.add_argument("--seed", type=int, help="default: that of DIR, or else a new one")
    grade.add_argument("--jobs", type=int, help="submissions at a time; default: one per core")
    grade.add_argument("--scheduler", metavar="ADDRESS",
                       help="grade on the workers of this Dask scheduler, such as tcp://head:8786 (docs/FARM.md)")
    grade.add_argument("--only", nargs="+", default=(), metavar="ID",
                       help="numbers of notebooks, such as 01, or exercises; other columns stay as they are")
    walls = grade.add_mutually_exclusive_group()
    walls.add_argument("--allow-no-sandbox", action="store_true",
                       help="grade even without bubblewrap: for submissions that you trust")
    walls.add_argument("--require-sandbox", action="store_true",
                       help="refuse to grade without bubblewrap (the default)")
    grade.add_argument("--dry-run", action="store_true",
                       help="run nothing: list submissions, notebooks and answers, and what looks wrong")
    grade.add_argument("--roster", type=Path, metavar="roster.csv",
                       help="with --dry-run: the export of Canvas or Moodle, to say whose each submission is")
    export = commands.add_parser("export", **_ending("export"),
                                 help="marks and feedback for Canvas and Moodle; an autograder for Gradescope")
    systems = export.add_subparsers(dest="system", required=True, metavar="gradescope|canvas|moodle|feedback")
    gradescope = add(systems, "gradescope", "the zip of an autograder")
    gradescope.add_argument("out", type=Path, metavar="OUT.zip")
    gradescope.add_argument("--seed", type=int, help="default: a different one for each submission")
    gradescope.add_argument("--only", nargs="+", default=(), metavar="ID", help="as in grade")
    gradescope.add_argument("--visibility", default="visible", metavar="WHEN",
                            help="when students see the tests: visible (default), after_due_date, after_published, "
                                 "hidden")
    class_of = argparse.ArgumentParser(add_help=False)
    class_of.add_argument("--grades", type=Path, required=True, metavar="grades.csv",
                          help="or its folder; manual.csv, extensions.csv and submitted.csv beside it apply")
    several = class_of.add_mutually_exclusive_group()
    for choice, text in (("latest", "was handed in last"), ("best", "has the best mark")):
        several.add_argument(f"--{choice}", dest="choose", action="store_const", const=choice,
                             help=f"of several submissions of one student, the one that {text} counts")
    for system, roster in (("canvas", "the gradebook that Canvas exports"),
                           ("moodle", "the grading worksheet or the list of participants that Moodle exports")):
        table = add(systems, system, "the marks, as a CSV to import", [rubric, class_of])
        table.add_argument("out", type=Path, nargs="?", metavar="OUT.csv",
                           help=f"default: {system}.csv beside the grades")
        table.add_argument("--roster", type=Path, required=True, metavar="roster.csv", help=roster)
        table.add_argument("--assignment", default="lab3", metavar="NAME", help="the column of marks; default: lab3")
    pages = add(systems, "feedback", "the students' pages, as a zip to upload", [rubric, class_of])
    pages.add_argument("form", choices=("canvas", "moodle", "folder"), help="whose names the pages get")
    pages.add_argument("out", type=Path, metavar="OUT.zip")
    pages.add_argument("--roster", type=Path, metavar="roster.csv", help="as in export canvas and moodle")
    push = add(commands, "push", "send marks and comments to Canvas by its API; without --send, list what would change",
               [rubric, class_of])
    push.add_argument("address", metavar="URL", help="the assignment's page: https://HOST/courses/N/assignments/N")
    push.add_argument("--roster", type=Path, required=True, metavar="gradebook.csv",
                      help="the gradebook that Canvas exports")
    push.add_argument("--send", action="store_true",
                      help="send them, with the access token in the environment variable CANVAS_TOKEN")
    diff = add(commands, "diff", "list what a regrade changed")
    diff.add_argument("old", type=Path, metavar="OLD", help="a grades.csv, or its folder")
    diff.add_argument("new", type=Path, metavar="NEW")
    similar = add(commands, "similar", "find similar answers: pages for staff")
    similar.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSION", help="as in grade")
    similar.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the table and the pages go")
    guesses = add(commands, "predictions", "what the class predicted, as an anonymous page")
    guesses.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSION", help="as in grade")
    guesses.add_argument("--out", type=Path, required=True, metavar="OUT.html")
    give = add(commands, "release", "what students get, as a zip: no answers, no probes")
    give.add_argument("out", type=Path, metavar="OUT", help="the folder for lab3-VERSION.zip and its checksum")
    rules = add(commands, "rubric", "print the rubric in use, with a sentence for each field")
    rules.add_argument("file", type=Path, nargs="?", metavar="FILE", help="check this one, and print the result")
    return parser


def _ending(name):
    """The end of a help text."""
    shown = "\n".join(f"  {one}" for one in EXAMPLES[name])
    return {"epilog": f"examples:\n{shown}\n\n{STATUSES}", "formatter_class": argparse.RawDescriptionHelpFormatter}


def main(arguments=None):
    """Run one command; returns the exit status."""
    print_any_text()
    options = make_parser().parse_args(arguments)
    options.say = (lambda *_, **__: None) if options.quiet or options.json else print
    try:
        reads = options.command in ("grade", "similar", "predictions") or getattr(options, "system", "") == "gradescope"
        if sys.platform == "win32" and reads:
            raise InputError("needs Linux: use WSL on Windows. release, diff, push and export canvas or moodle run "
                             "here.")
        status, told = COMMANDS[options.command](options)
        if options.json:
            print(json.dumps(told, indent=2))
        return status
    except KeyboardInterrupt:
        print("stopped. What is done is kept; the same command continues from there.", file=sys.stderr)
        return STOPPED
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        unusable = isinstance(error, (InputError, SaveError))
        text = str(error) if unusable else f"failed: {type(error).__name__}: {error} (--debug shows where)"
        print(f"grader {options.command}: {' '.join(text.split())}", file=sys.stderr)
        return 2 if unusable else 1


# Each command returns its exit status, and what --json prints.


def run_grade(options):
    if options.roster and not options.dry_run:
        raise InputError("--roster goes with --dry-run; export takes the roster of the marks.")
    if options.dry_run:
        from grader.run.dry_run import dry_run

        lines = []
        wrong = dry_run(options.submissions, options.out, options.only, options.roster, options.rubric,
                        say=lambda line: (lines.append(line), options.say(line)))
        return 1 if wrong else 0, {"wrong": wrong, "lines": lines}
    if sys.platform != "linux":
        raise InputError(f"kernels in sandboxes need Linux, not {sys.platform}: use WSL on Windows, a container on "
                         "macOS. The checks in the notebooks run everywhere.")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # before PyTorch is imported: one core a job
    notebooks = [path for path in options.submissions if path.suffix == ".ipynb"]
    if notebooks and len(notebooks) < len(options.submissions):
        raise InputError(f"{notebooks[0]}: a single notebook gets a self-check. Grade folders and zips without it.")
    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {options.jobs}.")
    if options.scheduler and (options.jobs or notebooks):
        raise InputError("--scheduler: its workers grade whole submissions, as many as they have cores. Leave out "
                         f"{'--jobs' if options.jobs else notebooks[0]}, or --scheduler.")
    if notebooks:
        from grader.run.selfcheck import self_check

        lines = []
        status = self_check(notebooks, options.only, options.allow_no_sandbox,
                            say=lambda line: (lines.append(line), options.say(line)))
        return status, {"lines": lines}
    if options.out is None:
        raise InputError("--out is missing: name the folder for the results, such as --out grades.")
    from grader.run.batch import grade

    results = grade(options.submissions, options.out, seed=options.seed, jobs=options.jobs, only=options.only,
                    allow_no_sandbox=options.allow_no_sandbox, scheduler=options.scheduler, rubric=options.rubric,
                    say=options.say)
    for one in results if options.verbose else ():
        options.say(f"{one.submission}: {one.score:g} of {one.max_score:g}, {one.status}, {one.seconds:.1f} s")
    broken = [one.submission for one in results if one.status == "error"]
    options.say(f"{len(results)} submissions graded: {options.out / 'grades.csv'}, {options.out / 'class.html'}")
    if broken:
        print(f"the grader broke down on {', '.join(broken)}: run the same command to try again; "
              f"{options.out / 'NAME' / 'error.txt'} says why", file=sys.stderr)
    return 1 if broken else 0, {
        "grades": str(options.out / "grades.csv"), "page": str(options.out / "class.html"), "submissions": [
            {"submission": one.submission, "score": one.score, "max_score": one.max_score, "status": one.status,
             "seed": one.seed, "points": {each.exercise: each.points for each in one.exercises}} for one in results]}


def run_similar(options):
    from grader.similar.compare import compare, read_class
    from grader.similar.pages import INDEX, write_report

    found = compare(read_class(options.submissions))
    for one in found.skipped:
        print(f"{one.name}: not compared: {short(' '.join(one.notes))}", file=sys.stderr)
    reported = write_report(found, options.out)
    options.say(f"{len(found.handed)} submissions compared, {len(reported)} pairs to look at: {options.out / INDEX}")
    return 0, {"compared": len(found.handed), "pairs": len(reported), "page": str(options.out / INDEX)}


def run_predictions(options):
    from grader.results.predictions import read_class, write_page

    found = read_class(options.submissions)
    write_page(found, options.out)
    for name in found.unreadable:
        print(f"{name}: a file of predictions is not in the notebooks' format, and is left out", file=sys.stderr)
    options.say(f"{found.with_predictions} of {found.submissions} submissions hold predictions: {options.out}")
    return 0, {"submissions": found.submissions, "with_predictions": found.with_predictions, "page": str(options.out)}


def run_release(options):
    from grader.export.release import release

    archive = release(options.out)
    options.say(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB for students; its checksum is in "
                f"{archive.name}.sha256")
    return 0, {"archive": str(archive)}


def run_export(options):
    if options.system == "gradescope":
        from grader.export.gradescope import export

        points = export(options.out, seed=options.seed, only=options.only, visibility=options.visibility)
        options.say(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB to upload; the assignment has {points} "
                    "points")
        return 0, {"archive": str(options.out), "points": points}
    if options.system == "feedback":
        from grader.export.feedback import export_feedback

        done, what = export_feedback(options.form, options.grades, options.out, options.roster, options.choose,
                                     options.rubric), "pages of feedback to upload"
    else:
        from grader.results.roster import hand_over

        done = hand_over(options.system, options.grades, options.roster, options.out, options.assignment,
                         options.choose, options.rubric)
        what = "marks; marks.csv beside the grades says how each was computed"
    options.say(f"{done.path}: {done.written} {what}")
    for remark in done.remarks:
        print(remark, file=sys.stderr)
    return 1 if done.remarks else 0, {"path": str(done.path), "written": done.written, "remarks": list(done.remarks)}


def run_push(options):
    from grader.export.push import push

    done = push(options.address, options.grades, options.roster, options.send, options.choose, options.rubric,
                say=options.say)
    options.say(f"{len(done.changes)} students: {'sent' if done.sent else 'nothing is sent yet; --send sends it'}")
    for remark in done.remarks:
        print(remark, file=sys.stderr)
    return 1 if done.remarks else 0, {"sent": done.sent, "changes": [vars(one) for one in done.changes],
                                      "remarks": list(done.remarks)}


def run_diff(options):
    from grader.results.marks import differences

    lines = differences(options.old, options.new)
    for line in lines:
        options.say(short(line, 2000))
    return 0, {"lines": lines}


def run_rubric(options):
    from grader.rubric import read_rubric, rubric_text

    rubric = read_rubric(options.file)
    options.say(rubric_text(rubric), end="")
    return 0, {"points": rubric.points, "sum": sum(rubric.points.values())}


COMMANDS = {"grade": run_grade, "export": run_export, "push": run_push, "diff": run_diff, "similar": run_similar,
            "predictions": run_predictions, "release": run_release, "rubric": run_rubric}
