"""The probes of notebook 01: multi_head_attention.

In: the class, with weights that its probe writes into it. Out: `Wrong` where its outputs are not those of the reference
with the same weights, or where ready-made attention runs or is in the code.

Heads may be cut in two ways that work: neighbouring columns, as the contract's checkpoints need them, and every
num_heads-th column. Only `neighbouring_columns` tells them apart; the others give the same for both.
"""

import ast
import re

import numpy as np

from grader.probes.inside import attempt, every_nth, heard, nn, one_by_one, torch, weighted
from grader.probes.probe import array, case, every, expect, near, probe, refusals, unchanged
from lab3.exercises.checks.tools import RESIDUAL, SPLIT
from lab3.exercises.table import PACKAGES

LAYERS = ("query", "key", "value", "output")
KEYS = sorted(f"{name}.{kind}" for name in LAYERS for kind in ("weight", "bias"))
NEAR, COARSE = dict(rtol=1e-3, atol=1e-4), dict(rtol=0.05, atol=0.05)


def output(key, expected, suspects=(), **options):
    return case(key, expected, suspects, what="the output", **NEAR | options)


ROUND_IT = [
    (lambda one: one["output"] + one["x"], RESIDUAL),
    ("causal", "a causal mask: here each place looks at all places"),
    ("key for value", "the values are made by the layer key")]


@probe("multi_head_attention", weight=2, guessable=True)
def parts(MultiHeadAttention, draw):
    """It has the linear layers query, key, value, output and the dropout attn_drop, and no other weights."""
    heads, share = draw.integer(2, 4), draw.one_of([0.15, 0.25, 0.4, 0.6])
    width = heads * draw.integer(2, 5)
    attention = MultiHeadAttention(width, heads, share)
    layers = {name: getattr(attention, name, None) for name in ("query", "key", "value", "output")}
    drop = getattr(attention, "attn_drop", None)
    return {
        "width": width,
        "module": isinstance(attention, nn.Module),
        "layers": {name: isinstance(layer, nn.Linear) and list(layer.weight.shape) for name, layer in layers.items()},
        "drop": isinstance(drop, nn.Dropout) and float(drop.p),
        "shapes": {str(name): list(value.shape) for name, value in attention.state_dict().items()},
    }


@parts.judge
def judge_parts(seen, right):
    width = right["width"]
    expect(seen["module"] is True, "a subclass of nn.Module", "another class")
    for name in LAYERS:
        expect(seen["layers"][name] == [width, width], f"{name}: nn.Linear(dim, dim)", "another layer, or none")
    expect(isinstance(seen["drop"], float), "attn_drop: an nn.Dropout", "another layer, or none")
    expect(seen["drop"] == right["drop"], "attn_drop with the share that was asked for", "another share",
           "the argument attn_drop must reach nn.Dropout")
    missing, more = set(KEYS) - set(seen["shapes"]), set(seen["shapes"]) - set(KEYS)
    expect(not missing, "a weight and a bias in each of the four layers", f"no {', '.join(sorted(missing))}")
    expect(not more, "the eight weights and biases of the four layers in the state", f"{len(more)} more",
           "a buffer or a layer more, and checkpoints no longer fit")
    expect(seen["shapes"] == right["shapes"], "weights (dim, dim) and biases (dim,)", "other shapes")


@probe("multi_head_attention", 1, output("output", "the output of 16 heads for a width of 768, by default"))
def defaults(MultiHeadAttention, draw):
    """Its arguments are dim=768, num_heads=16, attn_drop=0.1, also by name; it takes the tokens of a picture."""
    whole = MultiHeadAttention()
    rows = [draw.normal(1, 768, scale=0.03).expand(768, 768) for _ in range(2)]  # all heads alike
    weighted(whole, query=rows[0], key=rows[1], value=torch.eye(768), output=torch.eye(768))
    drop, x = draw.one_of([0.2, 0.3, 0.45]), draw.normal(2, 256, 768)
    named = MultiHeadAttention(attn_drop=drop, num_heads=2, dim=6)
    with torch.no_grad():
        return {"output": whole(x)[..., :32], "drop": float(whole.attn_drop.p), "named_drop": float(named.attn_drop.p),
                "named_width": len(named.query.weight)}


@defaults.judge
def judge_defaults(seen, right):
    for key, text in (("drop", "attn_drop=0.1 by default"), ("named_drop", "attn_drop as it was given by name"),
                      ("named_width", "dim as it was given by name")):
        expect(seen[key] == right[key], text, "another value")


