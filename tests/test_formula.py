"""Typed formulas: what they may hold, their values, what is said if one is wrong; drawn curves; remarks."""

import ast
import math
import random
import re
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab3.common.files import InputError
from lab3.explorer.formula import (
    FORMULAS,
    FUNCTIONS,
    HANDLES,
    LARGEST,
    LONGEST,
    POINTS,
    FormulaError,
    drawn,
    heights_of,
    parse,
    remarks,
)

# What the formulas here come to, and what is said of them, holds for the page's parser too: see test_page.py.
SOUND = [
    ("1 - r", 0.5), ("1-r^3", 0.875), ("1 - r**3", 0.875), ("(1 - r)^2", 0.25), ("cos(pi * r / 2)", math.sqrt(0.5)),
    ("1 - r²", 0.75), ("1 − r³", 0.875), ("cos(π · r × 0.5)", math.sqrt(0.5)), ("2 / pi * arccos(r)", 2 / 3),
    ("1 - sqrt(r)", 1 - math.sqrt(0.5)), ("max(0, 1 - 2 * r)", 0.0), ("exp(-r) * e^r", 1.0), ("-r + 1", 0.5),
    ("2^-1", 0.5), ("-2^2 + 4", 0.0), ("2^3^0 - 1", 1.0), ("4 - 2 - 1 - r", 0.5), ("8 / 4 / 2 - r", 0.5),
    ("--r", 0.5), ("2 * -r + +1.5", 0.5), ("01 - .5e0", 0.5), ("1e1 * r % 2", 1.0),
    ("floor(4 * (1 - r)) / 4", 0.5), ("1.5 % 1", 0.5), ("\t1 -\tr ", 0.5)]


@pytest.mark.parametrize("text, at_half", SOUND)
def test_a_formula_means_what_it_says(text, at_half):
    gamma = parse(text)
    assert gamma(0.5) == pytest.approx(at_half) and isinstance(gamma(0.5), float)
    values = gamma(POINTS)
    assert values.shape == POINTS.shape and values.dtype == np.float64
    assert values[100] == pytest.approx(at_half)
    np.testing.assert_array_equal(heights_of(gamma), values)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_known_schedules_fall_from_1_to_0(name):
    values = parse(FORMULAS[name])(POINTS)
    assert values[0] == 1 and abs(values[-1]) < 1e-12 and (np.diff(values) < 0).all()
    assert remarks(parse(FORMULAS[name])) == []


WRONG = [
    ("", None, "write a formula"), ("   ", None, "write a formula"), ("1 - x", 4, "“x” is not known"),
    ("1 - r)", 5, "“)” does not belong here: remove it"), ("1.2.3 - r", 3, "“.3” does not belong here"),
    ("1,5 - r", 1, "“,” does not belong here: write decimals with a point, as in 1.5"),
    ("1 -", 3, "missing at its end"), ("1 - r * ", 8, "missing at its end"), ("2 * (1 - ", 9, "missing at its end"),
    ("1 - r^^2", 6, "missing before “^”"), ("r // 2", 3, "missing before “/”"), ("*r", 0, "missing before “*”"),
    ("cos()", 4, "missing before “)”"), ("min(r,)", 6, "missing before “)”"), ("()", 1, "missing before “)”"),
    ("2 * (1 - r", 4, "bracket is not closed"), ("cos(r - (1", 8, "bracket is not closed"),
    ("max(r, 1", 0, "bracket is not closed"), ("1 - sin", 4, "brackets"), ("gamma(r)", 0, "“gamma” is not known"),
    ("1 - min(r)", 4, "min takes two values, not 1"), ("sqrt(r, 2)", 0, "sqrt takes one value, not 2"),
    ("1 - (r, 2)", 4, "a bracket takes one value, not 2"), ("√r", 0, "“√” is not known"), ("1 - é", 4, "is not known"),
    ("2x", 1, "“x” is not known"), ("cos(2 x)", 6, "“x” is not known"), ("1 - R", 4, "“R” is not known"),
    ("True", 0, "is not known"), ("r < 1", 2, "“<” is not known"), ("1 - r^2 + y", 10, "“y” is not known"),
    ("1 - 1e999", None, "no usable value at r = 0"), ("2e9 * r", None, "no usable value at r = 0.505"),
    ("log(r)", None, "no usable value at r = 0"), ("sqrt(r - 0.5)", None, "no usable value at r = 0"),
    ("(r - 0.5)^0.5", None, "no usable value at r = 0"), ("1 / (1 - r)", None, "no usable value at r = 1"),
    ("9**9**9", None, "no usable value"), ("10^10^10^10", None, "no usable value")]


