"""Bits a picture of the shipped model, for training and validation cats, beside the entropy of the cats.

    OMP_NUM_THREADS=1 python -m benchmarks.likelihood [--pictures 256]
"""

import argparse

from lab3.common.paths import ANSWERS, SHIPPED, TOKENIZER, WEIGHTS
from lab3.data.cats import Cats
from lab3.exercises.answers import load_answers
from lab3.metrics.truth import true_bits
from lab3.model.likelihood import bits
from lab3.model.tokenizer import load_tokenizer
from lab3.model.tokens import training_tokens
from lab3.model.transformer import load_transformer
from lab3.presets import preset

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=256, help="how many of each kind; default: 256")
    options = parser.parse_args()
    tokens = training_tokens(Cats(), load_tokenizer(SHIPPED / TOKENIZER), preset("cpu").training)
    transformer = load_transformer(SHIPPED / WEIGHTS, load_answers(ANSWERS).MultiHeadAttention)
    for split, z_indices in zip(("train", "val"), tokens):
        found, error = bits(transformer, z_indices[:options.pictures])
        print(f"{split}: {found:.1f} ± {error:.1f} bits a picture, entropy of the cats {true_bits(split):.1f}")
