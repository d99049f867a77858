"""The exercises: their ids, where answers are kept, how they are read.

In: a folder of answers, `work/` or `solutions/work/`: one file an exercise. Out: the answers, by name.
"""

import linecache
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from lab3.common.files import InputError
from lab3.exercises.table import ALL_EXERCISES, EXERCISES, IMPORTS, MARK, MARKER, NBGRADER


def exercise_of(cell):
    """The exercise id in a cell's first marker line, or None. Raises `InputError` for an id that does not exist."""
    found = MARKER.search(cell)
    if not found or cell.lstrip().startswith("%%") and not TIMED.match(cell):
        return None
    name = found[1]
    if name not in ALL_EXERCISES:
        raise InputError(f"exercise {name!r} does not exist. The exercises are: {', '.join(ALL_EXERCISES)}.")
    return name


TIMED = re.compile(r"\A\s*%%(?:time|timeit|capture|prun)\b.*")  # cell magics that run the cell as Python
FUTURE = re.compile(r"^from __future__ import [\w ,]+", re.MULTILINE)


def answer_file(cell):
    """The text of an answer's file: the imports it counts on, then the cell; Python wants `__future__` first.

    A cell magic above the answer becomes an empty line, and the marker is written as the course writes it.
    """
    cell = MARKER.sub(rf"{MARK} \1", TIMED.sub("", cell.strip()))
    future = "".join(f"{line.strip()}; " for line in FUTURE.findall(cell))
    return f"{future}{IMPORTS}\n\n{FUTURE.sub('', cell)}\n"


def cell_of(text):
    """What `answer_file` made its text from, the answer as it was written, without the kit's and nbgrader's marks."""
    lines = text.replace(IMPORTS, "", 1).strip().splitlines()
    return "\n".join(line for line in lines if not MARKER.match(line) and line.strip() not in NBGRADER).strip("\n")


def run_answer(name, text, path, given=None):
    """Run the text of an answer's file in a namespace of its own.

    Args:
        name: the exercise's id.
        text: what `answer_file` gives.
        path: the file that holds the text, or will; tracebacks name it.
        given: names that the answer finds when it runs, such as earlier answers; a dict.

    Returns:
        The namespace, a dict of globals: what else the answer builds on is to be put there.

    Raises:
        InputError: the answer fails when it runs, or does not define its name.
    """
    exercise = ALL_EXERCISES[name]
    # Tracebacks and inspect.getsource show the answer's lines also when the file changes later.
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    module = ModuleType(f"lab3_answers.{name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and inspect.getsource look the classes' module up there
    namespace = vars(module)
    namespace.update(given or {})
    namespace.pop(exercise.defines, None)
    try:
        exec(compile(text, str(path), "exec"), namespace)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path}: the answer to {name} fails when it runs ({type(error).__name__}: {error}). "
                         f"Mend it in notebook {exercise.notebook} and run its cell again.") from error
    if exercise.defines not in namespace:
        raise InputError(f"{path}: the answer to {name} does not define {exercise.defines}. "
                         f"Keep that name in notebook {exercise.notebook}.")
    return namespace


def read_answer(folder, name, given=None):
    """Run the answer to an exercise that a folder holds: `run_answer`'s namespace.

    Raises:
        InputError: it is missing, not readable, fails when it runs, or does not define its name.
    """
    path, notebook = Path(folder) / f"{name}.py", ALL_EXERCISES[name].notebook
    if not path.is_file():
        raise InputError(f"{path}: no answer to {name} yet. Run its cell in notebook {notebook}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text ({error}). "
                         f"Run its cell in notebook {notebook} again.") from None
    return run_answer(name, text, path, given)


def defined(namespaces):
    """What answers define: a dict, name -> answer, such as `{"sample_mask": ...}`; their namespaces are by exercise."""
    defines = {name: ALL_EXERCISES[name].defines for name in namespaces}
    return {defines[name]: namespace[defines[name]] for name, namespace in namespaces.items()}


def link(namespaces, changed=None):
    """Let answers find one another by name: put what each defines into the namespaces of all.

    Args:
        namespaces: a dict, exercise id -> the namespace of its answer.
        changed: a dict, name -> a function that takes the answer of that name and gives what replaces it.

    Returns:
        What they define, as `defined` gives it, changes made.
    """
    found = defined(namespaces)
    found |= {name: change(found[name]) for name, change in (changed or {}).items()}
    for namespace in namespaces.values():
        namespace.update(found)
    return found


def load_answers(folders, names=tuple(EXERCISES), changed=None):
    """Run the answers in a folder, or in several, and give what they define.

    Each runs in a namespace of its own, so helpers of one do not meet helpers of another; the answers themselves find
    one another by name.

    Args:
        folders: holds `NAME.py` for each exercise; of several folders, the first that holds an answer gives it.
        names: the exercises wanted.
        changed: as `link` takes it.

    Returns:
        A namespace with the answers, such as `.MultiHeadAttention` and `.sample_mask`.

    Raises:
        InputError: an answer is missing, fails when it runs, or does not define its name.
    """
    *others, last = [folders] if isinstance(folders, (str, Path)) else folders
    namespaces = {}
    for name in names:
        folder = next((one for one in others if (Path(one) / f"{name}.py").is_file()), last)
        namespaces[name] = read_answer(folder, name, defined(namespaces))
    return SimpleNamespace(**link(namespaces, changed))
