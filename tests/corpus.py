"""A corpus of answers: right ones in the styles that students use, and wrong ones with a single bug each.

In: nothing. Out: `RIGHT` and `WRONG`, name -> (exercise, text of the cell), and `REASONS`, name -> what is wrong with a
wrong one, by the contracts in words. `WRONG` holds the mistakes that the public checks call by name, and more.
"""

import re

from test_checks import (
    ATTENTION,
    COSINE,
    DECODE,
    DISTANCE,
    EVAL,
    FORWARD,
    GAMMA,
    LOSS,
    MASK,
    MISTAKES,
    NOISE,
    OPTIMIZER,
    RATIO_ROWS,
    SELECT,
    STEP,
    TRAIN,
    changed,
)

RIGHT = {}
WRONG = {}
REASONS = {}


def right(exercise, name, text):
    """Note a right answer: the text of its cell."""
    name = f"{exercise}-{name}"
    assert name not in RIGHT and re.fullmatch(r"[a-z0-9_-]+", name), name
    RIGHT[name] = exercise, text.lstrip("\n")


def wrong(exercise, name, reason, *changes, of=None, text=None):
    """Note a wrong answer: a right one of the corpus, or the reference answer, with replacements (old, new); or a text.

    Args:
        reason: what it does that the contract forbids.
        of: the right answer that is changed; None: the reference answer.
        text: the whole text, instead of changes.
    """
    name = f"{exercise}-{name}"
    assert name not in WRONG and re.fullmatch(r"[a-z0-9_-]+", name), name
    if text is None and of is None:
        text = changed(exercise, *changes)
    elif text is None:
        text = RIGHT[f"{exercise}-{of}"][1]
        for old, new in changes:
            assert old in text, f"not in {of}: {old}"
            text = text.replace(old, new)
    WRONG[name], REASONS[name] = (exercise, text.lstrip("\n")), reason


# Right answers: attention

right(ATTENTION, "einsum-typed", '''
class MultiHeadAttention(nn.Module):
    """Multi-head self-attention, written with einsum."""

    num_heads: int
    head_dim: int

    def __init__(self, dim: int = 768, num_heads: int = 16, attn_drop: float = 0.1) -> None:
        super().__init__()
        if dim % num_heads != 0:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}")
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.attn_drop = nn.Dropout(p=attn_drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q = self.query(x).reshape(b, t, self.num_heads, self.head_dim)
        k = self.key(x).reshape(b, t, self.num_heads, self.head_dim)
        v = self.value(x).reshape(b, t, self.num_heads, self.head_dim)
        attn = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(self.head_dim)
        attn = self.attn_drop(F.softmax(attn, dim=-1))
        out = torch.einsum("bhqk,bkhd->bqhd", attn, v)
        assert out.shape == q.shape
        return self.output(out.flatten(2))
''')

right(ATTENTION, "fused-weights", '''
class MultiHeadAttention(nn.Module):
    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        if dim % num_heads:
            raise ValueError("dim must be a multiple of num_heads")
        super().__init__()
        self.h = num_heads
        self.scale = (dim / num_heads) ** -0.5
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.attn_drop = nn.Dropout(attn_drop)
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        B, T, C = x.shape
        layers = [self.query, self.key, self.value]
        W = torch.cat([layer.weight for layer in layers])
        b = torch.cat([layer.bias for layer in layers])
        qkv = F.linear(x, W, b)  # one product for all three
        q, k, v = qkv.view(B, T, 3, self.h, C // self.h).permute(2, 0, 3, 1, 4)
        attn = torch.matmul(q, k.transpose(-1, -2)) * self.scale
        attn = attn - attn.amax(dim=-1, keepdim=True)
        attn = attn.exp()
        attn = attn / attn.sum(dim=-1, keepdim=True)
        y = torch.matmul(self.attn_drop(attn), v)
        return self.output(y.permute(0, 2, 1, 3).contiguous().view(B, T, C))
''')

right(ATTENTION, "heads-in-a-loop", '''
def one_head(q, k, v, drop):
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    return drop(torch.softmax(scores, dim=2)) @ v


class MultiHeadAttention(nn.Module):
    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        if dim % num_heads != 0:
            raise ValueError("dim not divisible by num_heads: " + str((dim, num_heads)))
        self.size = dim // num_heads
        self.add_module("query", nn.Linear(dim, dim))
        self.add_module("key", nn.Linear(dim, dim))
        self.add_module("value", nn.Linear(dim, dim))
        self.add_module("output", nn.Linear(dim, dim))
        self.attn_drop = nn.Dropout(attn_drop)

    def forward(self, x):
        outputs = []
        q, k, v = self.query(x), self.key(x), self.value(x)
        for start in range(0, x.size(-1), self.size):
            part = slice(start, start + self.size)
            outputs.append(one_head(q[..., part], k[..., part], v[..., part], self.attn_drop))
        return self.output(torch.cat(outputs, -1))
''')

right(ATTENTION, "batch-of-heads", '''
class MultiHeadAttention(nn.Module):
    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        if (dim // num_heads) * num_heads != dim:
            raise ValueError("dim / num_heads must be a whole number")
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=True)
        self.key = nn.Linear(dim, dim, bias=True)
        self.value = nn.Linear(dim, dim, bias=True)
        self.output = nn.Linear(dim, dim, bias=True)
        self.attn_drop = nn.Dropout(attn_drop)
        self.register_buffer("scale", torch.tensor(1 / math.sqrt(dim / num_heads)), persistent=False)

    def split(self, y):  # (B, T, D) -> (B * H, T, d)
        return torch.cat(torch.stack(y.chunk(self.num_heads, dim=2), dim=1).unbind(0))

    def merge(self, y):  # (B * H, T, d) -> (B, T, D)
        return torch.cat(y.unflatten(0, (-1, self.num_heads)).unbind(1), dim=2)

    def forward(self, x):
        q, k, v = map(self.split, (self.query(x), self.key(x), self.value(x)))
        weights = F.log_softmax(torch.bmm(q * self.scale, k.mT), dim=-1).exp()
        return self.output(self.merge(torch.bmm(self.attn_drop(weights), v)))
''')

right(ATTENTION, "in-float32-inside", '''
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    dim: int
    heads: int

    def __post_init__(self):
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} cannot be cut into {self.heads} heads")

    @property
    def head(self):
        return self.dim // self.heads


class MultiHeadAttention(nn.Module):
    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        self.shape = Shape(dim, num_heads)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.output = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.attn_drop = nn.Dropout(attn_drop)

    def forward(self, x):
        B, T, D = x.size()
        cut = (B, T, self.shape.heads, self.shape.head)
        q = self.query(x).view(cut).permute(0, 2, 1, 3)
        k = self.key(x).view(cut).permute(0, 2, 3, 1)
        v = self.value(x).view(cut).permute(0, 2, 1, 3)
        scores = torch.div(q @ k, self.shape.head ** 0.5)
        attention = self.attn_drop(torch.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype))
        together = torch.empty(B, T, D, dtype=v.dtype, device=x.device)
        pieces = (attention @ v).unbind(1)
        together = torch.cat(pieces, dim=-1)
        return self.output(together)
''')

# Right answers: masks

right(MASK, "randperm-rows", '''
def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    """Loops over rows and hides the first places of a permutation."""
    assert batch >= 1 and tokens >= 1
    if ratio is None:
        ratio = torch.rand(batch, generator=generator, device=device)
    if torch.is_tensor(ratio):
        ratios = [float(r) for r in ratio.double()]
    else:
        ratios = [float(ratio) for _ in range(batch)]
    for r in ratios:
        if r < 0 or r > 1:
            raise ValueError(f"ratio {r} is not in [0, 1]")
    mask = torch.zeros((batch, tokens), dtype=torch.bool, device=device)
    if prob_type == "topk":
        for i in range(batch):
            n = max(1, math.ceil(ratios[i] * tokens))
            mask[i, torch.randperm(tokens, generator=generator, device=device)[:n]] = True
    elif prob_type == "bernoulli":
        for i in range(batch):
            for j, u in enumerate(torch.rand(tokens, generator=generator, device=device).tolist()):
                if u < ratios[i]:
                    mask[i, j] = True
    else:
        raise ValueError("prob_type must be topk or bernoulli")
    return mask
''')

right(MASK, "topk-rows-match", '''
def _check(ratio: torch.Tensor) -> None:
    if bool((ratio < 0).any()) or bool((ratio > 1).any()):
        raise ValueError("ratio must be between 0 and 1")


def sample_mask(batch: int, tokens: int, prob_type: str = "topk", ratio: float | torch.Tensor | None = None, *,
                generator: torch.Generator | None = None, device=None) -> torch.Tensor:
    match prob_type:
        case "topk" | "bernoulli":
            pass
        case other:
            raise ValueError(f"unknown prob_type {other}")
    if ratio is None:
        ratio = torch.rand((batch,), generator=generator, device=device)
    elif isinstance(ratio, float):
        ratio = torch.full((batch,), ratio, dtype=torch.float64, device=device)
    ratio = ratio.to(device, torch.float64)
    _check(ratio)
    if prob_type == "bernoulli":
        return torch.bernoulli(ratio[:, None].repeat(1, tokens), generator=generator).to(torch.bool)
    counts = torch.clamp(torch.ceil(ratio * tokens), min=1).long().tolist()
    noise = torch.rand(batch, tokens, generator=generator, device=device)
    rows = []
    for row, n in zip(noise, counts):
        hidden = torch.zeros(tokens, dtype=torch.bool, device=row.device)
        hidden[row.topk(n).indices] = True
        rows.append(hidden)
    return torch.stack(rows)
''')

right(MASK, "scatter-of-order", '''
ALLOWED = {"topk", "bernoulli"}  # the two ways


def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    if prob_type not in ALLOWED:
        raise ValueError(f"prob_type={prob_type!r}, allowed: {sorted(ALLOWED)}")
    rand = lambda *size: torch.rand(*size, generator=generator, device=device, dtype=torch.float64)
    scores = rand(batch, tokens)
    r = rand(batch) if ratio is None else torch.as_tensor(ratio, dtype=torch.float64, device=device)
    if r.min() < 0 or r.max() > 1:
        raise ValueError("0 <= ratio <= 1")
    r = r.reshape(-1, 1).expand(batch, 1)
    if prob_type == "bernoulli":
        return torch.lt(scores, r)
    n = (r * tokens).ceil().clamp_min(1)
    first = torch.arange(tokens, device=device)[None, :] < n
    return torch.zeros(batch, tokens, dtype=torch.bool, device=device).scatter_(1, scores.argsort(1), first)
''')

right(MASK, "by-threshold-of-sorted-doubles", '''
import warnings


def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    warnings.warn("my sample_mask")
    print("sample_mask", batch, tokens, prob_type)
    ways = {}

    def way(f):
        ways[f.__name__] = f
        return f

    @way
    def topk(p):
        # a permutation of 0..tokens-1 in every row has no ties, so a threshold is exact
        perm = torch.stack([torch.randperm(tokens, generator=generator, device=device) for _ in range(len(p))])
        number = torch.maximum(torch.ceil(p * tokens), torch.ones_like(p))
        return perm + 1 <= number.unsqueeze(1)

    @way
    def bernoulli(p):
        u = torch.empty(len(p), tokens, device=device).uniform_(generator=generator)
        return u < p.unsqueeze(1)

    try:
        chosen = ways[prob_type]
    except KeyError:
        raise ValueError(f"prob_type must be one of {list(ways)}") from None
    if ratio is None:
        p = torch.empty(batch, device=device).uniform_(generator=generator).double()
    else:
        p = torch.zeros(batch, dtype=torch.float64, device=device) + ratio
    if not bool(((0 <= p) & (p <= 1)).all()):
        raise ValueError("ratio out of range")
    return chosen(p)
''')

right(MASK, "numpy-inside", '''
def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    if prob_type != "topk" and prob_type != "bernoulli":
        raise ValueError("prob_type")
    seed = torch.randint(2**62, (1,), generator=generator, device=device).item()
    rng = np.random.default_rng(seed)
    if ratio is None:
        p = rng.uniform(0, 1, size=batch)
    elif isinstance(ratio, torch.Tensor):
        p = ratio.detach().cpu().numpy().astype(np.float64)
    else:
        p = np.full(batch, ratio, dtype=np.float64)
    if (p < 0).any() or (p > 1).any():
        raise ValueError("ratio")
    out = np.zeros((batch, tokens), dtype=bool)
    for b in range(batch):
        if prob_type == "bernoulli":
            out[b] = rng.random(tokens) < p[b]
        else:
            out[b, rng.choice(tokens, size=max(1, int(np.ceil(p[b] * tokens))), replace=False)] = True
    return torch.from_numpy(out).to(device)
''')