@probe("multi_head_attention", 2, output("output", "the average of the values over all places, through output", [
    (lambda one: 0 * one["output"], "without a softmax the weights are the scores themselves"), *ROUND_IT,
    (lambda one: one["output"] * one["x"].shape[1] / one["heads"], "the softmax runs over the heads, not the keys"),
    ("cut", SPLIT), ("joined", SPLIT)]), every(unchanged, key="kept"))
def averages(MultiHeadAttention, draw):
    """Where all scores are alike each place takes the average of all places, and the input stays as it is."""
    heads, found = draw.integer(2, 4), []
    width = heads * draw.integer(2, 3)
    nothing = torch.zeros(width, width)
    key, value, last = (draw.normal(width, width) for _ in range(3))
    inputs = [draw.normal(1, 1, width), draw.normal(1, 7, width), draw.normal(3, draw.integer(5, 8), width),
              draw.normal(5, 2, width).transpose(0, 1)]  # the last does not lie in order
    order = every_nth(width, heads)
    for x in inputs:
        one = {"x": x.clone(), "heads": heads, "kept": {"x": x}}
        for name, values in (("output", value), ("key for value", key), ("cut", value[order]),
                             ("joined", value[np.argsort(order)])):
            attention = MultiHeadAttention(width, heads, 0.0)
            weighted(attention, query=nothing, key=key, value=values, output=last)
            one[name] = attention(x).detach()
        found.append(one | {"causal": one_by_one(weighted(attention, value=value), x)})
    return found


@probe("multi_head_attention", 3, output("output", "softmax(q k^T / sqrt(dim)) v, over the keys", [
    ("unscaled", "the scores are not divided by the root of the head's width"),
    ("no_root", "the scores are divided by the width of a head, without its root"),
    ("times", "the scores are multiplied by the root of the width: they must be divided"),
    ("key", "the keys are made by the layer query"), ("last", "the last layer, output, is not used"), *ROUND_IT]))
def one_head(MultiHeadAttention, draw):
    """With one head it gives softmax(q k^T / sqrt(dim)) v, the softmax over the keys."""
    width = draw.integer(5, 9)
    x = draw.normal(2, draw.integer(4, 6), width)
    query, key, value, output = (draw.normal(width, width, scale=1.5 * width**-0.5) for _ in range(4))
    found = {"x": x.clone()}
    with torch.no_grad():
        for name, factor in (("output", 1), ("unscaled", width**0.5), ("no_root", width**-0.5), ("times", width)):
            attention = weighted(MultiHeadAttention(width, 1, 0.0), query=factor * query, key=key, value=value,
                                 output=output)
            found[name] = heard(attention, x)
    found["causal"] = one_by_one(weighted(attention, query=query), x)
    layers = {"key": (query, query, value, output), "key for value": (query, key, key, output),
              "last": (query, key, value, torch.eye(width))}
    for name, (q, k, v, o) in layers.items():
        found[name] = weighted(MultiHeadAttention(width, 1, 0.0), query=q, key=k, value=v, output=o)(x).detach()
    return found


@probe("multi_head_attention", 3, output("output", "in each head the softmax of its own scores", [
    ("unscaled", "the scores are not divided by the root of the head's width"),
    ("of_dim", "the scores are divided by the root of dim: the width of one head is dim / num_heads"),
    ("alone", "one head over the whole width: num_heads is not used"),
    ("uncut", "one head over the whole width: the cut into heads is missing")]))
def several_heads(MultiHeadAttention, draw):
    """Each head has a softmax of its own, and the scale is the root of dim / num_heads."""
    heads = draw.integer(3, 4)  # as many as a head is wide: column (h, i) has the queries and keys of column (i, h)
    pairs = [min(h, i) * heads + max(h, i) for h in range(heads) for i in range(heads)]
    width = heads * heads
    x = draw.normal(2, heads + 2, width)
    query, key = (draw.normal(width, width, scale=1.5 / heads)[pairs] for _ in range(2))
    value, output = (draw.normal(width, width, scale=1 / heads) for _ in range(2))
    value[[c for c in range(width) if c % (heads + 1)]] = 0  # only the columns (h, h) hold something
    found = {}
    with torch.no_grad():
        for name, factor in (("output", 1), ("unscaled", heads**0.5), ("of_dim", heads**-0.5)):
            attention = weighted(MultiHeadAttention(width, heads, 0.0), query=factor * query, key=key, value=value,
                                 output=output)
            found[name] = heard(attention, x)
        alone = MultiHeadAttention(width, 1, 0.0)
        found["alone"] = weighted(alone, query=query, key=key, value=value, output=output)(x)
        found["uncut"] = weighted(alone, query=heads**0.5 * query, key=key, value=value, output=output)(x)
    return found


