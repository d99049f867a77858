"""The report's own loops, rebuilt from its description: a baseline for speed, and for what each of its choices costs.

In: pictures, a tokenizer, a transformer. Out: losses; filled pictures.

The report is a student's, on the course lab that this kit goes back to. Its loops work on pictures all the way: the
tokenizer runs in every training step and in every decoding step. Each choice that departs from the exercises' contracts
is an argument whose default is the report's; the other value is the contract's.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class ReportAttention(nn.Module):
    """Attention by hand, (B, T, dim) -> (B, T, dim): all weights are written down, then scaled, dropped and used."""

    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.attn_drop = nn.Dropout(attn_drop)

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = (part(x).view(B, T, self.num_heads, D // self.num_heads).transpose(1, 2)
                   for part in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(D // self.num_heads)  # (B, H, T, T)
        weights = self.attn_drop(torch.softmax(scores, dim=-1))
        return self.output(torch.matmul(weights, v).transpose(1, 2).contiguous().view(B, T, D))


def mixed_precision(device):
    """The report's precision: float16 on a GPU, float32 elsewhere."""
    return torch.autocast("cuda", dtype=torch.float16, enabled=torch.device(device).type == "cuda")


def hide(batch, tokens, *, one_ratio=True, generator=None, device="cpu"):
    """A mask (batch, tokens), True where hidden: what is left of the tokens with the highest of random scores.

    Args:
        one_ratio: one share for the whole batch, as in the report; False: one a row.
        generator: a `torch.Generator` on `device`.
    """
    known = torch.rand(1 if one_ratio else batch, 1, generator=generator, device=device)
    scores = torch.rand(batch, tokens, generator=generator, device=device)
    rank = scores.argsort(dim=1, descending=True).argsort(dim=1)
    return rank >= (known * tokens).floor()


def report_loss(logits, targets, mask, *, over_places=True, hidden_only=False):
    """Cross-entropy against one-hot targets.

    Args:
        logits: (B, T, V).
        targets: (B, T) long.
        mask: (B, T) bool, True where hidden.
        over_places: leave the codes on the last axis. PyTorch takes axis 1 for the classes, so the softmax then runs
            over the places of a picture; False: over the codes.
        hidden_only: False: all tokens count, known ones too.
    """
    one_hot = torch.zeros_like(logits, dtype=torch.float32).scatter_(2, targets[:, :, None], 1)
    if over_places and not hidden_only:
        return F.cross_entropy(logits, one_hot)
    if over_places:  # the same sum, hidden places alone
        return -(one_hot * logits.log_softmax(dim=1))[mask].sum() / (len(logits) * logits.shape[2])
    if hidden_only:
        return F.cross_entropy(logits[mask], one_hot[mask])
    return F.cross_entropy(logits.flatten(0, 1), one_hot.flatten(0, 1))


def report_train_epoch(tokenizer, transformer, loader, optimizer, *, device, generator=None):
    """One epoch of training as the report writes it. The learning rate's schedule is stepped by the caller, an epoch.

    Args:
        tokenizer: a `Tokenizer`; it encodes every batch again.
        transformer: (B, T) -> (B, T, V + 1); it is trained.
        loader: yields (B, 3, 64, 64) uint8 pictures.
        optimizer: of the transformer's parameters.
        device: where both are.
        generator: a `torch.Generator` on the device, for the masks.

    Returns:
        The mean of the batch losses, a float.
    """
    transformer.train()
    total, scaler = 0.0, torch.amp.GradScaler(torch.device(device).type, enabled=torch.device(device).type == "cuda")
    for pictures in loader:
        pictures = pictures.to(device)
        optimizer.zero_grad()
        with mixed_precision(device):
            z_indices = tokenizer.encode(pictures).to(device)
            mask = hide(*z_indices.shape, generator=generator, device=device)
            logits = transformer(z_indices.masked_fill(mask, len(tokenizer.codebook)))[..., :len(tokenizer.codebook)]
            loss = report_loss(logits, z_indices, mask)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def report_step(transformer, z_indices, mask, ratio, *, gamma, choice_temperature, mask_token_id, generator=None,
                noise_on_logs=False, draw=False, mask_logit=True):
    """One step of decoding one picture as the report writes it.

    Args:
        transformer: (1, T) -> (1, T, V + 1).
        z_indices, mask: (1, T); True where hidden.
        ratio: progress after this step, in (0, 1].
        gamma, choice_temperature, mask_token_id: as `inpainting` takes them.
        noise_on_logs: Gumbel noise on log-probabilities; False: on probabilities, as in the report.
        draw: draw from the softmax; False: its maximum.
        mask_logit: the mask token can be predicted too.

    Returns:
        predictions for every place, known ones too, (1, T) long, and the next mask (1, T).
    """
    logits = transformer(z_indices.masked_fill(mask, mask_token_id)).float()
    p = torch.softmax(logits if mask_logit else logits[..., :mask_token_id], dim=-1)
    if draw:
        predicted = torch.multinomial(p[0], 1, generator=generator).T
    else:
        predicted = p.argmax(dim=-1)
    chosen = p.gather(2, predicted[..., None])[..., 0]
    share = float(gamma(ratio))
    gumbel = -torch.log(-torch.log(torch.rand(chosen.shape, generator=generator, device=chosen.device)))
    confidence = (chosen.log() if noise_on_logs else chosen) + choice_temperature * (1 - share) * gumbel
    confidence = confidence.masked_fill(~mask, torch.inf)
    # of what is hidden now, not of what was at first, so holes close sooner than gamma says
    stay = math.ceil(int(mask.sum()) * share)
    next_mask = torch.zeros_like(mask).view(-1)
    next_mask[confidence.view(-1).topk(stay, largest=False).indices] = True
    return predicted, next_mask.view_as(mask) & mask


@torch.no_grad()
def report_decode(tokenizer, transformer, picture, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                  generator=None, re_encode=True, keep_known=False, **choices):
    """Fill one picture as the report does: decoded to pixels at every step, and encoded again at the next.

    Args:
        tokenizer, transformer: on one device, in eval mode.
        picture: (1, 3, 64, 64) uint8.
        mask: (1, T) bool, True where hidden.
        gamma, total_iter, sweet_spot, choice_temperature: as `iterative_decode` takes them.
        generator: a `torch.Generator` on the device.
        re_encode: False: tokens are carried forward.
        keep_known: False: predictions take the place of known tokens too, as in the report.
        choices: as `report_step` takes them.

    Returns:
        A list of (picture (1, 3, 64, 64) uint8, mask), one a step.
    """
    codes, steps = len(tokenizer.codebook), []
    z_indices = tokenizer.encode(picture).to(mask.device)
    for t in range(total_iter if sweet_spot is None else sweet_spot):
        if re_encode and t:
            z_indices = tokenizer.encode(picture).to(mask.device)
        predicted, next_mask = report_step(
            transformer, z_indices, mask, (t + 1) / total_iter, gamma=gamma, choice_temperature=choice_temperature,
            mask_token_id=codes, generator=generator, **choices)
        predicted = predicted.clamp(max=codes - 1)  # the mask token has no picture
        z_indices = torch.where(mask, predicted, z_indices) if keep_known else predicted
        picture, mask = tokenizer.decode(z_indices), next_mask
        steps.append((picture, mask))
    return steps