right(MASK, "multinomial-rows", '''
def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    if prob_type not in ("topk", "bernoulli"):
        raise ValueError(f"prob_type is {prob_type}")
    if isinstance(ratio, torch.Tensor):
        p = ratio.to(device=device, dtype=torch.float64)
    else:
        p = torch.tensor([ratio] * batch, dtype=torch.float64, device=device) if ratio is not None else torch.rand(
            batch, generator=generator, device=device, dtype=torch.float64)
    for value in p.tolist():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"ratio {value} is outside of [0, 1]")
    if prob_type == "bernoulli":
        return torch.rand(batch, tokens, generator=generator, device=device) <= p.unsqueeze(-1)
    equal = torch.ones(tokens, device=device)
    rows = []
    for value in p.tolist():
        hidden = torch.multinomial(equal, max(1, math.ceil(value * tokens)), generator=generator)
        rows.append(torch.isin(torch.arange(tokens, device=device), hidden))
    return torch.stack(rows)
''')

# Right answers: the masked forward pass

right(FORWARD, "where", '''
def masked_forward(transformer, z_indices, mask, mask_token_id):
    hidden = torch.full_like(z_indices, mask_token_id)
    logits = transformer(torch.where(mask, hidden, z_indices))
    return logits[:, :, :-1], z_indices.clone()
''')

right(FORWARD, "arithmetic", '''
def masked_forward(transformer, z_indices, mask, mask_token_id):
    """Multiplies by the mask."""
    hidden = mask.long()
    seen = z_indices * (1 - hidden) + mask_token_id * hidden
    logits, _ = transformer(seen).split([mask_token_id, 1], dim=-1)
    return logits, z_indices.long()
''')

right(FORWARD, "index-put", '''
import functools


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        print("calling", function.__name__)
        return function(*args, **kwargs)
    return inner


@logged
def masked_forward(transformer, z_indices, mask, mask_token_id):
    x = z_indices.detach().clone()
    x[mask] = mask_token_id
    targets = z_indices.to(torch.long)
    out = transformer(x)
    assert out.shape[:2] == targets.shape
    return out.narrow(2, 0, mask_token_id).contiguous(), targets
''')

right(FORWARD, "gathered-columns", '''
class MaskedForward:
    """A callable object with the function's name."""

    def __call__(self, transformer, z_indices, mask, mask_token_id):
        inputs = torch.stack([row.masked_fill(hidden, mask_token_id) for row, hidden in zip(z_indices, mask)])
        codes = torch.arange(mask_token_id, device=z_indices.device)
        return transformer(inputs).index_select(-1, codes), z_indices


masked_forward = MaskedForward()
''')

# Right answers: the loss

right(LOSS, "ignore-index", '''
IGNORED = -100


def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    if mask is not None:
        if not mask.any():
            return 0.0 * logits.sum()
        targets = torch.where(mask, targets, torch.full_like(targets, IGNORED))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED,
                           label_smoothing=label_smoothing)
''')

right(LOSS, "sum-over-count", '''
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    if mask is None:
        mask = torch.ones_like(targets, dtype=torch.bool)
    criterion = nn.CrossEntropyLoss(reduction="none", label_smoothing=label_smoothing)
    per_token = criterion(logits.permute(0, 2, 1), targets)
    weight = mask.to(per_token.dtype)
    return torch.sum(per_token * weight) / torch.clamp(weight.sum(), min=1.0)
''')

right(LOSS, "smoothing-by-hand", '''
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    """-log p with the smoothed target written out, in float64."""
    log_p = torch.log_softmax(logits.double(), dim=-1)
    V = logits.size(-1)
    smooth = torch.full_like(log_p, label_smoothing / V)
    smooth.scatter_add_(-1, targets.unsqueeze(-1), torch.full_like(log_p[..., :1], 1 - label_smoothing))
    loss = -(smooth * log_p).sum(-1)
    if mask is not None:
        n = int(mask.sum())
        return loss[mask].sum().float() / max(n, 1)
    return loss.mean().float()
''')

right(LOSS, "gather-and-logsumexp", '''
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    lse = logits.float().logsumexp(-1)
    picked = logits.float().gather(-1, targets[..., None]).squeeze(-1)
    losses = lse - (1 - label_smoothing) * picked - label_smoothing * logits.float().mean(-1)
    chosen = losses if mask is None else losses.masked_select(mask)
    if chosen.nelement() == 0:
        return chosen.sum()
    return chosen.mean()
''')

right(LOSS, "token-by-token", '''
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    B, T = targets.shape
    total, n = logits.sum() * 0, 0
    for b in range(B):
        for t in range(T):
            if mask is None or mask[b, t]:
                total = total + F.cross_entropy(logits[b, t], targets[b, t], label_smoothing=label_smoothing)
                n += 1
    return total / n if n > 0 else total
''')

right(LOSS, "nan-to-num", '''
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    if mask is not None:
        logits, targets = logits[mask], targets[mask]
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), label_smoothing=label_smoothing)
    return torch.nan_to_num(loss)
''')

# Right answers: the optimizer and its schedule

right(OPTIMIZER, "decay-groups", '''
def configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0):
    if total_steps < 1:
        raise ValueError("total_steps < 1")
    if warmup_steps < 0 or warmup_steps > total_steps:
        raise ValueError("warmup_steps not in 0..total_steps")
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))

    def lr_lambda(step):
        if step >= total_steps:
            return eta_min
        if step < warmup_steps:
            return step / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return eta_min + (1 - eta_min) * (1 + math.cos(math.pi * progress)) / 2

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, [lr_lambda, lr_lambda])
''')

right(OPTIMIZER, "callable-schedule", '''
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine:
    """Factor of the learning rate at step s."""

    def __init__(self, total_steps, warmup_steps, eta_min):
        if total_steps <= 0:
            raise ValueError(f"total_steps={total_steps} must be positive")
        if not (0 <= warmup_steps <= total_steps):
            raise ValueError(f"warmup_steps={warmup_steps} must be in [0, total_steps]")
        self.total, self.warm, self.low = total_steps, warmup_steps, eta_min

    def __call__(self, s):
        if s < self.warm:
            return s / self.warm
        if s >= self.total:
            return self.low
        p = (s - self.warm) / max(1, self.total - self.warm)
        return self.low + (1 - self.low) * math.cos(math.pi / 2 * p) ** 2


def configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0):
    schedule = WarmupCosine(total_steps, warmup_steps, eta_min)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(trainable, lr, (0.9, 0.95))
    return optimizer, LambdaLR(optimizer, schedule)
''')

right(OPTIMIZER, "partial-and-table", '''
from functools import partial


def _factor(s, table, last):
    return table[s] if s < len(table) else last


def configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0):
    if total_steps < 1 or warmup_steps < 0 or warmup_steps > total_steps:
        raise ValueError(f"total_steps = {total_steps}, warmup_steps = {warmup_steps} do not fit")
    warm = np.arange(warmup_steps) / max(1, warmup_steps)
    p = np.arange(total_steps - warmup_steps) / max(1, total_steps - warmup_steps)
    table = np.concatenate([warm, eta_min + (1 - eta_min) * 0.5 * (1 + np.cos(np.pi * p))])
    optimizer = torch.optim.AdamW(
        [{"params": list(model.parameters()), "lr": lr}], betas=(0.9, 0.95), weight_decay=1e-2, foreach=False)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=partial(_factor, table=table, last=eta_min))
    return optimizer, scheduler
''')

right(OPTIMIZER, "own-subclass", '''
class MyAdamW(torch.optim.AdamW):
    """AdamW with this lab's betas."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr, betas=(0.9, 0.95))


def configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0):
    if total_steps < 1:
        raise ValueError("total_steps")
    if warmup_steps not in range(total_steps + 1):
        raise ValueError("warmup_steps")
    opt = MyAdamW(model.parameters(), lr)
    decay = max(1, total_steps - warmup_steps)
    f = lambda s: (
        s / warmup_steps if s < warmup_steps
        else eta_min if s >= total_steps
        else eta_min + (1.0 - eta_min) * 0.5 * (1.0 + np.cos(np.pi * (s - warmup_steps) / decay)))
    return opt, torch.optim.lr_scheduler.LambdaLR(opt, f)
''')

right(OPTIMIZER, "fused-with-own-decay", '''
def configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0):
    problems = []
    if total_steps < 1:
        problems.append("total_steps must be positive")
    if not 0 <= warmup_steps <= max(total_steps, 0):
        problems.append("warmup_steps must be from 0 to total_steps")
    if problems:
        raise ValueError("; ".join(problems))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.05, fused=True)

    def factor(s):
        match s:
            case s if s >= total_steps:
                return eta_min
            case s if s < warmup_steps:
                return s / warmup_steps
        wave = torch.cos(torch.tensor(math.pi * (s - warmup_steps) / (total_steps - warmup_steps))).item()
        return eta_min + (1 - eta_min) * 0.5 * (1 + wave)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
''')

# Right answers: training

right(TRAIN, "running-sum-bar", '''
from tqdm import tqdm


def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    transformer.train()
    running, steps = 0.0, 0
    bar = tqdm(enumerate(loader), desc="train")
    for i, z in bar:
        z = z.to(device, non_blocking=True)
        B, T = z.shape
        optimizer.zero_grad(set_to_none=True)
        mask = sample_mask(B, T, generator=generator, device=device)
        with lab3.autocast(device):
            logits, targets = masked_forward(transformer, z, mask, mask_token_id)
            loss = mvtm_loss(logits, targets, mask)
        if scaler is not None:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
        scheduler.step()
        running += loss.item()
        steps = i + 1
        bar.set_postfix(loss=running / steps)
    if steps == 0:
        raise ValueError("empty loader")
    return running / steps
''')

right(TRAIN, "cleared-after-the-step", '''
import logging
import statistics

log = logging.getLogger(__name__)


def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    """Clears the gradients before the loop and after each step."""
    device = torch.device(device)
    transformer = transformer.train(True)
    optimizer.zero_grad()
    history = []
    for tokens in loader:
        tokens = tokens.to(device=device, dtype=torch.long)
        mask = sample_mask(batch=tokens.size(0), tokens=tokens.size(1), generator=generator, device=device)
        with lab3.autocast(device):
            logits, targets = masked_forward(transformer=transformer, z_indices=tokens, mask=mask,
                                             mask_token_id=mask_token_id)
        loss = mvtm_loss(logits=logits, targets=targets, mask=mask)
        (scaler.scale(loss) if scaler else loss).backward()
        if scaler:
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        history.append(loss.item())
        log.info("loss %.3f", history[-1])
    if not history:
        raise ValueError("loader has no batches")
    return statistics.fmean(history)
''')

right(TRAIN, "one-step-as-a-function", '''
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=False) if scaler is None else scaler

    def losses():
        for batch in loader:
            yield step(batch.to(device))

    def step(z):
        for parameter in transformer.parameters():
            parameter.grad = None
        with torch.enable_grad(), lab3.autocast(device):
            mask = sample_mask(*z.shape, "topk", None, generator=generator, device=device)
            loss = mvtm_loss(*masked_forward(transformer, z, mask, mask_token_id), mask, label_smoothing=0.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        return float(loss.detach())

    transformer.train()
    values = np.array(list(losses()))
    if values.size == 0:
        raise ValueError("the loader gave nothing")
    return float(values.mean())
''')

right(TRAIN, "iterator-and-next", '''
from lab3 import autocast


def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    transformer.train()
    batches, total, n = iter(loader), torch.zeros((), dtype=torch.float64), 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            break
        batch = batch.to(device).clone()
        mask = sample_mask(batch.shape[0], batch.shape[1], generator=generator, device=device)
        transformer.zero_grad()
        optimizer.zero_grad(set_to_none=False)
        with autocast(device):
            logits, targets = masked_forward(transformer, batch, mask, mask_token_id)
            loss = mvtm_loss(logits.float(), targets, mask)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaled = scaler.scale(loss)
            scaled.backward()
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        total += loss.detach().double().cpu()
        n += 1
        print(f"step {n}: {loss:.3f} lr {scheduler.get_last_lr()[0]:.2e}", end="\\r")
    if n == 0:
        raise ValueError("no batch in loader")
    return (total / n).item()
''')

right(TRAIN, "running-mean", '''
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    """Keeps the running mean."""
    mean, k = 0.0, 0
    for z_indices in loader:
        transformer.train()
        optimizer.zero_grad()
        z_indices = z_indices.to(device)
        mask = sample_mask(z_indices.shape[0], z_indices.shape[1], generator=generator, device=device)
        with lab3.autocast(device):
            logits, targets = masked_forward(transformer, z_indices, mask, mask_token_id)
            loss = mvtm_loss(logits, targets, mask)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        k += 1
        mean += (loss.item() - mean) / k  # the running mean
    if not k:
        raise ValueError("loader: no batch")
    optimizer.zero_grad()
    return mean
''')

