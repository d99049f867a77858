"""Schedules that are not an exercise: typed as a formula, drawn as a curve, or known from papers.

In: text, or heights. Out: a function gamma(r) of progress, for a float or an array, and what is unusual about one.
A formula is parsed and computed piece by piece from a short list of what it may hold; no text is ever run as code.
"""

import ast
import re

import numpy as np

from lab3.common.files import InputError

LONGEST = 200  # characters of a formula
LARGEST = 200  # parts of a formula: numbers, names, operators, each with its kind
POINTS = np.linspace(0, 1, 201)  # where a schedule is looked at
HANDLES = np.linspace(0, 1, 9)  # the progress at which a drawn curve has its handles

NAMES = {"pi": np.pi, "e": np.e}
SPELLINGS = {"^": "**", "π": "pi ", "−": "-", "×": "*", "·": "*", "²": "**2", "³": "**3", "\t": " "}
FUNCTIONS = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "arcsin": np.arcsin, "arccos": np.arccos, "arctan": np.arctan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "exp": np.exp, "log": np.log, "sqrt": np.sqrt,
    "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "min": np.minimum, "max": np.maximum}
OPERATORS = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
             ast.Mod: np.mod}
SIGNS = {ast.USub: np.negative, ast.UAdd: np.positive}
WORDS = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[a-z_]\w*|\S", re.IGNORECASE)
MODULES = ("np", "numpy", "math", "torch")

# Beside the exercise's three. Cubic and square root stand in MaskGIT (Chang et al., 2022, section 4.4), arccos in
# Halton-MaskGIT (Besnier et al., 2025).
FORMULAS = {"cubic": "1 - r^3", "square root": "1 - sqrt(r)", "arccos": "2 / pi * arccos(r)"}


class FormulaError(InputError):
    """A formula that cannot be used; `place` is where, counted in characters from 0, None where it is no one place."""

    def __init__(self, text, place=None):
        super().__init__(text)
        self.place = place


def parse(text):
    """A schedule from a formula in r, such as `1 - r^3`; every product is written, `2 * r`.

    Args:
        text: numbers, r, pi, e, `+ - * / % ^`, brackets, and the `FUNCTIONS`; `**` is `^`.

    Returns:
        gamma, a function of a float or an array of progress in [0, 1]; the same kind comes back.

    Raises:
        FormulaError: something that a formula must not hold, or a value that is no finite number.
    """
    text = text.strip()
    if not text:
        raise FormulaError("write a formula in r, such as 1 - r^3")
    if len(text) > LONGEST:
        raise FormulaError(f"a formula has at most {LONGEST} characters, not {len(text)}", LONGEST)
    written = [SPELLINGS.get(character, character) for character in text]
    for place, piece in enumerate(written):
        if not (piece.isascii() and piece.isprintable()):
            raise FormulaError(f"“{text[place]}” has no place in a formula", place)
    code, places = "".join(written), [place for place, piece in enumerate(written) for _ in piece]
    _check_words(code, text, places)
    try:
        tree = ast.parse(code, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = _place(places, (getattr(error, "offset", None) or len(code) + 1) - 1)
        raise FormulaError(f"this is no formula{_at(text, place)}", place) from None
    nodes = list(ast.walk(tree))
    if len(nodes) > LARGEST:
        raise FormulaError(f"a formula has at most {LARGEST} parts, not {len(nodes)}")
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if not (node in called and isinstance(node, ast.Name) and node.id in FUNCTIONS):
            _check(node, text, places)

    def gamma(ratio):
        with np.errstate(all="ignore"):
            value = _value(tree, np.asarray(ratio, dtype=float))
        return np.array(np.broadcast_to(value, ratio.shape)) if isinstance(ratio, np.ndarray) else float(value)

    values = gamma(POINTS)
    if not np.isfinite(values).all():
        bad = POINTS[~np.isfinite(values)][0]
        raise FormulaError(f"it has no finite value at r = {bad:g}: a root or a logarithm of something negative, a "
                           "division by 0, or too large a number")
    return gamma


def _place(places, offset):
    """Where in the typed text a character of Python's text comes from; its end where there is no such character."""
    return places[offset] if 0 <= offset < len(places) else places[-1] + 1


def _at(text, place):
    if place >= len(text):
        return ": something is missing at its end"
    return f", from “{text[place:place + 12]}” on"


def _check_words(code, text, places):
    """Raise `FormulaError` for habits from paper and from Python: `2r`, `cos r`, `np.cos(r)`."""
    words = list(WORDS.finditer(code))
    products = []  # where a * is missing
    for word, after in zip(words, [*words[1:], None]):
        name, following, place = word[0], after and after[0], places[word.start()]
        if name in MODULES and following == ".":
            raise FormulaError(f"write functions without “{name}.”, as in cos(r)", place)
        if name in FUNCTIONS:
            if following != "(":
                example = "r, 1" if name in ("min", "max") else "r"
                raise FormulaError(f"{name} needs brackets, as in {name}({example})", place)
        elif (name in NAMES or name in ("r", ")") or name[0] in "0123456789.") and following and (
                following in NAMES or following in FUNCTIONS or following in ("r", "(") or following[0].isdigit()):
            products.append(places[after.start()])
    if products:
        cuts = [0, *products, len(text)]
        right = " * ".join(text[start:end].strip() for start, end in zip(cuts, cuts[1:]))
        raise FormulaError(f"a product needs its *: {right}", products[0])


def _check(node, text, places):
    """Raise `FormulaError` for a node that a formula must not hold."""
    place = _place(places, node.col_offset) if hasattr(node, "col_offset") else None
    if isinstance(node, ast.Constant):
        if type(node.value) not in (int, float):
            raise FormulaError(f"{ast.unparse(node)} is no number", place)
        if abs(node.value) > 1e9:
            raise FormulaError("numbers may go up to 1e9", place)
    elif isinstance(node, ast.Name):
        if node.id not in NAMES and node.id != "r":
            raise FormulaError(f"{node.id} is not known. Progress is r; there are also {', '.join(NAMES)} and "
                               f"the functions {', '.join(FUNCTIONS)}", place)
    elif isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            what = text[place:place + 12] if place is not None else "this"
            raise FormulaError(f"“{what}” does not call one of the functions {', '.join(FUNCTIONS)}", place)
        wanted = 2 if node.func.id in ("min", "max") else 1
        if node.keywords or len(node.args) != wanted:
            given = "names" if node.keywords else len(node.args)
            values = "one value" if wanted == 1 else "two values"
            raise FormulaError(f"{node.func.id} takes {values}, not {given}", place)
    elif isinstance(node, (ast.BinOp, ast.UnaryOp)):
        if type(node.op) not in (OPERATORS if isinstance(node, ast.BinOp) else SIGNS):
            raise FormulaError("the operators are + - * / % ^", place)
    elif not isinstance(node, (*OPERATORS, *SIGNS, ast.expr_context)):
        raise FormulaError("a formula has numbers, r, operators and functions, and nothing else", place)


def _value(node, r):
    """The value of a checked node at r, computed in float64."""
    if isinstance(node, ast.Constant):
        return np.float64(node.value)
    if isinstance(node, ast.Name):
        return r if node.id == "r" else np.float64(NAMES[node.id])
    if isinstance(node, ast.UnaryOp):
        return SIGNS[type(node.op)](_value(node.operand, r))
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_value(node.left, r), _value(node.right, r))
    return FUNCTIONS[node.func.id](*(_value(argument, r) for argument in node.args))


