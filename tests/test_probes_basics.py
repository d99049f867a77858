"""The hidden probes of notebooks 01, 02 and 06: right answers pass however they are written, and wrong ones fail.

In: the reference answers, right answers in other styles, and answers with one mistake; test_corpus.py has more.
"""

import inspect
import re
import textwrap

import pytest
from probing import PROBES, TEXTS, failures, first_failure, is_short
from test_checks import MISTAKES, STYLES, changed

from grader.probes.attention import ready_made

ATTENTION, MASK, FORWARD, LOSS = "multi_head_attention", "sample_mask", "masked_forward", "mvtm_loss"
DISTANCE = "frechet_distance"
BASICS = (ATTENTION, MASK, FORWARD, LOSS, DISTANCE)
NAMES = {ATTENTION: "MultiHeadAttention", MASK: MASK, FORWARD: FORWARD, LOSS: LOSS, DISTANCE: DISTANCE}


# Right answers in other styles

SIGNATURE = {
    MASK: "def sample_mask(batch, tokens, prob_type='topk', ratio=None, *, generator=None, device=None):\n",
    FORWARD: "def masked_forward(transformer, z_indices, mask, mask_token_id):\n",
    LOSS: "def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):\n",
    DISTANCE: "def frechet_distance(mu1, sigma1, mu2, sigma2):\n",
}
LAYERS = """
class MultiHeadAttention(nn.Module):
    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        if dim % num_heads != 0:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}")
        super().__init__()
        self.attn_drop, self.h = nn.Dropout(p=attn_drop), num_heads
        self.output, self.value, self.key, self.query = (nn.Linear(dim, dim) for _ in range(4))
"""
CHECKED = """
    if prob_type not in ("topk", "bernoulli"):
        raise ValueError("prob_type")
    if ratio is not None and not (0 <= torch.as_tensor(ratio).min() and torch.as_tensor(ratio).max() <= 1):
        raise ValueError("ratio")
"""
SHAPED = """
    d = mu1.shape[0]
    if mu1.shape != (d,) or mu2.shape != (d,):
        raise ValueError("mu1, mu2")
    if sigma1.shape != (d, d) or sigma2.shape != (d, d):
        raise ValueError("sigma1, sigma2")
"""