right(TRAIN, "all-under-autocast", '''
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    batches = list(loader)
    if len(batches) == 0:
        raise ValueError("loader is empty")
    transformer.train()
    total = 0
    with lab3.autocast(device):
        for z in batches:
            z = z.to(device)
            optimizer.zero_grad()
            mask = sample_mask(*z.shape, generator=generator, device=device)
            logits, targets = masked_forward(transformer, z, mask, mask_token_id)
            loss = mvtm_loss(logits, targets, mask)
            if scaler is None:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            scheduler.step()
            total = total + loss  # a tensor with its graph
    return (total / len(batches)).item()
''')

right(TRAIN, "closure", '''
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    transformer.train()
    losses = []
    for z in loader:
        z = z.to(device)
        mask = sample_mask(*z.shape, generator=generator, device=device)

        def closure():
            optimizer.zero_grad()
            with lab3.autocast(device):
                loss = mvtm_loss(*masked_forward(transformer, z, mask, mask_token_id), mask)
            (loss if scaler is None else scaler.scale(loss)).backward()
            return loss

        if scaler is None:
            losses.append(float(optimizer.step(closure)))
        else:
            losses.append(float(closure()))
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
    if not losses:
        raise ValueError("loader")
    return sum(losses) / len(losses)
''')

right(TRAIN, "by-length", """
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    if len(loader) == 0:
        raise ValueError("loader has no batch")
    transformer.train()
    total = 0.0
    for z_indices in loader:
        z_indices = z_indices.to(device)
        mask = sample_mask(*z_indices.shape, generator=generator, device=device)
        optimizer.zero_grad()
        with lab3.autocast(device):
            logits, targets = masked_forward(transformer, z_indices, mask, mask_token_id)
            loss = mvtm_loss(logits[mask][None], targets[mask][None])
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        total += loss.item()
    return total / len(loader)
""")

right(TRAIN, "real-tokens-as-targets", """
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    transformer.train()
    losses = []
    for z in loader:
        z = z.to(device)
        optimizer.zero_grad(set_to_none=True)
        mask = sample_mask(*z.shape, generator=generator, device=device)
        with lab3.autocast(device):
            logits, _ = masked_forward(transformer, z, mask, mask_token_id)
            loss = mvtm_loss(logits, z, mask)
        if scaler:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    if not losses:
        raise ValueError("loader")
    return float(np.mean(losses))
""")

# Right answers: evaluation

right(EVAL, "modes-in-a-dict", '''
@torch.inference_mode()
def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    was = {module: module.training for module in transformer.modules()}
    transformer.eval()
    total, count = 0.0, 0
    try:
        for tokens in loader:
            tokens = tokens.to(device)
            B, T = tokens.shape
            mask = sample_mask(B, T, generator=generator, device=device)
            with lab3.autocast(device):
                logits, targets = masked_forward(transformer, tokens, mask, mask_token_id)
                loss = mvtm_loss(logits, targets, mask)
            total += loss.item()
            count += 1
    finally:
        for module, mode in was.items():
            module.training = mode
    if count == 0:
        raise ValueError("loader is empty")
    return total / count
''')

right(EVAL, "context-manager", '''
import contextlib


@contextlib.contextmanager
def evaluating(model):
    modes = [m.training for m in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for m, mode in zip(model.modules(), modes):
            m.train(mode)  # parents come before their children


def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    losses = []
    with evaluating(transformer) as model:
        for z in loader:
            z = z.to(device)
            mask = sample_mask(*z.shape, generator=generator, device=device)
            with lab3.autocast(device):
                logits, targets = masked_forward(model, z, mask, mask_token_id)
            losses.append(mvtm_loss(logits, targets, mask).item())
    if len(losses) == 0:
        raise ValueError("There is no batch in the loader.")
    return sum(losses) / len(losses)
''')

right(EVAL, "on-a-copy", '''
import copy


def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    """Works on a copy, so the model cannot change."""
    frozen = copy.deepcopy(transformer).eval().requires_grad_(False)
    losses = []
    for z in loader:
        z = z.to(device)
        mask = sample_mask(z.shape[0], z.shape[1], generator=generator, device=device)
        with lab3.autocast(device):
            logits, targets = masked_forward(frozen, z, mask, mask_token_id)
            losses.append(mvtm_loss(logits, targets, mask))
    if not losses:
        raise ValueError("loader")
    return float(torch.stack(losses).float().mean())
''')

right(EVAL, "exit-stack", '''
from contextlib import ExitStack


class Mean:
    def __init__(self):
        self.sum, self.n = 0.0, 0

    def add(self, value):
        self.sum, self.n = self.sum + float(value), self.n + 1

    def __float__(self):
        if self.n == 0:
            raise ValueError("mean of an empty loader")
        return self.sum / self.n


def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    mean = Mean()
    with ExitStack() as stack:
        for name, module in transformer.named_modules():
            stack.callback(setattr, module, "training", module.training)
        grad = torch.is_grad_enabled()
        stack.callback(torch.set_grad_enabled, grad)
        torch.set_grad_enabled(False)
        transformer.train(False)
        for i, batch in enumerate(loader):
            x = batch.to(device)
            hidden = sample_mask(len(x), x.shape[-1], generator=generator, device=device)
            with lab3.autocast(device):
                mean.add(mvtm_loss(*masked_forward(transformer, x, hidden, mask_token_id), hidden))
    return float(mean)
''')

right(EVAL, "read-first", '''
def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    batches = [batch.to(device) for batch in loader]
    if not batches:
        raise ValueError("loader")

    @torch.no_grad()
    def loss_of(z):
        mask = sample_mask(batch=z.shape[0], tokens=z.shape[1], generator=generator, device=device)
        with lab3.autocast(device):
            logits, targets = masked_forward(transformer, z, mask, mask_token_id=mask_token_id)
        return mvtm_loss(logits=logits, targets=targets, mask=mask).item()

    before = {name: module.training for name, module in transformer.named_modules()}
    try:
        for module in transformer.modules():
            module.training = False
        return float(np.mean([loss_of(z) for z in batches]))
    finally:
        for name, module in transformer.named_modules():
            module.training = before[name]
''')

right(EVAL, "written-out", """
@torch.no_grad()
def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    if len(loader) == 0:
        raise ValueError("the loader holds no batch")
    modes, total = [(module, module.training) for module in transformer.modules()], 0.0
    transformer.eval()
    try:
        for z in loader:
            z = z.to(device)
            mask = sample_mask(*z.shape, generator=generator, device=device)
            with lab3.autocast(device):
                logits = transformer(torch.where(mask, mask_token_id, z))[..., :mask_token_id]
            total += F.cross_entropy(logits[mask].float(), z[mask]).item()
    finally:
        for module, mode in modes:
            module.training = mode
    return total / len(loader)
""")

right(EVAL, "loss-by-hand", """
def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    from lab3 import autocast
    modes, losses = {module: module.training for module in transformer.modules()}, []
    try:
        transformer.eval()
        with torch.no_grad(), autocast(device):
            for z in loader:
                z = z.to(device)
                mask = sample_mask(*z.shape, generator=generator, device=device)
                logits, targets = masked_forward(transformer, z, mask, mask_token_id)
                log_p = logits.double().log_softmax(-1).gather(-1, targets[..., None])[..., 0]
                losses.append(-log_p[mask].mean().item())
        return sum(losses) / len(losses)
    except ZeroDivisionError:
        raise ValueError("loader is empty") from None
    finally:
        for module, mode in modes.items():
            module.training = mode
""")

right(EVAL, "generator-put-back", """
def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    state = None if generator is None else generator.get_state()
    modes, losses = [module.training for module in transformer.modules()], []
    transformer.eval()
    try:
        with torch.no_grad():
            for z in loader:
                z = z.to(device)
                mask = sample_mask(*z.shape, generator=generator, device=device)
                with lab3.autocast(device):
                    logits, targets = masked_forward(transformer, z, mask, mask_token_id)
                    losses.append(mvtm_loss(logits[mask][None], targets[mask][None]).item())
    finally:
        for module, mode in zip(transformer.modules(), modes):
            module.training = mode
        if state is not None:
            generator.set_state(state)
    if not losses:
        raise ValueError("loader")
    return sum(losses) / len(losses)
""")

# Right answers: schedules

right(GAMMA, "branches", '''
def gamma_func(mode="cosine"):
    if mode == "linear":
        return lambda ratio: 1 - ratio
    elif mode == "cosine":
        return lambda ratio: np.cos(ratio * np.pi / 2)
    elif mode == "square":
        return lambda ratio: 1 - ratio ** 2
    raise ValueError(f"mode: {mode} is not linear, cosine or square")
''')

right(GAMMA, "callable-class", '''
class Gamma:
    """A schedule as an object."""

    MODES = ("linear", "cosine", "square")

    def __init__(self, mode):
        if mode not in self.MODES:
            raise ValueError(f"mode must be in {self.MODES}")
        self.mode = mode

    def __call__(self, ratio):
        r = np.asarray(ratio, dtype=np.float64)
        y = {"linear": 1 - r, "cosine": np.cos(np.pi / 2 * r), "square": 1 - np.square(r)}[self.mode]
        return float(y) if y.ndim == 0 else y


def gamma_func(mode="cosine"):
    return Gamma(mode)
''')

right(GAMMA, "match-and-types", '''
import functools
from typing import Callable


def _power(r, p):
    return 1.0 - r**p


def gamma_func(mode: str = "cosine") -> Callable:
    match mode:
        case "linear":
            return functools.partial(_power, p=1)
        case "square":
            return functools.partial(_power, p=2)
        case "cosine":
            def gamma(r):
                return math.cos(0.5 * math.pi * r) if isinstance(r, float) else np.cos(0.5 * np.pi * r)
            return gamma
        case _:
            raise ValueError("unknown mode " + repr(mode))
''')

right(GAMMA, "sine-and-product", '''
def gamma_func(mode="cosine"):
    def linear(r):
        return 1 - r

    def cosine(r):
        return np.sin(np.pi / 2 * (1 - r))

    def square(r):
        return (1 - r) * (1 + r)

    found = locals().get(mode) if mode in ("linear", "cosine", "square") else None
    if found is None:
        raise ValueError(f"no such mode: {mode}")
    return found
''')

right(GAMMA, "clipped", '''
def gamma_func(mode="cosine"):
    table = {"linear": (lambda r: 1 - r), "cosine": lambda r: np.cos(r * math.pi / 2), "square": lambda r: 1 - r * r}
    f = table.get(mode)
    if f is None:
        raise ValueError(f"mode must be one of {[*table]}")

    def gamma(r):
        out = np.clip(f(np.asarray(r, dtype=np.float64)), 0.0, 1.0)
        return out if np.ndim(r) else out.item()

    return gamma
''')

# Right answers: one step of inpainting

right(STEP, "gumbel-max-and-inf", '''
def gumbel_like(t, generator):
    u = torch.rand(t.shape, generator=generator, device=t.device).clamp(1e-10, 1 - 1e-7)
    return -torch.log(-torch.log(u))


def inpainting(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, mask_token_id,
               sampling="categorical", generator=None):
    if ratio <= 0 or ratio > 1:
        raise ValueError("ratio must be in (0, 1]")
    if sampling not in ["categorical", "argmax"]:
        raise ValueError("sampling must be categorical or argmax")
    with torch.no_grad():
        inputs = torch.where(mask, torch.full_like(z_indices, mask_token_id), z_indices)
        logits = transformer(inputs)[..., :mask_token_id].float()
        log_p = F.log_softmax(logits, dim=-1)
        if sampling == "argmax":
            z_new = log_p.argmax(-1)
        else:
            z_new = (log_p + gumbel_like(log_p, generator)).argmax(-1)
        confidence = log_p.gather(-1, z_new.unsqueeze(-1)).squeeze(-1)
        confidence = confidence + choice_temperature * (1 - ratio) * gumbel_like(confidence, generator)
        confidence = confidence.masked_fill(~mask, float("inf"))
        z_predict = torch.where(mask, z_new, z_indices)
        next_mask = torch.zeros_like(mask)
        for b in range(mask.shape[0]):
            hidden = int(mask[b].sum())
            keep = math.floor(float(gamma(ratio)) * int(n_hidden[b]))
            keep = max(0, min(keep, hidden - 1)) if ratio < 1 else 0
            order = torch.argsort(confidence[b])
            next_mask[b, order[:keep]] = True
    return z_predict, next_mask & mask
''')