@pytest.mark.parametrize("text, place, said", WRONG)
def test_what_is_wrong_is_said_with_its_place(text, place, said):
    with pytest.raises(FormulaError, match=re.escape(said)) as caught:
        parse(text)
    assert caught.value.place == place
    assert isinstance(caught.value, InputError)


PRODUCTS = [
    ("2r", 1, "2 * r"), ("1-2r", 3, "1-2 * r"), ("max(0, 1 - 2r)", 12, "max(0, 1 - 2 * r)"), ("r r", 2, "r * r"),
    ("2(1 - r)", 1, "2 * (1 - r)"), ("(1-r)(1+r)", 5, "(1-r) * (1+r)"), ("r^2(1 - r)", 3, "r^2 * (1 - r)"),
    ("cos(pi/2 r)", 9, "cos(pi/2 * r)"), ("cos(2πr)", 5, "cos(2 * π * r)"), ("r²cos(r)", 2, "r² * cos(r)")]


@pytest.mark.parametrize("text, place, said", PRODUCTS)
def test_a_product_without_its_sign_is_shown_with_it(text, place, said):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert str(caught.value) == f"a product needs its *: {said}" and caught.value.place == place
    parse(said)


HABITS = [
    ("cos r", 0, "as in cos(r)"), ("1 - sqrt r", 4, "as in sqrt(r)"), ("max r, 0", 0, "as in max(r, 1)"),
    ("np.cos(pi / 2 * r)", 0, "without “np.”, as in cos(r)"), ("1 - math.sin(r)", 4, "without “math.”"),
    ("torch.cos(pi / 2 r)", 0, "without “torch.”")]


@pytest.mark.parametrize("text, place, said", HABITS)
def test_a_habit_from_paper_or_python_gets_its_hint(text, place, said):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert said in str(caught.value) and caught.value.place == place


# Words that formulas have and some that they have not, in any order: most are wrong somewhere.
_draw = random.Random(0)
_words = [*"rrrr12+-*/^%(((()))),. ²πe_x<", "0.5", ".5", "1e3", "**", "cos", "cos(", "max(", "floor(", "np.", "🐈"]
RANDOM = ["".join(_draw.choices(_words, k=_draw.randint(1, 9))) for _ in range(1000)]
HOSTILE = [
    "__import__('os').system('true')", "().__class__.__bases__[0].__subclasses__()", "r.__class__", "r.real",
    "open('x')", "eval('1')", "exec('1')", "print(r)", "[r for r in (1,)]", "{r: 1}", "{r}", "(lambda: 1)()",
    "lambda: r", "f'{r}'", "(r := 1)", "*r", "r[0]", "r[::1]", "min(*r)", "max(r, key=1)", "sin(**r)",
    "sin(x=r)", "sin.__call__(r)",
    "sin(r)(r)", "await r", "yield", "r; r", "r\nr", "import os", "r = 1", "not r", "r and 1", "...", "b'r'", "None",
    "r @ r", "r << 9", "1 << 999999", "0x" + "f" * 150, "9" * 199, "9" * 200, "r" * 300,
    "-" * LONGEST, "(" * LONGEST, "min(" * 40 + "r", "constructor", "toString(r)", "__proto__(r)",
    "hasOwnProperty", "\0", "r\x00", "r\\\nr", "#", "1 # r", "🐈", "ｒ", "﹣r", "9**9**9**9**9",
    "(9**9)**(9**9)", "1e9^1e9^1e9"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_refused_at_once_and_runs_nothing(text):
    events, watching = [], True
    sys.addaudithook(lambda event, args: watching and event in (
        "exec", "import", "open", "os.system", "subprocess.Popen", "ctypes.dlopen") and events.append(event))
    began = time.perf_counter()
    with pytest.raises(FormulaError) as caught:
        parse(text)
    watching = False
    assert str(caught.value) and 0 <= (caught.value.place or 0) <= max(len(text), LONGEST)
    assert time.perf_counter() - began < 1
    assert events == []


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text("r0123456789.+-*/%^() ,einpsctaxlog_[]'\"\\", max_size=60)))
def test_any_text_gives_a_schedule_or_a_reason(text):
    try:
        values = parse(text)(POINTS)
    except FormulaError as error:
        assert str(error)
    else:
        assert values.shape == POINTS.shape and np.isfinite(values).all()


