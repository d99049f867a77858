"""What all checks are made of: what an answer must do, inputs that are the same at every call, stand-ins.

In: what an answer gave, beside what is right. Out: nothing where they agree; else `CheckFailed`, which names what was
expected, what came and, where a typical mistake gives that value, the likely reason.
"""

import contextlib
import dis
import inspect
import random
import re

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

SEED = 0  # the same draws at every call: an answer that passes once passes always
V = 10  # codes in the checks; the mask token's id
ROWS, NEAR = 4096, 0.06  # a share over so many rows strays this far by chance once in 10^12 (Hoeffding)

# Likely reasons that more than one exercise has
FLAT = "top-k over the flattened batch: each row must rank its own tokens"
INVERTED = "the mask is inverted: True means hidden"
UNUSED = "the given generator is not used, or is re-seeded at each call"
RESIDUAL = "the input is added to the output: the residual connection is outside this class"
SPLIT = ("heads are split one way and joined another: split dim into (num_heads, dim / num_heads), "
         "and join in the same order")
SAME_SHARE = "the share is always the same: without a ratio, draw one for each row, and hide that share"
FINISHED = "a row with nothing left to hide hides tokens again: known tokens stay known"
UNCHECKED, LATE = "the value of {} is not checked", "the value of {} is not checked before it is used"
UNNAMED = "the message does not name {}"
BRANCHES = "where a scaler is given the loop does something else than without: backward and step alone go through it"
NO_GPU = "answers are graded without a GPU: create new tensors on the input's device, such as x.device"
ASSERTED = "the value is checked, but with another exception: raise a ValueError"
NO_INPUT = "nobody can answer input() when answers are graded: set a variable instead"
NO_PACKAGE = ("answers are graded with the packages of the course alone, and without files of your own: "
              "put helpers into cells of the notebook")


class CheckFailed(AssertionError):
    """An answer does something else than its contract says: what was expected, what came, the likely reason, where."""

    def __init__(self, expected, got, reason="", place=""):
        super().__init__(f"expected {expected}, got {got}. {reason}")
        self.expected, self.got, self.reason, self.place = expected, got, reason, place


def expect(holds, expected, got, reason=""):
    """Raise CheckFailed unless it holds."""
    if not holds:
        raise CheckFailed(expected, got, reason)


def suspect(got, suspects, otherwise=""):
    """The reason beside the value that came: each likely mistake gives a value of its own."""
    for value, reason in suspects:
        if np.shape(value) == np.shape(got) and np.allclose(value, got, rtol=1e-4, atol=1e-5):
            return reason
    return otherwise


def same(got, expected, suspects=(), otherwise="", what=""):
    """Numbers must agree; where they do not, the suspects tell why."""
    holds = np.shape(got) == np.shape(expected) and np.allclose(got, expected, rtol=1e-4, atol=1e-5)
    expect(holds, what + as_text(expected), as_text(got), suspect(got, suspects, otherwise))


