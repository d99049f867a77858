"""Schedules that are not an exercise: typed as a formula, drawn as a curve, or known from papers.

In: text, or heights. Out: a function gamma(r) of progress, for a float or an array, and what is unusual about one.
A formula is read word by word into functions of r; no text is ever run as code. `browser/formula.js` is the same in
JavaScript; tests compare the two.
"""

import re

import numpy as np

from lab3.common.files import InputError

LONGEST = 200  # characters of a formula
LARGEST = 1e9  # value of a formula, on either side of 0
POINTS = np.linspace(0, 1, 201)  # where a schedule is looked at
HANDLES = np.linspace(0, 1, 9)  # the progress at which a drawn curve has its handles

NAMES = {"r": lambda r: r, "pi": lambda r: np.float64(np.pi), "e": lambda r: np.float64(np.e)}
FUNCTIONS = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "arcsin": np.arcsin, "arccos": np.arccos, "arctan": np.arctan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "exp": np.exp, "log": np.log, "sqrt": np.sqrt,
    "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "min": np.minimum, "max": np.maximum}
OPERATORS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.mod, "^": np.power}
LEVEL = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3}  # a higher one binds more tightly
SIGNS = {"+": np.positive, "-": np.negative}
SPELLINGS = {"**": ["^"], "²": ["^", "2"], "³": ["^", "3"], "π": ["pi"], "−": ["-"], "×": ["*"], "·": ["*"]}
MODULES = ("np.", "numpy.", "math.", "torch.")
NUMBER = re.compile(r"\.?[0-9]")  # how a word begins that is a number
WORD = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|(np|numpy|math|torch)\.|[A-Za-z_][A-Za-z_0-9]*|"
                  r"\*\*|[^ \t]")

# Beside the exercise's three. Cubic and square root stand in MaskGIT (Chang et al., 2022, section 4.4), arccos in
# Halton-MaskGIT (Besnier et al., 2025).
FORMULAS = {"cubic": "1 - r^3", "square root": "1 - sqrt(r)", "arccos": "2 / pi * arccos(r)"}


class FormulaError(InputError):
    """A formula that cannot be used. `place`: the character that is wrong, from 0; None where no single one is."""

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
        FormulaError: something that is not a formula, or has no usable value somewhere in [0, 1].
    """
    if len(text) > LONGEST:
        raise FormulaError(f"a formula has at most {LONGEST} characters, not {len(text)}", LONGEST)
    words = [(word, found.start()) for found in WORD.finditer(text) for word in SPELLINGS.get(found[0], [found[0]])]
    words.append(("", len(text)))
    if len(words) == 1:
        raise FormulaError("write a formula in r, such as 1 - r^3")
    _check_words(words, text)
    tree = _expression(words)
    if words[0][0]:
        raise _misplaced(*words[0])

    def gamma(ratio):
        with np.errstate(all="ignore"):
            value = tree(np.asarray(ratio, dtype=float))
        return np.array(np.broadcast_to(value, ratio.shape)) if isinstance(ratio, np.ndarray) else float(value)

    bad = POINTS[~(np.abs(gamma(POINTS)) <= LARGEST)]  # nan among them
    if bad.size:
        raise FormulaError(f"it has no usable value at r = {bad[0]:g}: a root or a logarithm of something negative, a "
                           "division by 0, or a number above 1e9")
    return gamma


def _check_words(words, text):
    """Raise `FormulaError` for unknown words and for habits from paper and Python: `2r`, `cos r`, `np.cos(r)`."""
    products = []  # where a * is missing
    for (word, place), (after, its_place) in zip(words, words[1:]):
        value = NUMBER.match(word) or word in NAMES
        if word in MODULES:
            raise FormulaError(f"write functions without “{word}”, as in cos(r)", place)
        if not (value or word in FUNCTIONS or word in OPERATORS or word in "(,)"):
            raise FormulaError(f"“{word}” is not known. Progress is r; there are also pi, e, {' '.join(OPERATORS)} "
                               f"and the functions {', '.join(FUNCTIONS)}", place)
        if word in FUNCTIONS and after != "(":
            example = ", 1" * (FUNCTIONS[word].nin - 1)
            raise FormulaError(f"{word} needs brackets, as in {word}(r{example})", place)
        if (value or word == ")") and (after in NAMES or after in FUNCTIONS or re.match("[(0-9]", after)):
            products.append(its_place)
    if products:
        cuts = [0, *products, len(text)]
        right = " * ".join(text[start:end].strip() for start, end in zip(cuts, cuts[1:]))
        raise FormulaError(f"a product needs its *: {right}", products[0])


def _expression(words, lowest=1):
    """Operands and the operators between them, as far as these have the level `lowest` or a higher one.

    Args:
        words: (word, place) each, the last one empty; what is read is taken from the front.

    Returns:
        A function of r.
    """
    left = _operand(words)
    while (level := LEVEL.get(words[0][0], 0)) >= lowest:
        operator, _ = words.pop(0)
        right = _expression(words, level if operator == "^" else level + 1)
        left = _applied(OPERATORS[operator], left, right)
    return left


def _operand(words):
    """A number, a name, a call, something in brackets, or one of these with a sign, as a function of r."""
    word, place = words.pop(0)
    if word in SIGNS:
        return _applied(SIGNS[word], _expression(words, LEVEL["^"]))
    if NUMBER.match(word):
        return lambda r: np.float64(word)
    if word in NAMES:
        return NAMES[word]
    if word in FUNCTIONS:
        words.pop(0)  # its bracket
    elif word != "(":
        raise FormulaError("something is missing " + (f"before “{word}”" if word else "at its end"), place)
    values = [_expression(words)]
    while words[0][0] == ",":
        words.pop(0)
        values.append(_expression(words))
    end, its_place = words.pop(0)
    if not end:
        raise FormulaError("this bracket is not closed", place)
    if end != ")":
        raise _misplaced(end, its_place)
    function = FUNCTIONS.get(word, SIGNS["+"])
    if len(values) != function.nin:
        name, wanted = word.replace("(", "a bracket"), "one value" if function.nin == 1 else "two values"
        raise FormulaError(f"{name} takes {wanted}, not {len(values)}", place)
    return _applied(function, *values)


def _applied(function, *parts):
    return lambda r: function(*[part(r) for part in parts])


def _misplaced(word, place):
    remedy = "write decimals with a point, as in 1.5" if word == "," else "remove it"
    return FormulaError(f"“{word}” does not belong here: {remedy}", place)


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
