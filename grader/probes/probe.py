"""A probe: what is looked at in the student's kernel, and how the grader judges what came out.

In: an observation of the student's answer and one of the reference answer on the same inputs. Out: nothing where they
agree with the contract, else `Wrong`, in words that a student may read. Judging runs in the grader, on plain data.

A probe says what it asks: its verdicts are `case` (a value, and the wrong formulas that may have given another),
`refusals`, and `every` around a judge of one case. A judge of its own is for what these cannot say.
"""

import base64
import builtins
import inspect
import itertools
import json
import math
import re
import textwrap
from dataclasses import dataclass

import numpy as np

from lab3.exercises.checks.tools import UNUSED

# The types whose names a message may hold: an answer could name a type anything.
TYPES = ("bool", "int", "float", "complex", "str", "list", "tuple", "dict", "set", "function", "method", "type",
         "Tensor", "Parameter", "ndarray", "generator")
DTYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")
MAX_ELEMENTS = 20_000_000
LARGEST, MOST_NUMBERS = 10_000, 3  # of what came, in a message
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


class Wrong(AssertionError):
    """What was expected and what came, in words and shapes: never a hidden input or a right value.

    Numbers of what came are `bounded`: an answer could spell in them what its kernel holds.
    """

    def __init__(self, expected, got, likely=""):
        self.expected, self.got, self.likely = expected, bounded(got), likely
        super().__init__(f"expected {expected}, got {self.got}. {likely}")


def bounded(text):
    """A text with at most `MOST_NUMBERS` numbers: whole ones up to `LARGEST`, of others two digits."""
    count = itertools.count()

    def number(found):
        if next(count) >= MOST_NUMBERS:
            return "…"
        if not abs(float(found[0])) <= LARGEST:
            return "a long axis" if "shape (" in text[:found.start()] else "a large number"
        return found[0] if found[0].isdigit() else f"{float(found[0]):.2g}"

    return NUMBER.sub(number, text)


@dataclass
class Probe:
    """One question to an answer.

    Attributes:
        exercise: the id.
        weight: its share of the exercise's points, among the weights of all its probes.
        look: runs in the kernel, (answer, draw) -> observation; its source is what the kernel gets. It uses the names
            of `grader.probes.inside` and no others.
        guessable: True where an answer that computes nothing could pass. It then counts only where a probe of the
            same exercise passes that is not guessable.
        decisive: where it fails, the exercise gives no points.
        verdicts: each (seen, right) -> None or Wrong; default: seen must equal right.
        source: the text of `look`, without its decorator.
    """

    exercise: str
    weight: int
    look: object
    guessable: bool = False
    decisive: bool = False
    verdicts: tuple = ()
    source: str = ""

    @classmethod
    def of(cls, look, exercise, weight, **options):
        """A probe made of a function; its source is read now, lest the file change meanwhile."""
        text = textwrap.dedent(inspect.getsource(look))
        return cls(exercise, weight, look, source=text[text.index("def "):], **options)

    @property
    def name(self):
        return self.look.__name__

    @property
    def title(self):
        """The first sentence of its docstring."""
        return inspect.getdoc(self.look).splitlines()[0]

    def judge(self, verdict):
        """Decorator: how to judge, instead of `same`."""
        self.verdicts += (verdict,)
        return verdict

    def judge_each(self, verdict):
        """Decorator: how to judge each of several cases."""
        self.verdicts += (every(verdict),)
        return verdict

    def __call__(self, seen, right):
        """Raise `Wrong` unless `seen` is right. Whatever `seen` is, nothing else is raised."""
        try:
            for verdict in self.verdicts or (same,):
                verdict(seen, right)
        except Wrong:
            raise
        except Exception as error:  # data of a shape that the verdict does not expect
            kind = exception_name({"type": type(error).__name__})
            raise Wrong("a result of the type and shape that the contract names", "another one",
                        f"({kind} when it was read)") from error


PROBES = []


def probe(exercise, weight=1, *verdicts, guessable=False, decisive=False):
    """Decorator: make a probe of a function `look(answer, draw)` and register it."""
    def register(look):
        one = Probe.of(look, exercise, weight, verdicts=verdicts, guessable=guessable, decisive=decisive)
        assert one.name not in [other.name for other in PROBES if other.exercise == exercise], one.name
        PROBES.append(one)
        return one

    return register


def decode(text):
    """An observation from the JSON text that a kernel sent. Raises `Wrong` for anything else."""
    try:
        return json.loads(text, object_hook=_array)
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError):
        raise Wrong("a result that can be read", "one that cannot") from None


