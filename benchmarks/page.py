"""The explorer as one page: its size, how soon it fills a hole after opening, and what a step takes in the browser.

    python -m benchmarks.page [--run RUN] [--repeats 5] [--json FILE]

Chromium opens the page from disk, each time in a new process of the page. Wall time, in the browser.
"""

import argparse
import gzip
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.timing import table
from lab3.cli import main
from lab3.common.files import write_json
from lab3.common.machine import machine_kind
from lab3.common.paths import SHIPPED

TIMES = """async ([number, everything, pictures]) => {
    const { picture, hole } = lab3.pictures()[number], setting = { ...lab3.setting("A"), sampling: "argmax" };
    const request = { picture, hole: everything ? hole.map(() => 1) : hole, settings: { A: setting }, pictures };
    const times = [performance.now()];
    await lab3.ask(request, () => times.push(performance.now()));
    return times.slice(1).map((time, i) => time - times[i]);
}"""
NAMES = {"opened": "from opening to the first filled hole, 8 steps on screen", "encode": "encoder, a picture",
         "first": "first step, every token computed", "later": "later steps of a hole, its tokens computed",
         "pictures": "the same, with the decoder's picture", "later everything": "later steps of a whole cat"}


def measure(path, repeats):
    """Milliseconds, a dict, what was measured -> a list."""
    found = {name: [] for name in NAMES}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(repeats):
            page = browser.new_page()
            page.goto(path.as_uri(), wait_until="commit")
            page.get_by_text("hidden before the first step").wait_for(timeout=60_000)
            found["opened"].append(page.evaluate("performance.now()"))
            encode, first, *later, _ = page.evaluate(TIMES, [2, False, False])  # the last step draws a picture
            found["encode"].append(encode)
            found["first"].append(first)
            found["later"] += later
            found["pictures"] += page.evaluate(TIMES, [2, False, True])[2:-1]
            found["later everything"] += page.evaluate(TIMES, [1, True, False])[2:-1]
            page.close()
        browser.close()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        if main(["page", str(path), "--run", str(options.run)]):
            raise SystemExit(2)
        size, sent = path.stat().st_size, len(gzip.compress(path.read_bytes()))
        milliseconds = measure(path, options.repeats)
    print(f"{machine_kind()}\n\n{size / 1e6:.2f} MB, {sent / 1e6:.2f} MB as a server sends it with gzip\n")
    print(table(("", "median (ms)", "best (ms)", "values"), [
        (NAMES[name], f"{statistics.median(values):.0f}", f"{min(values):.0f}", len(values))
        for name, values in milliseconds.items()]))
    if options.json:
        write_json(options.json, {"bytes": size, "bytes gzip": sent, "milliseconds": milliseconds})
