"""Ungraded practice: tries a function on cases whose result is known, and prints a verdict.

In: a function from a notebook, and cases. Out: one line, in the form of the exercises' checks. Nothing is saved and
nothing is raised, so "Run All" continues past a step that is not written yet.
"""

import numpy as np
import torch

from lab3.exercises.checks.tools import as_text
from lab3.notebook.environment import say


def practice(function, *cases):
    """Try a function on cases; prints [OK], [TODO], or [FAIL] with the first case that is wrong.

    Args:
        function: as the notebook defines it.
        cases: pairs (arguments, expected). `arguments` is a tuple. `expected` is the right result, or a function that
            takes the result and returns what is wrong with it ("" where nothing is).
    """
    for number, (arguments, expected) in enumerate(cases, 1):
        try:
            got = function(*arguments)
            wrong = "it returns nothing: a return is missing" if got is None else (
                expected(got) if callable(expected) else difference(got, expected))
        except NotImplementedError:
            say(f"[TODO] {function.__name__}: not written yet")
            return
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            say(f"[FAIL] {function.__name__}, case {number} of {len(cases)}: {wrong}")
            return
    say(f"[OK]   {function.__name__}: {len(cases)} of {len(cases)} cases right")


def difference(got, expected):
    """What is wrong with a number, array, tensor, or a tuple of them; "" where it agrees to five digits."""
    if isinstance(expected, tuple):
        if not isinstance(got, tuple) or len(got) != len(expected):
            return f"expected {len(expected)} results, got {len(got) if isinstance(got, tuple) else 1}"
        return next(filter(None, map(difference, got, expected)), "")
    got, expected = (np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
                     for value in (got, expected))
    if got.shape != expected.shape:
        return f"expected shape {expected.shape}, got shape {got.shape}"
    if not np.allclose(got, expected, rtol=1e-5, atol=1e-5):
        return f"expected {as_text(expected.tolist())}, got {as_text(got.tolist())}"
    return ""