def _array(value):
    if set(value) == {"array"}:
        dtype, shape, data = value["array"]
        if dtype not in DTYPES or len(shape) > 8 or not all(type(n) is int and 0 <= n <= MAX_ELEMENTS for n in shape):
            raise ValueError(dtype)
        if math.prod(shape) > MAX_ELEMENTS:
            raise ValueError("too large")
        return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
    return value


def array(seen, shape, kind, what):
    """An array of that shape and kind ("bool", "int", "float"), else `Wrong`.

    Args:
        seen: part of an observation.
        what: its name in messages, such as "next_mask".
    """
    if seen is None:
        raise Wrong(f"{what}: a tensor {shape}", "nothing (None)", "a return is missing")
    if not isinstance(seen, np.ndarray):
        name = seen.get("other", "dict") if isinstance(seen, dict) else type(seen).__name__
        raise Wrong(f"{what}: a tensor {shape}", f"a {name}" if name in TYPES else "something else")
    if seen.ndim != len(shape):
        raise Wrong(f"{what} of shape {tuple(shape)}", f"{seen.ndim} axes")
    if seen.shape != tuple(shape):
        raise Wrong(f"{what} of shape {tuple(shape)}", f"shape {seen.shape}")
    if {"b": "bool", "i": "int", "u": "int", "f": "float"}[seen.dtype.kind] != kind:
        raise Wrong(f"{what} of type {kind}", str(seen.dtype))
    return seen


def exception_name(error):
    """The type of an exception as `describe` gives it, where it is one of Python's own; else "Exception"."""
    name = error.get("type") if isinstance(error, dict) else None
    kind = getattr(builtins, name, None) if isinstance(name, str) else None
    return name if isinstance(kind, type) and issubclass(kind, BaseException) else "Exception"


def expect(holds, expected, got, likely=""):
    """Raise `Wrong` unless it holds."""
    if not holds:
        raise Wrong(expected, got, likely)


def same(seen, right, rtol=1e-4, atol=1e-5, what="the result"):
    """`seen` must have the structure of `right`, arrays of the same shape and kind, and numbers as near."""
    if isinstance(right, dict):
        expect(isinstance(seen, dict) and seen.keys() == right.keys(), f"{what}: {', '.join(map(str, right))}",
               _name(seen))
        for key in right:
            same(seen[key], right[key], rtol, atol, str(key))
    elif isinstance(right, (list, tuple)):
        expect(isinstance(seen, list) and len(seen) == len(right), f"{what}: {len(right)} of them", _name(seen))
        for number, (one, other) in enumerate(zip(seen, right, strict=True)):
            same(one, other, rtol, atol, f"{what} ({number + 1} of {len(right)})")
    elif isinstance(right, np.ndarray):
        kind = {"b": "bool", "i": "int", "u": "int", "f": "float"}[right.dtype.kind]
        seen = array(seen, right.shape, kind, what)
        near = np.isclose(seen, right, rtol, atol, equal_nan=True) if kind == "float" else seen == right
        expect(bool(np.all(near)), f"{what} as the formula gives it",
               f"{int(near.size - near.sum())} of {near.size} values differ")
    elif isinstance(right, float):
        number = isinstance(seen, (int, float)) and not isinstance(seen, bool)
        expect(number and bool(np.isclose(seen, right, rtol, atol, equal_nan=True)),
               f"{what}: the number that the formula gives", "another number" if number else _name(seen))
    else:
        expect(type(seen) is type(right) and seen == right, f"{what} as the contract says", "another one")


def _name(seen):
    if isinstance(seen, dict) and "error" in seen:
        return f"an exception ({exception_name(seen['error'])})"
    if isinstance(seen, list):
        return f"{len(seen)} results"
    return "nothing (None)" if seen is None else f"a {type(seen).__name__}"


def refused(seen, argument, case):
    """`seen`, what `attempt` gave, must be a ValueError whose text names the argument (or one of several)."""
    names = (argument,) if isinstance(argument, str) else argument
    expected = f"a ValueError that names {' or '.join(names)}, for {case}"
    error = seen.get("error") if isinstance(seen, dict) else None
    expect(isinstance(error, dict), expected, "no error")
    expect(error.get("value_error") is True, expected, f"a {exception_name(error)}")
    text = str(error.get("text")).lower()
    expect(any(name.lower() in text for name in names), expected, "a ValueError that does not name it")


def likely(got, suspects, otherwise="", rtol=1e-3, atol=1e-5):
    """The reason of the first suspect (value, reason) that has the values that came."""
    for value, reason in suspects:
        if np.shape(value) == np.shape(got) and np.allclose(got, value, rtol, atol):
            return reason
    return otherwise


