"""The reference answers keep their contracts, each sentence checked against its own plain computation.

In: `solutions/work`, and `solutions/fast` on top of it. The tests of an exercise start with its name; those of what the
fast answers do otherwise run with both. Random tests have fixed seeds.
"""

import copy
import inspect
import math
import random
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import linalg, stats
from torch import nn

import lab3
from lab3.common.paths import FAST, SOLUTIONS
from lab3.exercises.answers import load_answers
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer
from lab3.presets import TransformerConfig

ANSWERS = {"work": load_answers(SOLUTIONS), "fast": load_answers([FAST, SOLUTIONS])}
answers = ANSWERS["work"]  # what the tests see; `answered` puts the fast ones here
# The exercises whose tests run with the fast answers too: those that have one, and those that call one.
HAVE_FAST = (*(path.stem for path in FAST.glob("*.py")), "epochs", "iterative_decode")
PLAIN_ALONE = ("test_multi_head_attention_is_not_ready_made", "test_multi_head_attention_hands_weights_to_attn_drop")
SCHEDULES = {"linear": lambda r: 1 - r, "cosine": lambda r: math.cos(math.pi * r / 2), "square": lambda r: 1 - r * r}


def pytest_generate_tests(metafunc):
    """Choose the answers that each test runs with."""
    name = metafunc.function.__name__
    both = name.startswith(tuple(f"test_{one}" for one in HAVE_FAST)) and name not in PLAIN_ALONE
    metafunc.parametrize("answered", ANSWERS if both else ["work"], indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def answered(request):
    """The tests' answers are these."""
    global answers
    answers = ANSWERS[request.param]


def names_seen_by(epoch):
    """The global names of the answer `train_one_epoch` or `eval_one_epoch`."""
    return getattr(answers, f"{epoch}_one_epoch").__globals__


fixed = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 2**31)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randint(high, *shape, seed=0):
    return torch.randint(high, shape, generator=rng(seed))


def randn(*shape, seed=0):
    return torch.randn(shape, generator=rng(seed))


def some_mask(*shape, share=0.5, seed=0):
    return torch.rand(shape, generator=rng(seed)) < share


@contextmanager
def unchanged(*tensors):
    """The block changes none of the tensors or arrays, and draws nothing from a global source of randomness."""
    def global_states():
        return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())

    before = copy.deepcopy(tensors), global_states()
    yield
    for old, new in zip(before[0], tensors, strict=True):
        assert old.shape == new.shape and old.dtype == new.dtype and bool((old == new).all())
    assert global_states() == before[1]


def raises(*words):
    """A ValueError is owed whose message holds all words."""
    return pytest.raises(ValueError, match="(?s)" + "".join(f"(?=.*{word})" for word in words))


def product_is_clear(product):
    return product == round(product) or abs(product - round(product)) > 1e-6


def likely(observed, expected):
    """Whether counts agree with expected shares (chi-squared, one in 10,000)."""
    observed, expected = np.asarray(observed, float), np.asarray(expected, float)
    return stats.chisquare(observed, observed.sum() * expected / expected.sum()).pvalue > 1e-4


class Table:
    """A transformer that looks its logits up, from a token and its left neighbour: a row gives the same bits in any
    batch. The mask token's own logit is by far the highest."""

    def __init__(self, V, T, seed=0):
        self.V, self.seen = V, []
        self.own, self.left = randn(V + 1, V + 1, seed=seed), randn(V + 1, V + 1, seed=seed + 1)
        self.place = randn(T, V + 1, seed=seed + 2)
        self.place[:, V] = 50

    def logits(self, z):
        return self.own[z] + self.left[z.roll(1, dims=1)] + self.place

    def __call__(self, z):
        assert z.dtype == torch.long and 0 <= z.min() and z.max() <= self.V
        self.seen.append(z.clone())
        return self.logits(z)


class Flat:
    """A transformer that gives every row the same logits (T, V + 1), whatever it sees."""

    def __init__(self, logits):
        self.value = logits

    def __call__(self, z):
        return self.value.expand(len(z), -1, -1)


class Toy(nn.Module):
    """A small transformer to train, that notes how it was called. Places know one another through the mean."""

    def __init__(self, V=7, dim=8, dropout=0.0, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding, self.norm = nn.Embedding(V + 1, dim), nn.BatchNorm1d(dim)
            self.drop, self.head = nn.Dropout(dropout), nn.Linear(dim, V + 1)
        self.seen = []

    def forward(self, z):
        self.seen.append(SimpleNamespace(
            z=z.clone(), modes=[module.training for module in self.modules()], grad=torch.is_grad_enabled(),
            autocast=torch.is_autocast_enabled("cpu")))
        x = self.embedding(z)
        x = self.norm((x + x.mean(dim=1, keepdim=True)).transpose(1, 2)).transpose(1, 2)
        return self.head(self.drop(x))


@pytest.fixture(scope="module")
def real(answered):
    """The kit's transformer, small, with the answer's attention."""
    torch.manual_seed(0)
    config = TransformerConfig(dim=32, layers=1, hidden=32, heads=2)
    return BidirectionalTransformer(config, answers.MultiHeadAttention).eval()


@pytest.fixture
def float32(monkeypatch):
    """No mixed precision, also where the machine would choose it."""
    monkeypatch.setattr(lab3, "autocast", lambda device: nullcontext())


bfloat16 = torch.autocast("cpu", dtype=torch.bfloat16)


# multi_head_attention


def attention_by_hand(attention, x, heads):
    """Loops in float64, from the weights alone."""
    weights = {name: value.detach().double().numpy() for name, value in attention.state_dict().items()}
    x = x.double().numpy()

    def linear(name, y):
        return y @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    q, k, v = (linear(name, x) for name in ("query", "key", "value"))
    d = x.shape[2] // heads
    mixed = np.zeros_like(x)
    for b, h, i in np.ndindex(len(x), heads, x.shape[1]):
        part = slice(h * d, (h + 1) * d)
        score = np.array([q[b, i, part] @ key / math.sqrt(d) for key in k[b, :, part]])
        share = np.exp(score - score.max())
        mixed[b, i, part] = share / share.sum() @ v[b, :, part]
    return torch.from_numpy(linear("output", mixed))


@fixed
@given(seeds, st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.1, 1, 30]))
def test_multi_head_attention_is_the_formula(seed, B, T, heads, width, scale):
    torch.manual_seed(seed)
    attention = answers.MultiHeadAttention(heads * width, heads, attn_drop=0.5).eval()
    x = scale * randn(B, T, heads * width, seed=seed)
    with unchanged(x), torch.no_grad():
        found = attention(x)
    assert found.shape == x.shape and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), attention_by_hand(attention, x, heads), rtol=1e-4, atol=1e-4 * scale)


def test_multi_head_attention_takes_inputs_of_any_layout():
    attention = answers.MultiHeadAttention(8, 2).eval()
    x = randn(5, 3, 8).transpose(0, 1)
    torch.testing.assert_close(attention(x), attention(x.contiguous()))