def drawn(heights):
    """A schedule from the heights of a curve at `HANDLES`, straight in between. Raises `InputError`."""
    heights = np.asarray(heights, dtype=float)
    if heights.shape != HANDLES.shape or not np.isfinite(heights).all():
        raise InputError(f"a drawn curve has {len(HANDLES)} finite heights.")

    def gamma(ratio):
        value = np.interp(ratio, HANDLES, heights)
        return value if isinstance(ratio, np.ndarray) else float(value)
    return gamma


def heights_of(gamma):
    """A schedule at `POINTS`, asked for one float at a time, as a decoding does: an array."""
    return np.array([float(gamma(float(r))) for r in POINTS])


def remarks(gamma):
    """What is unusual about a schedule, and what the counting rule then makes of it: a list of sentences.

    The rule: after a step `floor(gamma(r) * n_hidden)` tokens stay hidden, at least one fewer than before, and none at
    r = 1.
    """
    values, found = heights_of(gamma), []
    if not np.isfinite(values).all():
        return [f"It has no finite value at r = {POINTS[~np.isfinite(values)][0]:g}."]
    if abs(values[0] - 1) > 1e-6:
        found.append(f"It begins at {values[0]:.2f} and not at 1: the first step reveals "
                     f"{'more than its share' if values[0] < 1 else 'one token only, as long as it lies above 1'}.")
    if abs(values[-1]) > 1e-6:
        found.append(f"It ends at {values[-1]:.2f} and not at 0: the last step reveals all that is left in any case.")
    if (rises := np.diff(values) > 1e-9).any():
        found.append(f"It rises after r = {POINTS[:-1][rises][0]:.2f}: nothing is hidden again, each step there "
                     "reveals one token.")
    if (values < -1e-9).any():
        found.append(f"It is negative from r = {POINTS[values < -1e-9][0]:.2f} on: nothing stays hidden there.")
    elif (values[-3:] <= 1e-9).all():
        zero = POINTS[np.flatnonzero(values > 1e-9)[-1] + 1] if (values > 1e-9).any() else 0.0
        found.append(f"It is 0 from r = {zero:.2f} on: the steps there reveal nothing, unless a token is left.")
    return found