def near(seen, right, expected, suspects=(), otherwise="", *, rtol=1e-3, atol=1e-5, what="the result"):
    """`seen`, a number or an array, must have the values of `right`, else the reason is the `likely` one."""
    number = type(seen) in (int, float) and np.ndim(right) == 0
    found = np.float64(seen) if number else array(seen, np.shape(right), "float", what)
    far = ~np.isclose(found, right, rtol, atol)
    if far.any():
        got = f"{int(far.sum())} of {far.size} values differ" if far.ndim else "another number"
        finite = np.isfinite(found).all()
        reason = likely(found, suspects, otherwise, rtol, atol)
        expect(False, expected, got if finite else "NaN or infinity",
               reason if finite or reason else "look for an exponential of large numbers, or a division by 0")
    return found


def unchanged(seen, right):
    """Arguments, by name, must be as they were before the call: as the reference leaves them."""
    for name, before in right.items():
        after = seen[name]
        expect(isinstance(after, np.ndarray) and np.array_equal(after, before), f"{name} as it was before the call",
               f"{name} was changed in place", "writing into an argument (+=, a method whose name ends in an "
               "underscore) changes it for the caller too: work on a copy")


def each(seen, right, what="results"):
    """Pairs of what came and what is right, where there are as many."""
    expect(isinstance(seen, list) and len(seen) == len(right), f"{len(right)} {what}", _name(seen))
    return zip(seen, right, strict=True)


def every(judge, *arguments, key=None, **options):
    """A verdict: `judge` each of the cases that a probe sees, or its only one, or what these have under a key."""
    def verdict(seen, right):
        for one, wanted in each(seen, right) if isinstance(right, list) else [(seen, right)]:
            judge(*((one, wanted) if key is None else (one[key], wanted[key])), *arguments, **options)

    return verdict


def case(key, expected, suspects=(), otherwise="", **options):
    """A verdict: in each case, a dict, the value under a key is `near` the reference's.

    Args:
        expected: the formula, in words.
        suspects: pairs of a wrong formula and the sentence that names the mistake. The formula is the name that its
            value has in the reference's case, or a function of that case.
    """
    def judge(seen, right):
        values = [(right[formula] if isinstance(formula, str) else formula(right), text) for formula, text in suspects]
        near(seen[key], right[key], expected, values, otherwise, **options)

    return every(judge)


def refusals(cases, value=same, hint=""):
    """A verdict over what `attempt` gave: what the reference refuses is refused, and else `value` judges what came.

    Args:
        cases: name of the argument, or of several joined by " or " -> what is refused, in words. Where there is more
            than one, "refused" in the reference's observation is the name.
        hint: the likely reason where a legal call is refused.
    """
    def judge(seen, right):
        if "error" in right:
            name = right["refused"] if len(cases) > 1 else next(iter(cases))
            refused(seen, name.split(" or "), cases[name])
        else:
            expect("value" in seen, "no error for a legal call", _name(seen), hint)
            value(seen["value"], right["value"])

    return every(judge)


REMADE = "does the function create or re-seed a generator?"
SEEDED = f"without a generator, draws must come from the global one: {REMADE}"


def follows_state(first, again, later, other, what="result", differ=True):
    """Draws from one state of a generator, from the same again, from a later one, from another generator."""
    expect(np.array_equal(first, again), f"the same {what} from the same generator state", "two results",
           "at least one draw is made without the generator")
    for result, state in ((other, "another generator"), (later, "a later state of the generator")):
        expect(not differ or not np.array_equal(first, result), f"another {what} from {state}", "the same", UNUSED)


def numbers(seen, count, what):
    """A list of so many finite numbers, as an array."""
    whole = isinstance(seen, list) and len(seen) == count
    expect(whole and all(type(one) in (int, float) and math.isfinite(one) for one in seen),
           f"{what}: {count} numbers", f"{len(seen)} entries, some no numbers" if whole else "something else")
    return np.array(seen, dtype=float)


def loss(seen, what="the loss"):
    """A Python number, as an epoch owes it."""
    if seen is None:
        expect(False, f"{what}: a float", "nothing (None)", "a return is missing")
    if isinstance(seen, np.ndarray) or (isinstance(seen, dict) and "other" in seen):
        expect(False, f"{what}: a float", "a tensor or an array", ".item() makes a float of a tensor")
    expect(type(seen) in (int, float), f"{what}: a float", f"a {type(seen).__name__}")
    expect(math.isfinite(seen), f"{what}: a finite number", str(seen))
    return seen
