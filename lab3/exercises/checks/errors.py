"""What an exception in an answer tells: whether the answer is still to be written, else where it went wrong and why.

In: the exception, with its traceback. Out: the name of the answer that is not written, or a `CheckFailed` with the
line of the cell and the likely reason.
"""

import ast
import linecache
import re

from lab3.exercises.checks.tools import NO_GPU, NO_INPUT, NO_PACKAGE, CheckFailed, raised_on_purpose
from lab3.exercises.table import EXERCISES, MARK

HINTS = (  # (type and text of the exception and its line, likely reason), the first that fits
    (r"values to unpack .* at [^(]*$|values to unpack .* in .*loader",
     "the loader gives one tensor (B, T) for each batch, without labels beside it"),
    (r"ModuleNotFoundError", NO_PACKAGE),
    (r"not compiled with CUDA|NVIDIA driver|No CUDA GPUs|CUDA-capable", NO_GPU),
    (r"does not support input requests|reading from stdin|EOF when reading", NO_INPUT),
    (r"expected scalar type|same dtype|same data type|expected m1 and m2|dtypes match",
     "two tensors have different dtypes, such as float32 and bfloat16 under autocast: convert one, .to(other.dtype)"),
    (r"cannot assign .* before Module.__init__|has no attribute '_(modules|parameters)'",
     "the class sets its layers before the constructor of nn.Module has run"),
    (r"missing the required \"forward\"", "the class has no forward: look at its name and its indentation"),
    (r"view size is not compatible",
     "after axes have been swapped the numbers no longer lie in order: view cannot join such axes, reshape can"),
    (r"shape '.*' is invalid for input", "the new shape holds another number of elements: print the shape before it"),
    (r"batch_size .*to match target batch_size|Expected target size|0D or 1D target|1D target tensor expected",
     "cross_entropy takes the axis after the first as the classes: logits of rank 2 with targets of rank 1 are safest"),
    (r"mat1 and mat2|must match the size of tensor|Expected size for first two|expected to be in range|"
     r"shape mismatch|not broadcastable|must match the existing size|shapes of the mask|The shape of the mask|"
     r"must be broadcastable|could not be broadcast|not aligned|Index tensor must have|inconsistent tensor size",
     "two shapes do not fit: print both on the line before, and name each axis"),
    (r"[Bb]oolean value of Tensor|truth value of an array|only one element tensors|a Tensor with \d+ elements cannot",
     "a tensor with a value for each row is used as if it were one number"),
    (r"same device|on cpu, but|device type|Expected a '.*' device",
     "tensors on two devices: make new ones on `device`"),
    (r"only (length-1|0-dimensional) arrays|must be real number",
     "a function of math takes one number, this is an array: numpy has the same function for arrays"),
    (r"must be Tensor, not|numpy\.ndarray' object has no|expected np\.ndarray|numpy|Tensor' object has no attribute",
     "numpy arrays and torch tensors are mixed: turn one into the other"),
    (r"does not require grad", "the loss has no gradient: it was detached, turned into a number, or made without one"),
    (r"step\(\) has already been called", "the scaler must be updated after each of its steps"),
    (r"[Nn]o inf checks|_scale is None", "the scaler steps although no gradient was made from a scaled loss"),
    (r"in-place|single memory location", "a tensor is changed in place where it must not be: work on a copy"),
    (r"probability tensor contains|sum of probabilities|multinomial",
     "drawing needs probabilities, one row a token: not logits, logarithms or NaN"),
    (r"index out of range|out of bounds",
     "an index is larger than the axis: is it the mask token's id, or another axis?"),
    (r"selected index k out of range", "more are asked for than a row has: limit the number row by row"),
    (r"unexpected keyword|required (keyword-only|positional)|takes .* positional", "a call and a definition differ in "
     "their arguments: compare them with the text of the exercise"),
    (r"ZeroDivisionError", "a number that may be 0 is divided by: treat that case on its own"),
    (r"LinAlgError|infs or NaNs", "NaN or infinity among the numbers: rounding makes some eigenvalues of a singular "
     "covariance slightly negative"),
    (r"AssertionError", "an assert of the answer's own does not hold for this input"),
    (r"cannot unpack|not enough values|too many values", "a function gave back something else than is taken from it: "
     "look for a missing or short return"),
    (r"NoneType", "something is None here: an argument that may be None, or what a function without a return gives"),
)


def not_written(error, own):
    """The name whose `raise NotImplementedError` this is, or None: PyTorch raises it too, for missing kernels.

    Args:
        error: the exception.
        own: the name that the answer under check defines. It counts as that one's where no other is named.
    """
    if not isinstance(error, NotImplementedError):
        return None
    if not raised_on_purpose(error):
        return None
    code = _entries(error)[-1].tb_frame.f_code
    words = [*code.co_qualname.split("."), *re.findall(r"\w+", str(error))]
    others = [one.defines for one in EXERCISES.values() if one.defines != own]
    return own if own in words else next((name for name in others if name in words), own)


def still_there(error):
    """What to say of a NotImplementedError in an answer that does more than raise it; "" for a stub."""
    last = _entries(error)[-1]
    number, path = last.tb_lineno, last.tb_frame.f_code.co_filename
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:
        return ""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
              and node.lineno <= number <= node.end_lineno]
    if not around:
        return ""
    written = [line for line in map(ast.unparse, around[-1].body[bool(ast.get_docstring(around[-1])):])
               if not re.match(r"super\(.*\).__init__\(\)|raise NotImplementedError|pass$|\.\.\.$", line)]
    return f"{_place(last)} is still reached: delete it where your code is complete" if written else ""


def raised(error, namespace):
    """The `CheckFailed` that an exception is told as.

    Args:
        error: the exception.
        namespace: the globals of the answer.
    """
    text = f"{type(error).__name__}: {(str(error).strip() or 'no text').splitlines()[0][:200]}"
    inside = [entry for entry in _entries(error) if entry.tb_frame.f_globals is namespace]
    if not inside:  # the check itself stumbled over what the answer returned
        return CheckFailed("a result of the type and shape that the text asks for", f"one that leads to {text}")
    place = _place(inside[-1])
    hint = next((reason for pattern, reason in HINTS if re.search(pattern, f"{text} at {place}")), "")
    if isinstance(error, NameError):
        exercise = next((one.id for one in EXERCISES.values() if one.defines == error.name), None)
        hint = (f"the answer builds on {error.name}, which is not there: run the cell of {exercise} first" if exercise
                else "an answer's cell must hold the helpers and imports that it needs")
    return CheckFailed("no exception", text, hint, place)


def _entries(error):
    """The entries of its traceback, outermost first."""
    entries, entry = [], error.__traceback__
    while entry:
        entries.append(entry)
        entry = entry.tb_next
    return entries


def _place(entry):
    """Line number and line, counted from the first line of the cell."""
    number, path = entry.tb_lineno, entry.tb_frame.f_code.co_filename
    lines = linecache.getlines(path)
    if not 1 <= number <= len(lines):
        return f"line {number}"
    marks = [i for i in range(number) if lines[i].startswith(MARK)]  # a saved answer has imports before its cell
    first = marks[-1] if marks else 0
    cell = f" of {lines[first].removeprefix(MARK).strip()}" if marks else ""
    return f"line {number - first}{cell}: {lines[number - 1].strip()}"
