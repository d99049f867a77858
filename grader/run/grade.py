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
from grader.results.files import LOOK
from grader.results.result import ExerciseResult, ProbeResult, Result
from grader.run import distances
from grader.run.context import reference_texts, seed_of
from grader.submission.submission import opened
from lab3.common.files import InputError, content_key
from lab3.exercises import checks
from lab3.exercises.table import EXERCISES

DECODING_SECONDS = 180
TITLES = {"fid_decoding": FILLING.title,
          "fid_model": "Pictures filled with your model, by the reference decoding, are like the test pictures."}


def grade_one(paths, name, context, done=None):
    """Grade a submission.

    Args:
        paths: its folder, zip or notebook, or several of them, the latest first.
        name: what it is called in the results.
        context: a `RunContext`.
        done: an earlier `Result` of it, or None: where submission, grader and seed are the same, its columns are kept.

    Returns:
        A `Result`. Whatever is in the submission, nothing is raised.
    """
    began = time.perf_counter()
    with opened(paths, name) as submission:
        key = content_key([submission.digest.encode(), context.key.encode()])
        kept = {one.exercise: one for one in done.exercises} if done is not None and done.key == key else {}
        wanted = [one for one in context.columns if one not in kept]
        if kept and not wanted:
            return done
        if submission.readable:
            kept |= {one.exercise: one for one in _grade(submission, wanted, context)}
        else:
            kept |= {one: ExerciseResult(one, 0.0, context.rubric.points[one], "missing") for one in wanted}
    exercises = tuple(kept[one] for one in context.rubric.points if one in kept)
    earlier = done.seconds if done is not None and done.key == key else 0.0
    return Result(
        name, round(sum(one.points for one in exercises), 2), sum(one.max_points for one in exercises),
        "graded" if submission.readable else "unreadable", context.level,
        round(earlier + time.perf_counter() - began, 2), context.seed, key, exercises, tuple(submission.notes))


def _grade(submission, wanted, context):
    """The columns of a readable submission."""
    notebooks = {name: _sheet(name, submission.answers[name], context) for name in wanted
              if name in EXERCISES and not submission.answers[name].problem}
    own = (*EXERCISES["iterative_decode"].builds_on, "iterative_decode")
    decoding = {name: submission.answers[name].text for name in own if not submission.answers[name].problem}
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
            yield _marks(notebooks[name], submission.answers[name], context.rubric.points[name])
        else:
            yield _no_answer(submission.answers[name], context.rubric.points[name])


def _sheet(exercise, answer, context):
    probes = PROBES[exercise]
    texts = {name: reference_texts()[name] for name in EXERCISES[exercise].builds_on} | {exercise: answer.text}
    return GradedNotebook(exercise, texts, probes, {one.name: context.rights[exercise, one.name] for one in probes},
                 {one.name: seed_of(context.seed, exercise, one.name) for one in probes})


def _marks(graded, answer, most):
    """Points of an exercise.

    A probe that an answer which computes nothing could pass counts only beside one that passed and is not of that
    kind; where a decisive probe fails, nothing counts. What could hide ready-made attention is named for a person to
    look at, and costs nothing.
    """
    outcomes = {one.name: graded.outcomes[f"probe-{one.name}"] for one in graded.probes}
    forbidden, hidden = ready_made(answer.text) if graded.exercise == "multi_head_attention" else ([], [])
    solid = any(outcomes[one.name].passed and not one.guessable for one in graded.probes)
    likely = public_advice(graded.exercise, graded.outcomes.get("check"))
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
            row = ProbeResult(one.name, one.title, one.weight, False, "at least one right result", "none yet",
                              "this check passes, and counts once a check of the results passes, too")
        decided |= row.decisive and not passed
        counted += one.weight * passed
        rows.append(row)
    total = sum(one.weight for one in graded.probes)
    points = 0.0 if decided else round(most * counted / total, 2)
    stopped = any(one.stopped for one in outcomes.values())
    status = "stopped" if stopped else "passed" if counted == total else "partly" if points else "failed"
    if not points and all(one.likely == "not written yet" for one in outcomes.values()):
        status = "not written"
    looks = [f"{LOOK}: it uses {', '.join(hidden)}."] if hidden else []
    return ExerciseResult(graded.exercise, points, most, status, tuple(rows), (*answer.notes, *looks, *likely), None,
                          round(sum(one.seconds for one in graded.outcomes.values()), 2))


def _no_answer(answer, most):
    status = answer.problem if answer.problem in ("missing", "not written") else "failed"
    notes = answer.notes if status == answer.problem else (*answer.notes, answer.problem)
    return ExerciseResult(answer.exercise, 0.0, most, status, (), tuple(notes))


@cache
def _known_texts():
    """The texts that public checks may say: their titles and likely reasons."""
    topics = (*checks.TOPICS, checks.tools, checks.errors, checks.portability)
    return {node.value for topic in topics for node in ast.walk(ast.parse(inspect.getsource(topic)))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def public_advice(exercise, outcome):
    """What the public checks say to an answer, as notes.

    They ran in the student's kernel: only texts known beforehand are taken from what came out of it.
    """
    message = outcome.seen.get("message") if outcome is not None and isinstance(outcome.seen, dict) else None
    if not isinstance(message, str):
        return ()
    lines = [line.strip() for line in message.splitlines()[:8]]
    first = lines[0].removeprefix(f"[FAIL] {exercise}: ") if lines else ""
    titles = {inspect.getdoc(one) for one in checks.CHECKS[exercise]}
    title = next((one for one in titles if one[0].lower() + one[1:].rstrip(".") == first), None)
    reason = next((line.removeprefix("likely").strip() for line in lines if line.startswith("likely")), None)
    advice = [f"The public checks of the notebook say it too: {title}"] if title else []
    return (*advice, f"Likely: {reason}") if title and reason in _known_texts() else tuple(advice)


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
        found = distances.decode_score(torch.from_numpy(np.concatenate(outcome.seen)), context.scene)
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
