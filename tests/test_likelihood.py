"""Bits a picture: the bound against distributions whose entropy is known, and where the kit shows it."""

import math

import pytest
import torch

from lab3.common.files import InputError
from lab3.metrics.nearest_cat import SIZES
from lab3.metrics.truth import _allowed, _code, true_bits
from lab3.model.likelihood import bits

V = 3


def drawn(table, n, seed=0):
    """n rows of two tokens from a joint distribution (V, V)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(torch.unravel_index(
        torch.multinomial(table.flatten(), n, replacement=True, generator=generator), table.shape), dim=1)


def model_of(table):
    """What knows two tokens' joint distribution exactly: (B, 2) -> (B, 2, V + 1)."""
    def transformer(z_indices):
        logits = torch.full((*z_indices.shape, V + 1), 9.0)  # the mask token's logit must not count
        for place, given in ((0, 1), (1, 0)):
            joint = table if place == 0 else table.T
            conditional = torch.cat([joint / joint.sum(0), joint.sum(1, keepdim=True)], 1)  # by the other, by nothing
            logits[:, place, :V] = conditional.log()[:, z_indices[:, given]].T
        return logits
    return transformer


def test_a_model_that_knows_the_distribution_needs_its_entropy():
    table = torch.tensor([[0.30, 0.02, 0.03], [0.01, 0.25, 0.04], [0.05, 0.10, 0.20]])
    entropy = -(table * table.log2()).sum().item()
    found, error = bits(model_of(table), drawn(table, 20_000), mask_token_id=V)
    assert 0.005 < error < 0.02 and found == pytest.approx(entropy, abs=4 * error)
    independent = table.sum(1)[:, None] * table.sum(0)
    wrong, error = bits(model_of(independent), drawn(table, 20_000), mask_token_id=V)
    assert wrong == pytest.approx(-(table * independent.log2()).sum().item(), abs=4 * error) and wrong > entropy + 0.2


def test_orders_that_disagree_cost_more_than_the_likelihood():
    first, second = torch.eye(V) / V * 0.94 + 0.02 / V, torch.full((V, V), 1 / V**2)

    def transformer(z_indices):  # place 0 knows of place 1, place 1 of nothing
        return torch.stack([model_of(first)(z_indices)[:, 0], model_of(second)(z_indices)[:, 1]], dim=1)

    z = torch.tensor([[0, 1], [1, 1], [2, 0], [2, 2]])
    orders = torch.stack([(first / first.sum(0) / V)[z[:, 0], z[:, 1]], second[z[:, 0], z[:, 1]]])
    found, error = bits(transformer, z.repeat(2000, 1), mask_token_id=V)
    assert found == pytest.approx(-orders.log2().mean().item(), abs=4 * error), "the mean over orders"
    assert found > -orders.mean(0).log2().mean().item() + 0.1, "the likelihood of a random order"


def test_the_standard_error_is_that_of_other_seeds():
    p = torch.linspace(1, 3, V) / torch.linspace(1, 3, V).sum()
    z = torch.multinomial(p, 40 * 16, replacement=True, generator=torch.Generator().manual_seed(1)).view(40, 16)

    def transformer(z_indices):
        logits = torch.cat([p, torch.ones(1)]).log().expand(*z_indices.shape, -1)
        return logits * (1 - (z_indices == V).double().mean(1)[:, None, None])  # knows less where more is hidden

    found = torch.tensor([bits(transformer, z, seed=seed, mask_token_id=V) for seed in range(200)])
    assert 0.9 < found[:, 1].mean() / found[:, 0].std() < 1.6, "pictures count as drawn too, so it may be larger"


