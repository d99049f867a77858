"""Grading one submission: its answers on graded notebooks, its decoding and its model on the distance.

In: a submission, and a `Bench`: what all submissions of a run are measured with. Out: a `Result`.
"""

import ast
import hashlib
import inspect
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import yaml

import lab3.checks
from grader import fid
from grader.intake import opened
from grader.notebook import Outcome, Sheet, run_sheets
from grader.probes import PROBES, inside
from grader.probes.attention import ready_made
from grader.probes.filling import FILLING
from grader.probes.probe import decode
from grader.result import ExerciseResult, ProbeResult, Result
from grader.sandbox import Limits
from lab3.exercises import EXERCISES, answer_file, link, run_answer
from lab3.files import InputError, content_key
from lab3.places import ROOT, SHIPPED, SOLUTIONS

# What an answer builds on: in its kernel these are the reference answers.
BUILDS_ON = {
    "train_one_epoch": ("sample_mask", "masked_forward", "mvtm_loss"),
    "eval_one_epoch": ("sample_mask", "masked_forward", "mvtm_loss"),
    "iterative_decode": ("inpainting",),
}
DECODING = ("inpainting", "iterative_decode")  # the student's own, for `fid_decoding`
DECODING_SECONDS = 180
TITLES = {"fid_decoding": FILLING.title,
          "fid_model": "Pictures filled with your model, by the reference decoding, are like the test pictures."}
RUBRIC = Path(__file__).parent / "rubric.yml"


@dataclass(frozen=True)
class Rubric:
    """Points by column, thresholds of the two distances, limits of a kernel."""

    points: dict
    thresholds: dict
    limits: Limits = field(default_factory=Limits)


def read_rubric(path=RUBRIC):
    """The rubric. Raises `InputError` where a column is missing or unknown."""
    data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    wanted = [*EXERCISES, "fid_decoding", "fid_model"]
    if list(data.get("points", {})) != wanted:
        raise InputError(f"{path}: points must name {', '.join(wanted)}, in this order.")
    return Rubric(data["points"], data.get("thresholds", {}), Limits(**data.get("limits", {})))


@dataclass
class Bench:
    """What the submissions of one run are measured with.

    Attributes:
        seed: an int; the same seed gives the same marks.
        level: the sandbox level.
        rubric: a `Rubric`.
        nursery: a `grader.kernel.Nursery`.
        hidden: folders that no kernel may see.
        rights: (exercise, probe) -> what the reference answer gave.
        key: the content hash of the grader, the reference answers and the seed.
        columns: the ids that are graded.
        scene: the pictures with holes of `fid_decoding`, a `grader.fid.Scene`.
        given: the files that its kernel gets.
        scratch: a folder for what lasts no longer than the run.
    """

    seed: int
    level: str
    rubric: Rubric
    nursery: object
    hidden: tuple
    rights: dict
    key: str
    columns: tuple
    scene: object = None
    given: tuple = ()
    scratch: str | None = None


def seed_of(seed, *names):
    """A seed of its own for each probe of a run."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()[:7], "big")


@cache
def reference_texts():
    """The reference answers' code, by exercise. Empty where there is none, as in what students get."""
    return {name: (SOLUTIONS / f"{name}.py").read_text(encoding="utf-8") for name in EXERCISES
            if (SOLUTIONS / f"{name}.py").is_file()}


def observe_reference(seed, exercises=tuple(EXERCISES)):
    """What the reference answers give to all probes of a run, (exercise, probe) -> observation."""
    answers = {name: run_answer(name, answer_file(text), f"{name}.py") for name, text in reference_texts().items()}
    link(answers)
    rights = {}
    for exercise in exercises:
        for one in PROBES.get(exercise, ()):
            found = inside.observe(one.look, exercise, seed_of(seed, exercise, one.name), answers)
            if "seen" not in found:
                raise RuntimeError(f"{exercise}/{one.name}: the reference answer fails: {found['error']}")
            rights[exercise, one.name] = decode(inside.encode(found["seen"]))
    return rights