def test_multi_head_attention_defaults_and_state():
    attention = answers.MultiHeadAttention()
    assert {name: tuple(value.shape) for name, value in attention.state_dict().items()} == {
        f"{name}.{kind}": (768, 768) if kind == "weight" else (768,)
        for name in ("query", "key", "value", "output") for kind in ("weight", "bias")}
    assert all(type(getattr(attention, name)) is nn.Linear for name in ("query", "key", "value", "output"))
    assert type(attention.attn_drop) is nn.Dropout and attention.attn_drop.p == 0.1
    signature = inspect.signature(answers.MultiHeadAttention).parameters
    assert {name: one.default for name, one in signature.items()} == {"dim": 768, "num_heads": 16, "attn_drop": 0.1}
    narrow = answers.MultiHeadAttention(768, 1, 0.0)  # as many heads as it says: one head is another function
    narrow.load_state_dict(attention.state_dict())
    x = randn(1, 4, 768)
    found = attention.eval()(x).double()
    torch.testing.assert_close(found, attention_by_hand(attention, x, 16), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.float(), narrow(x), atol=1e-3)


def test_multi_head_attention_drops_attention_weights():
    attention = answers.MultiHeadAttention(12, 3, attn_drop=1.0)
    x = randn(2, 5, 12)
    torch.testing.assert_close(attention.train()(x), attention.output.bias.expand(2, 5, 12))
    torch.testing.assert_close(attention.eval()(x).double(), attention_by_hand(attention, x, 3), rtol=1e-4, atol=1e-5)


def test_multi_head_attention_hands_weights_to_attn_drop():
    attention, inputs = answers.MultiHeadAttention(12, 3, attn_drop=0.5), []
    attention.attn_drop.register_forward_hook(lambda module, inputs_, result: inputs.append(inputs_[0]))
    attention(randn(2, 5, 12))
    [weights] = inputs
    assert weights.numel() == 2 * 3 * 5 * 5 and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("dim, heads", [(10, 3), (768, 7), (4, 8)])
def test_multi_head_attention_refuses_heads_that_do_not_divide(dim, heads):
    with raises("dim", "num_heads"):
        answers.MultiHeadAttention(dim, heads)


def test_multi_head_attention_is_not_ready_made(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("ready-made attention")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", forbidden)
    monkeypatch.setattr(torch.nn.functional, "multi_head_attention_forward", forbidden)
    monkeypatch.setattr(nn.MultiheadAttention, "__init__", forbidden)
    monkeypatch.setattr(nn.TransformerEncoderLayer, "__init__", forbidden)
    assert answers.MultiHeadAttention(8, 2)(randn(2, 3, 8)).shape == (2, 3, 8)
    text = (SOLUTIONS / "multi_head_attention.py").read_text()
    assert not any(name in text for name in ("scaled_dot_product", "MultiheadAttention", "flex_attention", "nn.Transf"))


def test_multi_head_attention_learns_also_in_bfloat16():
    attention = answers.MultiHeadAttention(16, 4, attn_drop=0.0)
    x = randn(2, 6, 16)
    with bfloat16:
        found = attention(x)
    torch.testing.assert_close(found.float(), attention(x), rtol=0.1, atol=0.03)
    found.float().square().sum().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in attention.parameters())
    assert all(getattr(attention, name).weight.grad.abs().sum() > 0 for name in ("query", "key", "value", "output"))


# sample_mask


def share(lowest=0.0):
    return st.floats(lowest, 1) | st.fractions(0, 1, max_denominator=16).map(float).filter(lambda r: r >= lowest)


@fixed
@given(seeds, st.lists(share(), min_size=1, max_size=6), st.integers(1, 300), st.booleans())
def test_sample_mask_topk_hides_exactly(seed, ratios, tokens, same):
    ratios = ratios[:1] * len(ratios) if same else ratios
    assume(all(product_is_clear(ratio * tokens) for ratio in ratios))
    given_ratio = ratios[0] if same else torch.tensor(ratios, dtype=torch.float64)
    with unchanged(*([] if same else [given_ratio])):
        mask = answers.sample_mask(len(ratios), tokens, "topk", given_ratio, generator=rng(seed), device="cpu")
    assert mask.shape == (len(ratios), tokens) and mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [max(1, math.ceil(ratio * tokens)) for ratio in ratios]


def test_sample_mask_takes_products_in_float64():
    assert answers.sample_mask(2, 256, ratio=0.5 + 1e-8).sum(dim=1).tolist() == [129, 129]
    exact = torch.arange(257) / 256  # float32
    assert answers.sample_mask(257, 256, ratio=exact).sum(dim=1).tolist() == [1, *range(1, 257)]
    assert answers.sample_mask(3, 8, ratio=1).all() and (answers.sample_mask(3, 8, ratio=0).sum(dim=1) == 1).all()
    assert answers.sample_mask(3, 8, ratio=torch.tensor(0.5)).sum(dim=1).tolist() == [4, 4, 4]


def test_sample_mask_hides_every_set_of_places_alike():
    mask = answers.sample_mask(20_000, 6, ratio=0.5, generator=rng())
    sets, counts = np.unique(mask.numpy(), axis=0, return_counts=True)
    assert len(sets) == math.comb(6, 3) and likely(counts, np.ones(len(sets)))


@pytest.mark.parametrize("prob_type, counts_from", [("topk", 1), ("bernoulli", 0)])
def test_sample_mask_draws_a_ratio_for_each_row(prob_type, counts_from):
    mask = answers.sample_mask(20_000, 12, prob_type, generator=rng())
    counts = np.bincount(mask.sum(dim=1), minlength=13)  # both are uniform where the ratio is
    assert likely(counts[counts_from:], np.ones(13 - counts_from)) and counts[:counts_from].sum() == 0
    pairs = mask.sum(dim=1).double().view(-1, 2).numpy()
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.04


def test_sample_mask_bernoulli_hides_each_token_on_its_own():
    mask = answers.sample_mask(20_000, 4, "bernoulli", 0.3, generator=rng()).numpy()
    codes = np.bincount(mask @ [1, 2, 4, 8], minlength=16)
    hidden = np.array([bin(code).count("1") for code in range(16)])
    assert likely(codes, 0.3**hidden * 0.7 ** (4 - hidden))
    ratio = torch.tensor([0.0, 0.1, 0.9, 1.0])
    means = answers.sample_mask(4, 40_000, "bernoulli", ratio, generator=rng(1)).float().mean(dim=1)
    assert means[0] == 0 and means[3] == 1 and (means - ratio).abs().max() < 4 * 0.3 / 200


