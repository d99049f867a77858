"""The command line: `python -m grader COMMAND`.

In: arguments. Out: results, and an exit status: 0 done, 1 the work itself failed, 2 wrong usage or unusable input.
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

from lab3.files import InputError, SaveError


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
    grade.add_argument("--require-sandbox", action="store_true", help="refuse to run without bubblewrap or namespaces")
    return parser


def main(arguments=None):
    """Run one command; returns the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except KeyboardInterrupt:
        print("stopped. What was graded is kept; the same command goes on from there.", file=sys.stderr)
        return 1
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        unusable = isinstance(error, (InputError, SaveError))
        text = str(error) if unusable else f"failed: {type(error).__name__}: {error} (--debug shows where)"
        print(f"grader {options.command}: {' '.join(text.split())}", file=sys.stderr)
        return 2 if unusable else 1


def run_grade(options):
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
        from grader.selfcheck import self_check

        return self_check(notebooks, options.only)
    if options.out is None:
        raise InputError("--out is missing: name the folder for the results, such as --out grades.")
    from grader.batch import grade

    results = grade(options.submissions, options.out, seed=options.seed, jobs=options.jobs, only=options.only,
                    require_sandbox=options.require_sandbox, scheduler=options.scheduler)
    broken = [one.submission for one in results if one.status == "error"]
    print(f"{len(results)} submissions graded: {options.out / 'grades.csv'}, {options.out / 'class.html'}")
    if broken:
        print(f"the grader broke down on {', '.join(broken)}: the same command tries again", file=sys.stderr)
    return 1 if broken else 0


COMMANDS = {"grade": run_grade}