def as_text(value):
    """Numbers as messages show them."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(as_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def rng(offset=0):
    """A generator in a known state."""
    return torch.Generator().manual_seed(SEED + offset)


def randint(*shape, offset=0):
    """Random tokens, the same at every call."""
    return torch.randint(V, shape, generator=rng(offset))


def normal(*shape, offset=0):
    """A numpy array of normal draws, the same at every call."""
    return np.random.default_rng(SEED + offset).normal(size=shape)


def is_tensor(value, shape, dtype, what):
    """`what` must be a tensor of that shape and type."""
    expect(value is not None, f"{what}: a tensor {shape}", "nothing (None)", "a return is missing")
    expect(isinstance(value, torch.Tensor), f"{what}: a tensor {shape}", f"a {type(value).__name__}",
           "a torch tensor is wanted")
    expect(value.shape == shape, f"{what} of shape {shape}", f"shape {tuple(value.shape)}")
    expect(value.dtype == dtype, f"{what} of type {dtype}", str(value.dtype))
    return value


def is_pair(value, what):
    """A function that must return two results returns two."""
    several = isinstance(value, (tuple, list))
    expect(several and len(value) == 2, f"two results, {what}",
           f"a {type(value).__name__}" + (f" of {len(value)}" if several else ""), "a return is missing or short")
    return value


@contextlib.contextmanager
def untouched(**inputs):
    """The block must not change these tensors or arrays."""
    before = {name: value.clone() if isinstance(value, torch.Tensor) else value.copy()
              for name, value in inputs.items()}
    yield
    for name, value in inputs.items():
        expect(bool((before[name] == value).all()), f"{name} as it was before the call", f"{name} was changed in place",
               "writing into an argument changes it for the caller too: work on a copy")


def refuses(word, value, call, *args, **options):
    """A bad value raises a ValueError that names the argument."""
    expected = f"a ValueError that names {word}, for {value}"
    try:
        call(*args, **options)
    except ValueError as error:
        # A short name may be part of a word, as mu is of must.
        named = any(re.search(one if len(one) > 2 else rf"(?<![a-z]){one}(?![a-z])", str(error))
                    for one in word.split(" or "))
        expect(named, expected, f"ValueError: {str(error)[:100]}", UNNAMED.format(word))
    except Exception as error:
        reason = ASSERTED if raised_on_purpose(error) else LATE.format(word)
        raise CheckFailed(expected, f"{type(error).__name__}: {str(error)[:100]}",
                          "NotImplementedError means that code is missing: raise a ValueError"
                          if isinstance(error, NotImplementedError) else reason) from None
    else:
        raise CheckFailed(expected, "no error", UNCHECKED.format(word))


def raised_on_purpose(error):
    """Whether a `raise` or an `assert` outside of PyTorch and numpy made an exception."""
    entry = error.__traceback__
    while entry.tb_next:
        entry = entry.tb_next
    package = str(entry.tb_frame.f_globals.get("__name__")).split(".")[0]
    code = entry.tb_frame.f_code.co_code
    return dis.opname[code[entry.tb_lasti]] == "RAISE_VARARGS" and package not in ("numpy", "scipy", "torch",
                                                                                   "torchvision")


class NanWatch(TorchFunctionMode):
    """Notes, as `function`, the first function of PyTorch that makes NaN out of numbers while this is active."""

    def __init__(self):
        super().__init__()
        self.function = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        known = self.function or "empty" in function.__name__ or any(map(_has_nan, args))
        result = function(*args, **(kwargs or {}))
        if not known and _has_nan(result):
            self.function = function.__name__.strip("_")
        return result


def _has_nan(value):
    return isinstance(value, torch.Tensor) and value.is_floating_point() and bool(value.isnan().any())


def follows_generator(draw):
    """`draw(generator)` gives a tensor: the generator alone decides it."""
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())

    before, generator = states(), rng(1)
    first, second = draw(generator), draw(generator)
    again, other = draw(rng(1)), draw(rng(2))
    expect(states() == before, "draws from `generator` alone", "the global random state moved",
           "at least one draw is made without the generator")
    expect(torch.equal(first, again), "the same result from the same generator state", "two results",
           "at least one draw is made without the generator")
    expect(not torch.equal(first, second) and not torch.equal(first, other), "another result from another state",
           "the same result", UNUSED)
    draw(None)


def takes(contract, *, a_class=False):
    """The check that an answer takes the arguments of `contract`, a function that does nothing."""
    def arguments(answer):
        """It is defined as the text says, with the same arguments."""
        expect(isinstance(answer, type) == a_class and callable(answer), "a class" if a_class else "a function",
               f"a {type(answer).__name__}", "the name was used for something else after the definition")
        if a_class:
            expect(issubclass(answer, nn.Module), "a subclass of nn.Module", "another class")
        found, wanted = inspect.signature(answer).parameters, inspect.signature(contract).parameters
        kinds = {one.kind for one in found.values()}
        places = [name for name, one in found.items() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        for place, (name, one) in enumerate(wanted.items()):
            if name not in found:
                expect(one.VAR_KEYWORD in kinds, f"an argument {name}", f"arguments {', '.join(found)}")
                continue
            if one.kind is one.POSITIONAL_OR_KEYWORD:
                expect(places[place:place + 1] == [name], f"{name} as argument {place + 1}",
                       f"the order {', '.join(found)}")
            if one.default is not one.empty:
                expect(found[name].default == one.default, f"{name}={one.default!r} by default",
                       "no default" if found[name].default is one.empty else f"{name}={found[name].default!r}")
        for name, one in found.items():
            free = one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) or one.default is not one.empty
            expect(name in wanted or free, f"arguments {', '.join(wanted)}", f"{name} is required too")

    return arguments


class Stub(nn.Module):
    """A transformer that gives logits (T, V + 1) whatever it sees, and notes what it saw.

    Where it turns, the codes move on by one at each call: every step then prefers others.
    """

    def __init__(self, logits, turns=False):
        super().__init__()
        self.logits, self.turns, self.seen = nn.Parameter(logits, requires_grad=False), turns, []

    def forward(self, z_indices):
        turn = len(self.seen) if self.turns else 0
        self.seen.append(z_indices.clone())
        logits = torch.cat([self.logits[:, :V].roll(turn, dims=1), self.logits[:, V:]], dim=1)
        return logits.repeat(len(z_indices), 1, 1)


def one_of(counts):
    """Logits of places that choose among the first `count` codes, all alike: log p(chosen) = -ln count, whatever is
    drawn. The mask token's own logit is far the highest."""
    logits = torch.full((len(counts), V + 1), -60.0)
    for place, count in enumerate(counts):
        logits[place, :count] = 0
    logits[:, V] = 50
    return logits


def row_mask(tokens, *counts):
    """A mask that hides the last so many tokens of each row."""
    return torch.arange(tokens).expand(len(counts), -1) >= tokens - torch.tensor(counts)[:, None]


def saw(seen, z, mask):
    """What the transformer saw: the mask token where hidden, the tokens elsewhere."""
    is_tensor(seen, tuple(z.shape), torch.long, "the transformer's input")
    masked, shown = bool((seen[mask] == V).all()), torch.equal(seen[~mask], z[~mask])
    reason = "hidden places must hold mask_token_id" if shown else "known places hold other tokens than those given"
    if torch.equal(seen, z):
        reason = "the tokens go in without the mask: the transformer would see what it has to predict"
    elif (seen[~mask] == V).all():
        reason = INVERTED
    expect(masked and shown, f"{V} (the mask token) at hidden places, the tokens elsewhere",
           f"{seen[0].tolist()} for the tokens {z[0].tolist()}, hidden {mask[0].int().tolist()}", reason)