@probe("multi_head_attention", 2, output("output", "heads of neighbouring columns, as checkpoints have them", [
    ("apart", "your heads take every num_heads-th column: cut dim into (num_heads, dim / num_heads)")]))
def neighbouring_columns(MultiHeadAttention, draw):
    """A head takes neighbouring columns, the first head the first dim / num_heads, so that checkpoints fit."""
    heads, d = draw.one_of([(2, 3), (3, 2), (2, 5), (4, 3)])
    width = heads * d
    x = draw.normal(3, 5, width)
    weights = {name: draw.normal(width, width, scale=1.5 * width**-0.5) for name in ("query", "key", "value", "output")}
    biases = {name: draw.normal(width, scale=0.5) for name in weights}
    order = every_nth(width, heads)
    found = {}
    for kind in ("output", "apart"):
        attention = weighted(MultiHeadAttention(width, heads, 0.0), **weights)
        with torch.no_grad():
            for name, bias in biases.items():
                if getattr(attention, name).bias is not None:
                    getattr(attention, name).bias.copy_(bias)
            found[kind] = attention(x)
        for name in ("query", "key", "value"):
            weights[name], biases[name] = weights[name][order], biases[name][order]
        weights["output"] = weights["output"][:, order]
    return found


@probe("multi_head_attention", weight=4)
def dropout_in_training(MultiHeadAttention, draw):
    """In training, attn_drop drops attention weights, after the softmax."""
    width, T, drop = draw.integer(4, 6), draw.integer(6, 8), draw.one_of([0.2, 0.3, 0.4, 0.6])
    one, nothing = torch.eye(width), torch.zeros(width, width)
    attention = weighted(MultiHeadAttention(width, 1, drop), query=nothing, key=one, value=one, output=one)
    x = torch.ones(512, T, width)
    with torch.no_grad():  # against eval mode: what is wrong there is another probe's question
        whole = attention(x.clone())
        return {"output": (attention.train()(x) / whole)[:, -2:], "T": T, "drop": drop, "whole": whole[0, -1, 0]}


@dropout_in_training.judge
def judge_dropout_in_training(seen, right):
    found, drop = array(seen["output"], right["output"].shape, "float", "the output"), right["drop"]
    place, T = "dropout belongs on the weights, after the softmax and before the values", right["T"]
    expect(not np.allclose(found, 1, atol=1e-4), "weights that are dropped in training", "weights that sum to one",
           f"attn_drop is not used, or acts on the scores: {place}")
    expect(np.allclose(found, found[..., :1], atol=1e-3), "the columns of a head dropped together",
           "columns dropped one by one", f"dropout acts on the values or on the output: {place}")
    others, kept = (found[..., 0] * T * (1 - drop)).T  # how many of T weights were kept, each 1 / T / (1 - drop)
    expect(np.allclose(kept, kept.round(), atol=0.01) and 0 <= kept.round().min() and kept.round().max() <= T,
           "each weight dropped, or divided by 1 - attn_drop", "other sums of weights",
           "is the share that is dropped attn_drop? is nn.Dropout the last thing that happens to the weights?"
           if np.allclose(seen["whole"], 1, atol=1e-4) else "in eval mode, too, the weights do not sum to one")
    kept = kept.round()
    expect(abs(kept.mean() / T - (1 - drop)) < 0.08, "the share attn_drop of the weights dropped", "another share")
    expect(((kept == 0) | (kept == T)).mean() < 0.65, "each weight dropped on its own",
           "all weights of a place dropped at once")
    expect(np.ptp(kept) > 0 and np.isclose(others, kept).mean() < 0.5, "each weight dropped on its own",
           "whole keys dropped")


