"""Which statements of a notebook an answer needs: the definition, and what it cannot do without.

In: the source of a notebook's cells. Out: their statements, and the text of an answer, ready to run. Nothing runs here.

The rule, for a definition in a cell:
* Kept: top-level statements, whole and with the comments right above them, that bind a name which a kept statement
  uses, and those that change what such a name means: `MultiHeadAttention.forward = f`, `TABLE["linear"] = f`,
  `setattr(TABLE, ...)`, `names.append(f)`, a call of an own function that does so.
* A name means what it meant when the answer's cell ran: what the answer's own cell binds comes only from there;
  otherwise from the cells before it; otherwise from those after it.
* What the lab gives anyway, `IMPORTS` of `lab3.exercises.table` and Python's own names, is looked for in the answer's
  own cell only; the other exercises' names nowhere: the grader gives these.
* Where the answer looks names up in `globals()` or runs a text, what its own cell binds is kept, and every function and
  class of the other cells.
* Dropped: all else, such as calls that try something out, prints, plots, asserts and magics, and whatever needs the
  notebook's `lab` to be there.
"""

import ast
import bisect
import builtins
import re
import symtable
import sys
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from lab3.exercises.table import EXERCISES, IMPORTS

MAX_STATEMENTS = 2000  # of a notebook; the course's own have about 200
MAX_CODE = 200_000  # characters of a cell, or of an answer
ANSWERS = {one.defines for one in EXERCISES.values()}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORT = (ast.Import, ast.ImportFrom)


class Broken(ValueError):
    """A cell that cannot be read as Python. The message says where and why."""


class Reader(ast.NodeVisitor):
    """Collects what a statement does to the notebook's names when it runs.

    `binds`: names it gives a value. `reads`: names it looks up at once, not later in a function's body, and has not
    bound before. `calls`: names it calls. `sets`: names of which it sets or deletes an attribute or item. `methods`:
    names of which it calls a method, as a statement of its own. `later`: names that a function in it sets, binds or
    calls methods of.
    """

    def __init__(self):
        self.binds, self.reads, self.calls, self.sets, self.methods, self.later = (set() for _ in range(6))
        self.declared = set()  # `global` inside a function
        self.star = self.starts_lab = False

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store):
            self.binds.add(node.id)
        elif isinstance(node.ctx, ast.Load) and node.id not in self.binds:
            self.reads.add(node.id)

    def _visit(self, *nodes):
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_Assign(self, node):
        self._visit(node.value, *node.targets)

    def visit_AnnAssign(self, node):
        self._visit(node.annotation, node.value, node.target if node.value else None)

    def visit_AugAssign(self, node):
        if isinstance(node.target, ast.Name):
            self.reads.update({node.target.id} - self.binds)
        self._visit(node.value, node.target)

    def visit_NamedExpr(self, node):
        self._visit(node.value, node.target)

    def visit_For(self, node):
        self._visit(node.iter, node.target, *node.body, *node.orelse)

    visit_AsyncFor = visit_For

    def visit_Attribute(self, node):
        if not isinstance(node.ctx, ast.Load) and root(node):
            self.sets.add(root(node))
        self.generic_visit(node)

    visit_Subscript = visit_Attribute

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute) and root(node.value.func):
            self.methods.add(root(node.value.func))
        self.generic_visit(node)

    def visit_Call(self, node):
        if isinstance(node.func, ast.Name):
            self.calls.add(node.func.id)
            if node.func.id in ("setattr", "delattr") and node.args and root(node.args[0]):
                self.sets.add(root(node.args[0]))
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "start":
            self.starts_lab = self.starts_lab or isinstance(node.func.value, ast.Name) and node.func.value.id == "lab3"
        self.generic_visit(node)

    def visit_Import(self, node):
        self.binds.update(alias.asname or alias.name.split(".")[0] for alias in node.names)

    def visit_ImportFrom(self, node):
        self.star = self.star or node.names[0].name == "*"
        self.binds.update(alias.asname or alias.name for alias in node.names if alias.name != "*")

    def visit_ExceptHandler(self, node):
        self.binds.update({node.name} - {None})
        self.generic_visit(node)

    def visit_MatchAs(self, node):
        self.binds.update({node.name} - {None})
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node):
        self.binds.update({node.rest} - {None})
        self.generic_visit(node)

    def visit_Global(self, node):
        self.declared.update(node.names)

    def visit_FunctionDef(self, node):
        self._visit(*node.decorator_list, node.args, node.returns)
        self.calls.update(decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name))
        self.binds.add(node.name)
        inner = Reader()
        inner._visit(*node.body)
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        own = (inner.binds - inner.declared) | {argument.arg for argument in every if argument}
        self.later |= ((inner.sets | inner.methods | inner.later) - own) | (inner.binds & inner.declared)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node):
        self.visit(node.args)

    def visit_ClassDef(self, node):
        self._visit(*node.bases, *node.keywords, *node.decorator_list)
        self.calls.update(decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name))
        inner = Reader()
        inner._visit(*node.body)
        self.reads |= inner.reads - self.binds
        for mine, its in ((self.calls, inner.calls), (self.sets, inner.sets), (self.methods, inner.methods),
                          (self.later, inner.later)):
            mine |= its - inner.binds
        self.binds.add(node.name)

    def visit_ListComp(self, node):
        inner = Reader()
        for generator in node.generators:
            inner.visit(generator.target)
        own = inner.binds - self.reads
        for generator in node.generators:
            self._visit(generator.iter, *generator.ifs)
        self._visit(*([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]))
        self.reads -= own

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


