"""The checks of the exercises: one line when an answer is right, and what went wrong and why when it is not.

In: an exercise's id and the globals in which its answer ran. Out: a `Report`. The student sees it as soon as the cell
has run; tests and the grader use the same functions. Nothing here solves an exercise: the checks use inputs whose right
result is known beforehand, properties that must hold, and what PyTorch offers. Each check's docstring is its title.
"""

import contextlib
import inspect
import io
import random
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from lab3.common.files import InputError
from lab3.exercises.checks import attention, decoding, distance, guidance, masking, tools, training
from lab3.exercises.checks.errors import not_written, raised, still_there
from lab3.exercises.checks.portability import portable
from lab3.exercises.checks.tools import CheckFailed
from lab3.exercises.table import ALL_EXERCISES

TOPICS = (attention, masking, training, decoding, distance, guidance)
CHECKS = {exercise: (portable, *checks) for topic in TOPICS for exercise, checks in topic.CHECKS.items()}


@dataclass(frozen=True)
class Report:
    """What the checks of one exercise found.

    Attributes:
        written: False where the answer still raises NotImplementedError. One that waits for another answer, which is
            not written yet, is written itself, and does not pass.
        message: one line when right, several short lines when wrong.
    """

    exercise: str
    passed: bool
    written: bool
    message: str


def check(exercise, namespace):
    """Check one answer; whatever the answer does, this returns, and leaves everything as it was.

    Args:
        exercise: an id of `lab3.exercises.table.ALL_EXERCISES`.
        namespace: the globals in which the answer was executed, with what it builds on.

    Raises:
        InputError: there is no such exercise.
    """
    if exercise not in ALL_EXERCISES:
        raise InputError(f"exercise {exercise!r} does not exist. The exercises are: {', '.join(ALL_EXERCISES)}.")
    name, checks, called = ALL_EXERCISES[exercise].defines, CHECKS[exercise], []
    if name not in namespace:
        return _failed(exercise, f"the name {name} is defined", CheckFailed(
            f"a definition of {name}", f"no {name} among the names of the notebook",
            f"the cell was not run, or the name was changed: keep the name {name}"))
    for one in checks:
        with _surroundings(namespace):
            if exercise == "iterative_decode":
                _note_progress(namespace, called)
            others = {"namespace": namespace} if "namespace" in inspect.signature(one).parameters else {}
            try:
                one(namespace[name], **others)
                continue
            except CheckFailed as failure:
                found = _without_numbers(failure, exercise, lambda: one(namespace[name], **others))
            except (Exception, SystemExit) as error:
                missing = not_written(error, name)
                if missing:
                    waits = "" if missing == name else f"waits for {missing}, which is "
                    rest = still_there(error) if missing == name else ""
                    return Report(exercise, False, missing != name,
                                  f"[TODO] {exercise}: {rest or f'{waits}not written yet'}")
                found = raised(error, namespace)
                if called and not 0 < called[-1] <= 1:
                    found.reason = decoding.FROM_0 if called[-1] <= 0 else decoding.TOO_MANY
        if called and not (inner := check("inpainting", namespace)).passed:
            found = CheckFailed("an inpainting that passes its own check", inner.message.splitlines()[0],
                                "fix inpainting first: iterative_decode calls it")
        return _failed(exercise, inspect.getdoc(one), found)
    return Report(exercise, True, True, f"[OK]   {exercise}: {ALL_EXERCISES[exercise].shows} ({len(checks)} checks)")


def _failed(exercise, title, failure):
    title = title[0].lower() + title[1:].rstrip(".")
    rows = [("expected", failure.expected), ("got", failure.got), ("at", failure.place),
            ("likely", failure.reason)]
    lines = [f"[FAIL] {exercise}: {title}",
             *(f"       {label:<9} {' '.join(str(text).split())[:220]}" for label, text in rows if text)]
    return Report(exercise, False, True, "\n".join(lines))


@contextlib.contextmanager
def _surroundings(namespace):
    """Silence, fixed seeds and PyTorch's defaults inside; randomness, defaults and the names as before after it."""
    names, dtype = dict(namespace), torch.get_default_dtype()
    states, cuda = (random.getstate(), np.random.get_state()), []
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cuda = list(range(torch.cuda.device_count()))
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        for context in (torch.random.fork_rng(cuda), torch.inference_mode(False), torch.enable_grad(),
                        torch.autocast("cpu", enabled=False), torch.device("cpu")):
            stack.enter_context(context)
        try:
            warnings.simplefilter("ignore")
            torch.set_default_dtype(torch.float32)
            for seed in (torch.manual_seed, np.random.seed, random.seed):
                seed(tools.SEED)
            yield
        finally:
            torch.set_default_dtype(dtype)
            random.setstate(states[0])
            np.random.set_state(states[1])
            for name in namespace.keys() - names.keys():
                del namespace[name]
            for name, value in names.items():
                if name not in namespace or namespace[name] is not value:
                    namespace[name] = value


def _note_progress(namespace, noted):
    """Add the progress that `inpainting` is given to the list `noted`, at each call."""
    original = namespace.get("inpainting")

    def inpainting(*args, **options):
        ratio = options.get("ratio", args[3] if len(args) > 3 else 1.0)
        noted.append(float(ratio) if isinstance(ratio, (int, float)) else 1.0)
        return original(*args, **options)

    if callable(original):
        namespace["inpainting"] = inpainting


def _without_numbers(failure, exercise, again):
    """The failure of a check; where the answer makes NaN when it is checked again, with that as the likely reason."""
    if "NaN" in failure.reason:
        return failure
    with contextlib.suppress(Exception), tools.NanWatch() as watch:
        again()
    if watch.function:
        noise = "; in Gumbel noise, is a minus missing?" if (exercise, watch.function) == ("inpainting", "log") else ""
        failure.reason = f"{watch.function} gives NaN here: look at the numbers that go into it{noise}"
    return failure
