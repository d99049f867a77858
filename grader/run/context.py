"""What all submissions of a run are measured with: seeds, the reference observations, the keys of the columns.

In: a seed and the columns to grade. Out: a `RunContext`.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from grader.kernels.kernel import Forkserver
from grader.probes import PROBES, inside
from grader.probes.filling import save_scene
from grader.probes.probe import decode
from grader.rubric import Rubric, read_rubric
from grader.run import distances
from grader.run.keys import column_keys
from lab3.common.paths import SHIPPED, SOLUTIONS, WEIGHTS
from lab3.exercises.answers import answer_file, link, run_answer
from lab3.exercises.table import EXERCISES
from lab3.metrics.decoding_score import scene

SCRATCH = "lab3-run-"


@dataclass
class RunContext:
    """What the submissions of one run are measured with.

    Attributes:
        seed: an int; the same seed gives the same marks.
        level: the sandbox level.
        rubric: a `Rubric`.
        forkserver: a `grader.kernels.kernel.Forkserver`.
        hidden: folders that no kernel may see.
        rights: (exercise, probe) -> what the reference answer gave.
        keys: column -> the content hash of all that its marks depend on, besides the submission.
        columns: the ids that are graded.
        scene: the pictures with holes of `fid_decoding`, a `lab3.metrics.decoding_score.Scene`.
        given: the files that its kernel gets.
        scratch: a folder for what lasts no longer than the run.
    """

    seed: int
    level: str
    rubric: Rubric
    forkserver: object
    hidden: tuple
    rights: dict
    keys: dict
    columns: tuple
    scene: object = None
    given: tuple = ()
    scratch: str | None = None


@contextlib.contextmanager
def run_context(seed, columns, level, hidden=(), rubric=None):
    """What all submissions of a run are measured with, as long as the block lasts.

    Args:
        seed: an int, the run's.
        columns: the ids to grade.
        level: the sandbox level, as `require` gives it.
        hidden: folders that no kernel may see.
        rubric: a `Rubric`; None: the kit's.
    """
    torch.set_num_threads(1)  # no thread may have been started when processes fork; and one core a job
    rubric = rubric or read_rubric()
    context = RunContext(seed, level, rubric, Forkserver(), tuple(hidden), observe_reference(seed, columns),
                         column_keys(seed, rubric), tuple(columns))
    try:
        with scratch_folder() as context.scratch:
            os.chmod(context.scratch, 0o711)  # kernels that are users of their own find the way to their boxes
            if {"fid_decoding", "fid_model"} & set(columns):
                distances.prepare(seed, columns)
                context.scene = scene(seed)
                context.given = (save_scene(context.scene, context.scratch),
                                 shutil.copy(SHIPPED / WEIGHTS, context.scratch))
                for file in context.given:
                    os.chmod(file, 0o644)  # kernels may be other users
            yield context
    finally:
        context.forkserver.close()


@contextlib.contextmanager
def scratch_folder():
    """A temporary folder that is locked as long as the block lasts; unlocked ones, of killed runs, are removed."""
    for old in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError), open(old / "lock") as lock:
            if old.lstat().st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as folder, open(Path(folder) / "new", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(lock.name, Path(folder) / "lock")
        yield folder


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
            with inside.quiet():
                found = inside.observe(one.look, exercise, seed_of(seed, exercise, one.name), answers)
            if "seen" not in found:
                raise RuntimeError(f"{exercise}/{one.name}: the reference answer fails: {found['error']}")
            rights[exercise, one.name] = decode(inside.encode(found["seen"]))
    return rights