@dataclass(eq=False)
class Statement:
    """A top-level statement of a cell, or several that share a line.

    Attributes:
        cell: the number of its cell.
        nodes: as `ast` has them.
        text: its lines, comments right above included.
        code: its lines alone.
        does: a `Reader` that has seen it.
        place: its place among the statements of its notebook; set by `Notebook`.
    """

    cell: int
    nodes: list
    text: str
    code: str
    does: Reader
    place: int = -1

    @cached_property
    def imports(self):
        return all(isinstance(node, IMPORT) for node in self.nodes)

    @cached_property
    def future(self):
        return all(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in self.nodes)

    @cached_property
    def needs(self):
        """All global names that it uses, at once or later, in bodies of functions too."""
        names, tables = set(), [symtable.symtable(self.code, "<cell>", "exec")]
        while tables:
            table = tables.pop()
            tables += table.get_children()
            names |= {symbol.get_name() for symbol in table.get_symbols()
                      if symbol.is_global() and (symbol.is_referenced() or symbol.is_declared_global())}
        return names - self.does.binds | self.does.reads

    def defines(self, name):
        """Whether it gives this name a value of its own: `def`, `class`, or an assignment, no import."""
        return name in self.does.binds and not self.imports

    def stub(self, name):
        """Whether it defines this name as a starter does, with nothing written yet."""
        return self._stubs.get(name, False)

    @cached_property
    def _stubs(self):
        return {node.name: is_stub(node) for node in self.nodes if hasattr(node, "name")}


@dataclass(frozen=True)
class Excerpt:
    """The text of an answer.

    Attributes:
        text: the statements that the answer needs, in an order in which they run.
        cells: the cells they come from, by number.
        unknown: names that it uses and that no statement gives.
        lab: those of them that would need the notebook's `lab`.
    """

    text: str
    cells: tuple
    unknown: tuple
    lab: tuple


