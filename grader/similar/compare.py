"""How alike the answers of a class are, pair by pair, whatever their names, comments, literals and format.

In: submissions, read as for grading; nothing in them is run. Out: a `Comparison`: figures for all pairs, and for any
pair the stretches of code that stand in both answers.

Fingerprints as in winnowing (Schleimer, Wilkerson, Aiken 2003): hashes of K successive tokens. Tokens come from
Python's syntax tree; names that an answer gives itself are all one token, those of libraries stay. Answers are short,
so all fingerprints are kept, not a sample. Those of the starters and of the reference answers do not count, and those
that n submissions have count 1 / (n - 1): what two alone share counts most.
"""

import ast
import json
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import chain
from operator import and_

import numpy as np
from scipy.sparse import csr_array

from grader.submission.answer_code import python_of
from grader.submission.side_by_side import read_all
from grader.submission.submission import NOTEBOOKS, find_submissions, read_submission
from lab3.common.files import InputError
from lab3.common.paths import FAST, ROOT, SOLUTIONS
from lab3.exercises.table import EXERCISES, IMPORTS

K = 10  # tokens of a fingerprint: a statement or two
FLOOR = 40  # an answer with fewer fingerprints of its own counts as if it had so many: a short one says little
OVERALL, ONE_EXERCISE = 0.3, 0.6  # a pair that is so much alike is reported
MOST_TOKENS = 2_000  # that are compared of an answer; the longest reference answer has 266
MOST_SUBMISSIONS = 1_000  # of a class: time and memory grow with the number of pairs
SEEDS = 8  # places of a fingerprint that are tried as the beginning of a stretch

IGNORED = (ast.Import, ast.ImportFrom, ast.Pass, ast.expr_context, ast.type_ignore)
ANNOTATIONS = ("annotation", "returns")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Code:
    """An answer as it is compared.

    Attributes:
        text: as it was written.
        lines: the line of each token, from 1.
        prints: the fingerprint that begins at each token, `K - 1` fewer than tokens.
    """

    text: str
    lines: list
    prints: list

    @cached_property
    def all_prints(self):
        return frozenset(self.prints)


@dataclass(frozen=True)
class Handed:
    """What a submission has to compare: exercise -> `Code`; and what could not be read, in lines of text."""

    name: str
    codes: dict
    notes: tuple


@dataclass(frozen=True)
class Stretch:
    """Code that stands in both answers of a pair: first and last line in each, and in how many other submissions."""

    first: tuple
    second: tuple
    others: int


@dataclass(frozen=True)
class Comparison:
    """A class compared.

    Attributes:
        handed: `Handed`s with answers, by name; rows and columns of the figures are in this order.
        skipped: `Handed`s without any.
        overall: (N, N) figures from 0 to 1 over all exercises of which both have an answer.
        alike: exercise -> (N, N) figures from 0 to 1; NaN where one has no answer.
        base: the fingerprints that do not count.
    """

    handed: tuple
    skipped: tuple
    overall: np.ndarray
    alike: dict
    base: frozenset

    def pairs(self):
        """All pairs of places i < j, those most alike first."""
        best = np.nanmax([self.overall, *self.alike.values()], axis=0)
        first, second = np.triu_indices(len(self.handed), 1)
        order = np.lexsort((second, first, -best[first, second], -self.overall[first, second]))
        return [(int(first[one]), int(second[one])) for one in order]

    def reported(self):
        """The pairs that are alike enough to look at."""
        one = np.nanmax([*self.alike.values(), np.zeros_like(self.overall)], axis=0) >= ONE_EXERCISE
        return [pair for pair in self.pairs() if self.overall[pair] >= OVERALL or one[pair]]

    def stretches(self, i, j, exercise):
        """What stands in the answers of two submissions: a list of `Stretch`es, by place in the first."""
        one, other, holders = self.handed[i].codes[exercise], self.handed[j].codes[exercise], self._holders[exercise]
        return [Stretch(_span(one.lines, a, length), _span(other.lines, b, length),
                        reduce(and_, (holders[value] for value in one.prints[a:a + length])).bit_count() - 2)
                for a, b, length in common_runs(one.prints, other.prints, self.base)]

    @cached_property
    def _holders(self):
        """Exercise -> fingerprint -> who has it, a bit for each submission."""
        found = {exercise: defaultdict(int) for exercise in self.alike}
        for place, handed in enumerate(self.handed):
            for exercise, code in handed.codes.items():
                for value in code.all_prints:
                    found[exercise][value] |= 1 << place
        return found


