"""Grading one submission: its answers on graded notebooks, its decoding and its model on the distance.

In: a submission, and a `RunContext`: what all submissions of a run are measured with. Out: a `Result`.
"""

import ast
import inspect
import time
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from grader.kernels.graded_notebook import GradedNotebook, Outcome, run_notebooks
from grader.probes import PROBES
from grader.probes.attention import ready_made
from grader.probes.filling import FILLING
from grader.results.files import LIKELY, LOOK, PASSES, SAYS
from grader.results.result import ExerciseResult, ProbeResult, Result
from grader.run import distances
from grader.run.context import reference_texts, seed_of
from grader.submission.submission import opened
from lab3.common.files import InputError, content_key
from lab3.exercises import checks
from lab3.exercises.table import EXERCISES
from lab3.metrics.decoding_score import decode_score

DECODING_SECONDS = 180
DECODED = (*EXERCISES["iterative_decode"].builds_on, "iterative_decode")  # the answers of `fid_decoding`
EARLIER = "Not graded again, because not asked for, though something has changed since"
TITLES = {"fid_decoding": FILLING.title,
          "fid_model": "Pictures filled with your model, by the reference decoding, are like the test pictures."}


def grade_one(paths, name, context, done=None):
    """Grade a submission.

    Args:
        paths: its folder, zip or notebook, or several of them, the latest first.
        name: what it is called in the results.
        context: a `RunContext`.
        done: an earlier `Result` of it, or None. A column whose answer, probes, points and seed are the same is kept,
            and so is one that is not asked for now.

    Returns:
        A `Result`. Whatever is in the submission, nothing is raised.
    """
    began = time.perf_counter()
    with opened(paths, name) as submission:
        keys = {column: content_key([repr(_graded(submission, column)).encode(), key.encode()])
                for column, key in context.keys.items()}
        kept = {one.exercise: one for one in done.exercises if one.key or done.status != "error"} if done else {}
        asked = {*context.columns, *(kept if not submission.readable else ())}
        wanted = [one for one in context.rubric.points if one in asked and (
            one not in kept or kept[one].key != keys[one])]
        if submission.readable:
            found = _grade(submission, wanted, context)
        else:
            found = (ExerciseResult(one, 0.0, context.rubric.points[one], "missing") for one in wanted)
        made = kept | {one.exercise: replace(one, key=keys[one.exercise]) for one in found}
    exercises = tuple(made[one] for one in context.rubric.points if one in made)
    older = [one.exercise for one in exercises if one.key != keys[one.exercise]]
    notes = (*submission.notes, *([f"{EARLIER}: {', '.join(older)}."] if older else []))
    seconds = done.seconds if done and not wanted else round(time.perf_counter() - began + (
        done.seconds if done and len(wanted) < len(exercises) else 0.0), 2)
    return Result(
        name, round(sum(one.points for one in exercises), 2), sum(one.max_points for one in exercises),
        "graded" if submission.readable else "unreadable", context.level if wanted or not done else done.sandbox,
        seconds, context.seed, content_key([one.key.encode() for one in exercises]), exercises, notes)


def _graded(submission, column):
    """What of a submission a column's marks depend on."""
    if column == "fid_model":
        return submission.readable, submission.model_digest
    names = DECODED if column == "fid_decoding" else (column,)
    return submission.readable, [submission.answers[name] for name in names]


def _grade(submission, wanted, context):
    """The columns of a readable submission."""
    notebooks = {name: _sheet(name, submission.answers[name], context) for name in wanted
              if name in EXERCISES and not submission.answers[name].problem}
    decoding = {name: submission.answers[name].text for name in DECODED if not submission.answers[name].problem}
    if "fid_decoding" in wanted and "iterative_decode" in decoding:
        notebooks["fid_decoding"] = GradedNotebook(
            "fid_decoding", decoding, [FILLING], {FILLING.name: None}, {FILLING.name: 0}, context.given,
            DECODING_SECONDS, keep=True, check=False)
    run_notebooks(list(notebooks.values()), context.forkserver, context.level, context.rubric.limits, context.hidden)
    for name in wanted:
        if name == "fid_model":
            yield _fid_model(submission.model, context)
        elif name == "fid_decoding":
            yield _fid_decoding(notebooks.get(name), submission.answers["iterative_decode"], context)
        elif name in notebooks:
            yield marks(notebooks[name], submission.answers[name], context.rubric.points[name])
        else:
            yield _no_answer(submission.answers[name], context.rubric.points[name])