def grader_key(seed):
    """The content hash of all that marks depend on, besides the submission; with the seed None, of the code alone.

    What lateness costs is no part of it: that is taken off later.
    """
    files = [*sorted((ROOT / "grader").rglob("*.py")), *sorted((ROOT / "lab3").rglob("*.py")),
             *sorted(SOLUTIONS.glob("*.py")), *sorted(SHIPPED.glob("*.safetensors"))]
    return content_key([*(file.read_bytes() for file in files), repr(read_rubric()).encode(),
                        torch.__version__.encode(), str(seed).encode()])


def grade_one(path, name, bench, done=None):
    """Grade a submission.

    Args:
        path: its folder, zip or notebook.
        name: what it is called in the results.
        bench: a `Bench`.
        done: an earlier `Result` of it, or None: where submission, grader and seed are the same, its columns are kept.

    Returns:
        A `Result`. Whatever is in the submission, nothing is raised.
    """
    began = time.perf_counter()
    with opened(path, name) as submission:
        key = content_key([submission.digest.encode(), bench.key.encode()])
        kept = {one.exercise: one for one in done.exercises} if done is not None and done.key == key else {}
        wanted = [one for one in bench.columns if one not in kept]
        if kept and not wanted:
            return done
        if submission.readable:
            kept |= {one.exercise: one for one in _grade(submission, wanted, bench)}
        else:
            kept |= {one: ExerciseResult(one, 0.0, bench.rubric.points[one], "missing") for one in wanted}
    exercises = tuple(kept[one] for one in bench.rubric.points if one in kept)
    earlier = done.seconds if done is not None and done.key == key else 0.0
    return Result(
        name, round(sum(one.points for one in exercises), 2), sum(one.max_points for one in exercises),
        "graded" if submission.readable else "unreadable", bench.level,
        round(earlier + time.perf_counter() - began, 2), bench.seed, key, exercises, tuple(submission.notes))


def _grade(submission, wanted, bench):
    """The columns of a readable submission."""
    sheets = {name: _sheet(name, submission.answers[name], bench) for name in wanted
              if name in EXERCISES and not submission.answers[name].problem}
    decoding = {name: submission.answers[name].text for name in DECODING if not submission.answers[name].problem}
    if "fid_decoding" in wanted and "iterative_decode" in decoding:
        sheets["fid_decoding"] = Sheet(
            "fid_decoding", decoding, [FILLING], {FILLING.name: None}, {FILLING.name: 0}, bench.given,
            DECODING_SECONDS, check=False)
    run_sheets(list(sheets.values()), bench.nursery, bench.level, bench.rubric.limits, bench.hidden)
    for name in wanted:
        if name == "fid_model":
            yield _fid_model(submission.model, bench)
        elif name == "fid_decoding":
            yield _fid_decoding(sheets.get(name), submission.answers["iterative_decode"], bench)
        elif name in sheets:
            yield _marks(sheets[name], submission.answers[name], bench.rubric.points[name])
        else:
            yield _no_answer(submission.answers[name], bench.rubric.points[name])


def _sheet(exercise, answer, bench):
    probes = PROBES[exercise]
    texts = {name: reference_texts()[name] for name in BUILDS_ON.get(exercise, ())} | {exercise: answer.text}
    return Sheet(exercise, texts, probes, {one.name: bench.rights[exercise, one.name] for one in probes},
                 {one.name: seed_of(bench.seed, exercise, one.name) for one in probes})