@probe("multi_head_attention", weight=2)
def no_dropout_in_evaluation(MultiHeadAttention, draw):
    """In eval mode nothing is dropped, also after training."""
    width, found = draw.integer(4, 8), []
    nothing, x = torch.zeros(width, width), draw.normal(2, 6, width)
    attention = weighted(MultiHeadAttention(width, 1, 0.5), query=nothing, key=nothing,
                         value=draw.normal(width, width), output=draw.normal(width, width))
    with torch.no_grad():
        found.append(attention(x.clone()))
        attention.train()(x.clone())
        found.append(attention.eval()(x.clone()))
    return found


@no_dropout_in_evaluation.judge
def judge_no_dropout_in_evaluation(seen, right):
    first, second = (array(one, right[0].shape, "float", "the output") for one in seen)
    expect(np.array_equal(first, second), "the same output twice in eval mode", "two outputs",
           "dropout acts in eval mode too: use the layer attn_drop, which knows the mode")
    near(first, right[0], "the average of the values over all places, through output", what="the output", **NEAR)


@probe("multi_head_attention", weight=2)
def gradients(MultiHeadAttention, draw):
    """Gradients reach the four layers and the input."""
    heads, found = draw.integer(2, 3), {}
    width = heads * draw.integer(2, 3)
    random = [draw.normal(width, width, scale=1.5 * width**-0.5) for _ in range(4)]
    for kind, factor in (("flat", 0), ("any", 1)):  # flat: all scores alike
        x, towards = draw.normal(2, 5, width).requires_grad_(), draw.normal(2, 5, width)
        attention = weighted(MultiHeadAttention(width, heads, 0.0), query=factor * random[0], key=factor * random[1],
                             value=random[2], output=random[3])
        (attention(x) * towards).sum().backward()
        found[kind] = {name: getattr(attention, name).weight.grad for name in ("query", "key", "value", "output")}
        found[kind]["x"] = x.grad
    return found


@gradients.judge
def judge_gradients(seen, right):
    for kind in ("any", "flat"):
        for name, wanted in right[kind].items():
            what = f"the gradient of {name}"
            likely = "the layer is not used, or its result is detached or computed without gradients"
            expect(isinstance(seen[kind][name], np.ndarray), what, "none", likely)
            found = array(seen[kind][name], wanted.shape, "float", what)
            expect(np.isfinite(found).all(), f"{what}: finite", "NaN or infinity")
            expect(kind == "flat" or bool(found.any()), what, "zeros", likely)
            if kind == "flat" and name in ("value", "output"):
                near(found, wanted, f"{what} as the formula gives it", **NEAR)


@probe("multi_head_attention", 1, *(output(
    name, "the average of the values, nearly, under autocast" if name == "under autocast" else
    f"the values of the place with the largest score ({name})", **near) for name, near in (
        ("large", NEAR), ("large, under autocast", COARSE), ("under autocast", COARSE))))
def autocast_and_large_scores(MultiHeadAttention, draw):
    """Large scores and bfloat16 autocast do no harm."""
    heads, width = 1, draw.integer(5, 8)
    order = draw.shuffled(range(width))
    value = draw.normal(width, width)
    attention = weighted(  # each place looks at one other with a score of thousands
        MultiHeadAttention(width, heads, 0.0), query=60 * torch.eye(width), key=60 * torch.eye(width)[order],
        value=value, output=torch.eye(width))
    x = torch.eye(width).expand(2, width, width).clone()
    with torch.no_grad():
        found = {"large": attention(x.clone())}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found["large, under autocast"] = attention(x)
        weighted(attention, query=0 * value, key=0 * value)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found["under autocast"] = attention(draw.normal(1, 6, width))
    return found


def _same_shape(seen, right):
    array(seen, right.shape, "float", "the output")


@probe("multi_head_attention", 1, refusals({"dim or num_heads": "a dim that num_heads does not divide"}, _same_shape),
       guessable=True)
def refuses_heads(MultiHeadAttention, draw):
    """A dim that num_heads does not divide is a ValueError, and any other is not."""
    legal = [(6, 3), (8, 1), (5, 5), (12, draw.one_of([2, 4]))]
    refused = [(10, 3), (7, draw.one_of([2, 3])), (3, 6), (9, 8)]

    def make(width, heads):
        attention = MultiHeadAttention(width, heads, 0.0)
        if width % heads == 0:
            return attention(torch.ones(2, 5, width)).detach()

    return [attempt(make, width, heads) for width, heads in draw.shuffled(legal + refused)]


# Ready-made attention