def _sheet(exercise, answer, context):
    probes = PROBES[exercise]
    texts = {name: reference_texts()[name] for name in EXERCISES[exercise].builds_on} | {exercise: answer.text}
    return GradedNotebook(exercise, texts, probes, {one.name: context.rights[exercise, one.name] for one in probes},
                 {one.name: seed_of(context.seed, exercise, one.name) for one in probes})


def marks(graded, answer, most):
    """Points of an exercise.

    A probe that an answer which computes nothing could pass counts only beside one that passed and is not of that
    kind; where a decisive probe fails, nothing counts. What could hide ready-made attention is named for a person to
    look at, and costs nothing.
    """
    outcomes = {one.name: graded.outcomes[f"probe-{one.name}"] for one in graded.probes}
    forbidden, hidden = ready_made(answer.text) if graded.exercise == "multi_head_attention" else ([], [])
    solid = any(outcomes[one.name].passed and not one.guessable for one in graded.probes)
    runs = all(one.passed for name, one in graded.outcomes.items() if name.startswith("answer-"))
    rows, counted, decided = [], 0, False
    for one in graded.probes:
        found = outcomes[one.name]
        passed = found.passed and (solid or not one.guessable)
        row = ProbeResult(one.name, one.title, one.weight, passed, found.expected, found.got, found.likely, found.place,
                          found.seconds, one.decisive and runs)
        if one.decisive and forbidden:
            passed, row = False, ProbeResult(one.name, one.title, one.weight, False, "attention of your own",
                                             f"{', '.join(forbidden)} in the code", "ready-made attention",
                                             decisive=True)
        elif found.passed and not passed:
            row = ProbeResult(one.name, one.title, one.weight, False, "at least one right result",
                              "none yet: this check passes, and counts once a check of the results passes, too")
        decided |= row.decisive and not passed
        counted += one.weight * passed
        rows.append(row)
    total = sum(one.weight for one in graded.probes)
    points = 0.0 if decided else round(most * counted / total, 2)
    stopped = any(one.stopped for one in outcomes.values())
    status = "stopped" if stopped else "passed" if counted == total else "partly" if points else "failed"
    advice = public_advice(graded.exercise, graded.outcomes.get("check"), status == "passed")
    rows = one_reason(rows, {one.name for one in graded.probes if outcomes[one.name].likely}, advice)
    if not points and all(one.likely == "not written yet" for one in outcomes.values()):
        status = "not written"
    looks = [f"{LOOK}: it uses {', '.join(hidden)}."] if hidden else []
    return ExerciseResult(graded.exercise, points, most, status, tuple(rows), (*answer.notes, *looks, *advice), None,
                          round(sum(one.seconds for one in graded.outcomes.values()), 2))


def one_reason(rows, guessed, advice):
    """Take back the likely reasons that are not known to be true: one slip fails many probes, and misleads most.

    What the public checks name comes first: they were asked for it one after the other, the simplest first. Where they
    name a rule alone, or pass, a probe's reason stays if most that failed say it and none says another.

    Args:
        rows: the `ProbeResult`s of an exercise.
        guessed: the names of those whose reason is a probe's guess.
        advice: what `public_advice` gives.
    """
    failed = [row for row in rows if not row.passed]
    known = next((note.removeprefix(LIKELY) for note in advice if note.startswith(LIKELY)), "")
    guesses = {row.likely for row in failed} - {""}
    if not known and len(guesses) == 1 and 2 * sum(bool(row.likely) for row in failed) > len(failed):
        [known] = guesses
    return [row if row.name not in guessed or row.likely == known else replace(row, likely="") for row in rows]


def _no_answer(answer, most):
    status = answer.problem if answer.problem in ("missing", "not written") else "failed"
    notes = answer.notes if status == answer.problem else (*answer.notes, answer.problem)
    return ExerciseResult(answer.exercise, 0.0, most, status, (), tuple(notes))