def test_a_seed_fixes_the_masks():
    z = torch.randint(0, 1024, (6, 256), generator=torch.Generator().manual_seed(0))
    seen = []

    def transformer(z_indices):
        seen.append(z_indices)
        return torch.zeros(*z_indices.shape, 1025)

    assert bits(transformer, z.to(torch.int16)) == bits(transformer, z)
    bits(transformer, z, seed=1)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert torch.equal(seen[0].where(seen[0] < 1024, z), z), "what is not hidden is shown"
    hidden = (seen[0] == 1024).sum(1).sort().values
    edges = torch.arange(7) * 256 / 6
    assert ((edges[:-1] < hidden) & (hidden <= edges[1:] + 1)).all(), "one row for each sixth of 1 ... 256"


def test_tokens_of_one_step_do_not_see_one_another():
    table = torch.tensor([[0.30, 0.02, 0.03], [0.01, 0.25, 0.04], [0.05, 0.10, 0.20]])
    z, independent = drawn(table, 20_000), table.sum(1)[:, None] * table.sum(0)
    found, error = bits(model_of(table), z, hidden=(2,), mask_token_id=V)
    assert found == pytest.approx(-(table * independent.log2()).sum().item(), abs=4 * error), "both in one step"
    one_by_one = bits(model_of(table), z, mask_token_id=V)
    assert bits(model_of(table), z, hidden=torch.tensor([2, 1]), mask_token_id=V) == one_by_one
    assert found > one_by_one[0] + 0.2


def test_a_step_counts_as_often_as_it_draws_tokens():
    seen = []

    def transformer(z_indices):
        seen.append(z_indices)
        return torch.zeros(*z_indices.shape, 1025)

    bits(transformer, torch.zeros(256, 256, dtype=torch.long), hidden=(256, 236, 97))
    hidden = (torch.cat(seen) == 1024).sum(1)
    assert torch.bincount(hidden)[[256, 236, 97]].tolist() == [20, 139, 97]


@pytest.mark.parametrize("hidden", [(), (255,), (256, -1), (257, 256)])
def test_other_numbers_of_hidden_tokens_are_named(hidden):
    with pytest.raises(InputError, match=r"hidden must hold numbers in 0 \.\.\. 256, 256 among them"):
        bits(None, torch.zeros(2, 256, dtype=torch.long), hidden=hidden)


def test_a_model_that_guesses_needs_ten_bits_a_token():
    z = torch.zeros(1, 256, dtype=torch.long)
    found, error = bits(lambda z_indices: torch.zeros(*z_indices.shape, 1025), z)
    assert found == pytest.approx(2560) and math.isnan(error)
    assert bits(lambda z_indices: torch.zeros(*z_indices.shape, 1025), z.expand(256, -1))[1] < 1e-3


@pytest.mark.parametrize("wrong, words", [
    (torch.zeros(256, dtype=torch.long), r"shape \(N, T\).*shape \(256,\)"),
    (torch.zeros(0, 256, dtype=torch.long), r"at least one row.*shape \(0, 256\)"),
    (torch.zeros(2, 256), "integers.*not torch.float32"),
    (torch.full((2, 256), 1024), r"0 \.\.\. 1023, not in 1024"),
    (torch.full((2, 256), -1), r"not in -1"),
])
def test_other_tokens_are_named(wrong, words):
    with pytest.raises(InputError, match=words):
        bits(lambda z_indices: torch.zeros(*z_indices.shape, 1025), wrong)


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_true_bits_are_the_entropy_of_all_cats_that_can_be_drawn(split):
    body, fur = _allowed(split).nonzero().T
    rest = torch.cartesian_prod(*map(torch.arange, SIZES[2:5]))
    rows = torch.zeros(len(body), len(rest), 6, dtype=torch.long)
    rows[:, :, 0], rows[:, :, 1], rows[:, :, 2:5] = body[:, None], fur[:, None], rest
    counts = _code(rows.flatten(0, 1)).unique(return_counts=True)[1].double()
    p = counts / counts.sum()
    assert true_bits(split) == pytest.approx(-(p * p.log2()).sum().item() + math.log2(SIZES[5]))