RIGHT = {
    "attention of the same name as PyTorch's": (ATTENTION, '''
"""Like F.scaled_dot_product_attention, nn.MultiheadAttention and flex_attention."""
def scaled_dot_product_attention(q, k, v, drop):  # not F.scaled_dot_product_attention
    """nn.MultiheadAttention without nn.MultiheadAttention."""
    scores = torch.matmul(q, torch.transpose(k, -2, -1)) / np.sqrt(q.size(-1))
    return torch.matmul(drop(torch.softmax(scores, -1)), v)
''' + LAYERS + '''
    def forward(self, x):
        "flex_attention"
        B, T, D = x.size()
        q, k, v = (f(x).view(B, T, self.h, D // self.h).permute(0, 2, 1, 3) for f in (self.query, self.key, self.value))
        out = scaled_dot_product_attention(q, k, v, self.attn_drop)
        return self.output(out.permute(0, 2, 1, 3).contiguous().view(B, T, D))
'''),
    "attention as methods, with labels and a named tuple": (ATTENTION, '''
from collections import namedtuple
from torch.utils.checkpoint import checkpoint
AttentionParts = namedtuple("AttentionParts", "q k v")
''' + LAYERS + '''
    def flash_attention(self, x):
        q, k, v = AttentionParts(*(layer(x) for layer in (self.query, self.key, self.value)))
        d = x.shape[-1] // self.h
        heads = []
        for h in range(self.h):
            part = slice(h * d, h * d + d)
            scores = torch.einsum("bid,bjd->bij", q[..., part], k[..., part]) * d ** -0.5
            scores = scores - scores.max(dim=-1, keepdim=True).values
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
            weights = F.dropout(weights, self.attn_drop.p, training=self.training)
            heads.append(weights @ v[..., part])
        return torch.cat(heads, -1)

    def forward(self, x):
        print("attention", x.shape)
        with torch.profiler.record_function("scaled_dot_product_attention"):
            return self.output(checkpoint(self.flash_attention, x, use_reentrant=False))
'''),
    "attention token by token": (ATTENTION, '''
class Weights(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, q, k):
        return self.softmax((k @ q[..., None])[..., 0] / math.sqrt(q.shape[-1]))
''' + LAYERS + '''        self.weights = Weights(attn_drop)

    @torch.autocast("cpu", enabled=False)
    def forward(self, x):
        x = x.float()
        q, k, v = (f(x).unflatten(-1, (self.h, -1)).movedim(2, 1) for f in (self.query, self.key, self.value))
        rows = [(self.attn_drop(self.weights(q[:, :, t], k))[:, :, None] @ v)[:, :, 0] for t in range(x.shape[1])]
        return self.output(torch.stack(rows, 1).flatten(2))
'''),
    "a mask by topk": (MASK, SIGNATURE[MASK] + CHECKED + '''
    mask = torch.zeros(batch, tokens, dtype=torch.bool, device=device)
    for b in range(batch):
        r = torch.rand((), generator=generator).item() if ratio is None else ratio
        r = float(r[b]) if torch.is_tensor(r) else r
        noise = torch.rand(tokens, generator=generator, device=device)
        if prob_type == "topk":
            mask[b][torch.topk(noise, max(1, int(np.ceil(r * tokens)))).indices] = True
        else:
            mask[b] = noise >= 1 - r
    return mask
'''),
    "a mask by multinomial": (MASK, SIGNATURE[MASK] + CHECKED + '''
    if ratio is None:
        ratio = torch.rand(batch, generator=generator)
    ratios = torch.as_tensor(ratio, dtype=torch.float64).expand(batch)
    if prob_type == "bernoulli":
        return torch.bernoulli(ratios[:, None].repeat(1, tokens), generator=generator) == 1
    rows = []
    for n in torch.clamp(torch.ceil(ratios * tokens), 1, tokens).long().tolist():
        chosen = torch.multinomial(torch.ones(tokens), n, generator=generator)
        rows.append(F.one_hot(chosen, tokens).sum(dim=0).bool())
    return torch.stack(rows)
'''),
    "a mask by numpy": (MASK, SIGNATURE[MASK] + CHECKED + '''
    seed = torch.randint(2**62, (1,), generator=generator).item()
    rng = np.random.default_rng(seed)
    r = rng.uniform(size=batch) if ratio is None else np.broadcast_to(np.asarray(ratio, dtype=float), batch)
    if prob_type == "bernoulli":
        return torch.from_numpy(rng.uniform(size=(batch, tokens)) < r[:, None])
    n = np.maximum(1, np.ceil(r * tokens))
    mask = np.arange(tokens) < n[:, None]
    return torch.from_numpy(rng.permuted(mask, axis=1))
'''),
    "a mask with noise as threshold": (MASK, SIGNATURE[MASK] + CHECKED + '''
    if ratio is None:
        ratio = torch.empty(batch).uniform_(generator=generator)
    ratio = torch.as_tensor(ratio, dtype=torch.float64) + torch.zeros(batch, dtype=torch.float64)
    noise = torch.randn(batch, tokens, generator=generator, dtype=torch.float64)
    if prob_type == "bernoulli":
        return torch.special.ndtr(noise) <= ratio[:, None]
    n = (ratio * tokens).ceil().long().clamp(1, tokens)
    return noise <= noise.sort(dim=1).values.gather(1, n[:, None] - 1)
'''),
    "a forward row by row": (FORWARD, SIGNATURE[FORWARD] + '''
    rows = []
    for z, hidden in zip(z_indices, mask):
        shown = torch.tensor([mask_token_id if h else int(t) for t, h in zip(z, hidden)])
        rows.append(transformer(shown[None])[0, :, :mask_token_id])
    return [torch.stack(rows), z_indices.clone().long()]
'''),
    "a forward by arithmetic": (FORWARD, SIGNATURE[FORWARD] + '''
    shown = z_indices * (~mask).long() + mask_token_id * mask.long()
    return transformer(shown).narrow(2, 0, mask_token_id).float(), z_indices
'''),
    "a loss by logsumexp": (LOSS, SIGNATURE[LOSS] + '''
    logits = logits.float()
    log_p = logits - logits.logsumexp(-1, keepdim=True)
    each = -(1 - label_smoothing) * log_p.gather(2, targets.unsqueeze(2)).squeeze(2) - label_smoothing * log_p.mean(2)
    mask = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
    if not mask.any():
        return torch.zeros((), requires_grad=True)
    return each[mask].mean()
'''),
    "a loss by ignore_index": (LOSS, SIGNATURE[LOSS] + '''
    if mask is not None:
        targets = targets.masked_fill(~mask, -100)
    if (targets == -100).all():
        return 0.0 * logits.sum()
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)(logits.permute(0, 2, 1), targets)
'''),
    "a loss by loops": (LOSS, SIGNATURE[LOSS] + '''
    total, n = 0 * logits.float().sum(), 0
    for b in range(targets.shape[0]):
        for t in range(targets.shape[1]):
            if mask is None or mask[b, t]:
                one = F.cross_entropy(logits[b, t].float(), targets[b, t], label_smoothing=label_smoothing)
                total, n = total + one, n + 1
    return total / max(n, 1)
'''),
    "a distance by singular values": (DISTANCE, SIGNATURE[DISTANCE] + SHAPED + '''
    roots = []
    for sigma in (sigma1, sigma2):
        values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
        roots.append(vectors * np.sqrt(np.maximum(values, 0)))
    trace = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    return (mu1 - mu2) @ (mu1 - mu2) + sigma1.trace() + sigma2.trace() - 2 * trace
'''),
    "a distance as pytorch-fid has it": (DISTANCE, "import scipy.linalg\n" + SIGNATURE[DISTANCE] + SHAPED + '''
    diff = mu1 - mu2
    covmean = scipy.linalg.sqrtm(sigma1.dot(sigma2))
    if not np.isfinite(covmean).all():
        offset = np.eye(sigma1.shape[0]) * 1e-6
        covmean = scipy.linalg.sqrtm((sigma1 + offset).dot(sigma2 + offset))
    if np.iscomplexobj(covmean):
        if not np.allclose(np.diagonal(covmean).imag, 0, atol=1e-3):
            raise ValueError(f"Imaginary component {np.max(np.abs(covmean.imag))}")
        covmean = covmean.real
    return float(diff.dot(diff) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(covmean))
'''),
    "a distance by two roots": (DISTANCE, "import scipy.linalg\n" + SIGNATURE[DISTANCE] + SHAPED + '''
    def root(a):
        w, v = scipy.linalg.eigh(a)
        return (v * np.abs(w) ** 0.5).dot(v.T)
    middle = root(sigma1) @ sigma2 @ root(sigma1)
    w = np.linalg.eigvals(middle).real
    return float(np.sum((mu1 - mu2) ** 2) + np.trace(sigma1 + sigma2) - 2 * np.sqrt(np.where(w > 0, w, 0)).sum())
'''),
}


def text_of(exercise, answer):
    """The cell of a right answer of test_checks.py: its source with that of the classes it builds on."""
    text = "import scipy.linalg\n"
    for one in inspect.getmro(answer)[::-1] if inspect.isclass(answer) else [answer]:
        if one.__module__ == "test_checks":
            text += re.sub(r"^@style.*\n", "", textwrap.dedent(inspect.getsource(one)))
    return f"{text}\n{NAMES[exercise]} = {answer.__name__}\n"