def root(node):
    """The name at the root of `name.a[0].b().c`, or None."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func
        else:
            return None
    return node.id


def is_stub(node):
    """Whether a function's only effective statement is `raise NotImplementedError`, or it has none.

    A class is a stub where all its methods are. A docstring and `super().__init__()` are no effective statements.
    """
    if isinstance(node, ast.ClassDef) and any(isinstance(part, FUNCTIONS) for part in node.body):
        return all(is_stub(part) for part in node.body if isinstance(part, FUNCTIONS))
    return isinstance(node, FUNCTIONS + (ast.ClassDef,)) and all(_idle(part) for part in node.body)


def _idle(node):
    if isinstance(node, ast.Raise):
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    if isinstance(node, ast.Expr):
        called = getattr(node.value, "func", None)
        return isinstance(node.value, ast.Constant) or (
            isinstance(called, ast.Attribute) and called.attr == "__init__" and isinstance(called.value, ast.Call))
    return isinstance(node, ast.Pass)


def given_names():
    """The names that an answer finds without anybody's doing: Python's own and the imports of every notebook."""
    reader = Reader()
    reader.visit(ast.parse(IMPORTS))
    return reader.binds | set(dir(builtins)) | {"display", "get_ipython", "__file__", "__builtins__"}


GIVEN = given_names()

# What a newer Python may accept and this one not: quotes and backslashes inside an f-string, `type` and `def f[T]`.
NEWER = re.compile(r"\b[fF][rR]?[\"']|\b[rR][fF][\"']|^\s*type \w+|^\s*(?:def|class) \w+\[", re.MULTILINE)

# A line at which IPython, not Python, is asked for something.
MAGIC = re.compile(r"[%!?]|[\w.*]+\?\??$|\w[\w., \t\[\]\"']*=[ \t]*[%!]")
TOKEN = re.compile(r"\"\"\"|'''|[\"'#\n()\[\]{}]|\\[^\n]|\\\n")
FOREIGN = re.compile(r"\s*%%(?:bash|sh|script|html|javascript|js|latex|svg|markdown|writefile|file|perl|ruby|cmd)\b")


def python_of(source):
    """A cell's text with `pass` in the place of magics; its lines keep their numbers.

    Lines inside strings and brackets stay as they are. A cell in another language, as `%%bash` says, is empty.
    """
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if FOREIGN.match(source):
        return ""
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    if indent := _indent(first):  # IPython takes cells that are indented as a whole
        lines = [line.removeprefix(indent) for line in lines]
    if not any(MAGIC.match(line.strip()) for line in lines):
        return "\n".join(lines)
    kept, opened, depth, continued = [], None, 0, None
    for line in lines:
        if continued == "magic" or (not opened and not depth and not continued and MAGIC.match(line.strip())):
            kept.append("" if continued else f"{_indent(line)}pass")
            continued = "magic" if line.endswith("\\") else None
            continue
        kept.append(line)
        opened, depth, continued = _after(line + "\n", opened, depth)
    return "\n".join(kept)


def _indent(line):
    return line[:len(line) - len(line.lstrip())]


def _after(line, opened, depth):
    """What holds at the end of a line: the quotes of an open string, the depth of brackets, whether it goes on."""
    comment = False
    for token in TOKEN.findall(line):
        if token == "\\\n":
            return opened, depth, None if comment else "line"
        if comment or token[0] == "\\":
            continue
        if opened:
            if token.startswith(opened) or token == "\n" and len(opened) == 1:  # the latter is an error: not carried on
                opened = None
        elif token == "#":
            comment = True
        elif token[0] in "\"'":
            opened = token
        elif token in "([{":
            depth += 1
        elif token in ")]}":
            depth = max(0, depth - 1)
    return opened, depth, None


def read_cell(number, source):
    """The statements of a cell.

    Args:
        number: the cell's, counted from 1.
        source: its text, magics included.

    Raises:
        Broken: it is no Python; the message names the line.
    """
    text = python_of(source)
    lines = text.split("\n")
    try:
        nodes = _compile(text).body
        if len(nodes) > MAX_STATEMENTS:
            raise Broken(f"it holds more than {MAX_STATEMENTS} statements")
        return list(_statements(number, nodes, lines))
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        shown = lines[error.lineno - 1].strip()[:100] if 0 < (error.lineno or 0) <= len(lines) else ""
        newer = "; Python 3.12 or newer may accept it, but answers are graded with {}.{}".format(*sys.version_info)
        raise Broken(f"syntax error{where}{f' ({shown})' if shown else ''}: {error.msg}"
                     f"{newer if NEWER.search(text) else ''}") from None
    except (RecursionError, MemoryError):
        raise Broken("it is too deeply nested to be read") from None
    except ValueError as error:  # of characters that no text has
        raise error if isinstance(error, Broken) else Broken(f"it is no Python text ({error})") from None


def _compile(text):
    """The syntax tree of a text that can be compiled. Raises what `compile` raises, and `Broken`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as a strange escape in a string
        tree = ast.parse(text)
        if "finally" in text and _compiled_size(tree)[0] > max(1000, 2 * len(text)):
            raise Broken("its finally blocks are nested too deep: compiled, each of them is there many times")
        compile(text, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return tree


def _compiled_size(node):
    """(nodes, exits): how many nodes Python compiles, and how many ways lead out early.

    A finally block is compiled twice, and again for each way that leads out of its try: nested ones grow exponentially.
    """
    last = set(getattr(node, "finalbody", ()))
    size, exits, copied = 1, int(isinstance(node, (ast.Return, ast.Break, ast.Continue))), 0
    for child in sorted(ast.iter_child_nodes(node), key=last.__contains__):
        nodes, ways = _compiled_size(child)
        if child in last:
            size, copied = size + (2 + exits) * nodes, copied + (2 + exits) * ways
        else:
            size, exits = size + nodes, exits + ways
    return size, exits + copied


def _statements(number, nodes, lines):
    groups, end = [], 0
    for node in nodes:
        if groups and _first(node) <= groups[-1][-1].end_lineno:
            groups[-1].append(node)
        else:
            groups.append([node])
    for group in groups:
        begin = top = _first(group[0])
        while top - 1 > end and lines[top - 2].startswith("#"):
            top -= 1
        end = group[-1].end_lineno  # comments further up may be another statement's
        reader = Reader()
        reader._visit(*group)
        yield Statement(number, group, "\n".join(lines[top - 1:end]), "\n".join(lines[begin - 1:end]), reader)


def _first(node):
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


class Notebook:
    """The statements of a notebook's cells, in order, and which of them do what to a name: name -> statements."""

    def __init__(self, statements):
        self.statements = statements
        self.binders, self.readers, self.setters, self.users, self.callers, self.changers = (
            defaultdict(list) for _ in range(6))
        for place, one in enumerate(statements):
            one.place = place
            for found, names in ((self.binders, one.does.binds), (self.readers, one.does.reads),
                                 (self.setters, one.does.sets), (self.users, one.does.methods),
                                 (self.callers, one.does.calls), (self.changers, one.does.later)):
                for name in names:
                    found[name].append(one)
        self.of_lab = self._of_lab()

    def _of_lab(self):
        """The statements that cannot run without the notebook's `lab`: what starts it, and what hangs on that."""
        found, waiting = set(), [one for one in self.statements if one.does.starts_lab]
        others = {name: len(binders) for name, binders in self.binders.items()}  # that are not found
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                for name in one.does.binds:
                    others[name] -= 1
                    if not others[name] and name not in GIVEN and name not in ANSWERS:
                        waiting += self.readers[name]
        return found

    def before(self, name, one):
        """The last statement before `one` that binds a name, or None."""
        binders = self.binders[name]
        place = bisect.bisect_left(binders, one.place, key=lambda binder: binder.place)
        return binders[place - 1] if place else None

    def excerpt(self, answer, name):
        """The text of the answer that the statement `answer` defines as `name`.

        Raises:
            Broken: it cannot be put together.
        """
        try:
            return _Excerpt(self, answer, name).made()
        except (RecursionError, MemoryError):
            raise Broken("it is too deeply nested to be read") from None
        except SyntaxError as error:
            raise Broken(f"syntax error: {error.msg}") from None


class _Excerpt:
    """The making of one excerpt. Its time is linear in what it reads: each name and each statement is met once."""

    def __init__(self, notebook, answer, name):
        self.notebook, self.answer, self.name = notebook, answer, name
        self.found, self.kept, self.needed = {name: dict.fromkeys(self._chain())}, set(), set()
        self.waiting = defaultdict(list)  # statement -> those that are kept if it is
        self.changing, self.called = set(), set()  # functions that change a needed name; names that are such a function

    def made(self):
        self._collect()
        unknown = self._unknown()
        if unknown and (stars := [one for one in self.notebook.statements if one.does.star]):
            self.kept.update(stars)  # any of the names may come from there
            unknown = set()
        lab = {name for name in unknown if not self.notebook.of_lab.isdisjoint(self.notebook.binders[name])}
        order = self._order()
        text = "\n\n".join(one.text for one in order) + "\n"
        if len(text) > MAX_CODE:
            raise Broken(f"with all it needs, the answer is longer than {MAX_CODE:,} characters")
        _compile(text)
        cells = {one.cell for one in order}
        return Excerpt(text, tuple(sorted(cells)), tuple(sorted(unknown - lab)), tuple(sorted(lab)))

    def _chain(self):
        """The answer's definition, and earlier ones where it builds on them: `f = wrap(f)`, `class A(A)`."""
        chain = [self.answer]
        for one in reversed(self.notebook.binders[self.name]):
            if one.place < chain[-1].place and self.name in chain[-1].does.reads and not one.stub(self.name):
                chain.append(one)
        return chain

    def _homes(self, name):
        """The statements that give a name its value, as the keys of a dict."""
        if name not in self.found:
            self.found[name] = dict.fromkeys(self._look_for(name))
        return self.found[name]

    def _look_for(self, name):
        if name in ANSWERS:
            return []
        every = [one for one in self.notebook.binders[name] if one not in self.notebook.of_lab and not one.future]
        own = [one for one in every if one.cell == self.answer.cell]
        if own:
            return own
        if name in GIVEN:  # a helper may bear the name of a builtin; a variable that does is of some trial
            defined = FUNCTIONS + (ast.ClassDef, ast.Import, ast.ImportFrom)
            return [one for one in every if hasattr(builtins, name) and one.place < self.answer.place
                    and isinstance(one.nodes[0], defined)]
        every = [one for one in every if not one.stub(name)] or every
        return [one for one in every if one.place < self.answer.place] or every

    def _collect(self):
        """Keep the statements that the answer needs, and those that change what a needed name stands for."""
        names, statements = [self.name], []
        for one in self.notebook.binders[self.name]:  # a class that goes on in a later cell
            if self.name in one.does.reads and isinstance(one.nodes[0], ast.ClassDef) \
                    and one.place > self.answer.place and not one.stub(self.name):
                statements += self._standing(self.name, one)
        while names or statements:
            if statements:
                one = statements.pop()
                if one not in self.kept:
                    self.kept.add(one)
                    names += one.needs
                    statements += self.waiting.pop(one, ())
            elif (name := names.pop()) not in self.needed:
                self.needed.add(name)
                if name in ("globals", "eval", "exec"):  # names that no statement shows
                    statements += filter(self._own, self.notebook.statements)
                statements += self._homes(name)
                statements += self._altering(name)

    def _own(self, one):
        """Whether a statement can be what an answer looks up by a name that it makes."""
        own = one.cell == self.answer.cell or isinstance(one.nodes[0], (*FUNCTIONS, ast.ClassDef))
        return own and not (one.does.reads & ANSWERS or one in self.notebook.of_lab) and one.does.binds - ANSWERS

    def _altering(self, name):
        """The statements that change what a needed name stands for."""
        homes = self._homes(name)
        for one in self.notebook.setters[name]:
            if homes or one.cell == self.answer.cell:
                yield from self._standing(name, one)
        if name != self.name and not all(home.imports for home in homes):
            for one in self.notebook.users[name]:
                yield from self._standing(name, one)
        for function in self.notebook.changers[name]:
            if function not in self.changing:
                self.changing.add(function)
                for called in function.does.binds - ANSWERS - self.called:
                    if function in self._homes(called):
                        self.called.add(called)
                        yield from filter(self._plain, self.notebook.callers[called])

    def _plain(self, one):
        """Whether a statement that calls a function is kept for that: the answer's cell has it, or it does no more."""
        node = one.nodes[0]
        return one not in self.notebook.of_lab and (
            one.cell == self.answer.cell or isinstance(node, FUNCTIONS + (ast.ClassDef,)) or (
                isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
                and isinstance(node.value.func, ast.Name)))

    def _standing(self, name, one):
        """`[one]` where a name stands, at that statement, for what the answer means by it, and not for something else.

        Where this hangs on a statement that is not kept so far, `[]`, and `one` waits for it.
        """
        if one in self.notebook.of_lab:
            return []
        before = self.notebook.before(name, one)
        if before is None or before in self.kept or not self._homes(name):
            return [one]
        self.waiting[before].append(one)
        return []

    def _unknown(self):
        called = {name for one in self.kept for name in one.does.calls}
        homes = {home for name in called for home in self._homes(name)}
        altered = {name for home in homes for name in home.does.later}
        return {name for name in self.needed - GIVEN - ANSWERS - altered if not self._homes(name)}

    def _order(self):
        """As in the notebook, but each statement after those without which it cannot run; `__future__` first."""
        done, begun, seen, wanted = [], set(), set(), {}

        def put(one):
            if one not in begun:
                begun.add(one)
                for name in sorted(one.does.reads):
                    yield settle(name)
                done.append(one)

        def settle(name):
            """Put what gives a name its value, and what that needs in its turn, through functions that it may call."""
            if name not in wanted:
                homes = self._homes(name)
                wanted[name] = (need for home in homes if home not in seen and not seen.add(home)
                                for need in sorted(home.needs))
                if begun.isdisjoint(homes):
                    for home in homes:
                        yield put(home)
            for need in wanted[name]:
                yield settle(need)

        for one in sorted(self.kept, key=lambda one: one.place):
            stack = [put(one)]
            while stack:  # depth first, without recursion
                deeper = next(stack[-1], None)
                stack.append(deeper) if deeper else stack.pop()
        # IPython keeps what a cell imports from __future__ for the cells after it
        first = [one for one in self.notebook.statements if one.future and one.cell <= self.answer.cell]
        return first + done