@pytest.mark.parametrize("prob_type", ["topk", "bernoulli"])
@pytest.mark.parametrize("ratio", [None, 0.4])
@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_sample_mask_follows_its_generator(prob_type, ratio, device):
    with unchanged():
        first, again, other = (
            answers.sample_mask(5, 64, prob_type, ratio, generator=rng(seed), device=device) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    generator = rng(1)
    one, two = (answers.sample_mask(5, 64, prob_type, ratio, generator=generator) for _ in range(2))
    assert torch.equal(one, first) and not torch.equal(one, two)
    assert answers.sample_mask(1, 3, prob_type, ratio).shape == (1, 3)


def test_sample_mask_is_topk_by_default():
    assert all((answers.sample_mask(50, 10, ratio=0.5).sum(dim=1) == 5).tolist())


@pytest.mark.parametrize("prob_type", ["topk", "bernoulli"])
@pytest.mark.parametrize("ratio", [-0.1, 1.1, math.nan, math.inf, torch.tensor([0.5, 1.5]), torch.tensor([-0.5, 0.5])])
def test_sample_mask_refuses_ratios_outside(prob_type, ratio):
    with raises("ratio", r"0.*1"):
        answers.sample_mask(2, 8, prob_type, ratio)


@pytest.mark.parametrize("prob_type", ["top-k", "", None, "Bernoulli"])
def test_sample_mask_refuses_another_prob_type(prob_type):
    with raises("prob_type", "topk", "bernoulli"):
        answers.sample_mask(2, 8, prob_type)


# masked_forward


@fixed
@given(seeds, st.integers(1, 4), st.integers(1, 20), st.integers(1, 30), st.sampled_from([0.0, 0.5, 1.0]))
def test_masked_forward_hides_and_drops(seed, B, T, V, hidden):
    table, z, mask = Table(V, T, seed), randint(V, B, T, seed=seed), some_mask(B, T, share=hidden, seed=seed)
    with unchanged(z, mask):
        logits, targets = answers.masked_forward(table, z, mask, V)
    [seen] = table.seen
    for b, t in np.ndindex(B, T):
        assert seen[b, t] == (V if mask[b, t] else z[b, t])
    assert logits.shape == (B, T, V) and torch.equal(logits, table.logits(seen)[:, :, :V])
    assert targets.dtype == torch.long and torch.equal(targets, z)


def test_masked_forward_works_with_the_real_transformer_in_bfloat16(real):
    z, mask = randint(1024, 2, 256), some_mask(2, 256)
    with bfloat16:
        logits, targets = answers.masked_forward(real, z, mask, MASK_TOKEN_ID)
        loss = answers.mvtm_loss(logits, targets, mask)
    assert logits.shape == (2, 256, 1024) and loss.isfinite()
    exact = answers.mvtm_loss(*answers.masked_forward(real, z, mask, MASK_TOKEN_ID), mask)
    assert abs(loss.item() - exact.item()) < 0.05
    gradient = torch.autograd.grad(loss, real.layers[0].attention.query.weight)[0]
    assert gradient.isfinite().all()


# mvtm_loss


def loss_by_hand(logits, targets, mask, smoothing):
    """The mean of each token's cross-entropy against (1 - smoothing) x one-hot + smoothing / V."""
    losses = []
    for b, t in np.ndindex(*targets.shape):
        if mask is None or mask[b, t]:
            row = logits[b, t].double().tolist()
            top = max(row)
            log_sum = top + math.log(sum(math.exp(value - top) for value in row))
            truth = [smoothing / len(row)] * len(row)
            truth[targets[b, t]] += 1 - smoothing
            losses.append(sum(part * (log_sum - value) for part, value in zip(truth, row, strict=True)))
    return sum(losses) / len(losses)


@fixed
@given(seeds, st.integers(1, 4), st.integers(1, 8), st.integers(1, 9), st.sampled_from([None, 0.3, 1.0]),
       st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([0.1, 1, 1000]))
def test_mvtm_loss_is_the_mean_over_hidden_tokens(seed, B, T, V, hidden, smoothing, scale):
    logits, targets = scale * randn(B, T, V, seed=seed), randint(V, B, T, seed=seed)
    mask = None if hidden is None else some_mask(B, T, share=hidden, seed=seed)
    assume(mask is None or mask.any())
    with unchanged(logits, targets, *([] if mask is None else [mask])):
        loss = answers.mvtm_loss(logits, targets, mask, smoothing)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(loss_by_hand(logits, targets, mask, smoothing), rel=1e-4, abs=1e-5)


def test_mvtm_loss_has_no_smoothing_and_no_mask_by_default():
    logits, targets = randn(3, 5, 5), randint(5, 3, 5)
    assert answers.mvtm_loss(logits, targets).item() == pytest.approx(loss_by_hand(logits, targets, None, 0), rel=1e-5)


def test_mvtm_loss_gradient_reaches_hidden_tokens_alone():
    logits, targets, mask = randn(2, 6, 4).requires_grad_(), randint(4, 2, 6), some_mask(2, 6)
    answers.mvtm_loss(logits, targets, mask).backward()
    truth = nn.functional.one_hot(targets, 4)
    expected = (logits.detach().softmax(dim=-1) - truth) * mask[..., None] / mask.sum()
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize("worst", [1.0, math.inf, math.nan, 1e38])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mvtm_loss_of_nothing_hidden_is_zero_with_a_gradient(worst, smoothing):
    logits = (worst * torch.ones(2, 3, 4)).requires_grad_()
    loss = answers.mvtm_loss(logits, randint(4, 2, 3), torch.zeros(2, 3, dtype=torch.bool), smoothing)
    assert loss.shape == () and loss.item() == 0 and loss.requires_grad
    loss.backward()
    assert (logits.grad == 0).all()


def test_mvtm_loss_in_bfloat16():
    logits, targets, mask = 20 * randn(4, 50, 64), randint(64, 4, 50), some_mask(4, 50)
    expected = loss_by_hand(logits.bfloat16(), targets, mask, 0.1)
    with bfloat16:
        loss = answers.mvtm_loss(logits.bfloat16(), targets, mask, 0.1)
        empty = answers.mvtm_loss(logits.bfloat16().requires_grad_(), targets, mask & ~mask)
    assert loss.item() == pytest.approx(expected, rel=1e-3)
    assert empty.item() == 0 and empty.requires_grad


# configure_optimizers


def factor_by_hand(s, total_steps, warmup_steps, eta_min):
    if s >= total_steps:
        return eta_min
    if s < warmup_steps:
        return s / warmup_steps
    p = (s - warmup_steps) / (total_steps - warmup_steps)
    return eta_min + (1 - eta_min) * (1 + math.cos(math.pi * p)) / 2


@fixed
@given(st.integers(1, 40), st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.5, 1.0]), st.sampled_from([1.0, 3e-4]))
def test_configure_optimizers_follows_the_formula(total_steps, warm, eta_min, lr):
    warmup_steps = round(warm * total_steps)
    optimizer, scheduler = answers.configure_optimizers(nn.Linear(2, 3), lr, total_steps, warmup_steps, eta_min)
    for s in range(total_steps + 5):
        expected = lr * factor_by_hand(s, total_steps, warmup_steps, eta_min)
        [found] = {group["lr"] for group in optimizer.param_groups}
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12 * lr)
        assert s < total_steps or found == lr * eta_min
        optimizer.step()
        scheduler.step()


def test_configure_optimizers_gives_adamw_over_all_parameters():
    model = Toy()
    with unchanged(*model.state_dict().values()):
        optimizer, scheduler = answers.configure_optimizers(model, 1e-3, 10, 2)
    assert type(optimizer) is torch.optim.AdamW and type(scheduler) is torch.optim.lr_scheduler.LambdaLR
    assert scheduler.optimizer is optimizer
    assert all(tuple(group["betas"]) == (0.9, 0.95) for group in optimizer.param_groups)
    kept = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(one) for one in kept} == {id(one) for one in model.parameters()}
    assert inspect.signature(answers.configure_optimizers).parameters["eta_min"].default == 0


@pytest.mark.parametrize("total_steps, warmup_steps, word", [
    (0, 0, "total_steps"), (-3, 0, "total_steps"), (10, -1, "warmup_steps"), (10, 11, "warmup_steps")])
def test_configure_optimizers_refuses_impossible_steps(total_steps, warmup_steps, word):
    with raises(word):
        answers.configure_optimizers(nn.Linear(2, 2), 0.1, total_steps, warmup_steps)