RIGHT |= {name: (exercise, text_of(exercise, answer)) for name, (exercise, answer) in STYLES.items()
          if exercise in BASICS}


@pytest.mark.parametrize("seeds", [
    pytest.param([1], id="daily"), pytest.param([2, 3], id="nightly", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_in_other_styles_pass(name, seeds):
    exercise, text = RIGHT[name]
    for seed in seeds if exercise != DISTANCE else range(1, 21):  # the root of a random matrix is the seed's
        assert not failures(exercise, text, seed)
    assert exercise != ATTENTION or ready_made(text) == ([], [])


# Mistakes

DROP, SOFTMAX = "self.attn_drop(scores.softmax(dim=-1))", "scores.softmax(dim=-1)"
HEADS = "y.view(B, T, self.num_heads, d).transpose(1, 2)"
APART = "y.view(B, T, d, self.num_heads).permute(0, 3, 1, 2)"
JOIN, JOIN_APART = "(weights @ v).transpose(1, 2)", "(weights @ v).permute(0, 2, 3, 1)"
NO = 'raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")'
INIT = "dim=768, num_heads=16, attn_drop=0.1"
DRAW = "ratio = torch.rand(batch, generator=generator, device=device)"
SCORES = "scores = torch.rand(batch, tokens, generator=generator, device=device)"
RANK = "rank < n_hidden"
COUNT = "(ratio * tokens).ceil().clamp(min=1)"
INSIDE = "((ratio >= 0) & (ratio <= 1)).all()"
SHOWN, CUT = "transformer(z_indices.masked_fill(mask, mask_token_id))", "logits[..., :mask_token_id]"
CROSS = ("F.cross_entropy(logits.reshape(-1, V).float(), targets.reshape(-1),\n"
         + " " * 27 + "label_smoothing=label_smoothing)")
EMPTY = "return logits.float().sum()"
SELECT = "    if mask is not None:\n        logits, targets = logits[mask], targets[mask]  # (n, V), (n,)\n"
SMOOTH = "label_smoothing=label_smoothing)"
RETURN = "return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_root)"
TRACE = "np.sqrt(eigenvalues.clip(min=0)).sum()"
MEANS = "((mu1 - mu2) ** 2).sum()"
ROOT = "root1 = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T"

MORE = {
    ATTENTION: {
        "no bias in value": ("self.value = nn.Linear(dim, dim)", "self.value = nn.Linear(dim, dim, bias=False)"),
        "query is key": ("self.key = nn.Linear(dim, dim)", "self.key = self.query"),
        "another share": ("nn.Dropout(attn_drop)", "nn.Dropout(0.1)"),
        "another dropout": ("nn.Dropout(attn_drop)", "nn.AlphaDropout(attn_drop)"),
        "columns apart": [(HEADS, APART), (JOIN, JOIN_APART)],
        "cut apart": (HEADS, APART),
        "joined apart": (JOIN, JOIN_APART),
        "in place": ("return self.output(mixed)", "mixed = self.output(mixed)\n        with torch.no_grad():\n"
                                                  "            x.data.zero_()\n        return mixed"),
        "keys detached": ("heads(self.key(x))", "heads(self.key(x)).detach()"),
        "weights detached": ("weights @ v", "weights.detach() @ v"),
        "input detached": ("d = D //", "x = x.detach()\n        d = D //"),
        "no gradients": ("    def forward", "    @torch.no_grad()\n    def forward"),
        "the weights too": ("return self.output(mixed)", "return self.output(mixed), weights"),
        "an assertion": (f"if dim % num_heads:\n            {NO}", "assert dim % num_heads == 0, 'dim'"),
        "no name": (NO, "raise ValueError('bad width')"),
        "refuses one head": ("if dim % num_heads:", "if dim % num_heads or num_heads == 1:"),
        "refuses odd heads": ("if dim % num_heads:", "if dim % num_heads or num_heads % 2:"),
        "8 heads": (INIT, "dim=768, num_heads=8, attn_drop=0.1"),
        "dim 512": (INIT, "dim=512, num_heads=16, attn_drop=0.1"),
        "no dropout by default": (INIT, "dim=768, num_heads=16, attn_drop=0.0"),
        "another order": (INIT, "dim=768, attn_drop=0.1, num_heads=16"),
        "other names": ("num_heads", "heads"),
        "overflow": (SOFTMAX, "(scores.exp() / scores.exp().sum(-1, keepdim=True))"),
        "width 48": ("d**-0.5", "48**-0.5"),
        "weights brought back to one": (DROP, f"F.normalize({DROP}, p=1, dim=-1)"),
        "a fixed share": (DROP, f"F.dropout({SOFTMAX}, 0.1, self.training)"),
        "dropped, not divided": (DROP, f"{DROP} * (1 - self.attn_drop.p * self.training)"),
        "dropped in evaluation": (DROP, f"F.dropout({SOFTMAX}, self.attn_drop.p, True)"),
        "whole keys dropped": (DROP, f"{SOFTMAX} * self.attn_drop(torch.ones(T))"),
        "twice dropped": ("return self.output(mixed)", "return self.attn_drop(self.output(mixed))"),
        "not itself": ("scores.softmax", "scores.masked_fill(torch.eye(T) > 0, -1e9).softmax"),
        "no query bias": ("self.query(x)", "F.linear(x, self.query.weight)"),
        "a residual": ("return self.output(mixed)", "return x + self.output(mixed)"),
        "scaled after": [("(q * d**-0.5)", "q"), (SOFTMAX, f"({SOFTMAX} * d**-0.5)")],
        "over the batch": [("B, T, D = x.shape", "shape, x = x.shape, x.reshape(1, -1, x.shape[-1])\n"
                            "        B, T, D = x.shape"),
                           ("return self.output(mixed)", "return self.output(mixed).view(shape)")],
        "sigmoid": (SOFTMAX, "scores.sigmoid()"),
        "keys are values": ("heads(self.value(x))", "heads(self.key(x))"),
        "negative": ("(q * d**-0.5)", "(q * -d**-0.5)"),
        "a norm": ("        self.attn_drop =", "        self.norm = nn.LayerNorm(dim)\n        self.attn_drop ="),
        "not registered": ("self.output = nn.Linear(dim, dim)", "self.out = [nn.Linear(dim, dim)]"),
    },
    MASK: {
        "rounded": (".ceil()", ".round()"),
        "one more": (".ceil()", ".floor().add(1)"),
        "one left": ("clamp(min=1)", "clamp(min=1, max=tokens - 1)"),
        "the mean ratio": (f"n_hidden = {COUNT}", f"n_hidden = {COUNT}.mean()"),
        "the first ratio": (f"n_hidden = {COUNT}", f"n_hidden = {COUNT}[:1]"),
        "bernoulli by default": ('prob_type="topk"', 'prob_type="bernoulli"'),
        "half by default": ("ratio=None, *", "ratio=0.5, *"),
        "half at least": (DRAW, f"{DRAW} / 2 + 0.5"),
        "a bell": (DRAW, DRAW.replace("rand(", "randn(") + ".mul(0.2).add(0.5).clamp(0, 1)"),
        "a line": (DRAW, "ratio = torch.linspace(0, 1, batch)"),
        "sorted": (DRAW, f"{DRAW}.sort().values"),
        "a square": (DRAW, f"{DRAW}.square()"),
        "never few": (DRAW, f"{DRAW}.clamp(min=0.15)"),
        "the first places": ("return rank <", "return torch.arange(tokens) <"),
        "a block": ("return rank <", "rank = (torch.arange(tokens) + (scores[:, :1] * tokens).long()) % tokens\n"
                                     "    return rank <"),
        "uneven places": (SCORES, f"{SCORES} + torch.arange(tokens) / tokens / 4"),
        "argsort once": (".argsort(dim=1).argsort(dim=1)", ".argsort(dim=0).argsort(dim=1)"),
        "seeded again": (SCORES, f"generator = torch.Generator().manual_seed(0)\n    {SCORES}"),
        "seeded again without one": (SCORES, f"generator = generator or torch.Generator()\n    {SCORES}"),
        "set back": (SCORES, f"state = generator.get_state() if generator else None\n    {SCORES}\n"
                             "    generator and generator.set_state(state)"),
        "ratio without generator": (DRAW, "ratio = torch.rand(batch)"),
        "ratio by numpy": (DRAW, "ratio = np.random.rand(batch)"),
        "one draw a row": ("return scores < ratio", "return (scores[:, :1] < ratio).expand(-1, tokens)"),
        "one draw a place": ("return scores < ratio", "return scores[:1] < ratio"),
        "bernoulli of one at least": ("return scores < ratio",
                                      "return (scores < ratio) | (scores == scores.amin(1)[:, None])"),
        "bernoulli with the mean": ("return scores < ratio", "return scores < ratio.mean()"),
        "bernoulli half": ("return scores < ratio", "return scores < 0.5"),
        "int": ("return scores < ratio", "return (scores < ratio).long()"),
        "float": (f"return {RANK}", f"return ({RANK}).float()"),
        "in place": ("ratio = torch.as_tensor(ratio,", "if torch.is_tensor(ratio):\n        ratio.mul_(0.99)\n"
                                                       "    ratio = torch.as_tensor(ratio,"),
        "only below 0": (INSIDE, "(ratio >= 0).all()"),
        "only above 1": (INSIDE, "(ratio <= 1).all()"),
        "any in range": (INSIDE, "((ratio >= 0) & (ratio <= 1)).any()"),
        "clamped": (f"if not {INSIDE}:", "ratio = ratio.clamp(0, 1)\n    if False:"),
        "0 is refused": ("ratio >= 0", "ratio > 0"),
        "1 is refused": ("ratio <= 1", "ratio < 1"),
        "an assertion": ('raise ValueError("ratio must lie in [0, 1]")', 'assert False, "ratio"'),
        "no name": ("prob_type must be", "it must be"),
        "a type error": ('raise ValueError(f"prob_type', 'raise TypeError(f"prob_type'),
        "places": (f"return {RANK}", "return rank[:, :int(n_hidden.max())]"),
        "always bernoulli": ('if prob_type == "bernoulli":', 'if ratio.dim():'),
        "float32 by hand": ("(ratio * tokens)", "(ratio.float() * tokens)"),
        "one ratio in bernoulli": (DRAW, f"{DRAW}\n        ratio = ratio[:1].expand(batch) if prob_type != 'topk' "
                                         "else ratio"),
        "shared by two rows": (DRAW, f"{DRAW}\n        ratio = ratio[torch.arange(batch) // 2 * 2]"),
    },
    FORWARD: {
        "two cut": (CUT, "logits[..., :mask_token_id - 1]"),
        "1024 codes": (CUT, "logits[..., :1024]"),
        "hidden targets": (", z_indices\n", ", z_indices[mask]\n"),
        "float targets": (", z_indices\n", ", z_indices.float()\n"),
        "int32 targets": (", z_indices\n", ", z_indices.int()\n"),
        "ignored targets": (", z_indices\n", ", z_indices.masked_fill(~mask, -100)\n"),
        "mask token 1024": ("masked_fill(mask, mask_token_id)", "masked_fill(mask, 1024 % (mask_token_id + 1))"),
        "one off": ("masked_fill(mask, mask_token_id)", "masked_fill(mask, mask_token_id - 1)"),
        "everything hidden": ("z_indices.masked_fill(mask, mask_token_id)", "0 * z_indices + mask_token_id"),
        "without gradients": (f"logits = {SHOWN}", f"with torch.no_grad():\n        logits = {SHOWN}"),
        "a module only": ("    logits =", "    transformer.eval()\n    logits ="),
        "swapped": (f"return {CUT}, z_indices", f"return z_indices, {CUT}"),
        "flat": (CUT, f"{CUT}.flatten(0, 1)"),
        "hidden logits": (CUT, f"{CUT}[mask]"),
        "turned": (CUT, f"{CUT}.mT"),
        "minus infinity": (CUT, "logits.index_fill(-1, torch.tensor(mask_token_id), -math.inf)"),
        "log-softmax": (CUT, f"{CUT}.log_softmax(-1)"),
        "softmax before the cut": (CUT, "logits.softmax(-1)[..., :mask_token_id]"),
        "argmax": (CUT, f"{CUT}.argmax(-1)"),
        "some hidden": ("masked_fill(mask,", "masked_fill(mask & (torch.rand(mask.shape) < 0.5),"),
        "one row's mask": ("masked_fill(mask,", "masked_fill(mask[:1],"),
        "zeros at known places": ("masked_fill(mask, mask_token_id)", "masked_fill(mask, mask_token_id) * mask"),
        "scaled": (CUT, f"{CUT} / 2"),
        "zero at known places": (CUT, f"{CUT} * mask[..., None]"),
        "logits alone": (f"return {CUT}, z_indices", f"return {CUT}"),
        "targets of the model": (", z_indices\n", f", {CUT}.argmax(-1)\n"),
        "the mask changed": ("    logits =", "    mask[:, 0] = True\n    logits ="),
        "float32 only": ("    logits =", "    assert transformer(z_indices).dtype == torch.float32\n    logits ="),
    },
    LOSS: {
        "by rows": (SMOOTH, f"{SMOOTH} * len(targets) / 7"),
        "smoothed by default": ("label_smoothing=0.0", "label_smoothing=0.1"),
        "always smoothed": (SMOOTH, "label_smoothing=0.1)"),
        "smoothing of others alone": (SMOOTH, "label_smoothing=min(1.0, label_smoothing * V / (V - 1)))"),
        "smoothing halved": (SMOOTH, "label_smoothing=label_smoothing / 2)"),
        "smoothing twice": (SMOOTH, "label_smoothing=min(1.0, label_smoothing * 2))"),
        "logits times mask": (SELECT, "    if mask is not None:\n        logits = logits * mask[..., None]\n"),
        "one hidden": (EMPTY, "return logits.float().sum() + 1"),
        "NaN": (EMPTY, "return logits.float().sum() / 0"),
        "None": (EMPTY, "return None"),
        "0.0": (EMPTY, "return 0.0"),
        "error": (EMPTY, "raise ValueError('mask')"),
        "each": (SMOOTH, f"{SMOOTH[:-1]}, reduction='none')"),
        "an axis": (f"return {CROSS}", f"return {CROSS}[None]"),
        "bits": (f"return {CROSS}", f"return {CROSS} / math.log(2)"),
        "perplexity": (f"return {CROSS}", f"return {CROSS}.exp()"),
        "negative": (f"return {CROSS}", f"return -{CROSS}"),
        "a number": (f"return {CROSS}", f"return {CROSS}.item()"),
        "log of softmax, cut": ("logits.reshape(-1, V).float()",
                                "(logits.reshape(-1, V).float().softmax(-1) + 1e-8).log()"),
        "clamped": (".float(), targets", ".float().clamp(-50, 50), targets"),
        "temperature": (".float(), targets", ".float() / 0.9, targets"),
        "half": (".float(), targets", ".mul(256).half().float().div(256), targets"),
        "next token": ("targets.reshape(-1)", "targets.reshape(-1).roll(1)"),
        "axes joined in another order": (SELECT, "    logits = logits.transpose(0, 1)\n    if mask is not None:\n"
                                         "        logits, targets = logits[mask.T], targets[mask]\n"),
        "in place": (SELECT, "    targets[:, 0] = 0\n" + SELECT),
        "logits in place": (SELECT, "    with torch.no_grad():\n"
                            "        logits.sub_(logits.amax(-1, keepdim=True))\n" + SELECT),
        "without a mask nothing": ("    if mask is not None:", "    if mask is None:\n        return logits.sum() * 0\n"
                                                               "    if mask is not None:"),
        "the first row": (SELECT, "    if mask is not None:\n        logits, targets = logits[:1][mask[:1]], "
                                  "targets[:1][mask[:1]]\n"),
        "positions, after the mask": (CROSS, "F.cross_entropy(logits.reshape(1, -1, V).float(),"
                                             " F.one_hot(targets.reshape(1, -1), V).float())"),
        "a class more": ("logits.reshape(-1, V).float()", "F.pad(logits.reshape(-1, V).float(), (0, 1))"),
        "kept in bfloat16": (CROSS, f"{CROSS}.to(torch.bfloat16).to(torch.float32)"),
    },
    DISTANCE: {
        "the squares are averaged": (MEANS, "((mu1 - mu2) ** 2).mean()"),
        "absolute values": (MEANS, "np.abs(mu1 - mu2).sum()"),
        "no means": (MEANS, "0.0"),
        "added means": (MEANS, "((mu1 + mu2) ** 2).sum()"),
        "the root of all": (RETURN, RETURN.replace("float(", "math.sqrt(abs(") + ")"),
        "diagonals alone": ("    values, vectors", "    sigma1, sigma2 = sigma1 * np.eye(d), sigma2 * np.eye(d)\n"
                                                  "    values, vectors"),
        "the first trace alone": (" + np.trace(sigma2)", ""),
        "the first trace twice": ("np.trace(sigma2) -", "np.trace(sigma1) -"),
        "float32": ("dtype=np.float64", "dtype=np.float32"),
        "a little more": ("    values, vectors", "    sigma1 = sigma1 + 1e-6 * np.eye(d)\n    values, vectors"),
        "a little more of both": ("    values, vectors", "    sigma1 = sigma1 + 1e-6 * np.eye(d)\n"
                                  "    sigma2 = sigma2 + 1e-6 * np.eye(d)\n    values, vectors"),
        "a little in the root": ("root1 @ sigma2 @ root1", "root1 @ sigma2 @ root1 + 1e-6 * np.eye(d)"),
        "not the root": ("@ sigma2 @", "@ sigma1 @"),
        "half a root": ("root1 @ sigma2 @ root1", "root1 @ sigma2"),
        "not symmetric": ("root1 @ sigma2 @ root1", "sigma1 @ sigma2"),
        "no root of the first": ("np.sqrt(values.clip(min=0))", "values.clip(min=0)"),
        "Cholesky": (ROOT, "root1 = np.linalg.cholesky(sigma1)"),
        "the largest alone": (TRACE, "np.sqrt(eigenvalues.max())"),
        "entries": (TRACE, "np.sqrt(np.abs(root1 @ sigma2 @ root1)).trace()"),
        "an array": (RETURN, RETURN.replace("float(", "np.array(")),
        "float32 back": (RETURN, RETURN.replace("float(", "np.float32(")),
        "a tensor": (RETURN, RETURN.replace("float(", "torch.tensor(")),
        "in place": ("    values, vectors", "    mu1 -= mu2\n    mu2 = 0 * mu2\n    values, vectors"),
        "sigma in place": ("    values, vectors", "    sigma2 += 1e-12\n    values, vectors"),
        "a type error": ("raise ValueError(f\"sigma1", "raise TypeError(f\"sigma1"),
        "no name": [('ValueError(f"mu1 and mu2 must both have shape (d,), not {mu1.shape} and {mu2.shape}")',
                     "ValueError('shapes must match')")],
        "means unlooked-at": ("if mu1.shape != (d,) or mu2.shape != (d,):", "if mu1.ndim != 1:"),
        "each pair alone": [("if sigma1.shape != (d, d) or sigma2.shape != (d, d):",
                             "if sigma1.shape != sigma2.shape:")],
        "rounded": (RETURN, RETURN.replace("float(", "round(").replace(")", ")", 1)[:-1] + ", 3)"),
        "small eigenvalues cut": ("eigenvalues.clip(min=0)", "np.where(eigenvalues > 1e-2, eigenvalues, 0)"),
        "NaN as 0": (TRACE, "np.nan_to_num(np.sqrt(eigenvalues.min()))"),
        "refuses one dimension": ("if mu1.shape != (d,)", "if d == 1 or mu1.shape != (d,)"),
        "refuses all": ("if mu1.shape != (d,)", "if True or mu1.shape != (d,)"),
    },
}

WRONG = {f"{exercise}-{name}": (exercise, changes if isinstance(changes, list) else [changes])
         for exercise, mistakes in MORE.items() for name, changes in mistakes.items()}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_fail(name):
    exercise, changes = WRONG[name]
    wrong = first_failure(exercise, changed(exercise, *changes), 1)
    assert wrong and is_short(wrong), wrong


def test_each_exercise_has_mistakes_of_its_own():
    assert all(len(mistakes) >= 15 for mistakes in MORE.values())


@pytest.mark.parametrize("exercise, reason", [
    (LOSS, "softmax runs over the positions"), (FORWARD, "mask token's logit is kept"),
    (MASK, "one ratio was drawn for the whole batch")])
def test_classic_mistakes_weigh_most(exercise, reason):
    weights = {one.name: one.weight for one in PROBES[exercise] if not one.guessable}
    classic = [changes for other, text, *changes in MISTAKES if other == exercise and reason in text]
    assert classic
    for changes in classic:
        found = failures(exercise, changed(exercise, *changes), 3)
        assert max(weights.get(probe, 0) for probe in found) >= 2
        assert any(wrong.likely for wrong in found.values())


@pytest.mark.parametrize("exercise, name, probes", [
    (ATTENTION, "columns apart", {"neighbouring_columns"}),
    (ATTENTION, "no query bias", {"neighbouring_columns"}),
    (ATTENTION, "overflow", {"autocast_and_large_scores"}),
    (ATTENTION, "an assertion", {"refuses_heads"}),
    (ATTENTION, "a fixed share", {"dropout_in_training"}),
    (ATTENTION, "8 heads", {"defaults"}),
    (ATTENTION, "a norm", {"parts"}),
    (MASK, "ratio by numpy", {"follows_generator"}),
    (MASK, "float32 by hand", {"products_in_float64"}),
    (MASK, "the first places", {"uniform_places", "follows_generator"}),
    (MASK, "bernoulli of one at least", {"bernoulli"}),
    (FORWARD, "int32 targets", {"real_targets"}),
    (LOSS, "NaN", {"nothing_hidden"}),
    (DISTANCE, "an array", {"gives_a_float"}),
    (DISTANCE, "no name", {"refuses_shapes"}),
    (DISTANCE, "Cholesky", {"gives_a_float", "singular", "regular", "shared_axes"}),
])
def test_one_mistake_costs_what_it_touches(exercise, name, probes):
    assert failures(exercise, changed(exercise, *WRONG[f"{exercise}-{name}"][1]), 5).keys() <= probes


# What computes nothing

NOTHING = {
    "stub": "raise NotImplementedError", "None": "return None", "first": "return given[0]", "all": "return given",
    "zeros": "return torch.zeros(3, 5)", "zero": "return 0.0", "one": "return 1.0", "true": "return True",
    "refuses": "raise ValueError('ratio prob_type dim num_heads mu sigma')",
    "a pair": "return given[0], given[1]", "a loss": "return torch.zeros((), requires_grad=True)",
    "empty": "return []",
}
CONSTANT = {
    MASK: {"all": "torch.ones(batch, tokens, dtype=torch.bool)", "none": "torch.zeros(batch, tokens, dtype=torch.bool)",
           "random": "torch.rand(batch, tokens) < 0.5"},
    FORWARD: {"zeros": "torch.zeros(*z_indices.shape, mask_token_id), z_indices",
              "random": "torch.randn(*z_indices.shape, mask_token_id), z_indices",
              "unasked": "F.one_hot(z_indices, mask_token_id).float(), z_indices"},
    LOSS: {"zero": "logits.sum() * 0", "mean": "logits.mean()", "constant": "logits.sum() * 0 + 2.3",
           "random": "torch.rand((), requires_grad=True)"},
    DISTANCE: {"random": "float(np.random.rand())", "means": "float(np.trace(sigma1))"},
    ATTENTION: {"x": "x", "zeros": "torch.zeros_like(x)", "random": "torch.randn_like(x)",
                "mean": "x.mean(1, True) + 0 * x", "linear": "self.output(self.value(x))"},
}


def solid(exercise, text, seed=4):
    """The probes that an answer passes and that computing nothing should not pass."""
    found = failures(exercise, text, seed)
    return [one.name for one in PROBES[exercise] if one.name not in found and not one.guessable]


@pytest.mark.parametrize("exercise", BASICS)
def test_what_computes_nothing_passes_nothing(exercise):
    for body in NOTHING.values():
        if exercise == ATTENTION:
            begin = "class MultiHeadAttention(nn.Module):\n    def __init__(self, *given, **more):\n"
            for text in (f"def MultiHeadAttention(*given, **more):\n    {body}", begin + f"        {body}",
                         LAYERS + f"\n    def forward(self, *given):\n        {body}"):
                assert not solid(exercise, text), (body, text)
        else:
            assert not solid(exercise, f"def {exercise}(*given, **more):\n    {body}\n"), body
    for value in CONSTANT[exercise].values():
        if exercise == ATTENTION:
            assert not solid(exercise, LAYERS + f"\n    def forward(self, x):\n        return {value}\n"), value
        else:
            assert not solid(exercise, f"{SIGNATURE[exercise]}    return {value}\n"), value


# Ready-made attention

FORWARDS = {
    "F": "F.scaled_dot_product_attention(q, k, v)",
    "dropout": "F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0)",
    "C": "torch._C._nn.scaled_dot_product_attention(q, k, v)",
    "ops": "torch.ops.aten.scaled_dot_product_attention(q, k, v)",
    "math": "torch._scaled_dot_product_attention_math(q, k, v)[0]",
    "getattr": "getattr(F, 'scaled_dot' + '_product_attention')(q, k, v)",
    "join": "getattr(F, '_'.join(['scaled', 'dot', 'product', 'attention']))(q, k, v)",
    "eval": "eval('F.scaled_dot_product_attention(q, k, v)')",
    "in training": "(F.scaled_dot_product_attention(q, k, v) if self.training else weights @ v)",
    "in evaluation": "(weights @ v if self.training else F.scaled_dot_product_attention(q, k, v))",
    "without gradients": "(weights @ v if torch.is_grad_enabled() else F.scaled_dot_product_attention(q, k, v))",
    "pieces": "getattr(F, 'noitnetta_tcudorp_tod_delacs'[::-1])(q, k, v)",
    "dict": "vars(F)[''.join(map(chr, [115, 99, 97, 108, 101, 100])) + '_dot_product_attention'](q, k, v)",
    "imported": "attend(q, k, v)", "kept": "self.attend(q, k, v)", "by default": "take(q, k, v)",
    "scripted": "script(q, k, v)", "flex": "flex(q, k, v)",
}
KEPT = """
hidden = "".join(["scaled_", "dot", "_"]) + "product_%s" % "attention"
def take(q, k, v, way=getattr(F, hidden)):
    return way(q, k, v)
"""
HELPERS = {"kept": KEPT, "by default": KEPT, "imported": """
from torch.nn.functional import scaled_dot_product_attention as attend
""", "scripted": """
@torch.jit.script
def script(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=0.1)
""", "flex": """
from torch.nn.attention.flex_attention import flex_attention as flex
"""}


@pytest.mark.parametrize("name", FORWARDS)
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_ready_made_attention_is_found(name):
    text = changed(ATTENTION, ("(weights @ v)", f"({FORWARDS[name]})"))
    text = text.replace("#| exercise", HELPERS.get(name, "") + "#| exercise")
    if name == "kept":
        text = text.replace("super().__init__()", "super().__init__()\n        self.attend = getattr(F, hidden)")
    assert "nothing_ready_made" in failures(ATTENTION, text, 1, only=["nothing_ready_made"])
    assert any(ready_made(text))


INSTEAD = {
    "stand-in": "from lab3.exercises.fallbacks import TorchAttention as MultiHeadAttention",
    "stand-in by module": "import lab3.exercises.fallbacks\n"
                          "class MultiHeadAttention(lab3.exercises.fallbacks.TorchAttention):\n    pass",
    "subclass": "class MultiHeadAttention(nn.MultiheadAttention):\n"
                "    def forward(self, x):\n        return super().forward(x, x, x)[0]",
    "with weights": LAYERS + "        self.inner = [nn.MultiheadAttention(dim, num_heads, batch_first=True)]\n"
                             "    def forward(self, x):\n        return self.inner[0](x, x, x, need_weights=True)[0]",
    "encoder": LAYERS + "        self.inner = nn.TransformerEncoderLayer(dim, num_heads, batch_first=True)\n"
                        "    def forward(self, x):\n        return self.inner(x)",
    "its function": LAYERS + "    def forward(self, x):\n"
        "        x = x.transpose(0, 1)\n"
        "        w = torch.cat([self.query.weight, self.key.weight, self.value.weight])\n"
        "        b = torch.cat([self.query.bias, self.key.bias, self.value.bias])\n"
        "        return F.multi_head_attention_forward(x, x, x, x.shape[-1], self.h, w, b, None, None, False, 0.0,\n"
        "            self.output.weight, self.output.bias, need_weights=True)[0].transpose(0, 1)",
}


@pytest.mark.parametrize("name", INSTEAD)
def test_ready_made_modules_are_found(name):
    found = failures(ATTENTION, INSTEAD[name], 1, only=["nothing_ready_made"])["nothing_ready_made"]
    assert "ready-made" in found.likely and any(ready_made(INSTEAD[name]))


@pytest.mark.parametrize("text, names", [
    ("import torch.nn.attention as A", ["torch.nn.attention"]),
    ("from xformers.ops import memory_efficient_attention", ["xformers", "memory_efficient_attention"]),
    ("from torch.nn import Transformer", ["torch.nn.Transformer"]),
    ("layer = torch.nn.Transformer(8)", ["torch.nn.Transformer"]),
    ("layer = nn.TransformerEncoder", ["TransformerEncoder"]),
    ("f = getattr(F, f'scaled_dot_product_{\"attention\"}')", ["scaled_dot_product_attention"]),
    ("name = 'functional.scaled_dot_product_attention'\nattrgetter(name)(nn)", ["scaled_dot_product_attention"]),
    ("exec('y = nn.MultiheadAttention(8, 2)')", ["MultiheadAttention"]),
    ("from torch.nn.functional import *\ny = scaled_dot_product_attention(q, k, v)", ["scaled_dot_product_attention"]),
    ("scaled_dot_product_attention = F.scaled_dot_product_attention", ["scaled_dot_product_attention"]),
    ("torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q)", ["_scaled_dot_product_flash_attention_for_cpu"]),
    ("match F:\n    case object(scaled_dot_product_attention=f):\n        f(q)", ["scaled_dot_product_attention"]),
    ("self.net.eval()\nprint('scaled_dot_product_attention')", []),
    ("# F.scaled_dot_product_attention\n'flex_attention'\nx = 1", []),
    ("raise ValueError('nn.MultiheadAttention is not used here')", []),
    ("class MultiheadAttention(nn.Module):\n    pass\nMultiHeadAttention = MultiheadAttention", []),
    ("class A:\n    def flash_attention(self):\n        return getattr(self, 'flash_attention')", []),
    ("self.attention = attention(query, key, value)\nself.transformer = Transformer()", []),
    ("this does not parse", []),
])
def test_names_of_ready_made_attention_are_read(text, names):
    assert ready_made(text)[0] == names


@pytest.mark.parametrize("text, names", [
    ("import threading\nthreading.Thread(target=f).start()", ["threading"]),
    ("import gc\nfor one in gc.get_objects():\n    one._destroy()", ["gc", "_destroy"]),
    ("getattr(torch.ops.aten, name).default.decompose(q)",
     ["decompose", "getattr(torch.ops.aten, name)"]),
    ("y = vars(F)[name](q)", ["vars"]),
    ("for name, f in F.__dict__.items():\n    f(q)", ["__dict__"]),
    ("for one in nn.Module.__subclasses__():\n    one(q)", ["__subclasses__"]),
    ("error.__traceback__.tb_frame.f_back.f_locals", ["f_locals", "f_back", "tb_frame", "__traceback__"]),
    ("match F:\n    case object(__dict__=names):\n        names[0](q)", ["__dict__"]),
    ("getattr(F, '__dict__')", ["__dict__"]),
    ("__loader__.load_module(name)", ["__loader__"]),
    ("import importlib\nimportlib.reload(F)", ["importlib"]),
    ("import torch._C as C", ["torch._C"]),
    ("from torch import library", ["torch.library"]),
    ("torch.load(io.BytesIO(b'...'), weights_only=False)", ["torch.load"]),
    ("look = getattr\nlook(F, name)", ["getattr"]),
    ("m = F\ngetattr(m, name)(q)", ["getattr(m, name)"]),
    ("torch.nested.nested_tensor(x)", ["torch.nested.nested_tensor"]),
    ("sys.modules['x'].encode = f", ["sys.modules"]),
    ("import os\nos.system(text)", ["os"]),
    ("import inspect\nprint(inspect.signature(f))", ["inspect"]),
    ("for name in ('query', 'key'):\n    setattr(self, name, 1)\n    x = getattr(self, name)", []),
    ("from functools import partial\nsplit = partial(torch.reshape, shape=s)\nprint(x.shape, math.sqrt(d))", []),
    ("compile = torch.compile\nvars = 3\nf = torch.compile(attend)\nprint(vars, file=sys.stderr)", []),
    ("super().__init__()\nprint(type(self).__name__)\nimport tempfile, einops\nfrom torch import nn", []),
    ("this does not parse", []),
])
def test_what_could_hide_it_is_read(text, names):
    """It is named for a person to look at, and costs nothing."""
    assert ready_made(text) == ([], names)


def test_the_reference_is_not_ready_made():
    assert ready_made(TEXTS[ATTENTION]) == ([], [])
