"""Ungraded practice: one line that says what is right, missing or wrong, and never an exception."""

import numpy as np
import pytest
import torch

from lab3.notebook.practice import practice


def double(x):
    """x -> 2 x."""
    return 2 * x


def stub(x):
    raise NotImplementedError


def broken(x):
    return x.no_such_name


def silent(x):
    2 * x


def pair(x):
    return x, 2 * x


@pytest.mark.parametrize(("function", "expected", "said"), [
    (double, torch.tensor([2.0, 4.0]), "[OK]   double: 1 of 1 cases right"),
    (double, np.array([2.0, 4.0]), "[OK]   double: 1 of 1 cases right"),
    (double, lambda got: "", "[OK]   double: 1 of 1 cases right"),
    (pair, (torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])), "[OK]   pair: 1 of 1 cases right"),
    (stub, 1, "[TODO] stub: not written yet"),
    (silent, 1, "[FAIL] silent, case 1 of 1: it returns nothing: a return is missing"),
    (double, torch.tensor([2.0, 5.0]), "[FAIL] double, case 1 of 1: expected 2, 5, got 2, 4"),
    (double, torch.zeros(3), "[FAIL] double, case 1 of 1: expected shape (3,), got shape (2,)"),
    (double, lambda got: "too large", "[FAIL] double, case 1 of 1: too large"),
    (double, (1, 2), "[FAIL] double, case 1 of 1: expected 2 results, got 1"),
    (broken, 1, "[FAIL] broken, case 1 of 1: AttributeError: 'Tensor' object has no attribute 'no_such_name'"),
])
def test_practice_says_in_one_line_what_came_out(function, expected, said, capsys):
    practice(function, ((torch.tensor([1.0, 2.0], requires_grad=True),), expected))
    assert capsys.readouterr().out == said + "\n"


def test_the_first_wrong_case_is_named(capsys):
    practice(double, ((1,), 2), ((2,), 5), ((3,), 7))
    assert capsys.readouterr().out == "[FAIL] double, case 2 of 3: expected 5, got 4\n"
