"""What the processes do that tests/test_distributed.py has torchrun start: `together.py FOLDER`.

Process 0 leaves in FOLDER what the tests look at: trained runs, and logits and gradients in `shared.safetensors`.
"""

import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from lab3.common import machine
from lab3.common.files import InputError, save_tensors, write_json
from lab3.common.paths import FAST, SOLUTIONS
from lab3.exercises.answers import load_answers
from lab3.model.transformer import BidirectionalTransformer
from lab3.presets import PRESETS
from lab3.training.distributed import joined, on_first, processes, rank, shared
from lab3.training.fit import fit
from lab3.training.runs import part_generator

SMOKE = PRESETS["smoke"]
SHORT = replace(SMOKE, training=replace(SMOKE.training, batch_size=8, part_steps=2, lr=4e-3))
PLAIN, QUICK = (SOLUTIONS,), (FAST, SOLUTIONS)


def rows():
    """(41, 256): tokens with something to learn, each row one code. The last batch of 8 has one row."""
    codes = torch.randint(0, 1024, (41, 1), generator=torch.Generator().manual_seed(0))
    return codes.expand(41, 256).to(torch.int16)


def train(run, folders, parts=None, resume=False):
    """Train on `rows` in float32, whatever this machine does fast, and stop after so many parts of an epoch."""
    answers, done = load_answers(folders), 0
    train_one_epoch = answers.train_one_epoch

    def counted(*arguments, **keywords):
        nonlocal done
        if done == parts:
            raise KeyboardInterrupt
        done += 1
        return train_one_epoch(*arguments, **keywords)

    answers.train_one_epoch = counted
    try:
        with patch.object(machine, "bfloat16_pays", lambda kind: False):
            fit(rows(), rows()[:9], SHORT, answers, run, resume=resume, progress=False)
    except KeyboardInterrupt:
        assert parts is not None


def questions():
    """Batches for one forward and backward pass: (name, tokens, mask), both (B, 256). One row: fewer than processes."""
    for batch in (5, 1):
        mask = torch.rand(batch, 256, generator=torch.Generator().manual_seed(batch)) < 0.3
        yield f"{batch} rows", rows()[:batch].long(), mask
    yield "nothing hidden", rows()[:2].long(), torch.zeros(2, 256, dtype=torch.bool)


def answered(spread):
    """Logits and gradients of a small transformer on the questions, by name; `spread` gives it its training form."""
    torch.manual_seed(0)
    transformer = BidirectionalTransformer(SMOKE.transformer, load_answers(SOLUTIONS).MultiHeadAttention)
    torch.nn.init.normal_(transformer.bias, std=0.1)
    model, found = spread(transformer), {}
    for name, z_indices, mask in questions():
        for kind, logits in (("all", lambda: model(z_indices)), ("where", lambda: model(z_indices, mask))):
            transformer.zero_grad()
            found[f"{name}, {kind}: logits"] = given = logits()
            given.square().sum().backward()
            found |= {f"{name}, {kind}: {key}": value.grad.clone() for key, value in transformer.named_parameters()}
    return found


def caught(work):
    try:
        work()
    except InputError as error:
        return str(error)


def refuse():
    raise InputError(f"refused by process {rank()}")


if __name__ == "__main__":
    with joined():
        torch.set_num_threads(1)
        folder = Path(sys.argv[1])
        if processes() != 2:
            raise SystemExit("start this with torchrun, as two processes")
        train(folder / "plain", PLAIN)
        train(folder / "quick", QUICK)
        train(folder / "changing", PLAIN, parts=2, resume=True)
        found = answered(shared)
        generator = part_generator(1, 2, rank=rank())
        seen = {"rank": rank(), "files": on_first(lambda: rank()), "error": caught(lambda: on_first(refuse)),
                "masks": torch.rand(1, generator=generator).item(), "dropout": torch.rand(1).item()}
        every = [None, None]
        torch.distributed.all_gather_object(every, seen)
        print("process", rank(), "prints")
        on_first(lambda: save_tensors(folder / "shared.safetensors", found))
        on_first(lambda: write_json(folder / "seen.json", every))