WORDS = re.compile(
    r"_?scaled_dot_product_\w+|_?multi_head_attention_forward|_native_multi_head_attention|MultiheadAttention"
    r"|Transformer(Encoder|Decoder)(Layer)?|_transformer_encoder_layer_fwd|flex_attention\w*|_?flash_att\w+|sdpa_kernel"
    r"|_?(memory_)?efficient_attention\w*|xformers|TorchAttention|fallbacks|_torch_attention")

# What leads past the block of `take_attention_away`, or to code that nobody reads: modules other than these, the inner
# parts of modules, frames, pickles, code made of texts, attributes whose names the code does not show.
USUAL = {*PACKAGES, "__future__", "abc", "collections", "contextlib", "copy", "dataclasses", "einops", "enum",
         "functools", "itertools", "logging", "math", "numbers", "operator", "random", "re", "string", "sys",
         "tempfile", "time", "typing", "warnings"}
INNER = re.compile(
    r"torch\.(_\w+|library|nested|onnx|export|package|hub|load\w*|serialization|utils\.(_\w+|cpp_extension))\b.*"
    r"|(np|numpy)\.(load|ctypeslib)\b.*|lab3_probes|grader\b.*"
    r"|sys\.(?!(stdout|stderr|stdin|exit|maxsize|version|version_info|platform|argv|float_info)\b)\w+.*")
HIDDEN = re.compile(r"__(?!(init|class|name|doc|len|call|version|repr|post_init|file)__)\w+__"
                    r"|(f|tb|gi|cr|ag)_(frame|back|globals|locals|builtins|code|next)|decompose|redispatch|_op_dk|_destroy")
BUILTINS = {"vars", "dir", "globals", "locals", "eval", "exec", "compile", "breakpoint", "open"}
LOOK_UPS = {"attrgetter", "methodcaller", "CompilationUnit"}


@probe("multi_head_attention", guessable=True, decisive=True)
def nothing_ready_made(MultiHeadAttention, draw):
    """The attention is built from linear layers, products and a softmax: no ready-made attention runs."""
    import sys

    def note(module, name):  # of a function or class that a library has; the answer's own may have any name
        words, name = ("attention", "attn", "transformer", "fallbacks"), f"{module}.{name}"
        suspicious = name.split(".")[0] in libraries and any(word in name.lower() for word in words)
        if suspicious and not importing(sys._getframe(1)):
            names.add(name[:100])

    def importing(frame):  # what a module does while it is read is nobody's attention
        while frame and frame.f_globals.get("__name__") != "importlib._bootstrap":
            frame = frame.f_back
        return frame is not None

    def watch(frame, event, argument):  # functions in Python, and those in C that Python calls
        if event == "call":
            note(frame.f_globals.get("__name__"), frame.f_code.co_qualname)
        elif event == "c_call":
            note("torch", getattr(argument, "__name__", ""))

    def forward():
        for heads, T in ((1, 3), (2, 16), (3, 5)):
            attention = MultiHeadAttention(12, heads, 0.25)
            for one in attention.modules():
                for kind in type(one).__mro__:
                    note(kind.__module__, kind.__qualname__)
            for training in (True, False):
                attention.train(training)
                for gradient in (True, False):
                    with torch.set_grad_enabled(gradient):
                        attempt(attention, x[:, :T])

    libraries = ("torch", "lab3", "torchvision", "timm", "transformers", "xformers", "flash_attn", "diffusers", "keras")
    names, x, before = set(), draw.normal(2, 16, 12), sys.getprofile()
    legacy = getattr(torch.autograd, "profiler_legacy", torch.autograd.profiler)
    with legacy.profile() as operators:
        sys.setprofile(watch)
        try:
            attempt(forward)
        finally:
            sys.setprofile(before)
    for event in operators.function_events:  # what ran below Python, whatever called it
        if event.name.startswith("aten::"):
            note("torch", event.name)
    return sorted(names)[:50]


@nothing_ready_made.judge
def judge_nothing_ready_made(seen, right):
    expect(isinstance(seen, list), "a list of what ran", "something else")
    names = [name for name in seen if name not in right]
    known = ("MultiheadAttention", "scaled_dot_product_attention", "flex_attention", "TransformerEncoderLayer",
             "TorchAttention")
    got = next((one for one in known if any(one in str(name) for name in names)), "ready-made attention")
    expect(not names, "attention from linear layers, products and a softmax", got,
           "ready-made attention is not allowed in this exercise, so nothing of it counts")


