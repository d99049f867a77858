"""Progress bars: tqdm's, as text that a terminal, a notebook and a notebook without a browser all show.

In: what is iterated over, or a total. Out: a tqdm bar.
"""

import sys

from tqdm import tqdm


def in_notebook():
    """Whether this process is a Jupyter kernel."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def progress_bar(iterable=None, **options):
    """A tqdm bar. In a notebook it goes to standard output: Jupyter paints standard error red, like a failure."""
    if in_notebook():
        options = {"file": sys.stdout, "ncols": 100, "mininterval": 0.5} | options
    return tqdm(iterable, **options)
