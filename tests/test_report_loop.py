"""The report's loops, as the benchmarks run them: its choices are its own, and their opposites are the contracts."""

import math

import pytest
import torch
import torch.nn.functional as F

from benchmarks.report_loop import ReportAttention, hide, report_decode, report_loss, report_train_epoch
from lab3.data.masks import hidden_tokens
from lab3.model.transformer import BidirectionalTransformer
from lab3.presets import PRESETS


def transformer():
    torch.manual_seed(0)
    return BidirectionalTransformer(PRESETS["smoke"].transformer, ReportAttention).eval()


def test_the_reports_loss_is_its_call_and_the_other_choices_lead_to_the_contracts(answers):
    logits, targets, mask = torch.randn(3, 8, 5), torch.randint(0, 5, (3, 8)), torch.rand(3, 8) < 0.5
    one_hot = F.one_hot(targets, 5).float()
    assert torch.equal(report_loss(logits, targets, mask), F.cross_entropy(logits, one_hot))
    torch.testing.assert_close(report_loss(logits, targets, mask | True, hidden_only=True),
                               F.cross_entropy(logits, one_hot))
    for hidden_only, counted in ((True, mask), (False, None)):
        torch.testing.assert_close(report_loss(logits, targets, mask, over_places=False, hidden_only=hidden_only),
                                   answers.mvtm_loss(logits, targets, counted))


@pytest.mark.parametrize("one_ratio", [True, False])
def test_the_report_hides_one_share_in_a_batch_or_one_a_row(one_ratio):
    counts = hide(8, 256, one_ratio=one_ratio, generator=torch.Generator().manual_seed(0)).sum(dim=1)
    assert (len(set(counts.tolist())) == 1) == one_ratio and counts.min() >= 1


def test_the_reports_training_step_changes_the_transformer(cats, tokenizer):
    model = transformer()
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = report_train_epoch(tokenizer, model, cats.train[:2].split(1), optimizer, device="cpu",
                              generator=torch.Generator().manual_seed(0))
    assert loss == pytest.approx(256 * math.log(256) / 1024, rel=0.05)  # a softmax over places, the mean over codes
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("choices", [
    {}, {"re_encode": False, "keep_known": True, "noise_on_logs": True, "draw": True, "mask_logit": False}])
def test_the_report_decodes_one_picture_step_by_step(cats, tokenizer, answers, choices):
    picture, mask = cats.masked[:1], hidden_tokens(cats.holes[:1])
    steps = report_decode(tokenizer, transformer(), picture, mask, gamma=answers.gamma_func("cosine"), total_iter=3,
                          generator=torch.Generator().manual_seed(0), **choices)
    counts = [int(next_mask.sum()) for _, next_mask in steps]
    assert len(steps) == 3 and int(mask.sum()) > counts[0] > counts[1] > counts[2]
    assert all(decoded.shape == (1, 3, 64, 64) and decoded.dtype == torch.uint8 for decoded, _ in steps)