def ready_made(text):
    """The names of ready-made attention in an answer's code, and what could hide it.

    Args:
        text: the class and what it needs, without what the notebook tries out beside it.

    Returns:
        Two lists. The names: imports, attributes, and texts that are such a name where the code looks things up by
        names; comments, docstrings and the answer's own functions of such a name do not count. And what a person has to
        look at, as it needs not be honest: see `USUAL`. What does not parse has neither.
    """
    try:
        names = _Names(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [], []
    return list(dict.fromkeys(names.found)), list(dict.fromkeys(names.hidden))


def _last(node):
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _root(node):
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class _Names(ast.NodeVisitor):
    """Collects names of ready-made attention, and what could hide it."""

    def __init__(self, tree):
        nodes = list(ast.walk(tree))
        self.classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
        self.own = self.classes | {node.name for node in nodes if isinstance(node, ast.FunctionDef)} | {
            node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)} | {
            node.arg for node in nodes if isinstance(node, ast.arg)}
        self.looks_up = any(
            _last(node) in LOOK_UPS or HIDDEN.fullmatch(_last(node))
            or isinstance(node, ast.Name) and node.id in {"getattr", *BUILTINS} - self.own for node in nodes)
        self.found, self.hidden, self.called = [], [], set()
        self.visit(tree)

    def note(self, name):
        if WORDS.fullmatch(name):
            self.found.append(name)
        elif HIDDEN.fullmatch(name):
            self.hidden.append(name)

    def visit_Import(self, node):
        for one in node.names:
            self.imported(one.name)

    def visit_ImportFrom(self, node):
        for one in node.names:
            self.imported(f"{node.module or ''}.{one.name}".strip("."))

    def imported(self, path):
        found = len(self.found)
        for part in path.split("."):
            self.note(part)
        if len(self.found) == found and ("attention" in path.lower() or path == "torch.nn.Transformer"):
            self.found.append(path)
        if path.split(".")[0] not in USUAL or INNER.fullmatch(path):
            self.hidden.append(path)

    def visit_Name(self, node):
        if node.id not in self.own:
            self.note(node.id)
            if node.id in BUILTINS or node.id == "getattr" and node not in self.called:
                self.hidden.append(node.id)

    def visit_Attribute(self, node):
        path = ast.unparse(node)
        if not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"} | self.classes):
            self.note(node.attr)
            if re.search(r"\bnn\.(Transformer|attention)$", path):
                self.found.append(path)
        if INNER.fullmatch(path):
            self.hidden.append(re.split(r"[\[(]", path)[0])
        else:
            self.visit(node.value)

    def visit_MatchClass(self, node):
        for name in node.kwd_attrs:
            self.note(name)
        self.generic_visit(node)

    def visit_Expr(self, node):
        if not isinstance(node.value, ast.Constant):  # a docstring, or a text that stands alone
            self.visit(node.value)

    def visit_Call(self, node):
        name = _last(node.func)
        self.called.add(node.func)
        if name == "getattr" and _root(node.args[0] if node.args else None) not in ("self", "cls") and (
                not any(_text(one) is not None for one in node.args[1:2])) or name in ("attrgetter", "methodcaller"):
            self.hidden.append(ast.unparse(node)[:40])
        if name in ("eval", "exec", "compile") and node.args:
            self.found += ready_made(_text(node.args[0]) or "")[0]
        self.generic_visit(node)

    def generic_visit(self, node):
        text = _text(node)
        if text is None:
            super().generic_visit(node)
        elif self.looks_up and text not in self.own:
            for part in text.split("."):
                if part not in self.own:
                    self.note(part)


def _text(node):
    """The text that an expression of constant texts makes, else None."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    parts = None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts, between = [_text(node.left), _text(node.right)], ""
    elif isinstance(node, ast.JoinedStr):
        parts, between = [_text(one) for one in node.values], ""
    elif isinstance(node, ast.FormattedValue):
        return _text(node.value)
    elif isinstance(node, ast.Call) and _last(node.func) == "join" and isinstance(node.func, ast.Attribute) and (
            len(node.args) == 1 and isinstance(node.args[0], (ast.List, ast.Tuple))):
        parts, between = [_text(one) for one in node.args[0].elts], _text(node.func.value)
    if parts is None or between is None or None in parts:
        return None
    return between.join(parts)