right(STEP, "inverse-cdf", '''
@torch.no_grad()
def inpainting(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, mask_token_id,
               sampling="categorical", generator=None):
    """Draws codes by the inverse of the cumulative sum."""
    if not (ratio > 0 and ratio <= 1):
        raise ValueError(f"ratio={ratio}")
    if sampling != "categorical" and sampling != "argmax":
        raise ValueError(f"sampling={sampling}")
    B, T = z_indices.shape
    seen = z_indices.clone()
    seen[mask] = mask_token_id
    logits = transformer(seen)[:, :, :mask_token_id].double()
    probs = torch.softmax(logits, -1)
    if sampling == "argmax":
        codes = probs.max(-1).indices
    else:
        cdf = probs.cumsum(-1)
        u = torch.rand(B, T, 1, generator=generator, device=mask.device, dtype=torch.float64) * cdf[..., -1:]
        codes = torch.searchsorted(cdf, u, right=True).squeeze(-1).clamp(max=mask_token_id - 1)
    z_predict = torch.where(mask, codes, z_indices)
    p = probs.gather(-1, codes[..., None])[..., 0]
    e = torch.empty(B, T, device=mask.device, dtype=torch.float64).exponential_(generator=generator)
    sure = p.clamp(min=1e-300).log() - choice_temperature * (1 - ratio) * e.clamp(min=1e-300).log()
    sure = torch.where(mask, sure, math.inf)
    now = mask.sum(1)
    k = (gamma(ratio) * n_hidden.double()).floor().long()
    k = torch.where(now > 0, torch.minimum(k, now - 1), 0)
    if ratio == 1.0:
        k = k * 0
    stays = torch.arange(T, device=mask.device).unsqueeze(0) < k.unsqueeze(1)
    next_mask = torch.zeros_like(mask)
    next_mask.scatter_(1, sure.argsort(dim=1), stays)
    return z_predict, next_mask
''')

right(STEP, "rows-in-numpy", '''
def inpainting(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, mask_token_id,
               sampling="categorical", generator=None):
    if not 0 < ratio <= 1:
        raise ValueError("ratio not in (0, 1]")
    if sampling not in {"categorical", "argmax"}:
        raise ValueError("unknown sampling")
    device = z_indices.device
    logits = transformer(z_indices.masked_fill(mask, mask_token_id))
    logits = logits.detach().float().cpu().numpy().astype(np.float64)[:, :, :mask_token_id]
    logits -= logits.max(axis=-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    seed = torch.randint(2**62, (1,), generator=generator, device=device).item()
    rng = np.random.default_rng(seed)
    z, hidden = z_indices.cpu().numpy().copy(), mask.cpu().numpy()
    stay = np.zeros_like(hidden)
    for b in range(len(z)):
        confidences = {}
        for t in np.flatnonzero(hidden[b]):
            if sampling == "argmax":
                code = int(np.argmax(log_p[b, t]))
            else:
                p = np.exp(log_p[b, t])
                code = int(rng.choice(mask_token_id, p=p / p.sum()))
            z[b, t] = code
            confidences[t] = log_p[b, t, code] + choice_temperature * (1 - ratio) * rng.gumbel()
        if not confidences or ratio == 1:
            continue
        k = min(int(np.floor(gamma(ratio) * float(n_hidden[b]))), len(confidences) - 1)
        for t in sorted(confidences, key=confidences.get)[:k]:
            stay[b, t] = True
    return torch.from_numpy(z).to(device), torch.from_numpy(stay).to(device)
''')

right(STEP, "multinomial-and-topk", '''
def inpainting(transformer, z_indices, mask, ratio, n_hidden, gamma, choice_temperature, mask_token_id,
               sampling="categorical", generator=None):
    assert mask.shape == z_indices.shape
    if not 0.0 < ratio <= 1.0:
        raise ValueError(f"ratio {ratio} must be > 0 and <= 1")
    B, T = mask.shape
    V = mask_token_id
    logits = transformer(z_indices.masked_fill(mask, V)).detach()[..., :V]
    probs = logits.float().softmax(-1)
    match sampling:
        case "categorical":
            flat = torch.multinomial(probs.reshape(B * T, V), num_samples=1, replacement=True, generator=generator)
            drawn = flat.view(B, T)
        case "argmax":
            drawn = torch.argmax(probs, dim=-1)
        case _:
            raise ValueError(f"sampling {sampling}")
    z_predict = z_indices * ~mask + drawn * mask
    chosen = logits.float().log_softmax(-1).gather(2, drawn.unsqueeze(2)).squeeze(2)
    u = torch.rand(B, T, generator=generator, device=mask.device)
    eps = torch.finfo(u.dtype).tiny
    noise = -torch.log(-torch.log(u + eps) + eps)
    score = chosen + (choice_temperature * (1.0 - ratio)) * noise
    next_mask = mask.clone()
    for b in range(B):
        n_now = mask[b].sum().item()
        if n_now == 0:
            continue
        n_next = 0 if ratio == 1 else min(math.floor(gamma(ratio) * n_hidden[b].item()), n_now - 1)
        reveal = torch.topk(score[b].masked_fill(~mask[b], -torch.inf), n_now - n_next).indices
        next_mask[b, reveal] = False
    return z_predict, next_mask
''')

right(STEP, "sorted-ranks-double", '''
def inpainting(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, mask_token_id,
               sampling="categorical", generator=None):
    """Codes by the exponential race, places by a double sort."""
    codes = {
        "argmax": lambda log_p: log_p.argmax(dim=-1),
        "categorical": lambda log_p: (
            log_p - torch.empty_like(log_p).exponential_(generator=generator).log()).argmax(dim=-1),
    }
    if sampling not in codes:
        raise ValueError(f"sampling must be one of {list(codes)}")
    if ratio <= 0.0 or 1.0 < ratio:
        raise ValueError("ratio must be above 0 and at most 1")
    with torch.inference_mode():
        logits = transformer(torch.where(mask, mask_token_id, z_indices))
        log_p = logits[..., :mask_token_id].to(torch.float64).log_softmax(-1)
        drawn = codes[sampling](log_p)
        confidence = torch.take_along_dim(log_p, drawn[..., None], -1)[..., 0]
        gumbel = -torch.empty_like(confidence).exponential_(generator=generator).log()
        if choice_temperature > 0 and ratio < 1:
            confidence = confidence + choice_temperature * (1 - ratio) * gumbel
        confidence[~mask] = torch.finfo(confidence.dtype).max
        _, order = torch.sort(confidence, dim=1, stable=True)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(mask.size(1)).expand_as(order))
        hidden = mask.sum(1)
        keep = torch.floor(n_hidden.double() * float(gamma(ratio))).to(torch.long)
        keep = keep.minimum(hidden - 1).clamp_min(0) * int(ratio < 1)
    z_predict = z_indices.clone()
    z_predict[mask] = drawn.clone()[mask]
    return z_predict, (rank.clone() < keep.clone()[:, None]) & mask
''')

# Right answers: decoding

right(DECODE, "by-position", '''
def iterative_decode(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                     mask_token_id, sampling="categorical", generator=None):
    if total_iter < 1:
        raise ValueError("total_iter must be >= 1")
    if sweet_spot is None:
        sweet_spot = total_iter
    if sweet_spot < 1 or sweet_spot > total_iter:
        raise ValueError("sweet_spot must be in 1..total_iter")
    z, m = z_indices.clone(), mask.clone()
    z[m] = mask_token_id
    n_hidden = m.sum(-1)
    history = []
    for t in range(sweet_spot):
        ratio = (t + 1) / total_iter
        z_predict, next_mask = inpainting(
            transformer, z, m, ratio, n_hidden, gamma=gamma, choice_temperature=choice_temperature,
            mask_token_id=mask_token_id, sampling=sampling, generator=generator)
        history.append((z_predict.clone(), next_mask.clone()))
        z = torch.where(next_mask, mask_token_id, z_predict)
        m = next_mask
    return torch.where(m, z_predict, z), history
''')

right(DECODE, "options-and-dataclass", '''
from dataclasses import dataclass
from functools import partial


@dataclass
class State:
    z: torch.Tensor
    mask: torch.Tensor


def iterative_decode(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                     mask_token_id, sampling="categorical", generator=None):
    """Calls inpainting by keywords."""
    if not total_iter >= 1:
        raise ValueError(f"total_iter = {total_iter}")
    if sweet_spot is not None and sweet_spot not in range(1, total_iter + 1):
        raise ValueError(f"sweet_spot = {sweet_spot}")
    if sampling not in ("categorical", "argmax"):
        raise ValueError(f"sampling = {sampling}")
    step = partial(inpainting, transformer, gamma=gamma, choice_temperature=choice_temperature,
                   mask_token_id=mask_token_id, sampling=sampling, generator=generator)
    counts = torch.count_nonzero(mask, dim=1)
    states = [State(z_indices, mask)]
    for i in range(1, (sweet_spot or total_iter) + 1):
        last = states[-1]
        states.append(State(*step(z_indices=last.z, mask=last.mask, ratio=i / total_iter, n_hidden=counts)))
    return states[-1].z, [(state.z, state.mask) for state in states[1:]]
''')

right(DECODE, "self-contained", '''
@torch.no_grad()
def iterative_decode(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                     mask_token_id, sampling="categorical", generator=None):
    """Everything in one function; skips the transformer where nothing is hidden any more."""
    if total_iter < 1:
        raise ValueError("total_iter")
    n_steps = total_iter if sweet_spot is None else sweet_spot
    if n_steps < 1 or n_steps > total_iter:
        raise ValueError("sweet_spot")
    if sampling not in ("categorical", "argmax"):
        raise ValueError("sampling")
    device = z_indices.device
    z = z_indices.clone()
    hidden = mask.clone()
    n_0 = mask.sum(dim=1).tolist()
    history = []
    for t in range(n_steps):
        r = (t + 1) / total_iter
        if hidden.any():
            logits = transformer(z.masked_fill(hidden, mask_token_id))[:, :, :mask_token_id].float()
            log_p = logits - logits.logsumexp(-1, keepdim=True)
            if sampling == "categorical":
                u = torch.rand(log_p.shape, generator=generator, device=device).clamp(min=1e-20)
                new = (log_p - torch.log(-torch.log(u))).argmax(-1)
            else:
                new = log_p.argmax(-1)
            z = torch.where(hidden, new, z)
            conf = log_p.gather(2, new[:, :, None])[:, :, 0]
            u = torch.rand(conf.shape, generator=generator, device=device).clamp(min=1e-20)
            conf = conf + choice_temperature * (1 - r) * -torch.log(-torch.log(u))
            following = torch.zeros_like(hidden)
            for b in range(len(z)):
                where = hidden[b].nonzero().flatten()
                if len(where) and t + 1 < total_iter:
                    k = min(int(gamma(r) * n_0[b]), len(where) - 1)
                    following[b, where[conf[b, where].argsort()[:k]]] = True
            hidden = following
        history.append((z.clone(), hidden.clone()))
    return z, history
''')

right(DECODE, "decorated-loop", '''
import functools
import time
from collections import namedtuple

Entry = namedtuple("Entry", "z_predict next_mask")
SECONDS = []


def timed(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        start = time.time()
        try:
            return function(*args, **kwargs)
        finally:
            SECONDS.append(time.time() - start)
            print(f"{function.__name__}: {SECONDS[-1]:.2f} s")
    return inner


@timed
def iterative_decode(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                     mask_token_id, sampling="categorical", generator=None):
    if total_iter < 1:
        raise ValueError(f"total_iter is {total_iter}")
    if sweet_spot is not None and not (1 <= sweet_spot <= total_iter):
        raise ValueError(f"sweet_spot is {sweet_spot}")
    options = dict(gamma=gamma, choice_temperature=choice_temperature, mask_token_id=mask_token_id,
                   sampling=sampling, generator=generator)
    n_hidden = mask.long().sum(dim=1)
    history = []
    z, hidden = z_indices, mask
    t = 0
    while True:
        z, hidden = inpainting(transformer, z, hidden, (t + 1) / total_iter, n_hidden, **options)
        history.append(Entry(z, hidden))
        t += 1
        if t == total_iter or t == sweet_spot:
            break
    return history[-1].z_predict, history
''')

