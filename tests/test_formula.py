"""Typed formulas: what they may hold, their values, what is said if one is wrong; drawn curves; remarks."""

import ast
import math
import sys
import time
import warnings

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
    ("2^-1", 0.5), ("-2^2 + 4", 0.0), ("floor(4 * (1 - r)) / 4", 0.5), ("1.5 % 1", 0.5), ("\t1 -\tr ", 0.5)]


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
    ("", None, "write a formula"), ("   ", None, "write a formula"), ("1 - x", 4, "x is not known"),
    ("1 - r)", 5, "from “)” on"), ("1 -", 3, "missing at its end"), ("2 * (1 - r", 4, "no formula"),
    ("1 - r^^2", 6, "no formula"), ("1 - sin", 4, "brackets"),
    ("gamma(r)", 0, "does not call one of the functions"),
    ("1 - min(r)", 4, "two values"), ("sqrt(r, 2)", 0, "one value"), ("√r", 0, "no place"),
    ("1 - é", 4, "no place"), ("1 - 2e9", 4, "1e9"), ("1 - 1e999", 4, "1e9"), ("'r'", 0, "no number"),
    ("1j * r", 0, "no number"), ("True", 0, "no number"), ("r // 2", 0, "operators"), ("~1", 0, "operators"),
    ("r < 1", 0, "nothing else"), ("r if r else 1", 0, "nothing else"), ("1 - r^2 + y", 10, "y is not known"),
    ("2x", 0, "no formula"), ("cos(2 x)", 4, "no formula"), ("1,5 - r", 0, "nothing else"), ("007", 0, "no formula"),
    ("cos(r - (1", 8, "no formula"), ("1 - r * ", 7, "missing at its end"), ("cos()", 0, "one value, not 0"),
    ("log(r)", None, "no finite value at r = 0"), ("sqrt(r - 0.5)", None, "no finite value at r = 0"),
    ("(r - 0.5)^0.5", None, "no finite value at r = 0"), ("1 / (1 - r)", None, "no finite value at r = 1"),
    ("9**9**9", None, "no finite value"), ("10^10^10^10", None, "no finite value")]


@pytest.mark.parametrize("text, place, said", WRONG)
def test_what_is_wrong_is_said_with_its_place(text, place, said):
    with pytest.raises(FormulaError, match=said.replace("*", r"\*").replace(")", r"\)")) as caught:
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


HOSTILE = [
    "__import__('os').system('true')", "().__class__.__bases__[0].__subclasses__()", "r.__class__", "r.real",
    "open('x')", "eval('1')", "exec('1')", "print(r)", "[r for r in (1,)]", "{r: 1}", "{r}", "(lambda: 1)()",
    "lambda: r", "f'{r}'", "(r := 1)", "*r", "r[0]", "r[::1]", "min(*r)", "max(r, key=1)", "sin(**r)",
    "sin(x=r)", "sin.__call__(r)",
    "sin(r)(r)", "await r", "yield", "r; r", "r\nr", "import os", "r = 1", "not r", "r and 1", "...", "b'r'", "None",
    "r @ r", "r << 9", "1 << 999999", "0x" + "f" * 150, "9" * 199, "r" * 300, "-" * 150 + "r",
    "+".join("r" * 99), "min(" * 40 + "r", "\0", "r\x00", "r\\\nr", "#", "1 # r", "🐈", "ｒ", "﹣r", "9**9**9**9**9",
    "(9**9)**(9**9)", "1e9^1e9^1e9"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_refused_at_once_and_runs_nothing(text):
    events, watching = [], True
    sys.addaudithook(lambda event, args: watching and event in (
        "exec", "import", "open", "os.system", "subprocess.Popen", "ctypes.dlopen") and events.append(event))
    began = time.perf_counter()
    try:
        parse(text)  # a comment after a formula is harmless
        assert text == "1 # r"
    except FormulaError as error:
        assert str(error) and (error.place is None or 0 <= error.place <= max(len(text), LONGEST))
    finally:
        watching = False
    assert time.perf_counter() - began < 1
    assert events == []


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text("r0123456789.+-*/%^() ,einpsctaxlog_[]'\"\\", max_size=60)))
def test_any_text_gives_a_schedule_or_a_reason(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's own parser
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
        assert (not np.isfinite(expected).all() and "no finite value" in str(error)) or "at most" in str(error)
        return
    np.testing.assert_array_equal(got, expected)


def _numpy(code):
    """Whether Python's own numbers, which raise or turn complex where numpy gives inf or nan, stay out of it."""
    return all("r" in {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
               or not {type(part) for part in ast.walk(node)} & {ast.Div, ast.Pow, ast.Mod, ast.Mult}
               for node in ast.walk(code) if isinstance(node, ast.BinOp))


def test_a_formula_has_a_limit():
    parse("+".join("r" * (LARGEST // 4)))
    with pytest.raises(FormulaError, match="parts"):
        parse("+".join("r" * 99))
    with pytest.raises(FormulaError, match="characters"):
        parse("1" + " " * LONGEST + "- r")


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