def _marks(sheet, answer, most):
    """Points of an exercise.

    A probe that an answer which computes nothing could pass counts only beside one that passed and is not of that
    kind; where a decisive probe fails, nothing counts.
    """
    outcomes = {one.name: sheet.outcomes[f"probe-{one.name}"] for one in sheet.probes}
    forbidden = ready_made(answer.text) if sheet.exercise == "multi_head_attention" else []
    solid = any(outcomes[one.name].passed and not one.guessable for one in sheet.probes)
    likely = public_advice(sheet.exercise, sheet.outcomes.get("check"))
    rows, counted, decided = [], 0, False
    for one in sheet.probes:
        found = outcomes[one.name]
        passed = found.passed and (solid or not one.guessable)
        row = ProbeResult(one.name, one.title, one.weight, passed, found.expected, found.got, found.likely, found.place,
                          found.seconds, one.decisive)
        if one.decisive and forbidden:
            passed, row = False, ProbeResult(one.name, one.title, one.weight, False, "attention of your own",
                                             f"{', '.join(forbidden)} in the code", "ready-made attention",
                                             decisive=True)
        elif found.passed and not passed:
            row = ProbeResult(one.name, one.title, one.weight, False, "some right result beside it", "none",
                              "an answer that computes nothing could pass this: it counts beside others only",
                              decisive=one.decisive)
        decided |= one.decisive and not passed
        counted += one.weight * passed
        rows.append(row)
    total = sum(one.weight for one in sheet.probes)
    points = 0.0 if decided else round(most * counted / total, 2)
    stopped = any(one.stopped for one in outcomes.values())
    status = "stopped" if stopped else "passed" if counted == total else "partly" if points else "failed"
    if not points and all(one.likely == "not written yet" for one in outcomes.values()):
        status = "not written"
    return ExerciseResult(sheet.exercise, points, most, status, tuple(rows), (*answer.notes, *likely), None,
                          round(sum(one.seconds for one in sheet.outcomes.values()), 2))


def _no_answer(answer, most):
    status = answer.problem if answer.problem in ("missing", "not written") else "failed"
    notes = answer.notes if status == answer.problem else (*answer.notes, answer.problem)
    return ExerciseResult(answer.exercise, 0.0, most, status, (), tuple(notes))


@cache
def _known_texts():
    """The texts that public checks may say: their titles and likely reasons."""
    topics = (*lab3.checks.TOPICS, lab3.checks.tools, lab3.checks.errors)
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
    titles = {inspect.getdoc(one) for one in lab3.checks.CHECKS[exercise]}
    title = next((one for one in titles if one[0].lower() + one[1:].rstrip(".") == first), None)
    reason = next((line.removeprefix("likely").strip() for line in lines if line.startswith("likely")), None)
    advice = [f"The public checks of the notebook say it too: {title}"] if title else []
    return (*advice, f"Likely: {reason}") if title and reason in _known_texts() else tuple(advice)


def _fid_decoding(sheet, answer, bench):
    """The distance of pictures that the student's decoding filled, in the student's kernel, with the kit's model."""
    most = bench.rubric.points["fid_decoding"]
    if sheet is None:
        return replace(_no_answer(answer, most), exercise="fid_decoding")
    outcome = sheet.outcomes[f"probe-{FILLING.name}"]
    seconds = round(sum(one.seconds for one in sheet.outcomes.values()), 2)
    if not outcome.passed:
        return _distance_marks("fid_decoding", most, outcome, stopped=outcome.stopped, seconds=seconds)
    try:
        found = fid.decode_score(torch.from_numpy(np.concatenate(outcome.seen)), bench.scene)
    except (InputError, TypeError, ValueError) as error:
        return _distance_marks("fid_decoding", most, Outcome(False, "tokens of filled pictures", str(error)),
                               seconds=seconds)
    return _tier("fid_decoding", found, bench, seconds)


def _fid_model(path, bench):
    """The distance of pictures that the reference decoding fills with the student's model."""
    most, began = bench.rubric.points["fid_model"], time.perf_counter()
    if path is None:
        return ExerciseResult("fid_model", 0.0, most, "missing", (), (
            "No work/maskgit.safetensors: train your model in notebook 03 and hand it in.",))
    try:
        found = fid.model_score(path, bench.seed)
    except InputError as error:
        return _distance_marks("fid_model", most, Outcome(False, "a model that you trained", str(error)))
    return _tier("fid_model", found, bench, round(time.perf_counter() - began, 2))


def _tier(column, found, bench, seconds):
    thresholds, most = bench.rubric.thresholds[column], bench.rubric.points[column]
    share = fid.share(found, thresholds)
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
