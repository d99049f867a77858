"""What feedback names as the cause of each mistake in the corpus of wrong answers, and whether that is true.

    OMP_NUM_THREADS=1 python -m benchmarks.diagnoses [EXERCISE ...] [--json FILE]

Each answer has one mistake. Its feedback is made as the grader makes it, without kernels. The cause counts as named
where what comes first, the public checks' advice and the first failed check, tells it by the pattern in
`tests/causes.py`, and no likely reason tells another. About 15 minutes of processor time.
"""

import argparse
import contextlib
import io
import re
import sys
from types import SimpleNamespace

from lab3.common.files import write_json
from lab3.common.paths import ROOT

sys.path.insert(0, str(ROOT / "tests"))

import corpus  # noqa: E402
import probing  # noqa: E402
from causes import CAUSES  # noqa: E402
from test_checks import run  # noqa: E402

from grader.kernels.graded_notebook import GradedNotebook, Outcome, explain, limited  # noqa: E402
from grader.probes import PROBES  # noqa: E402
from grader.probes.inside import encode, observe  # noqa: E402
from grader.probes.probe import Wrong, decode  # noqa: E402
from grader.results.files import reasons, rows  # noqa: E402
from grader.run.grade import marks  # noqa: E402
from lab3.exercises.answers import answer_file  # noqa: E402
from lab3.exercises.checks import check  # noqa: E402
from lab3.exercises.table import EXERCISES  # noqa: E402

SEED = 1


def grade(exercise, text):
    """The `ExerciseResult` of an answer, its probes and public checks run in this process."""
    alone, answers = not EXERCISES[exercise].builds_on, probing.namespaces(exercise, text)
    graded = GradedNotebook(exercise, {exercise: text}, PROBES[exercise], {}, {})
    for one in PROBES[exercise]:
        seen = decode(encode(observe(one.look, exercise, SEED, answers)))
        if "error" in seen:
            outcome = explain(seen["error"], text, alone=alone)
        else:
            try:
                one(seen["seen"], probing.right(exercise, one.name, SEED))
                outcome = Outcome(True)
            except Wrong as wrong:
                outcome = Outcome(False, wrong.expected, wrong.got, wrong.likely)
        graded.outcomes[f"probe-{one.name}"] = outcome if alone else limited(outcome, graded.outcomes.values())
    report = check(exercise, run(exercise, answer_file(text)))
    graded.outcomes["check"] = Outcome(True, seen={"passed": report.passed, "message": report.message})
    return marks(graded, SimpleNamespace(text=text, notes=()), 1.0)


def diagnosis(result):
    """(what stands first, every likely reason) of an `ExerciseResult`, texts."""
    groups, folded = reasons(result)
    first = [*result.notes, *(text for _, text in rows(groups[0][0][0]))] if groups else list(result.notes)
    likely = [note.removeprefix("Likely: ") for note in result.notes if note.startswith("Likely: ")]
    return "\n".join(first), likely + [group[0][0].likely for group in groups + folded if group[0][0].likely]


def named(cause, result):
    """Whether a result names this cause, a pattern, first, and no other."""
    first, likely = diagnosis(result)
    return bool(re.search(cause, first)) and all(re.search(cause, one) for one in likely)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help="default: all")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    found = {}
    for name, (exercise, text) in corpus.WRONG.items():
        if exercise in (options.exercises or EXERCISES):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                result = grade(exercise, text)
            found.setdefault(exercise, {})[name] = named(CAUSES[name], result)
            if not found[exercise][name]:
                first, likely = diagnosis(result)
                print(f"{name}: {corpus.REASONS[name]}\n    first: {first.splitlines()}\n    likely: {likely}")
    print("| exercise | wrong answers | true cause named first, and no other |\n|---|---|---|")
    for exercise, one in found.items():
        print(f"| `{exercise}` | {len(one)} | {sum(one.values())} |")
    count, good = sum(map(len, found.values())), sum(sum(one.values()) for one in found.values())
    print(f"| all | {count} | {good} ({good / count:.0%}) |")
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
