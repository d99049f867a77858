"""The record of a training, kept in the model's file: its curve, and the loss of the model and of its milestones.

In: a finished run's folder and its transformer. Out: plain data. The grader computes the last loss again.
"""

import torch
import torch.nn.functional as F

from lab3.model.transformer import MASK_TOKEN_ID, load_transformer
from lab3.training.runs import milestone_file, read_metrics

HELD_OUT = 32  # validation pictures of the losses


@torch.no_grad()
def predict(transformer, z_indices, seed=0):
    """What a transformer predicts at hidden places, the share of hidden ones growing from row to row.

    Args:
        transformer: in eval mode.
        z_indices: (N, 256) tokens, on its device.
        seed: an int, for the places.

    Returns:
        (log_p, targets): log-probabilities (n, 1024) float32 and codes (n,) long, for n hidden places.
    """
    shares = (torch.arange(len(z_indices)) + 0.5)[:, None] / len(z_indices)
    mask = torch.rand(z_indices.shape, generator=torch.Generator().manual_seed(seed)) < shares
    z_indices, mask = z_indices.long(), mask.to(z_indices.device)
    logits = transformer(z_indices.masked_fill(mask, MASK_TOKEN_ID))[mask][:, :MASK_TOKEN_ID]
    return logits.float().log_softmax(dim=-1), z_indices[mask]


def held_out_loss(transformer, z_indices):
    """The mean loss on hidden tokens of the first rows, in nats, a float: the same places for all models."""
    return F.nll_loss(*predict(transformer, z_indices[:HELD_OUT])).item()


def training_record(run, transformer, attention, z_indices, milestones):
    """The record of a training that has ended.

    Args:
        run: its folder.
        transformer: what it trained.
        attention: its attention class.
        z_indices: (N, 256) tokens to validate on, on the transformer's device.
        milestones: per cent of the training after which a copy was kept.

    Returns:
        A dict: `curve`, at most 200 pairs of step and training loss, the last one among them; `held_out`, pairs of per
        cent and loss.
    """
    rows, models = read_metrics(run), {}
    for percent in milestones:
        if (path := run / milestone_file(percent)).is_file():
            models[percent] = load_transformer(path, attention).to(z_indices.device)
    models[100] = transformer.eval()
    return {"curve": [[row["step"], row["train_loss"]] for row in rows[::-max(1, len(rows) // 100)][::-1]],
            "held_out": [[percent, held_out_loss(model, z_indices)] for percent, model in models.items()]}