def read_class(paths):
    """Read the submissions that some paths name, side by side, a process a core.

    Returns:
        `Handed`s by name. One whose reading breaks down or takes too long has a note that says so.

    Raises:
        InputError: a path does not exist, or there are more submissions than are compared.
    """
    found = find_submissions(paths)
    if len(found) > MOST_SUBMISSIONS:
        raise InputError(f"{len(found)} submissions: at most {MOST_SUBMISSIONS} are compared at a time. Name fewer, "
                         "such as those of one section.")
    return [Handed(name, {}, (one,)) if isinstance(one, str) else one
            for name, one in read_all(found, read_one).items()]


def read_one(paths, name):
    """Read one submission; returns a `Handed`, whatever the paths hold."""
    submission = read_submission(paths, name=name)
    codes, notes = {}, list(submission.notes)
    for exercise, answer in submission.answers.items():
        try:
            if not answer.problem:
                codes[exercise] = read_code(answer.text)
                if len(codes[exercise].lines) == MOST_TOKENS:
                    notes.append(f"{exercise}: only its first {codes[exercise].lines[-1]} lines are compared: it has "
                                 f"more than {MOST_TOKENS} tokens.")
            elif answer.problem not in ("missing", "not written"):
                notes.append(f"{exercise}: {answer.problem}")
        except ValueError as error:
            notes.append(f"{exercise}: {error}.")
    if not codes and not notes:
        notes.append("No exercise has an answer.")
    return Handed(name, codes, tuple(notes))


def read_code(text):
    """An answer as `Code`. Raises ValueError where it cannot be read as Python."""
    tokens, lines = read_tokens(text)
    numbers = [zlib.crc32(token.encode()) for token in tokens]  # the same in every process, unlike hashes of texts
    return Code(text, lines, [hash(tuple(numbers[i:i + K])) for i in range(len(numbers) - K + 1)])


def read_tokens(text):
    """The code of an answer as tokens that no renaming, comment or format changes.

    Args:
        text: Python code.

    Returns:
        (tokens, lines): two lists of one length: texts, and where each stands in `text`, from 1.

    Raises:
        ValueError: it cannot be read as Python.
    """
    try:
        tree = ast.parse(text)
    except (ValueError, RecursionError, MemoryError, SyntaxError) as error:
        raise ValueError(f"it cannot be read as Python ({type(error).__name__})") from None
    nodes = list(ast.walk(tree))
    library = dict(chain.from_iterable(map(_imported, [*ast.walk(ast.parse(IMPORTS)), *nodes])))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    names |= {node.name for node in nodes if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler))}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    attributes |= {one.name for node in nodes if isinstance(node, ast.ClassDef) for one in node.body
                   if isinstance(one, FUNCTIONS)}
    tokens, lines, waiting = [], [], [(node, 1) for node in reversed(tree.body)]
    while waiting and len(tokens) < MOST_TOKENS:
        node, line = waiting.pop()
        line = getattr(node, "lineno", line)
        if isinstance(node, IGNORED) or isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # the latter is a docstring, or another remark
        match node:
            case ast.Name():
                token = "name" if node.id in names else library.get(node.id, node.id)
            case ast.arg():
                token = "name"
            case ast.Attribute():
                token = ".name" if node.attr in attributes else f".{node.attr}"
            case ast.Constant(value=None | bool()):
                token = str(node.value)
            case ast.Constant():
                token = "text" if isinstance(node.value, (str, bytes)) else "number"
            case ast.JoinedStr():
                token = "text"
            case ast.AnnAssign():
                token = "Assign"
            case _:
                token = type(node).__name__
        tokens.append(token)
        lines.append(line)
        if not isinstance(node, ast.JoinedStr):
            waiting += [(part, line) for part in reversed(_parts(node))]
    return tokens, lines


