"""Common mistakes: each does to a right answer what its line of code does to the reference answers."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.common_mistakes import LINES
from benchmarks.threshold import answers_with
from lab3.common.paths import SOLUTIONS
from lab3.decoding.cached import can_cache
from lab3.decoding.mistakes import ATTENTION, GAMMA, LOOP, MISTAKES, STEP
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.model.transformer import BidirectionalTransformer
from lab3.presets import TransformerConfig

V, T = 24, 40
OF_ATTENTION = [one for one in MISTAKES.values() if one.part == ATTENTION]
OF_DECODING = [one for one in MISTAKES.values() if one.part in (STEP, LOOP, GAMMA)]
TOKENIZER = SimpleNamespace(decode=lambda z: z, encode=lambda z: (z + 1) % V)  # gives other tokens back


def transformer(z_indices):
    """Logits that depend on all tokens, (B, T, V + 1)."""
    weights = torch.randn(V + 1, T, V + 1, generator=torch.Generator().manual_seed(5))
    return weights[z_indices.sum(dim=1) % (V + 1)] * 2 + weights[z_indices, torch.arange(T)]


def decoded(answers, seed):
    """(z_final, masks) of five rows with holes of several sizes."""
    z_indices = torch.randint(V, (5, T), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(T) < torch.tensor([3, 10, 20, 33, 40])[:, None]
    z_final, history = answers.iterative_decode(
        transformer, z_indices, mask, gamma=answers.gamma_func("cosine"), total_iter=6, choice_temperature=4.5,
        mask_token_id=V, generator=torch.Generator().manual_seed(seed))
    return z_final, torch.stack([next_mask for _, next_mask in history])


def with_mistake(mistake):
    """The reference answers with a mistake made."""
    if mistake.part == GAMMA:
        answers = load_answers(SOLUTIONS)
        gamma = mistake.change(answers.gamma_func("cosine"), TOKENIZER)
        return SimpleNamespace(**vars(answers) | {"gamma_func": lambda mode: gamma})
    return load_answers(SOLUTIONS, changed={mistake.part: lambda answer: mistake.change(answer, TOKENIZER)})


@pytest.mark.parametrize("mistake", OF_DECODING, ids=lambda one: one.name)
def test_a_mistake_does_what_its_line_of_code_does(mistake):
    wrong, line, right = (with_mistake(mistake), answers_with(LINES[mistake.name], TOKENIZER), load_answers(SOLUTIONS))
    found, expected, reference = (decoded(answers, 0) for answers in (wrong, line, right))
    assert not all(map(torch.equal, found, reference)), "as without the mistake"
    hidden, wanted = (masks.sum(dim=2) for masks in (found[1], expected[1]))
    if mistake.name == "noise on probabilities":  # other random numbers: as many tokens are hidden
        assert torch.equal(hidden, wanted)
    elif mistake.over_rows:  # rounded down once, not once a row
        assert ((hidden.sum(dim=1) - wanted.sum(dim=1)).abs() <= 5).all()
        assert not torch.equal(hidden, reference[1].sum(dim=2))
    else:
        assert all(map(torch.equal, found, expected))
    again = decoded(wrong, 0)
    assert all(map(torch.equal, found, again)), "a second decoding depends on the first"


def test_with_noise_on_probabilities_confidence_hardly_decides():
    """Of two tokens the sure one is kept first: nearly always with noise on log p, less often with noise on p."""
    def two(z_indices):
        logits = torch.zeros(len(z_indices), 2, V + 1)
        logits[:, 0, 0] = 20  # the first place is sure, the second knows nothing
        return logits

    def share(step):
        _, mask = step(two, torch.zeros(2000, 2, dtype=torch.long), torch.ones(2000, 2, dtype=torch.bool), 0.5,
                       torch.full((2000,), 2), gamma=lambda r: 0.5, choice_temperature=2.0, mask_token_id=V,
                       generator=torch.Generator().manual_seed(0))
        return mask[:, 1].float().mean().item()

    right = load_answers(SOLUTIONS).inpainting
    assert share(right) > 0.9  # 1 / (1 + exp(-log(V) / 1)) = 0.96: a difference of two Gumbel draws is logistic
    assert 0.6 < share(MISTAKES["noise on probabilities"].change(right, None)) < 0.8  # 1 / (1 + exp(-0.96)) = 0.72


@pytest.mark.parametrize("mistake", OF_ATTENTION, ids=lambda one: one.name)
def test_a_mistake_of_attention_does_what_its_line_of_code_does(mistake):
    torch.manual_seed(0)
    line, wrong = answers_with(LINES[mistake.name], None).MultiHeadAttention, mistake.change(TorchAttention, None)
    expected, found = line(48, 4).eval(), wrong(48, 4).eval()
    found.load_state_dict(expected.state_dict())
    x = 3 * torch.randn(2, 30, 48)
    torch.testing.assert_close(found(x), expected(x))
    config = TransformerConfig(dim=32, layers=1, hidden=48, heads=4)
    assert not can_cache(BidirectionalTransformer(config, wrong)), "the cache would compute it right"
