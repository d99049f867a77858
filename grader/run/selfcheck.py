"""The self-check: a notebook's answers run the way they are graded, with the public checks in place of hidden probes.

In: a notebook. Out: a line for each of its exercises, and what is wrong, on the terminal. Nothing is marked.
"""

from grader.kernels.graded_notebook import GradedNotebook, run_notebooks
from grader.kernels.kernel import Forkserver
from grader.kernels.sandbox import require
from grader.results.files import block, rows
from grader.rubric import read_rubric
from grader.submission.submission import opened
from lab3.exercises.table import EXERCISES


def self_check(paths, only=(), allow_no_sandbox=False, say=print):
    """Check notebooks; returns the exit status: 0 where every answer that was found is right, else 1.

    Args:
        paths: .ipynb files; an answer finds the others that it builds on in the same notebook or another one named.
        only: ids; default: all that the notebooks hold.
        allow_no_sandbox: whether to go on without one.

    Raises:
        InputError: there is no sandbox, and none was allowed.
    """
    level = require(allow_no_sandbox)
    answers, notes = {}, []
    for path in paths:
        with opened(path) as submission:
            notes += [note for note in submission.notes if not submission.readable]
            answers |= {name: one for name, one in submission.answers.items() if one.problem != "missing"}
    for note in notes:
        say(block(note))
    if not answers:
        say("no exercise found: name a notebook with cells that begin with `#| exercise: NAME`")
        return 1
    good = {name: one.text for name, one in answers.items() if not one.problem}
    notebooks = {name: GradedNotebook(name, {other: good[other] for other in EXERCISES[name].builds_on if other in good}
                          | {name: text}, [], {}, {}) for name, text in good.items() if not only or name in only}
    forkserver = Forkserver()
    try:
        run_notebooks(list(notebooks.values()), forkserver, level, read_rubric().limits)
    finally:
        forkserver.close()
    right = 0
    for name in EXERCISES:
        if name in notebooks:
            passed, text = _report(name, notebooks[name].outcomes["check"])
            right += passed
            say(block(text))
        elif name in answers:
            word = "TODO" if answers[name].problem == "not written" else "FAIL"
            say(block(f"[{word}] {name}: {answers[name].problem}"))
        for note in answers[name].notes if name in answers else ():
            say(block(f"       {note}"))
    say(f"{right} of {len(answers)} answers pass the public checks. Hidden probes were not run: no marks.")
    return 0 if right == len(answers) else 1


def _report(name, outcome):
    """(passed, text): what the check's own report says, or why there is none."""
    if outcome.passed and isinstance(outcome.seen, dict):
        return outcome.seen.get("passed") is True, str(outcome.seen.get("message"))
    return False, "\n".join([f"[FAIL] {name}", *(f"       {label:<9} {text}" for label, text in rows(outcome))])