@cache
def _known_texts():
    """The texts that public checks may say: their titles and likely reasons."""
    topics = (*checks.TOPICS, checks.tools, checks.errors, checks.portability)
    nodes = [node for topic in topics for node in ast.walk(ast.parse(inspect.getsource(topic)))]

    def texts(nodes):
        return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    refusing = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name.endswith("_refuses")]
    names = texts(inner for node in refusing for inner in ast.walk(node))
    return texts(nodes) | {template.format(name) for name in names for template in (
        checks.tools.UNCHECKED, checks.tools.LATE, checks.tools.UNNAMED)}


def public_advice(exercise, outcome, right=False):
    """What the public checks say to an answer, as notes; that they pass is told unless the answer is right.

    They ran in the student's kernel: only texts known beforehand are taken from what came out of it.
    """
    if outcome is not None and isinstance(outcome.seen, dict) and outcome.seen.get("passed") is True:
        return () if right else (PASSES,)
    message = outcome.seen.get("message") if outcome is not None and isinstance(outcome.seen, dict) else None
    if not isinstance(message, str):
        return ()
    lines = [line.strip() for line in message.splitlines()[:8]]
    first = lines[0].removeprefix(f"[FAIL] {exercise}: ") if lines else ""
    titles = {inspect.getdoc(one) for one in checks.CHECKS[exercise]}
    title = next((one for one in titles if one[0].lower() + one[1:].rstrip(".") == first), None)
    reason = next((line.removeprefix("likely").strip() for line in lines if line.startswith("likely")), None)
    advice = [f"{SAYS}{title}"] if title else []
    return (*advice, f"{LIKELY}{reason}") if title and reason in _known_texts() else tuple(advice)


def _fid_decoding(graded, answer, context):
    """The distance of pictures that the student's decoding filled, in the student's kernel, with the kit's model."""
    most = context.rubric.points["fid_decoding"]
    if graded is None:
        return replace(_no_answer(answer, most), exercise="fid_decoding")
    outcome = graded.outcomes[f"probe-{FILLING.name}"]
    seconds = round(sum(one.seconds for one in graded.outcomes.values()), 2)
    if not outcome.passed:
        return _distance_marks("fid_decoding", most, outcome, stopped=outcome.stopped, seconds=seconds)
    try:
        found = decode_score(torch.from_numpy(np.concatenate(outcome.seen)), context.scene)
    except (InputError, TypeError, ValueError) as error:
        return _distance_marks("fid_decoding", most, Outcome(False, "tokens of filled pictures", str(error)),
                               seconds=seconds)
    return _tier("fid_decoding", found, context, seconds)


def _fid_model(path, context):
    """The distance of pictures that the reference decoding fills with the student's model."""
    most, began = context.rubric.points["fid_model"], time.perf_counter()
    if path is None:
        return ExerciseResult("fid_model", 0.0, most, "missing", (), (
            "No work/maskgit.safetensors: train your model in notebook 03 and hand it in.",))
    try:
        found, fingerprint = distances.model_score(path, context.seed)
    except InputError as error:
        return _distance_marks("fid_model", most, Outcome(False, "a model that you trained", str(error)))
    marks = _tier("fid_model", found, context, round(time.perf_counter() - began, 2))
    return replace(marks, fingerprint=fingerprint if marks.points else "")  # models that learned little are all alike


def _tier(column, found, context, seconds):
    thresholds, most = context.rubric.thresholds[column], context.rubric.points[column]
    share = distances.share(found, thresholds)
    best = thresholds["tiers"][0]["at_most"]
    likely = ""
    if found < thresholds.get("at_least", 0):
        likely = "so low a distance is none of this model's"
    outcome = Outcome(share == 1, f"a distance of at most {best:g}", f"{found:.2f}", likely)
    return _distance_marks(column, most, outcome, share, found, seconds)


def _distance_marks(column, most, outcome, share=0.0, found=None, seconds=0.0, stopped=False):
    row = ProbeResult(column, TITLES[column], 1, outcome.passed and share == 1, outcome.expected, outcome.got,
                      outcome.likely, outcome.place, seconds)
    status = "stopped" if stopped else "passed" if share == 1 else "partly" if share else "failed"
    details = {"distance": f"{found:.2f}"} if found is not None else None
    return ExerciseResult(column, round(most * share, 2), most, status, (row,), (), details, seconds)