# train_one_epoch

V = 7


def batches(sizes=(3, 1, 4), tokens=6):
    return [randint(V, size, tokens, seed=number) for number, size in enumerate(sizes)]


def sgd(model, lr=0.5):
    """An optimizer in which the size of a gradient shows, and a scheduler that changes it at every step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1 / (s + 1))


def batch_loss(model, z, generator):
    mask = answers.sample_mask(*z.shape, generator=generator)
    log_p = model(torch.where(mask, V, z))[:, :, :V].double().log_softmax(dim=-1)
    return -log_p.gather(2, z[:, :, None])[:, :, 0][mask].mean()


def train_by_hand(model, loader, generator, lr=0.5):
    losses = []
    for s, z in enumerate(loader):
        loss = batch_loss(model, z, generator)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr / (s + 1) * gradient
        losses.append(loss.item())
    return sum(losses) / len(losses)


def train(model, loader, optimizer=None, scheduler=None, **options):
    if optimizer is None:
        optimizer, scheduler = sgd(model)
    return answers.train_one_epoch(
        model, loader, optimizer, scheduler, **dict(mask_token_id=V, device="cpu", generator=rng()) | options)


def same_state(one, other, **tolerance):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.mark.parametrize("sizes, tokens", [((3, 1, 4), 6), ((2,), 1), ((1, 1), 20)])
def test_train_one_epoch_is_the_loop_by_hand(sizes, tokens, float32):
    model, loader = Toy().eval(), batches(sizes, tokens)
    by_hand = copy.deepcopy(model).train()
    with unchanged(*loader):
        loss = train(model, iter(loader), device=torch.device("cpu"))
    assert type(loss) is float
    assert loss == pytest.approx(train_by_hand(by_hand, loader, rng()), rel=1e-4)
    same_state(model, by_hand, rtol=1e-3, atol=1e-4)
    assert all(all(call.modes) and call.grad for call in model.seen) and len(model.seen) == len(loader)


def test_train_one_epoch_steps_the_scheduler_once_a_batch(float32):
    model = Toy()
    optimizer, scheduler = answers.configure_optimizers(model, 1e-2, 5, 2)
    before = copy.deepcopy(model.state_dict())
    train(model, batches(), optimizer, scheduler)
    assert scheduler.last_epoch == 3
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_train_one_epoch_ignores_and_clears_gradients(float32):
    model, clean = Toy(), Toy()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)
    assert train(model, batches()) == train(clean, batches())
    same_state(model, clean, rtol=0, atol=0)
    assert all(one.grad is None or not one.grad.any() for one in model.parameters())


def test_train_one_epoch_goes_through_the_scaler(float32):
    model, plain = Toy(), Toy()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    assert train(model, batches(), scaler=scaler) == pytest.approx(train(plain, batches()), rel=1e-5)
    same_state(model, plain, rtol=1e-4, atol=1e-5)
    assert scaler.get_scale() == 1024 * 2**3  # it grows at every update, so there were three, with finite gradients


def test_train_one_epoch_lets_the_scaler_skip_a_step(float32):
    model = Toy()
    model.head.bias.register_hook(lambda gradient: gradient * math.inf)  # as where a product overflows
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = copy.deepcopy(list(model.parameters()))
    optimizer, scheduler = sgd(model)
    optimizer.step()  # else the scheduler warns that it was first
    assert math.isfinite(train(model, batches((3,)), optimizer, scheduler, scaler=scaler))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert scheduler.last_epoch == 1 and scaler.get_scale() < 1024


@pytest.mark.parametrize("epoch", ["train", "eval"])
def test_epochs_use_the_earlier_answers_by_name(epoch, monkeypatch, float32):
    model, loader, generator, calls = Toy(), batches(), rng(), []

    def sample_mask(batch, tokens, *rest, **options):
        calls.append("sample_mask")
        assert not rest and options.pop("ratio", None) is None and options.pop("prob_type", "topk") == "topk"
        assert options["generator"] is generator and torch.device(options["device"]) == torch.device("cpu")
        mask = torch.zeros(batch, tokens, dtype=torch.bool)
        mask[:, 2] = True
        return mask

    def masked_forward(transformer, z, mask, mask_token_id):
        calls.append("masked_forward")
        assert transformer is model and mask_token_id == V and mask.sum() == len(z)
        return transformer(z)[..., :3], z + 1

    def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
        calls.append("mvtm_loss")
        assert label_smoothing == 0 and mask[:, 2].all() and targets.min() >= 1 and logits.shape[-1] == 3
        return logits.sum() * 0 + calls.count("mvtm_loss") ** 2

    for stand_in in (sample_mask, masked_forward, mvtm_loss):
        monkeypatch.setitem(names_seen_by(epoch), stand_in.__name__, stand_in)
    run = train if epoch == "train" else evaluate
    assert run(model, loader, generator=generator) == pytest.approx((1 + 4 + 9) / 3)
    assert calls == ["sample_mask", "masked_forward", "mvtm_loss"] * 3


@pytest.mark.parametrize("epoch", ["train", "eval"])
def test_epochs_run_forward_under_autocast(epoch, monkeypatch):
    devices = []
    monkeypatch.setattr(lab3, "autocast", lambda device: (devices.append(str(device)), bfloat16)[1])
    model = Toy()
    loss = (train if epoch == "train" else evaluate)(model, batches())
    assert set(devices) == {"cpu"} and all(call.autocast for call in model.seen)
    assert not torch.is_autocast_enabled("cpu")
    monkeypatch.setattr(lab3, "autocast", lambda device: nullcontext())
    assert loss == pytest.approx((train if epoch == "train" else evaluate)(Toy(), batches()), rel=0.1)
    assert all(one.dtype == torch.float32 and one.isfinite().all() for one in model.parameters())


@pytest.mark.parametrize("epoch", ["train", "eval"])
def test_epochs_follow_their_generator(epoch, float32):
    run = train if epoch == "train" else evaluate
    with unchanged():
        first, again, other = (run(Toy(), batches(), generator=rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    torch.manual_seed(0)
    assert math.isfinite(run(Toy(), batches(), generator=None))


@pytest.mark.parametrize("epoch", ["train", "eval"])
@pytest.mark.parametrize("loader", [list, lambda: iter(())])
def test_epochs_refuse_an_empty_loader(epoch, loader):
    model = Toy()
    with unchanged(*model.state_dict().values()), raises("loader"):
        (train if epoch == "train" else evaluate)(model, loader())


def test_train_one_epoch_learns(real, float32):
    model = copy.deepcopy(real)
    loader = [randint(4, 8, 256, seed=number) for number in range(4)]
    optimizer, scheduler = answers.configure_optimizers(model, 1e-2, 8, 1)
    losses = [answers.train_one_epoch(model, loader, optimizer, scheduler, mask_token_id=MASK_TOKEN_ID, device="cpu",
                                      generator=rng(number)) for number in range(2)]
    assert losses[0] < 7.5 and losses[1] < losses[0] - 1


# eval_one_epoch


def evaluate(model, loader, **options):
    return answers.eval_one_epoch(model, loader, **dict(mask_token_id=V, device="cpu", generator=rng()) | options)


@pytest.mark.parametrize("sizes, tokens", [((3, 1, 4), 6), ((1,), 1)])
def test_eval_one_epoch_is_the_mean_over_batches(sizes, tokens, float32):
    model, loader, generator = Toy(dropout=0.5).train(), batches(sizes, tokens), rng()
    model.norm.running_mean += 1
    by_hand = copy.deepcopy(model).eval()
    with unchanged(*loader, *model.state_dict().values()):
        loss = evaluate(model, iter(loader), device=torch.device("cpu"))
    with torch.no_grad():
        expected = np.mean([batch_loss(by_hand, z, generator).item() for z in loader])
    assert type(loss) is float and loss == pytest.approx(expected, rel=1e-5)
    assert all(not any(call.modes) and not call.grad for call in model.seen) and len(model.seen) == len(loader)


def modes_of(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("where", ["nowhere", "transformer", "loader", "empty", "sample_mask"])
def test_eval_one_epoch_puts_modes_back(where, monkeypatch, float32):
    def fail(*_, **__):
        raise RuntimeError("broken")

    def loader():
        yield from batches()
        if where == "loader":
            fail()

    model = Toy().train()
    model.drop.eval()
    modes = modes_of(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = [*model.state_dict().values(), *(one.grad for one in model.parameters())]
    if where == "transformer":
        monkeypatch.setattr(model.head, "forward", fail)
    if where == "sample_mask":
        monkeypatch.setitem(names_seen_by("eval"), "sample_mask", fail)
    expected = {"nowhere": nullcontext(), "empty": raises("loader")}
    with unchanged(*state), expected.get(where, pytest.raises(RuntimeError, match="broken")):
        evaluate(model, [] if where == "empty" else loader())
    assert modes_of(model) == modes and len(set(modes)) == 2
    assert torch.is_grad_enabled() and all((one.grad == 1).all() for one in model.parameters())
    assert all(one.requires_grad for one in model.parameters())


# gamma_func


@pytest.mark.parametrize("mode", SCHEDULES)
def test_gamma_func_is_its_formula(mode):
    gamma, expected = answers.gamma_func(mode), SCHEDULES[mode]
    grid = np.linspace(0, 1, 24).reshape(4, 6)
    with unchanged(grid):
        values = gamma(grid)
    assert isinstance(values, np.ndarray) and values.shape == grid.shape and values.dtype == np.float64
    for r, value in zip(grid.flat, values.flat, strict=True):
        assert value == pytest.approx(expected(r), abs=1e-12)
        assert isinstance(gamma(float(r)), float) and gamma(float(r)) == pytest.approx(expected(r), abs=1e-12)
    assert gamma(0.0) == 1 and gamma(1.0) == pytest.approx(0, abs=1e-12)
    single = gamma(grid.astype(np.float32))
    assert isinstance(single, np.ndarray) and np.allclose(single, values, atol=1e-6)
    assert gamma(grid[0, :1]).shape == (1,)


def test_gamma_func_is_cosine_by_default():
    assert answers.gamma_func()(0.5) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("mode", ["cosin", "", None, "Linear"])
def test_gamma_func_refuses_another_mode(mode):
    with raises("mode", *SCHEDULES):
        answers.gamma_func(mode)


# inpainting


def stay_by_hand(gamma, ratio, n_hidden, hidden_now):
    return 0 if ratio == 1 else max(0, min(math.floor(gamma(ratio) * n_hidden), hidden_now - 1))


def log_p_by_hand(table, z, mask):
    """log p (B, T, V) in float64, from one row at a time."""
    hidden = torch.where(mask, table.V, z)
    return torch.cat([table.logits(row[None])[:, :, :table.V].double().log_softmax(dim=-1) for row in hidden])


def least_sure_by_hand(log_p, z_predict, mask, stay):
    """Hides in each row the `stay` tokens with the lowest log p(chosen) of those hidden."""
    next_mask = torch.zeros_like(mask)
    for b, count in enumerate(stay):
        places = [t for t in range(mask.shape[1]) if mask[b, t]]
        places.sort(key=lambda t: log_p[b, t, z_predict[b, t]].item())
        next_mask[b, places[:count]] = True
    return next_mask


def step(transformer, z, mask, ratio, n_hidden, **options):
    return answers.inpainting(
        transformer, z, mask, ratio, n_hidden,
        **dict(gamma=SCHEDULES["cosine"], choice_temperature=4.5, generator=rng()) | options)


@st.composite
def scenes(draw):
    """A table, tokens, a mask of now and how many tokens each row hid at first."""
    seed, B, T, codes = draw(seeds), draw(st.integers(1, 4)), draw(st.integers(1, 24)), draw(st.integers(2, 12))
    first = some_mask(B, T, share=draw(st.sampled_from([0.2, 0.7, 1.0])), seed=seed)
    first[draw(st.integers(0, B - 1))] &= draw(st.booleans())  # often a row that hides nothing
    mask = first & some_mask(B, T, share=draw(st.sampled_from([0.5, 1.0])), seed=seed + 1)
    return SimpleNamespace(table=Table(codes, T, seed), z=randint(codes, B, T, seed=seed), mask=mask,
                           n_hidden=first.sum(dim=1), V=codes, seed=seed)


@settings(fixed, max_examples=80)
@given(scenes(), share(0.01), st.sampled_from(list(SCHEDULES)), st.sampled_from(["argmax", "categorical"]))
def test_inpainting_is_the_contract_by_hand(scene, ratio, schedule, sampling):
    gamma = SCHEDULES[schedule]
    assume(all(product_is_clear(gamma(ratio) * n) for n in scene.n_hidden.tolist()))
    with unchanged(scene.z, scene.mask, scene.n_hidden):
        z_predict, next_mask = step(scene.table, scene.z, scene.mask, ratio, scene.n_hidden, gamma=gamma,
                                    choice_temperature=0.0, mask_token_id=scene.V, sampling=sampling)
    [seen] = scene.table.seen  # one forward pass
    assert torch.equal(seen, torch.where(scene.mask, scene.V, scene.z))
    assert z_predict.dtype == torch.long and next_mask.dtype == torch.bool
    assert z_predict.shape == next_mask.shape == scene.z.shape
    log_p = log_p_by_hand(scene.table, scene.z, scene.mask)
    assert torch.equal(z_predict[~scene.mask], scene.z[~scene.mask])
    assert z_predict.min() >= 0 and z_predict.max() < scene.V
    if sampling == "argmax":
        assert torch.equal(z_predict[scene.mask], log_p.argmax(dim=-1)[scene.mask])
    stay = [stay_by_hand(gamma, ratio, n, m.sum().item())
            for n, m in zip(scene.n_hidden.tolist(), scene.mask, strict=True)]
    assert torch.equal(next_mask, least_sure_by_hand(log_p, z_predict, scene.mask, stay))


@fixed
@given(scenes(), share(0.01), st.sampled_from([0.0, 4.5, 1e4]),
       st.sampled_from(["argmax", "categorical"]))
def test_inpainting_counts_are_exact_whatever_the_ties(scene, ratio, temperature, sampling):
    gamma = SCHEDULES["linear"]
    assume(all(product_is_clear(gamma(ratio) * n) for n in scene.n_hidden.tolist()))
    flat = Flat(torch.zeros(scene.z.shape[1], scene.V + 1))
    z_predict, next_mask = step(flat, scene.z, scene.mask, ratio, scene.n_hidden, gamma=gamma, sampling=sampling,
                                choice_temperature=temperature, mask_token_id=scene.V)
    assert not (next_mask & ~scene.mask).any() and torch.equal(z_predict[~scene.mask], scene.z[~scene.mask])
    assert next_mask.sum(dim=1).tolist() == [
        stay_by_hand(gamma, ratio, n, m.sum().item()) for n, m in zip(scene.n_hidden.tolist(), scene.mask, strict=True)]


def test_inpainting_counts_come_from_gamma_in_float64_and_the_first_mask():
    mask = torch.zeros(3, 256, dtype=torch.bool)
    mask[0], mask[1, :200], mask[2, :3] = True, True, True
    z, flat = randint(5, 3, 256), Flat(torch.zeros(256, 6))

    def counts(ratio, gamma, n_hidden=(256, 256, 256)):
        mask_after = step(flat, z, mask, ratio, torch.tensor(n_hidden), gamma=gamma, mask_token_id=5)[1]
        return mask_after.sum(dim=1).tolist()

    assert counts(0.5, lambda r: 0.5 - 1e-8) == [127, 127, 2]
    assert counts(0.5, lambda r: np.float64(0.25), (256, 200, 3)) == [64, 50, 0]
    assert counts(0.5, lambda r: 1.0) == [255, 199, 2]  # at least one fewer
    assert counts(1.0, lambda r: 1.0) == counts(1, lambda r: 1.0) == counts(0.3, lambda r: 0.0) == [0, 0, 0]


def test_inpainting_draws_from_the_softmax_over_codes():
    logits = torch.tensor([[1.0, 0.0, -1.0, 0.5, 60.0], [-2.0, 2.0, 0.0, 1.0, 60.0]])
    z, mask = torch.zeros(10_000, 2, dtype=torch.long), torch.ones(10_000, 2, dtype=torch.bool)
    z_predict, _ = step(Flat(logits), z, mask, 0.5, mask.sum(dim=1), mask_token_id=4)
    p = logits[:, :4].double().softmax(dim=-1)
    pairs = np.bincount(4 * z_predict[:, 0] + z_predict[:, 1], minlength=16)
    assert likely(pairs, (p[0][:, None] * p[1]).flatten())


@pytest.mark.parametrize("temperature, ratio", [(4.5, 0.5), (4.5, 0.9), (1.0, 0.25), (0.5, 0.75)])
def test_inpainting_noise_is_gumbels_times_what_is_left(temperature, ratio):
    """The token that a + s * Gumbel makes the surest is token i with probability softmax(a / s)_i."""
    logits = torch.zeros(5, 3)
    logits[:, 0] = torch.tensor([0.2, 9.0, 1.0, -9.0, 2.5])
    B, hidden = 10_000, torch.tensor([0, 2, 4])
    mask = torch.zeros(B, 5, dtype=torch.bool)
    mask[:, hidden] = True
    z_predict, next_mask = step(Flat(logits), torch.ones(B, 5, dtype=torch.long), mask, ratio, mask.sum(dim=1),
                                gamma=lambda r: 0.7, choice_temperature=temperature, mask_token_id=2, sampling="argmax")
    assert (z_predict == torch.tensor([0, 1, 0, 1, 0])).all()
    assert (next_mask.sum(dim=1) == 2).all()
    kept = (mask & ~next_mask).sum(dim=0)[hidden]
    best = logits[hidden, :2].double().log_softmax(dim=-1)[:, 0]
    assert likely(kept, (best / (temperature * (1 - ratio))).softmax(dim=0))


def test_inpainting_confidence_is_that_of_the_token_drawn():
    p = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]], dtype=torch.float64)
    logits = torch.cat([p.log(), torch.full((2, 1), 5.0)], dim=1).float()
    mask = torch.ones(20_000, 2, dtype=torch.bool)
    z_predict, next_mask = step(Flat(logits), torch.zeros(20_000, 2, dtype=torch.long), mask, 0.5, mask.sum(dim=1),
                                gamma=lambda r: 0.6, choice_temperature=1.0, mask_token_id=3)
    found = np.bincount(6 * z_predict[:, 0] + 2 * z_predict[:, 1] + next_mask[:, 0], minlength=18)
    first, second = p[0][:, None], p[1][None]
    first_stays = second**2 / (first**2 + second**2)  # the noise counts 0.5, so p^(1 / 0.5) decides
    expected = torch.stack([(1 - first_stays), first_stays], dim=-1) * (first * second)[..., None]
    assert likely(found, expected.flatten())


@pytest.mark.parametrize("sampling", ["categorical", "argmax"])
def test_inpainting_follows_its_generator(sampling):
    z, mask, table = randint(9, 4, 32), some_mask(4, 32, share=0.8), Table(9, 32)

    def run(seed):
        return step(table, z, mask, 0.3, mask.sum(dim=1), mask_token_id=9, sampling=sampling, generator=rng(seed))

    with unchanged(z, mask):
        first, again, other = run(1), run(1), run(2)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(first[0], other[0]) == (sampling == "argmax")
    assert step(table, z, mask, 0.3, mask.sum(dim=1), mask_token_id=9, generator=None)[0].shape == z.shape


@fixed
@given(scenes(), share(0.01))
def test_inpainting_rows_do_not_influence_one_another(scene, ratio):
    options = dict(mask_token_id=scene.V, sampling="argmax", choice_temperature=0.0)
    together = step(scene.table, scene.z, scene.mask, ratio, scene.n_hidden, **options)
    for b in range(len(scene.z)):
        alone = step(scene.table, scene.z[b:b + 1], scene.mask[b:b + 1], ratio, scene.n_hidden[b:b + 1], **options)
        assert torch.equal(together[0][b], alone[0][0]) and torch.equal(together[1][b], alone[1][0])


def test_inpainting_of_nothing_hidden_changes_nothing():
    z, mask = randint(5, 2, 8), torch.zeros(2, 8, dtype=torch.bool)
    for sampling in ("categorical", "argmax"):
        for ratio in (0.1, 1.0):
            z_predict, next_mask = step(
                Table(5, 8), z, mask, ratio, mask.sum(dim=1), mask_token_id=5, sampling=sampling)
            assert torch.equal(z_predict, z) and not next_mask.any()


@pytest.mark.parametrize("ratio", [0, 0.0, -0.2, 1.01, math.nan, math.inf])
def test_inpainting_refuses_ratios_outside(ratio):
    with raises("ratio"):
        step(Table(5, 8), randint(5, 2, 8), some_mask(2, 8), ratio, torch.tensor([8, 8]), mask_token_id=5)


@pytest.mark.parametrize("hidden", [0.0, 0.5])
def test_inpainting_refuses_another_sampling(hidden):
    with raises("sampling", "categorical", "argmax"):
        step(Table(5, 8), randint(5, 2, 8), some_mask(2, 8, share=hidden), 0.5, torch.tensor([8, 8]), mask_token_id=5,
             sampling="greedy")


# iterative_decode


def decode(transformer, z, mask, **options):
    return answers.iterative_decode(
        transformer, z, mask, **dict(gamma=SCHEDULES["cosine"], total_iter=8, generator=rng()) | options)


def same_histories(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True))


@settings(fixed, max_examples=60)
@given(scenes(), st.integers(1, 9), st.floats(0, 1), st.sampled_from(list(SCHEDULES)), st.sampled_from([0.0, 4.5]),
       st.sampled_from(["argmax", "categorical"]))
def test_iterative_decode_is_the_contract_by_hand(scene, total_iter, spot, schedule, temperature, sampling):
    gamma, first, steps = SCHEDULES[schedule], scene.mask, max(1, round(spot * total_iter))
    n_hidden = first.sum(dim=1).tolist()
    assume(all(product_is_clear(gamma((t + 1) / total_iter) * n) for t in range(steps) for n in n_hidden))
    with unchanged(scene.z, first):
        z_final, history = decode(
            scene.table, scene.z, first, gamma=gamma, total_iter=total_iter, mask_token_id=scene.V, sampling=sampling,
            sweet_spot=None if steps == total_iter and scene.seed % 2 else steps, choice_temperature=temperature)
    assert isinstance(history, list) and len(history) == steps and len(scene.table.seen) <= steps
    z, mask = scene.z, first
    for t, (z_predict, next_mask) in enumerate(history):
        ratio = (t + 1) / total_iter
        assert torch.equal(z_predict[~mask], z[~mask])  # what is known stays, tokens revealed before included
        if mask.any():
            assert torch.equal(scene.table.seen[t], torch.where(mask, scene.V, z))
            assert z_predict[mask].min() >= 0 and z_predict[mask].max() < scene.V
        stay = [stay_by_hand(gamma, ratio, n, m.sum().item()) for n, m in zip(n_hidden, mask, strict=True)]
        assert next_mask.sum(dim=1).tolist() == stay and not (next_mask & ~mask).any()
        log_p = log_p_by_hand(scene.table, z, mask)
        if sampling == "argmax":
            assert torch.equal(z_predict[mask], log_p.argmax(dim=-1)[mask])
        if temperature == 0:
            assert torch.equal(next_mask, least_sure_by_hand(log_p, z_predict, mask, stay))
        z, mask = z_predict, next_mask
    assert z_final.dtype == torch.long and torch.equal(z_final, z)
    assert torch.equal(z_final[~first], scene.z[~first])
    assert steps < total_iter or not mask.any()


def test_iterative_decode_stops_at_the_sweet_spot():
    z, mask, table = randint(9, 3, 40), some_mask(3, 40), Table(9, 40)
    whole, history = decode(table, z, mask, mask_token_id=9)
    assert len(history) == 8
    for sweet_spot in range(1, 9):
        z_final, part = decode(table, z, mask, mask_token_id=9, sweet_spot=sweet_spot)
        assert same_histories(part, history[:sweet_spot])
        assert torch.equal(z_final, history[sweet_spot - 1][0])
    assert torch.equal(whole, z_final)


@pytest.mark.parametrize("sampling", ["categorical", "argmax"])
def test_iterative_decode_does_not_see_what_is_hidden(sampling):
    z, mask = randint(9, 3, 40), some_mask(3, 40)
    expected = decode(Table(9, 40), z, mask, mask_token_id=9, sampling=sampling)
    for hidden in (-1, 9, 0, 2**62, -100):
        z_final, history = decode(Table(9, 40), z.masked_fill(mask, hidden), mask, mask_token_id=9, sampling=sampling)
        assert torch.equal(z_final, expected[0]) and same_histories(history, expected[1])
        one, next_mask = step(Table(9, 40), z.masked_fill(mask, hidden), mask, 1 / 8, mask.sum(dim=1),
                              mask_token_id=9, sampling=sampling)
        assert torch.equal(one, history[0][0]) and torch.equal(next_mask, history[0][1])


def test_iterative_decode_follows_its_generator():
    z, mask, table = randint(9, 3, 40), some_mask(3, 40), Table(9, 40)
    with unchanged(z, mask):
        first, again, other = (decode(table, z, mask, mask_token_id=9, generator=rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and same_histories(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert decode(table, z, mask, mask_token_id=9, generator=None)[0].shape == z.shape


def test_iterative_decode_rows_do_not_influence_one_another():
    z, mask, table = randint(9, 5, 30), some_mask(5, 30), Table(9, 30)
    mask[1], mask[2], mask[3] = False, True, torch.arange(30) == 4
    options = dict(mask_token_id=9, sampling="argmax", choice_temperature=0.0)
    together, history = decode(table, z, mask, **options)
    for b in range(5):
        alone, own = decode(table, z[b:b + 1], mask[b:b + 1], **options)
        assert torch.equal(together[b], alone[0])
        assert same_histories([(one[b:b + 1], two[b:b + 1]) for one, two in history], own)


@pytest.mark.parametrize("sampling", ["categorical", "argmax"])
def test_iterative_decode_of_nothing_hidden(sampling):
    z, mask = randint(5, 2, 8), torch.zeros(2, 8, dtype=torch.bool)
    z_final, history = decode(Table(5, 8), z, mask, mask_token_id=5, sampling=sampling, total_iter=3)
    assert torch.equal(z_final, z) and same_histories(history, [(z, mask)] * 3)


def test_iterative_decode_of_less_hidden_than_steps():
    z, mask = randint(5, 2, 8), torch.zeros(2, 8, dtype=torch.bool)
    mask[0, 3], mask[1, :2] = True, True
    z_final, history = decode(Table(5, 8), z, mask, mask_token_id=5, total_iter=6)
    counts = [next_mask.sum(dim=1).tolist() for _, next_mask in history]
    assert counts == [[0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert all(torch.equal(z_predict, z_final) for z_predict, _ in history[1:])


def test_iterative_decode_ends_with_nothing_hidden_also_where_gamma_does_not():
    z, mask = randint(5, 2, 20), some_mask(2, 20)
    z_final, history = decode(Table(5, 20), z.masked_fill(mask, -1), mask, mask_token_id=5, gamma=lambda r: 1.0)
    assert not history[-1][1].any() and z_final.min() >= 0 and z_final.max() < 5


def test_iterative_decode_results_are_the_callers_own():
    """Writing into a result changes neither the input nor another entry."""
    for share_hidden in (0.0, 0.5):
        z, mask = randint(5, 2, 8), some_mask(2, 8, share=share_hidden)
        with unchanged(z, mask):
            z_final, history = decode(Table(5, 8), z, mask, mask_token_id=5, total_iter=3)
            z_final.fill_(-7)
            for z_predict, next_mask in history:
                z_predict.fill_(-7)
                next_mask.fill_(True)


def test_iterative_decode_defaults():
    signature = inspect.signature(answers.iterative_decode).parameters
    assert signature["choice_temperature"].default == 4.5 and signature["sampling"].default == "categorical"
    assert signature["sweet_spot"].default is None and signature["generator"].default is None
    z, mask, table = randint(9, 3, 40), some_mask(3, 40), Table(9, 40)
    assert torch.equal(decode(table, z, mask, mask_token_id=9)[0],
                       decode(table, z, mask, mask_token_id=9, choice_temperature=4.5, sampling="categorical")[0])


@pytest.mark.parametrize("hidden", [0.0, 0.5])
@pytest.mark.parametrize("options, word", [
    (dict(total_iter=0), "total_iter"), (dict(total_iter=-2), "total_iter"),
    (dict(total_iter=4, sweet_spot=0), "sweet_spot"), (dict(total_iter=4, sweet_spot=5), "sweet_spot"),
    (dict(total_iter=4, sweet_spot=-1), "sweet_spot"), (dict(sampling="greedy"), "sampling")])
def test_iterative_decode_refuses(options, word, hidden):
    with raises(word):
        decode(Table(5, 8), randint(5, 2, 8), some_mask(2, 8, share=hidden), mask_token_id=5, **options)


@pytest.mark.parametrize("precision", [nullcontext(), bfloat16], ids=["float32", "bfloat16"])
def test_iterative_decode_with_the_real_transformer(real, precision):
    z, mask = randint(1024, 2, 256), some_mask(2, 256, share=0.4)
    n_hidden, gamma = mask.sum(dim=1).tolist(), SCHEDULES["square"]
    before = [parameter.clone() for parameter in real.parameters()]
    with precision, unchanged(z, mask):
        z_final, history = decode(real, z.masked_fill(mask, -1), mask, mask_token_id=MASK_TOKEN_ID, gamma=gamma)
    assert torch.equal(z_final[~mask], z[~mask]) and z_final.min() >= 0 and z_final.max() < 1024
    for t, (z_predict, next_mask) in enumerate(history):
        assert z_predict.dtype == torch.long
        assert next_mask.sum(dim=1).tolist() == [math.floor(gamma((t + 1) / 8) * n) for n in n_hidden]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, real.parameters(), strict=True))


# frechet_distance


def gaussian(d, samples, seed, scale=1.0):
    """Mean and covariance of samples, and the centred samples / sqrt(n - 1): x.T @ x is the covariance."""
    x = scale * np.random.default_rng(seed).normal(size=(samples, d)) * np.linspace(0.5, 2, d) + seed % 3
    centred = (x - x.mean(axis=0)) / math.sqrt(samples - 1)
    return x.mean(axis=0), centred.T @ centred, centred


def distance_by_hand(mu1, x1, mu2, x2):
    """tr (S1 S2)^(1/2) is the sum of the singular values of x1 x2.T, whatever the rank."""
    root = np.linalg.svd(x1 @ x2.T, compute_uv=False).sum()
    return ((mu1 - mu2) ** 2).sum() + (x1**2).sum() + (x2**2).sum() - 2 * root


@pytest.mark.parametrize("d", [1, 2, 7, 40])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_frechet_distance_of_regular_covariances(d, scale):
    (mu1, sigma1, x1), (mu2, sigma2, x2) = gaussian(d, 10 * d + 5, 1, scale), gaussian(d, 8 * d + 5, 2, 1.3 * scale)
    with unchanged(mu1, sigma1, mu2, sigma2):
        found = answers.frechet_distance(mu1, sigma1, mu2, sigma2)
    assert type(found) is float and found == pytest.approx(distance_by_hand(mu1, x1, mu2, x2), rel=1e-6)
    root = linalg.sqrtm(sigma1 @ sigma2).real
    assert found == pytest.approx(
        ((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * root), rel=1e-6)
    assert found == pytest.approx(answers.frechet_distance(mu2, sigma2, mu1, sigma1), rel=1e-6)


@pytest.mark.parametrize("d, samples1, samples2", [
    (64, 20, 10), (200, 50, 300), (200, 300, 50), (200, 2, 3), (6, 6, 6)])
def test_frechet_distance_of_singular_covariances(d, samples1, samples2):
    (mu1, sigma1, x1), (mu2, sigma2, x2) = gaussian(d, samples1, 1), gaussian(d, samples2, 2)
    found = answers.frechet_distance(mu1, sigma1, mu2, sigma2)
    assert type(found) is float and found == pytest.approx(distance_by_hand(mu1, x1, mu2, x2), rel=1e-3)
    itself = answers.frechet_distance(mu1, sigma1, mu1, sigma1)
    assert abs(itself) < 1e-3 * np.trace(sigma1)


def test_frechet_distance_of_known_cases():
    mu, sigma, _ = gaussian(5, 100, 1)
    zero = np.zeros((5, 5))
    assert answers.frechet_distance(mu, sigma, mu, sigma) == pytest.approx(0, abs=1e-9)
    assert answers.frechet_distance(mu, sigma, mu + 3, sigma) == pytest.approx(45, rel=1e-6)
    assert answers.frechet_distance(mu, zero, mu + 3, zero) == pytest.approx(45, rel=1e-6)
    assert answers.frechet_distance(mu, zero, mu, sigma) == pytest.approx(np.trace(sigma), rel=1e-3)
    assert answers.frechet_distance(mu, 4 * np.eye(5), mu, 9 * np.eye(5)) == pytest.approx(5, rel=1e-6)
    apart = np.diag([1.0, 0, 0, 0, 0]), np.diag([0, 1.0, 0, 0, 0])  # their product is 0
    assert answers.frechet_distance(mu, apart[0], mu, apart[1]) == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("shapes", [
    [(3,), (3, 3), (4,), (4, 4)], [(3,), (3, 3), (3,), (4, 4)], [(3,), (3, 4), (3,), (3, 3)], [(3,), (3,), (3,), (3,)],
    [(3,), (3, 3), (4,), (3, 3)], [(1,), (3, 3), (3,), (3, 3)], [(3, 1), (3, 3), (3,), (3, 3)],
    [(3,), (1, 1), (3,), (1, 1)], [(), (3, 3), (), (3, 3)], [(3,), (3, 3), (3,), (1, 3, 3)]])
def test_frechet_distance_refuses_shapes_that_do_not_match(shapes):
    with raises("mu|sigma"):
        answers.frechet_distance(*(np.ones(shape) for shape in shapes))


# The fast answers


def test_fast_training_has_the_losses_of_the_plain_one(float32):
    config = TransformerConfig(dim=32, layers=2, hidden=48, heads=4)
    loader, losses, states = [randint(1024, size, 256, seed=size) for size in (3, 1, 2)], [], []
    for one in ANSWERS.values():
        torch.manual_seed(0)
        model = BidirectionalTransformer(config, one.MultiHeadAttention)
        optimizer, scheduler = one.configure_optimizers(model, 1e-3, 6, 1)
        losses.append([one.train_one_epoch(model, loader, optimizer, scheduler, mask_token_id=MASK_TOKEN_ID,
                                           device="cpu", generator=rng(number)) for number in range(2)])
        states.append(model)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0][1] < losses[0][0]
    for a, b in zip(states[0].parameters(), states[1].parameters(), strict=True):
        assert (a - b).abs().mean() < 1e-5  # Adam makes a step of what little a gradient of nearly 0 differs


def test_fast_decoding_reveals_what_the_plain_one_does(float32):
    torch.manual_seed(0)
    config = TransformerConfig(dim=32, layers=2, hidden=48, heads=4)
    z, mask, found = randint(1024, 3, 256), some_mask(3, 256, share=0.3), []
    state = BidirectionalTransformer(config, answers.MultiHeadAttention).state_dict()
    for one in ANSWERS.values():
        model = BidirectionalTransformer(config, one.MultiHeadAttention).eval()
        model.load_state_dict(state)
        found.append(one.iterative_decode(model, z, mask, gamma=SCHEDULES["cosine"], total_iter=4,
                                          mask_token_id=MASK_TOKEN_ID, generator=rng()))
    assert torch.equal(found[0][0], found[1][0]) and same_histories(found[0][1], found[1][1])


def test_fast_answers_differ_from_the_plain_ones():
    for path in FAST.glob("*.py"):
        assert path.read_text() != (SOLUTIONS / path.name).read_text()