right(DECODE, "padded-history", '''
def iterative_decode(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                     mask_token_id, sampling="categorical", generator=None):
    """Stops when nothing is hidden any more, and fills history up."""
    if total_iter < 1:
        raise ValueError("total_iter must be at least 1")
    steps = sweet_spot if sweet_spot is not None else total_iter
    if steps < 1 or steps > total_iter:
        raise ValueError("sweet_spot must be from 1 to total_iter")
    if sampling not in ("categorical", "argmax"):
        raise ValueError("sampling must be categorical or argmax")
    n_hidden, z, history = mask.sum(1), z_indices, []
    ratios = np.linspace(0, 1, total_iter + 1)[1:]
    for ratio in ratios[:steps].tolist():
        if not mask.any():
            break
        z, mask = inpainting(transformer, z, mask, ratio, n_hidden, gamma=gamma, mask_token_id=mask_token_id,
                             choice_temperature=choice_temperature, sampling=sampling, generator=generator)
        history.append((z, mask))
    history.extend([(z, mask)] * (steps - len(history)))
    return z, history
''')

right(DECODE, "names-kept-at-the-start", '''
from __future__ import annotations  # types as texts

one_step = inpainting


def iterative_decode(transformer: Model, z_indices: Tokens, mask: Mask, *, gamma, total_iter, sweet_spot=None,
                     choice_temperature=4.5, mask_token_id, sampling="categorical", generator=None) -> tuple:
    if not 0 < total_iter:
        raise ValueError("total_iter >= 1")
    if sweet_spot is None:
        sweet_spot = total_iter
    if sweet_spot not in range(1, total_iter + 1):
        raise ValueError("1 <= sweet_spot <= total_iter")
    state, history = (z_indices, mask), []
    hidden = mask.count_nonzero(dim=1)
    while len(history) < sweet_spot:
        state = one_step(transformer, *state, (len(history) + 1) / total_iter, hidden, gamma=gamma,
                         choice_temperature=choice_temperature, mask_token_id=mask_token_id, sampling=sampling,
                         generator=generator)
        history.append(state)
    return state[0], history
''')

# Right answers: the distance

right(DISTANCE, "two-roots", '''
def sqrt_psd(a):
    w, v = np.linalg.eigh((a + a.T) / 2)
    return (v * np.sqrt(np.maximum(w, 0))) @ v.T


def frechet_distance(mu1, sigma1, mu2, sigma2):
    if mu1.shape != mu2.shape:
        raise ValueError("mu1 and mu2 have different shapes")
    if sigma1.shape != sigma2.shape:
        raise ValueError("sigma1 and sigma2 have different shapes")
    if sigma1.shape != (mu1.shape[0], mu1.shape[0]):
        raise ValueError("sigma1, sigma2 must be (d, d) where mu1, mu2 are (d,)")
    root = sqrt_psd(sigma1)
    cross = sqrt_psd(root @ sigma2 @ root)
    diff = mu1 - mu2
    return float(diff @ diff + np.trace(sigma1 + sigma2 - 2 * cross))
''')

right(DISTANCE, "nuclear-norm", '''
def frechet_distance(mu1, sigma1, mu2, sigma2):
    """tr((s1 s2)^(1/2)) is the sum of the singular values of s1^(1/2) s2^(1/2)."""
    d = np.shape(mu1)[0]
    for name, value, shape in (("mu1", mu1, (d,)), ("mu2", mu2, (d,)), ("sigma1", sigma1, (d, d)),
                               ("sigma2", sigma2, (d, d))):
        if np.shape(value) != shape:
            raise ValueError(f"{name} has shape {np.shape(value)}, not {shape}")
    roots = []
    for sigma in (sigma1, sigma2):
        u, s, _ = np.linalg.svd(sigma, hermitian=True)
        roots.append(u * np.sqrt(s) @ u.T)
    trace = np.linalg.norm(roots[0] @ roots[1], ord="nuc")
    return np.sum(np.square(mu1 - mu2)) + np.trace(sigma1) + np.trace(sigma2) - 2 * trace
''')

right(DISTANCE, "sqrtm-with-offset", '''
from scipy import linalg


def frechet_distance(mu1, sigma1, mu2, sigma2, eps=1e-10):
    """As in the well-known implementations, with a small offset where the root fails."""
    mu1, mu2 = np.atleast_1d(mu1), np.atleast_1d(mu2)
    sigma1, sigma2 = np.atleast_2d(sigma1), np.atleast_2d(sigma2)
    if mu1.shape != mu2.shape:
        raise ValueError("mu1, mu2: mean vectors have different lengths")
    if sigma1.shape != sigma2.shape or sigma1.shape != (len(mu1), len(mu1)):
        raise ValueError("sigma1, sigma2: covariances have different dimensions")
    diff = mu1 - mu2
    covmean = linalg.sqrtm(sigma1.dot(sigma2))
    if not np.isfinite(covmean).all():
        offset = np.eye(sigma1.shape[0]) * eps
        covmean = linalg.sqrtm((sigma1 + offset).dot(sigma2 + offset))
    if np.iscomplexobj(covmean):
        covmean = covmean.real
    return diff.dot(diff) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(covmean)
''')

right(DISTANCE, "general-eigenvalues", '''
import scipy.linalg


def frechet_distance(mu1, sigma1, mu2, sigma2):
    shapes = [np.shape(a) for a in (mu1, sigma1, mu2, sigma2)]
    d = len(mu1)
    if shapes != [(d,), (d, d), (d,), (d, d)]:
        raise ValueError("mu1, sigma1, mu2, sigma2: shapes %s do not match" % shapes)
    values = scipy.linalg.eigvals(sigma1 @ sigma2).real
    values[values < 0] = 0
    return float(np.linalg.norm(mu1 - mu2) ** 2 + sigma1.trace() + sigma2.trace() - 2 * np.sqrt(values).sum())
''')

right(DISTANCE, "in-torch", '''
def frechet_distance(mu1, sigma1, mu2, sigma2):
    m1, s1, m2, s2 = (torch.from_numpy(np.ascontiguousarray(a)).double() for a in (mu1, sigma1, mu2, sigma2))
    if m1.ndim != 1 or m1.shape != m2.shape:
        raise ValueError("mu1 and mu2 must be vectors of one length")
    n = m1.numel()
    if tuple(s1.shape) != (n, n) or tuple(s2.shape) != (n, n):
        raise ValueError("sigma1 and sigma2 must be square, as long as the means")
    w, v = torch.linalg.eigh(s1)
    half = v * w.clamp(min=0).sqrt()  # half @ half.T == s1
    inner = torch.linalg.eigvalsh(half.T @ s2 @ half).clamp(min=0).sqrt().sum()
    return ((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * inner).item()
''')

right(DISTANCE, "cholesky-where-it-goes", '''
def frechet_distance(mu1, sigma1, mu2, sigma2):
    d = len(mu1)
    if not (mu1.shape == mu2.shape == (d,)) or not (sigma1.shape == sigma2.shape == (d, d)):
        raise ValueError("mu or sigma: shapes do not match")
    try:
        half = np.linalg.cholesky(sigma1)
    except np.linalg.LinAlgError:
        w, v = np.linalg.eigh(sigma1)
        half = v * np.sqrt(np.clip(w, 0, None))
    e = np.linalg.eigvalsh(half.T @ sigma2 @ half)
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * np.sqrt(np.abs(e)).sum())
''')

# Wrong answers: attention

DROPPED = "weights = self.attn_drop(scores.softmax(dim=-1))"

wrong(ATTENTION, "without-bias", "the bias keys of query, key and value are missing in the state_dict",
      ("self.query = nn.Linear(dim, dim)", "self.query = nn.Linear(dim, dim, bias=False)"),
      ("self.key = nn.Linear(dim, dim)", "self.key = nn.Linear(dim, dim, bias=False)"),
      ("self.value = nn.Linear(dim, dim)", "self.value = nn.Linear(dim, dim, bias=False)"))
wrong(ATTENTION, "one-layer-for-three", "one layer qkv instead of query, key and value: checkpoints do not fit",
      ("q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))",
       "q, k, v = map(heads, self.qkv(x).chunk(3, dim=-1))"),
      ("        self.value = nn.Linear(dim, dim)\n", "        self.qkv = nn.Linear(dim, 3 * dim)\n"),
      ("        self.query = nn.Linear(dim, dim)\n        self.key = nn.Linear(dim, dim)\n", ""))
wrong(ATTENTION, "shared-key-and-value", "key and value are the same layer: a checkpoint's key is overwritten",
      ("self.value = nn.Linear(dim, dim)", "self.value = self.key"))
wrong(ATTENTION, "values-and-keys-exchanged", "the layer value makes the keys, and the other way round",
      ("heads(self.key(x)), heads(self.value(x))", "heads(self.value(x)), heads(self.key(x))"))
wrong(ATTENTION, "places-counted-in", "works for 256 tokens alone, but T is free",
      ("y.view(B, T, ", "y.view(B, 256, "), (".reshape(B, T, D)", ".reshape(B, 256, D)"))
wrong(ATTENTION, "squeezed", "a batch of one row loses its axis",
      ("self.output(mixed)", "self.output(mixed).squeeze(0)"))
wrong(ATTENTION, "residual", "the input is added, which the transformer around it does",
      ("return self.output(mixed)", "return x + self.output(mixed)"))
wrong(ATTENTION, "heads-averaged", "all heads use the mean of their weights",
      (DROPPED, DROPPED + "\n        weights = weights.mean(dim=1, keepdim=True)"))
wrong(ATTENTION, "renormalised", "the weights are normalised again after the dropout",
      (DROPPED, DROPPED + "\n        weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-9)"))
wrong(ATTENTION, "other-defaults", "num_heads is 12 by default", ("num_heads=16", "num_heads=12"))
wrong(ATTENTION, "dropout-default", "attn_drop is 0.0 by default", ("attn_drop=0.1", "attn_drop=0.0"))
wrong(ATTENTION, "assert-for-heads", "an AssertionError for dim % num_heads, where a ValueError is owed",
      ("        if dim % num_heads:\n            raise ValueError(f\"dim ({dim}) must be a multiple of num_heads "
       "({num_heads})\")\n", "        assert dim % num_heads == 0, 'dim and num_heads'\n"))
wrong(ATTENTION, "drop-as-a-number", "attn_drop is a number and no nn.Dropout",
      ("self.attn_drop = nn.Dropout(attn_drop)", "self.attn_drop = attn_drop"),
      ("self.attn_drop(scores.softmax(dim=-1))", "F.dropout(scores.softmax(dim=-1), self.attn_drop, self.training)"))
wrong(ATTENTION, "scale-of-the-whole", "the root of dim, in a style of its own",
      ("(dim / num_heads) ** -0.5", "dim ** -0.5"),
      of="fused-weights")
wrong(ATTENTION, "fused-in-another-order", "the three parts of the fused product are taken in another order",
      ("[self.query, self.key, self.value]\n", "[self.key, self.query, self.value]\n"), of="fused-weights")

# Wrong answers: masks

wrong(MASK, "float-as-float32", "a float ratio is taken in float32 before it is multiplied",
      ("torch.as_tensor(ratio, dtype=torch.float64, device=device)", "torch.as_tensor(ratio, device=device).double()"),
      of="scatter-of-order")
wrong(MASK, "bernoulli-by-default", "prob_type is bernoulli by default", ('prob_type="topk"', 'prob_type="bernoulli"'))
wrong(MASK, "zero-means-none", "a ratio of 0 is taken for None, and one is drawn",
      ("    if ratio is None:", "    if not torch.is_tensor(ratio) and not ratio:"))
wrong(MASK, "zero-refused", "ratio 0 is allowed: one token is hidden then", ("((ratio >= 0) &", "((ratio > 0) &"))
wrong(MASK, "one-refused", "ratio 1 is allowed: every token is hidden then", ("(ratio <= 1))", "(ratio < 1))"))
wrong(MASK, "negative-accepted", "a negative ratio is not refused", ("((ratio >= 0) & (ratio <= 1))", "(ratio <= 1)"))
wrong(MASK, "first-row-looked-at", "only the first row's ratio is looked at",
      ("if not ((ratio >= 0) & (ratio <= 1)).all():", "if not 0 <= float(ratio.flatten()[0]) <= 1:"))
wrong(MASK, "block", "the hidden places are neighbours, not at random places",
      ("    rank = scores.argsort(dim=1).argsort(dim=1)\n",
       "    rank = (torch.arange(tokens, device=device) + (scores[:, :1] * tokens).long()) % tokens\n"))