def _imported(node):
    """The names that an import gives, each with the last part of where it comes from."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for one in node.names:
            if one.asname or isinstance(node, ast.ImportFrom):
                yield one.asname or one.name, one.name.rpartition(".")[2]


def _parts(node):
    """What a node of the tree is made of, without annotations, in the order of the text."""
    fields = sorted(ast.iter_fields(node), key=lambda field: field[0] != "decorator_list")
    return [part for name, value in fields if name not in ANNOTATIONS
            for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST)]


def base_prints():
    """The fingerprints of what everybody was given, the starters, and of the reference answers."""
    texts = [path.read_text(encoding="utf-8") for folder in (SOLUTIONS, FAST) for path in sorted(folder.glob("*.py"))]
    return frozenset(chain.from_iterable(read_code(text).prints for text in [*texts, *given_cells()]))


def given_cells():
    """The code of the starters, cell by cell."""
    notebooks = [json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8")) for name in NOTEBOOKS.values()]
    return [python_of("".join(cell["source"])) for notebook in notebooks for cell in notebook["cells"]
            if cell["cell_type"] == "code"]


def compare(handed, base=None):
    """Compare all pairs, exercise by exercise.

    Args:
        handed: `Handed`s.
        base: fingerprints that do not count; None: those of `base_prints`.

    Raises:
        InputError: fewer than two have an answer to any exercise.
    """
    base = base_prints() if base is None else base
    some, skipped = [one for one in handed if one.codes], [one for one in handed if not one.codes]
    if len(some) < 2:
        why = "".join(f" {one.name}: {one.notes[0]}" for one in skipped[:3])
        raise InputError(f"{len(some)} of {len(handed)} submissions can be compared: name at least two with "
                         f"answers.{why}")
    alike, shared, most = {}, 0, 0
    for exercise in EXERCISES:
        have = np.array([exercise in one.codes for one in some])
        both = np.logical_and.outer(have, have)
        here = _shared([one.codes[exercise].all_prints - base if exercise in one.codes else () for one in some])
        smaller = np.minimum.outer(here.diagonal(), here.diagonal())
        alike[exercise] = np.where(both, here / np.maximum(smaller, FLOOR), np.nan)
        shared, most = shared + np.where(both, here, 0), most + np.where(both, smaller, 0)
    return Comparison(tuple(some), tuple(skipped), shared / np.maximum(most, FLOOR), alike, base)


def _shared(sets):
    """What each two of N sets of fingerprints share, weighted, (N, N); on the diagonal, what each has."""
    counts = Counter(chain.from_iterable(sets))
    places = {one: place for place, one in enumerate(counts)}
    weights = 1 / (np.maximum([*counts.values(), 2], 2) - 1)
    columns = [places[one] for prints in sets for one in prints]
    rows = np.repeat(np.arange(len(sets)), [len(prints) for prints in sets])
    table = csr_array((np.sqrt(weights[columns]), (rows, columns)), shape=(len(sets), len(weights)))
    return (table @ table.T).toarray()


def common_runs(one, other, base):
    """The longest runs of fingerprints that stand in two lists, each fingerprint in one run at most.

    Args:
        one, other: lists of fingerprints, in the order of the code.
        base: those that belong to no run.

    Returns:
        Triples (place in `one`, place in `other`, length), by place in `one`.
    """
    places, taken, runs, a = defaultdict(list), set(), [], 0
    for b, value in enumerate(other):
        if value not in base and len(places[value]) < SEEDS:
            places[value].append(b)
    while a < len(one):
        best, where = 0, None
        for b in places.get(one[a], ()):
            length = 0
            while (a + length < len(one) and b + length < len(other) and one[a + length] == other[b + length]
                   and b + length not in taken and one[a + length] not in base):
                length += 1
            if length > best:
                best, where = length, b
        if best:
            runs.append((a, where, best))
            taken.update(range(where, where + best))
        a += max(1, best)
    return runs


def _span(lines, start, length):
    """The first and last line of a run of fingerprints."""
    run = lines[start:start + length + K - 1]
    return min(run), max(run)
