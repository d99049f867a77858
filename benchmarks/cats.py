"""How many embedded pictures are composed in a second.

    python -m benchmarks.cats
"""

import statistics
import time

from lab3.data.cats import choices, compose

if __name__ == "__main__":
    wanted = choices("train")
    compose(wanted[:1])
    rates = []
    for _ in range(7):
        began = time.perf_counter()
        compose(wanted)
        rates.append(len(wanted) / (time.perf_counter() - began))
    print(f"{statistics.median(rates):,.0f} pictures a second (median of 7, {min(rates):,.0f} to {max(rates):,.0f})")