wrong(MASK, "with-replacement", "places are drawn with replacement: rows hide too few",
      text="""
def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    if prob_type not in ("topk", "bernoulli"):
        raise ValueError("prob_type")
    if ratio is None:
        ratio = torch.rand(batch, generator=generator, device=device)
    ratio = torch.as_tensor(ratio, dtype=torch.float64, device=device).expand(batch)
    if (ratio < 0).any() or (ratio > 1).any():
        raise ValueError("ratio")
    if prob_type == "bernoulli":
        return torch.rand(batch, tokens, generator=generator, device=device) < ratio[:, None]
    mask = torch.zeros(batch, tokens, dtype=torch.bool, device=device)
    for b in range(batch):
        n = max(1, math.ceil(float(ratio[b]) * tokens))
        mask[b, torch.randint(tokens, (n,), generator=generator, device=device)] = True
    return mask
""")
wrong(MASK, "rounded-up-by-one", "int(...) + 1 is one too many where the product is a whole number",
      ("(ratio * tokens).ceil().clamp(min=1)", "((ratio * tokens).floor() + 1).clamp(max=tokens)"))
wrong(MASK, "one-always-known", "never hides all tokens", (".clamp(min=1)", ".clamp(min=1, max=tokens - 1)"))
wrong(MASK, "bernoulli-with-one-hidden", "bernoulli forces a hidden token into each row",
      ("        return scores < ratio\n",
       "        return (scores < ratio) | (scores == scores.amin(dim=1, keepdim=True))\n"))
wrong(MASK, "bernoulli-one-ratio", "where no ratio is given, bernoulli draws one for the whole batch",
      (RATIO_ROWS, RATIO_ROWS + "\n        if prob_type == 'bernoulli':\n            ratio = ratio[:1].expand(batch)"))
wrong(MASK, "half-and-more", "the ratio is drawn from [0.5, 1)", (RATIO_ROWS, RATIO_ROWS + " * 0.5 + 0.5"))
wrong(MASK, "seeded-inside", "without a generator every call gives the same mask",
      ("    if ratio is None:",
       "    if generator is None:\n        generator = torch.Generator(device).manual_seed(0)\n"
       "    if ratio is None:"))
wrong(MASK, "ratio-in-place", "the ratio tensor is changed in place",
      ("    n_hidden = (ratio * tokens).ceil()", "    n_hidden = ratio.mul_(tokens).ceil()"),
      ("ratio = ratio.expand(batch)[:, None]", "ratio = (ratio if ratio.ndim else ratio.repeat(batch))[:, None]"))
wrong(MASK, "bernoulli-transposed", "bernoulli with a ratio for each row works for square masks alone",
      ("        return scores < ratio\n", "        return scores < ratio[:, 0]\n"))
wrong(MASK, "rounded", "rounds to the nearest in a loop over rows", ("math.ceil(", "round("), of="randperm-rows")

wrong(MASK, "tensor-in-float32", "the product of a float32 tensor ratio and tokens is taken in float32",
      ("    ratio = torch.as_tensor(", "    given = ratio\n    ratio = torch.as_tensor("),
      ("(ratio * tokens)", "((given * tokens)[:, None] if torch.is_tensor(given) else ratio * tokens)"))

# Wrong answers: the masked forward pass

INPUTS = "z_indices.masked_fill(mask, mask_token_id)"

wrong(FORWARD, "targets-of-known-ignored", "the targets of known places are -100, not the real tokens",
      (", z_indices\n", ", z_indices.masked_fill(~mask, -100)\n"))
wrong(FORWARD, "targets-as-floats", "the targets are floats", (", z_indices\n", ", z_indices.float()\n"))
wrong(FORWARD, "targets-as-int32", "the targets are int32", (", z_indices\n", ", z_indices.int()\n"))
wrong(FORWARD, "exchanged", "targets and logits are returned in the other order",
      ("return logits[..., :mask_token_id], z_indices", "return z_indices, logits[..., :mask_token_id]"))
wrong(FORWARD, "flattened", "logits and targets lose the axes B and T",
      ("return logits[..., :mask_token_id], z_indices",
       "return logits[..., :mask_token_id].flatten(0, 1), z_indices.flatten()"))
wrong(FORWARD, "codes-in-the-middle", "the codebook axis comes second",
      ("logits[..., :mask_token_id]", "logits[..., :mask_token_id].transpose(1, 2)"))
wrong(FORWARD, "hidden-only", "only hidden tokens come back",
      ("return logits[..., :mask_token_id], z_indices", "return logits[..., :mask_token_id][mask], z_indices[mask]"))
wrong(FORWARD, "no-grad", "no gradient reaches the transformer", ("#| exercise: masked_forward\n", (
    "#| exercise: masked_forward\n@torch.no_grad()\n")))
wrong(FORWARD, "v-is-1024", "V is written as a number", ("mask_token_id))\n", "1024))\n"),
      ("[..., :mask_token_id]", "[..., :1024]"))
wrong(FORWARD, "minus-infinity", "the mask token's logit is made -inf, not dropped",
      ("logits[..., :mask_token_id]",
       "torch.cat([logits[..., :-1], torch.full_like(logits[..., -1:], -math.inf)], -1)"))
wrong(FORWARD, "as-bert", "a tenth of the hidden places keeps its token, another gets a random one",
      (INPUTS, "torch.where(torch.rand(z_indices.shape) < 0.8, " + INPUTS + ", z_indices)"))
wrong(FORWARD, "needs-a-module", "asks the transformer for its parameters, but any callable is allowed",
      ("    logits = transformer(", "    device = next(transformer.parameters()).device\n    logits = transformer("))
wrong(FORWARD, "mask-passed-on", "the transformer is called with the mask as well", (INPUTS, INPUTS + ", mask"))

wrong(FORWARD, "squeezed", "the logits of one row lose their first axis",
      ("return logits[..., :mask_token_id]", "return logits[..., :mask_token_id].squeeze(0)"))

# Wrong answers: the loss

wrong(LOSS, "smoothing-over-others", "the smoothed share goes to the V - 1 other codes",
      ("label_smoothing / V)", "label_smoothing / (V - 1))"),
      ("1 - label_smoothing))", "1 - label_smoothing - label_smoothing / (V - 1)))"), of="smoothing-by-hand")
wrong(LOSS, "smoothing-with-a-mask-only", "label_smoothing is not used where mask is None",
      ("label_smoothing=label_smoothing)", "label_smoothing=0.0 if mask is None else label_smoothing)"))
wrong(LOSS, "smoothing-without-a-mask-only", "label_smoothing is not used where a mask is given",
      ("label_smoothing=label_smoothing)", "label_smoothing=label_smoothing if mask is None else 0.0)"))
wrong(LOSS, "smoothing-by-default", "label_smoothing is 0.1 by default", ("label_smoothing=0.0", "label_smoothing=0.1"))
wrong(LOSS, "plain-zero", "0.0 without a gradient where nothing is hidden",
      ("return logits.float().sum()", "return torch.tensor(0.0, device=logits.device)"))
wrong(LOSS, "nothing-hidden-all-counted", "counts all tokens where none is hidden",
      ("    if mask is not None:", "    if mask is not None and mask.any():"))
wrong(LOSS, "code-zero-ignored", "token 0 is taken for a known one", ("IGNORED = -100", "IGNORED = 0"),
      of="ignore-index")
wrong(LOSS, "one-more-in-the-mean", "divides by the number of hidden tokens plus 1",
      ("torch.clamp(weight.sum(), min=1.0)", "(weight.sum() + 1)"), of="sum-over-count")
wrong(LOSS, "base-two", "in bits, not in nats",
      ("return loss[mask].sum().float()", "return loss[mask].sum().float() / math.log(2)"),
      ("return loss.mean().float()", "return loss.mean().float() / math.log(2)"), of="smoothing-by-hand")
wrong(LOSS, "mask-owed", "fails where mask is None", ("    if mask is not None:", "    if mask.any():"))
wrong(LOSS, "known-logits-zeroed", "known tokens count with log V", (SELECT, (
    "    if mask is not None:\n        logits, targets = logits * mask[..., None], targets * mask\n")))
wrong(LOSS, "logits-written", "the logits of known tokens are changed in place", (SELECT, (
    "    if mask is not None:\n        logits.data[~mask] = 0\n" + SELECT.split("\n", 1)[1])))
wrong(LOSS, "clamped-probabilities", "no loss beyond 6.9: probabilities are clamped at 0.001",
      ("log_p = torch.log_softmax(logits.double(), dim=-1)",
       "log_p = torch.softmax(logits.double(), -1).clamp(min=1e-3).log()"),
      of="smoothing-by-hand")
wrong(LOSS, "rows-means", "the mean of the rows' means in a loop over rows", text="""
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    if mask is None:
        mask = torch.ones_like(targets, dtype=torch.bool)
    rows = [F.cross_entropy(l[m], t[m], label_smoothing=label_smoothing)
            for l, t, m in zip(logits, targets, mask) if m.any()]
    return torch.stack(rows).mean() if rows else logits.sum() * 0
""")

# Wrong answers: the optimizer and its schedule

wrong(OPTIMIZER, "warmup-to-the-end", "where warmup_steps == total_steps, the factor stays 1 at the end, not eta_min",
      ("        if s >= total_steps:\n            return eta_min\n", ""),
      ("        p = (s", "        p = min(1.0, (s"), ("total_steps - warmup_steps)\n        return",
                                                   "total_steps - warmup_steps))\n        return"))
wrong(OPTIMIZER, "floor", "eta_min is a floor under the cosine",
      (COSINE, "max(eta_min, 0.5 * (1 + math.cos(math.pi * p)))"))
wrong(OPTIMIZER, "straight-line", "falls along a straight line", (COSINE, "eta_min + (1 - eta_min) * (1 - p)"))
wrong(OPTIMIZER, "betas-exchanged", "the betas are exchanged", ("betas=(0.9, 0.95)", "betas=(0.95, 0.9)"))
wrong(OPTIMIZER, "other-scheduler", "SequentialLR instead of LambdaLR", (
    "torch.optim.lr_scheduler.LambdaLR(optimizer, factor)",
    "torch.optim.lr_scheduler.SequentialLR(optimizer, [torch.optim.lr_scheduler.LambdaLR(optimizer, factor)], [])"))
wrong(OPTIMIZER, "exchanged", "the scheduler comes first",
      ("    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)",
       "    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor), optimizer"))
wrong(OPTIMIZER, "last-step-early", "eta_min is reached one step too early",
      ("if s >= total_steps:", "if s >= total_steps - 1:"))
wrong(OPTIMIZER, "p-from-nought", "p starts at warmup_steps / (total_steps - warmup_steps), not at 0",
      ("p = (s - warmup_steps)", "p = s"))
wrong(OPTIMIZER, "whole-division", "// makes p 0 until the end", (") / max(1,", ") // max(1,"))
wrong(OPTIMIZER, "all-warmup-refused", "warmup_steps == total_steps is allowed",
      ("if not 0 <= warmup_steps <= total_steps:", "if not 0 <= warmup_steps < total_steps:"))
wrong(OPTIMIZER, "long-warmup-accepted", "warmup_steps above total_steps is not refused",
      ("if not 0 <= warmup_steps <= total_steps:", "if warmup_steps < 0:"))
wrong(OPTIMIZER, "negative-warmup-accepted", "a negative warmup_steps is not refused",
      ("if not 0 <= warmup_steps <= total_steps:", "if warmup_steps > total_steps:"))
wrong(OPTIMIZER, "one-step-refused", "total_steps == 1 is allowed", ("if total_steps < 1:", "if total_steps <= 1:"))
wrong(OPTIMIZER, "biases-forgotten", "parameters with one axis are not trained",
      ("model.parameters(),", "[p for p in model.parameters() if p.ndim > 1],"))
wrong(OPTIMIZER, "stepped-inside", "the scheduler starts at step 1",
      ("    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)",
       "    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)\n    scheduler.step()\n"
       "    return optimizer, scheduler"))
wrong(OPTIMIZER, "another-default", "eta_min is 0.1 by default", ("eta_min=0.0", "eta_min=0.1"))
wrong(OPTIMIZER, "eta-min-in-warmup", "the warm-up begins at eta_min", ("return s / warmup_steps",
                                                                      "return max(eta_min, s / warmup_steps)"))

# Wrong answers: training

DRAW = "mask = sample_mask(*z_indices.shape, generator=generator, device=device)"
LAST = "        losses.append(loss.detach())\n"

wrong(TRAIN, "last-batch-dropped", "a smaller last batch is left out", (f"        {DRAW}\n", (
    "        if losses and len(z_indices) < size:\n            continue\n        size = len(z_indices)\n"
    f"        {DRAW}\n")))
wrong(TRAIN, "first-batch-only", "a break from debugging is left", (LAST, LAST + "        break\n"))
wrong(TRAIN, "every-second-step", "steps after every second batch only",
      ("        optimizer.zero_grad(set_to_none=True)\n        with", (
          "        if len(losses) % 2 == 0:\n            optimizer.zero_grad(set_to_none=True)\n        with")),
      ("            loss.backward()\n            optimizer.step()\n", (
          "            loss.backward()\n            if len(losses) % 2 == 1:\n                optimizer.step()\n")))
