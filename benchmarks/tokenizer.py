"""How well a tokenizer redraws the test pictures: PSNR, FD-Lite0, codebook use.

    python -m benchmarks.tokenizer [--run RUN] [--data DIR] [--json FILE]
"""

import argparse
from pathlib import Path

from lab3.common.files import write_json
from lab3.common.paths import SHIPPED
from lab3.data.photos import open_data
from lab3.metrics.distance import distance, features, kid, load_extractor, psnr
from lab3.training.runs import tokenizer_of


def measure(tokenizer, pictures):
    """The numbers of one tokenizer on pictures (N, 3, 64, 64) uint8, as a dict."""
    z_indices = tokenizer.encode(pictures)
    redrawn = tokenizer.decode(z_indices)
    extractor = load_extractor("lite0")
    real, drawn = features(pictures, extractor), features(redrawn, extractor)
    counts = z_indices.flatten().bincount(minlength=1024).double()
    share = counts[counts > 0] / counts.sum()
    return {
        "n": len(pictures), "psnr_db": psnr(redrawn, pictures), "fd_lite0": distance(drawn, real),
        "kid": kid(drawn, real), "codes_used": int((counts > 0).sum()),
        "codebook_perplexity": float((-(share * share.log()).sum()).exp())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=SHIPPED)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = open_data(options.data)
    result = measure(tokenizer_of(options.run, data), data.test)
    print(", ".join(f"{name} {value:.5g}" for name, value in result.items()))
    if options.json:
        write_json(options.json, result)