NUMBERS = st.floats(0.01, 100).map(lambda number: repr(round(number, 3)))
ONE, TWO = sorted(set(FUNCTIONS) - {"min", "max"}), ("min", "max")
EXPRESSIONS = st.recursive(st.one_of(NUMBERS, st.sampled_from(["r", "pi", "e"])), lambda inner: st.one_of(
    st.tuples(inner, st.sampled_from("+-*/^%"), inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
    inner.map(lambda text: f"(-{text})"),
    st.tuples(st.sampled_from(ONE), inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
    st.tuples(st.sampled_from(TWO), inner, inner).map(lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})")),
    max_leaves=8)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS)
def test_a_formula_agrees_with_numpy(text):
    """What Python itself makes of the expression, with numpy's functions."""
    names = {**FUNCTIONS, "pi": np.float64(np.pi), "e": np.float64(np.e), "r": POINTS}
    with np.errstate(all="ignore"):
        code = ast.parse(text.replace("^", "**"), mode="eval")
        for node in ast.walk(code):  # as float64, where Python would take its own numbers
            if isinstance(node, ast.Constant):
                node.value = float(node.value)
        expected = np.broadcast_to(eval(compile(code, "test", "eval"), names), POINTS.shape) if _numpy(code) else None
    if expected is None:
        return
    try:
        got = parse(text)(POINTS)
    except FormulaError as error:
        assert (not (abs(expected) <= LARGEST).all() and "no usable value" in str(error)) or "at most" in str(error)
        return
    np.testing.assert_array_equal(got, expected)


def _numpy(code):
    """Whether Python's own numbers, which raise or turn complex where numpy gives inf or nan, stay out of it."""
    return all("r" in {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
               or not {type(part) for part in ast.walk(node)} & {ast.Div, ast.Pow, ast.Mod, ast.Mult}
               for node in ast.walk(code) if isinstance(node, ast.BinOp))


@pytest.mark.parametrize("text", ["-" * (LONGEST - 1) + "r", "(" * 99 + "r" + ")" * 99, "abs(" * 39 + "r" + ")" * 39,
                                  "+".join("r" * 99), "^".join("r" * 99)], ids=range(5))
def test_the_longest_formulas_nest_no_deeper_than_python_can_follow(text):
    assert np.isfinite(parse(text)(POINTS)).all()


def test_a_formula_has_a_limit():
    with pytest.raises(FormulaError, match="at most 200 characters, not 203"):
        parse("1" + " " * LONGEST + "-r")


def test_a_drawn_curve_goes_through_its_handles_straight():
    heights = [1.0, 0.9, 0.9, 0.5, 0.6, 0.3, 0.2, 0.1, 0.0]
    gamma = drawn(heights)
    np.testing.assert_allclose(gamma(HANDLES), heights)
    assert gamma(float(HANDLES[1] + HANDLES[2]) / 2) == pytest.approx(0.9) and isinstance(gamma(0.3), float)
    for wrong in ([1.0, 0.0], [math.nan] * 9, [math.inf] * 9):
        with pytest.raises(InputError, match="heights"):
            drawn(wrong)


UNUSUAL = [
    ("1 - r", []), ("0.5 - 0.5 * r", ["begins at 0.50"]), ("2 - 2 * r", ["begins at 2.00"]),
    ("1 - 0.7 * r", ["ends at 0.30"]), ("r", ["begins at 0.00", "ends at 1.00", "rises after r = 0.00"]),
    ("1 - 2 * r", ["ends at -1.00", "negative from r = 0.5"]),
    ("max(0, 1 - 2 * r)", ["is 0 from r = 0.50 on"]), ("1", ["ends at 1.00"]),
    ("-r", ["begins at -0.00", "ends at -1.00", "negative from r = 0.01"])]


@pytest.mark.parametrize("text, said", UNUSUAL)
def test_a_schedule_that_does_not_fall_from_1_to_0_is_explained(text, said):
    found = remarks(parse(text))
    assert len(found) == len(said), found
    assert all(part in sentence for part, sentence in zip(said, found))


def test_remarks_ask_a_schedule_for_floats_alone():
    assert remarks(lambda r: math.cos(math.pi / 2 * r)) == []
    assert "no finite value at r = 0" in remarks(lambda r: math.nan)[0]