wrong(TRAIN, "weighted-mean", "the mean is weighted by the size of the batches",
      (LAST, "        losses += [loss.detach()] * len(z_indices)\n"))
wrong(TRAIN, "bernoulli-masks", "masks by bernoulli, not by sample_mask's defaults",
      (DRAW, DRAW.replace("generator=", "prob_type='bernoulli', generator=")))
wrong(TRAIN, "mask-drawn-once", "the first batch's mask is used for all batches",
      (f"        {DRAW}\n",
       f"        if not losses:\n            first = {DRAW[7:]}\n        mask = first[:len(z_indices)]\n"))
wrong(TRAIN, "not-scaled", "the loss is not scaled, the step divides by the scale", (
    "scaler.scale(loss).backward()", "loss.backward()"))
wrong(TRAIN, "seeded-for-each-batch", "every batch gets the same draws",
      (f"        {DRAW}\n", f"        generator = torch.Generator(device).manual_seed(0)\n        {DRAW}\n"))
wrong(TRAIN, "loss-divided", "the loss is divided before backward, as for accumulated gradients",
      ("scaler.scale(loss).backward()", "scaler.scale(loss / 4).backward()"),
      ("            loss.backward()", "            (loss / 4).backward()"))
wrong(TRAIN, "scheduler-without-scaler-only", "the scheduler is not stepped where a scaler is given",
      ("            optimizer.step()\n", "            optimizer.step()\n            scheduler.step()\n"),
      ("        scheduler.step()\n        losses", "        losses"))
wrong(TRAIN, "scheduler-by-batch-number", "the scheduler is set back to the number of the batch in the epoch",
      ("        scheduler.step()\n", "        scheduler.step(len(losses))\n"))
wrong(TRAIN, "smoothed-value", "returns an exponential average",
      (".double().mean().item()", "[0].item() * 0.1 + torch.stack(losses)[-1].item() * 0.9"))
wrong(TRAIN, "clipped-with-scaler", "gradients are clipped where a scaler is given",
      ("            scaler.step(optimizer)", "            scaler.unscale_(optimizer)\n            "
       "nn.utils.clip_grad_norm_(transformer.parameters(), 0.1)\n            scaler.step(optimizer)"))
wrong(TRAIN, "empty-loader", "a ZeroDivisionError for a loader without a batch",
      ('        raise ValueError("empty loader")\n',
                                                                            "        pass\n"), of="running-sum-bar")
wrong(TRAIN, "eval-mode", "trains in eval mode",
      ("transformer = transformer.train(True)", "transformer = transformer.eval()"),
      of="cleared-after-the-step")
wrong(TRAIN, "every-token", "the loss counts every token", ("mask, label_smoothing=0.0", "None, label_smoothing=0.0"),
      of="one-step-as-a-function")
wrong(TRAIN, "fixed-half", "hides half of the tokens of each row", ('"topk", None,', '"topk", 0.5,'),
      of="one-step-as-a-function")

wrong(TRAIN, "cleared-without-scaler-only", "gradients add up where a scaler is given",
      ("        optimizer.zero_grad(set_to_none=True)\n        with",
       "        if scaler is None:\n            optimizer.zero_grad(set_to_none=True)\n        with"))
wrong(TRAIN, "autocast-without-scaler-only", "the forward pass is not under autocast where a scaler is given",
      ("with lab3.autocast(device):", "with lab3.autocast(device) if scaler is None else torch.enable_grad():"))
wrong(TRAIN, "scheduler-first-with-scaler", "where a scaler is given the scheduler steps before the optimizer",
      ("            scaler.scale(loss)", "            scheduler.step()\n            scaler.scale(loss)"),
      ("        scheduler.step()\n        losses",
       "        if scaler is None:\n            scheduler.step()\n        losses"))
wrong(TRAIN, "seeded-without-generator", "without a generator every epoch has the same masks",
      ("    losses = []\n", "    losses = []\n    if generator is None:\n"
       "        generator = torch.Generator(device).manual_seed(0)\n"))

# Wrong answers: evaluation

wrong(EVAL, "fixed-half", "hides half of the tokens", (DRAW, DRAW.replace("generator=", "ratio=0.5, generator=")))
wrong(EVAL, "own-seed", "the generator is not used", ("    losses = []\n", "    losses = []\n"
                                                      "    generator = torch.Generator(device).manual_seed(0)\n"))
wrong(EVAL, "weighted-by-hidden", "the mean is weighted by hidden tokens",
      ("losses.append(mvtm_loss(logits, targets, mask))",
       "losses += [mvtm_loss(logits, targets, mask)] * int(mask.sum())"))
wrong(EVAL, "every-token", "the loss counts every token",
      ("mvtm_loss(logits, targets, mask)", "mvtm_loss(logits, targets)"))
wrong(EVAL, "children-only", "only the outermost submodules are set to eval mode", ("        transformer.eval()\n", (
    "        transformer.training = False\n        for module in transformer.children():\n"
    "            module.training = False\n")))
wrong(EVAL, "perplexity", "returns the perplexity", ("return torch.stack(losses).double().mean().item()",
                                                    "return torch.stack(losses).double().mean().exp().item()"))
wrong(EVAL, "frozen", "requires_grad stays off", ("        transformer.eval()\n",
                                                 "        transformer.eval().requires_grad_(False)\n"))
wrong(EVAL, "first-batch-only", "looks at the first batch alone", ("losses.append(mvtm_loss(logits, targets, mask))",
    "losses.append(mvtm_loss(logits, targets, mask))\n                break"))
wrong(EVAL, "noted-too-late", "the modes are noted after eval()",
      ("    modes = [(module", "    transformer.eval()\n    modes = [(module"))
wrong(EVAL, "modes-by-class", "the modes are noted by class: modules of one class share a mode",
      ("{module: module.training for module in transformer.modules()}",
       "{type(module): module.training for module in transformer.modules()}"),
      ("for module, mode in was.items():\n            module.training = mode",
       "for module in transformer.modules():\n            module.training = was[type(module)]"), of="modes-in-a-dict")
wrong(EVAL, "empty-loader", "NaN for a loader without a batch", ('        raise ValueError("loader holds no batch")',
                                                                '        return math.nan'))
wrong(EVAL, "smoothed", "the loss has label smoothing",
      ("mvtm_loss(logits, targets, mask)", "mvtm_loss(logits, targets, mask, 0.1)"))
wrong(EVAL, "autocast-for-the-loss", "the forward pass is not under autocast", (
    "                with lab3.autocast(device):\n                    logits, targets",
    "                logits, targets"), ("                    losses.append(",
    "                with lab3.autocast(device):\n                    losses.append("))

wrong(EVAL, "mask-token-kept", "the mask token's logit counts as a code", ("[..., :mask_token_id]", ""),
      of="written-out")
wrong(EVAL, "nothing-masked", "the transformer sees the tokens that it has to predict",
      ("torch.where(mask, mask_token_id, z)", "z"), of="written-out")
wrong(EVAL, "all-counted", "all tokens count, written out",
      ("logits[mask].float(), z[mask]", "logits.float().flatten(0, 1), z.flatten()"), of="written-out")
wrong(EVAL, "loss-inverted", "known tokens count, written out", ("[mask]", "[~mask]"), of="written-out")
wrong(EVAL, "divided-by-nothing", "a ZeroDivisionError for a loader without a batch",
      ("    if len(loader) == 0:\n", "    if False:\n"), of="written-out")
wrong(EVAL, "seeded-again", "the generator starts again from its first seed", ("    losses = []\n", "    losses = []\n"
      "    if generator is not None:\n        generator.manual_seed(generator.initial_seed())\n"))
wrong(TRAIN, "smoothed-with-scaler", "the loss has label smoothing where a scaler is given",
      ("mvtm_loss(logits, targets, mask)", "mvtm_loss(logits, targets, mask, 0.0 if scaler is None else 0.1)"))
wrong(TRAIN, "all-counted-with-scaler", "all tokens count where a scaler is given",
      ("mvtm_loss(logits, targets, mask)", "mvtm_loss(logits, targets, mask if scaler is None else None)"))
wrong(TRAIN, "eval-mode-with-scaler", "trains in eval mode where a scaler is given",
      ("    transformer.train()\n", "    transformer.train(scaler is None)\n"))

# Wrong answers: schedules

wrong(GAMMA, "late-binding", "all schedules use the last exponent of the loop", text="""
def gamma_func(mode="cosine"):
    schedules = {"cosine": lambda r: np.cos(np.pi * r / 2)}
    for name, power in (("linear", 1), ("square", 2)):
        schedules[name] = lambda r: 1 - r**power
    if mode not in schedules:
        raise ValueError("mode")
    return schedules[mode]
""")
wrong(GAMMA, "refused-late", "another mode is refused only when gamma is called", text="""
def gamma_func(mode="cosine"):
    def gamma(r):
        if mode == "linear":
            return 1 - r
        if mode == "cosine":
            return np.cos(np.pi * r / 2)
        if mode == "square":
            return 1 - r**2
        raise ValueError("mode")
    return gamma
""")
wrong(GAMMA, "key-error", "a KeyError for another mode", ("if mode not in schedules:", "if False:"))
wrong(GAMMA, "arrays-only", "a float gives an array",
      ("return float(y) if y.ndim == 0 else y", "return np.atleast_1d(y)"),
      of="callable-class")
wrong(GAMMA, "list-back", "an array gives a list", ("return float(y) if y.ndim == 0 else y", "return y.tolist()"),
      of="callable-class")
wrong(GAMMA, "floats-only", "fails for arrays", ("return float(y) if y.ndim == 0 else y", "return float(y)"),
      of="callable-class")
wrong(GAMMA, "cosine-squared", "half a cosine wave, as learning rates have it",
      ("np.cos(np.pi * r / 2)", "0.5 * (1 + np.cos(np.pi * r))"))
wrong(GAMMA, "root", "the root instead of the square", ("1 - r**2", "1 - r**0.5"))
wrong(GAMMA, "rounded", "rounds to two places", ("np.cos(np.pi * r / 2)", "np.round(np.cos(np.pi * r / 2), 2)"))
wrong(GAMMA, "in-place", "the array that comes in is changed", ("""    def square(r):
        return""", """    def square(r):
        if isinstance(r, np.ndarray):
            r *= r
            return 1 - r
        return"""), of="sine-and-product")

# Wrong answers: one step of inpainting

GUMBEL = "torch.empty(len(log_p), device=log_p.device).exponential_(generator=generator)"
CLAMPED = "    stay = torch.minimum(stay, hidden_now - 1).clamp(min=0)\n"

wrong(STEP, "one-stays-hidden", "at least one token stays hidden until the last step",
      (CLAMPED, "    stay = torch.minimum(stay, hidden_now - 1).clamp(min=1).minimum(hidden_now)\n"))
wrong(STEP, "none-revealed", "a step may reveal nothing", (CLAMPED, "    stay = torch.minimum(stay, hidden_now)\n"))
wrong(STEP, "noise-for-each-row", "all tokens of a row get the same noise",
      ("+ choice_temperature * (1 - ratio) * gumbel", "+ choice_temperature * (1 - ratio) * "
       "gumbel[torch.unique(mask.nonzero()[:, 0], return_inverse=True)[1]]"))
wrong(STEP, "noise-for-each-place", "all rows get the same noise",
      ("confidence = confidence + choice_temperature * (1 - ratio) * gumbel_like(confidence, generator)",
       "confidence = confidence + choice_temperature * (1 - ratio) * gumbel_like(confidence[0], generator)"),
      of="gumbel-max-and-inf")
wrong(STEP, "uniform-noise", "uniform noise, not Gumbel noise",
      ("gumbel = -noise.clamp(min=1e-20).log()", "gumbel = (-noise).exp()"))
wrong(STEP, "exponential-noise", "one logarithm only: exponential noise, not Gumbel noise",
      ("gumbel = -noise.clamp(min=1e-20).log()", "gumbel = noise"))
wrong(STEP, "temperature-of-logits", "the temperature divides the logits, too",
      ("[:, :mask_token_id].float()", "[:, :mask_token_id].float().div(choice_temperature + 1)"))
wrong(STEP, "known-count-as-zero", "known tokens have confidence 0 and compete with noisy ones",
      ("torch.full(mask.shape, torch.inf, device=mask.device)", "torch.zeros(mask.shape, device=mask.device)"))
wrong(STEP, "argmax-without-noise", "argmax has no noise in its confidence",
      ("    confidence = torch.full",
       "    if sampling == 'argmax':\n        sure = log_p.amax(dim=1)\n    confidence = torch.full"))
wrong(STEP, "one-draw-a-row", "all tokens of a row are drawn from one random number",
      ("u = torch.rand(B, T, 1, generator", "u = torch.rand(B, 1, 1, generator"), of="inverse-cdf")
wrong(STEP, "two-passes", "the transformer is called twice", ("    logits = transformer(", (
    "    transformer(z_indices.masked_fill(mask, mask_token_id))\n    logits = transformer(")))
wrong(STEP, "largest-row-counts", "all rows keep as many as the row that hid most",
      ("n_hidden.to(mask.device, torch.float64)", "n_hidden.max().expand(len(mask)).double()"))
wrong(STEP, "mask-in-place", "the mask that came in is changed", ("next_mask = mask.clone()", "next_mask = mask"),
      of="multinomial-and-topk")
wrong(STEP, "best-three", "draws from the three likeliest codes only", (
    "torch.multinomial(log_p.exp()",
    "torch.multinomial(log_p.masked_fill(log_p < log_p.topk(3).values[:, -1:], -torch.inf).exp()"))
wrong(STEP, "temperature-squared", "fades with the square", (NOISE, "choice_temperature * (1 - ratio) ** 2 * gumbel"))
wrong(STEP, "inverted-result", "next_mask is True where revealed", (
    "return z_predict, (rank < stay[:, None]) & mask", "return z_predict, (rank >= stay[:, None]) & mask"))
wrong(STEP, "nothing-hidden-fails", "fails where no row hides anything", (
    'if sampling == "argmax" or len(log_p) == 0:', 'if sampling == "argmax":'),
      ("    noise = ", "    log_p.max()\n    noise = "))
wrong(STEP, "zero-accepted", "a ratio of 0 is not refused", ("if not 0 < ratio <= 1:", "if not 0 <= ratio <= 1:"))
wrong(STEP, "above-one-accepted", "a ratio above 1 is not refused", ("if not 0 < ratio <= 1:", "if not 0 < ratio:"))
wrong(STEP, "noise-used-twice", "the noise that chose the token is its confidence's noise, too",
      ("z_new = (log_p + gumbel_like(log_p, generator)).argmax(-1)",
       "noise = gumbel_like(log_p, generator)\n            z_new = (log_p + noise).argmax(-1)"),
      ("choice_temperature * (1 - ratio) * gumbel_like(confidence, generator)",
       "choice_temperature * (1 - ratio) * (gumbel_like(confidence, generator) if sampling == 'argmax'\n"
       "                      else noise.gather(-1, z_new.unsqueeze(-1)).squeeze(-1))"), of="gumbel-max-and-inf")
wrong(STEP, "known-predicted", "known tokens are predicted, too", ("torch.where(mask, z_new, z_indices)", "z_new"),
      of="gumbel-max-and-inf")
wrong(STEP, "int32-tokens", "the tokens come back as int32",
      ("return z_predict, next_mask & mask", "return z_predict.int(), next_mask & mask"),
      of="gumbel-max-and-inf")
wrong(STEP, "first-row-only", "only the first row's tokens are drawn", (
    "z_new = (log_p + gumbel_like(log_p, generator)).argmax(-1)",
    "z_new = (log_p + gumbel_like(log_p, generator)).argmax(-1)\n            z_new[1:] = log_p[1:].argmax(-1)"),
      of="gumbel-max-and-inf")

wrong(STEP, "last-step-by-argmax", "at ratio 1 the maximum is taken, although sampling is categorical",
      ('if sampling == "argmax" or', 'if sampling == "argmax" or ratio == 1 or'))
wrong(STEP, "seeded-without-generator", "without a generator every call draws the same",
      ("    logits = transformer(", "    if generator is None:\n        generator = torch.Generator().manual_seed(0)\n"
       "    logits = transformer("))

# Wrong answers: decoding

AHEAD = "z, m = z_indices.clone(), mask.clone()"
CALL = "inpainting(\n            transformer, z, mask"

wrong(DECODE, "same-list-entries", "each entry of history is the same tensor, which later steps overwrite",
      ("        history.append((z_predict.clone(), next_mask.clone()))\n"
       "        z = torch.where(next_mask, mask_token_id, z_predict)\n        m = next_mask\n",
       "        z.copy_(z_predict)\n        m.copy_(next_mask)\n        history.append((z, m))\n"), of="by-position")
wrong(DECODE, "last-pass-over-all", "a last pass predicts all tokens of the hole again",
      ("    n_hidden = mask.sum(dim=1)\n", "    n_hidden, whole = mask.sum(dim=1), mask\n"),
      ("    return z, history", (
          "    logits = transformer(z)[..., :mask_token_id]\n"
          "    return torch.where(whole, logits.argmax(-1), z), history")))
wrong(DECODE, "one-step-short", "steps 1 ... total_iter - 1: one is missing",
      ("for t in range(steps):", "for t in range(steps - 1):"))
wrong(DECODE, "revealed-lost", "every step sees the first tokens: what was revealed is lost",
      (CALL, "inpainting(\n            transformer, z_indices, mask"))
wrong(DECODE, "zero-sweet-spot", "sweet_spot=0 is taken for None",
      ("steps = total_iter if sweet_spot is None else sweet_spot", "steps = sweet_spot or total_iter"))
wrong(DECODE, "sweet-spot-capped", "a sweet_spot above total_iter is capped, not refused",
      ("if not 1 <= steps <= total_iter:", "steps = min(steps, total_iter)\n    if not 1 <= steps:"))
wrong(DECODE, "temperature-default", "choice_temperature is 1.0 by default",
      ("choice_temperature=4.5", "choice_temperature=1.0"))
wrong(DECODE, "argmax-by-default", "sampling is argmax by default", ('sampling="categorical"', 'sampling="argmax"'))
wrong(DECODE, "masks-before", "history holds the mask before the step",
      ("        z, mask = inpainting(", "        before = mask\n        z, mask = inpainting("),
      ("history.append((z, mask))", "history.append((z, before))"))
wrong(DECODE, "count-of-all-rows", "n_hidden counts the hidden tokens of all rows",
      ("n_hidden = mask.sum(dim=1)", "n_hidden = mask.sum().expand(len(mask))"))
wrong(DECODE, "faded-twice", "the temperature fades a second time",
      ("choice_temperature=choice_temperature", "choice_temperature=choice_temperature * (1 - t / total_iter)"))
wrong(DECODE, "seeded-for-each-step", "every step draws the same random numbers",
      ("generator=generator)\n        history", (
          "generator=generator if generator is None else generator.clone_state())\n        history")))
wrong(DECODE, "input-overwritten", "the tokens that came in are changed", (AHEAD, "z, m = z_indices, mask.clone()"),
      of="by-position")
wrong(DECODE, "first-row-for-all", "the first row's mask is used for all rows",
      ("    n_hidden = mask.sum(dim=1)\n", "    mask = mask[:1].expand_as(mask)\n    n_hidden = mask.sum(dim=1)\n"))
wrong(DECODE, "history-masked", "history holds the mask token where tokens stay hidden",
      ("history.append((z, mask))", "history.append((z.masked_fill(mask, mask_token_id), mask))"))
wrong(DECODE, "forced-to-the-end", "the last step before sweet_spot reveals all",
      ("(t + 1) / total_iter", "(1.0 if t + 1 == steps else (t + 1) / total_iter)"))
wrong(DECODE, "hidden-as-given", "tokens still hidden at the end take what stood there",
      ("    return z, history", "    return torch.where(mask, z_indices, z), history"))
wrong(DECODE, "counted-in-the-loop", "counts again at each step, in one function",
      ("int(gamma(r) * n_0[b])", "int(gamma(r) * len(where))"), of="self-contained")
wrong(DECODE, "finished-hides-again", "a row that hides nothing any more hides again",
      ("where = hidden[b].nonzero()", "where = (hidden[b] if hidden[b].any() else mask[b]).nonzero()"),
      of="self-contained")
wrong(DECODE, "noise-grows", "the noise grows, in one function",
      ("choice_temperature * (1 - r)", "choice_temperature * r"), of="self-contained")
wrong(DECODE, "history-of-one", "history has the last step alone", ("[(state.z, state.mask) for state in states[1:]]",
                                                                  "[(states[-1].z, states[-1].mask)]"),
      of="options-and-dataclass")
wrong(DECODE, "start-in-history", "history has the start as well",
      ("for state in states[1:]]", "for state in states]"), of="options-and-dataclass")

wrong(DECODE, "last-step-by-argmax", "in the last step the maximum is taken, although sampling is categorical",
      ("sampling=sampling", "sampling=sampling if t + 1 < total_iter or sampling != 'categorical' else 'argmax'"))
wrong(DECODE, "seeded-without-generator", "without a generator every decoding draws the same",
      ("    n_hidden = mask.sum(dim=1)\n", "    n_hidden = mask.sum(dim=1)\n    if generator is None:\n"
       "        generator = torch.Generator().manual_seed(0)\n"))

# Wrong answers: the distance

SUM = "np.sqrt(eigenvalues.clip(min=0)).sum()"

wrong(DISTANCE, "root-of-all", "the root of the distance", ("return float(", "return math.sqrt("), of="two-roots")
wrong(DISTANCE, "diagonals", "only the variances are compared",
      (SUM, "np.sqrt(np.diag(sigma1) * np.diag(sigma2)).sum()"))
wrong(DISTANCE, "cholesky", "fails for singular covariances",
      ("half = v * w.clamp(min=0).sqrt()", "half = torch.linalg.cholesky(s1)"),
      of="in-torch")
wrong(DISTANCE, "means-averaged", "the mean of the squares, not their sum",
      ("((mu1 - mu2) ** 2).sum()", "((mu1 - mu2) ** 2).mean()"))
wrong(DISTANCE, "always-offset", "something is added to regular covariances",
      ("sigma1.dot(sigma2))\n", "(sigma1 + 1e-3 * np.eye(len(mu1))).dot(sigma2 + 1e-3 * np.eye(len(mu1))))\n"),
      of="sqrtm-with-offset")
wrong(DISTANCE, "float32", "computes in float32", ("dtype=np.float64", "dtype=np.float32"))
wrong(DISTANCE, "rounded", "rounds to three places", ("return float(", "return round("),
      ("2 * trace_root)", "2 * trace_root, 3)"))
wrong(DISTANCE, "covariances-unlooked", "shapes of covariances are not looked at",
      ("if shapes != [(d,), (d, d), (d,), (d, d)]:", "if shapes[0] != shapes[2]:"), of="general-eigenvalues")
wrong(DISTANCE, "means-unlooked", "one mean may be shorter: numpy spreads it",
      ("if shapes != [(d,), (d, d), (d,), (d, d)]:", "if shapes[1] != shapes[3]:"), of="general-eigenvalues")
wrong(DISTANCE, "assert-for-shapes", "an AssertionError, where a ValueError is owed",
      ("    if mu1.shape != (d,) or mu2.shape != (d,):", "    assert mu1.shape == mu2.shape == (d,), 'mu'\n"
       "    assert sigma1.shape == sigma2.shape == (d, d), 'sigma'\n    if mu1.shape != (d,):"))
wrong(DISTANCE, "sigma-in-place", "the covariances that come in are changed",
      ("    diff = mu1 - mu2\n", "    diff = mu1 - mu2\n    sigma1 += 1e-6 * np.eye(len(mu1))\n"),
      of="sqrtm-with-offset")
wrong(DISTANCE, "small-ones-dropped", "eigenvalues below 0.01 are left out",
      (SUM, "np.sqrt(eigenvalues[eigenvalues > 1e-2]).sum()"))
wrong(DISTANCE, "absolute", "no real part is taken: the size of complex roots counts",
      ("scipy.linalg.eigvals(sigma1 @ sigma2).real\n", "np.abs(scipy.linalg.eigvals(sigma1 + sigma2))\n"),
      of="general-eigenvalues")
wrong(DISTANCE, "nuclear-of-product", "the singular values of the product are no roots",
      ("roots[0] @ roots[1]", "sigma1 @ sigma2"),
      of="nuclear-norm")


def _named():
    """The public checks' mistakes: each has a name of its own, made from its reason."""
    for number, (exercise, reason, *changes) in enumerate(MISTAKES):
        words = re.sub(r"[^a-z0-9]+", "-", reason.lower()).strip("-")[:50]
        yield f"{exercise}-mistake-{number:03d}-{words}", exercise, reason, changed(exercise, *changes)


for _name, _exercise, _reason, _text in _named():
    WRONG[_name], REASONS[_name] = (_exercise, _text), _reason
