"""How soon a newcomer sees something: what importing takes, what is installed, when `make demo` fills its first cat.

    python -m benchmarks.start [--repeats 5] [--json FILE]
    python -m benchmarks.start --bare [--preset cpu] [--limit SECONDS] [--json FILE]

`--bare` clones the last commit into a temporary folder, runs `make demo` there without the kit's own caches, and stops
it once the first filled picture lies in `out/demo`. The install is timed with the rest; pip uses its cache, where it
has one.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

from benchmarks.timing import machine, seconds_of_process, table
from lab3.common.files import write_json
from lab3.common.paths import ROOT

CODE = {"Python alone": "pass", "import torch": "import torch", "import lab3": "import lab3",
        "lab3.start, as a notebook calls it": "import lab3; lab3.start",
        "python -m lab3 --help": "from lab3.cli import make_parser; make_parser()"}
FILLED = ("*.png", "*/*.png", "*/decoded/*.png", "*/pasted/*.png")  # within out/demo: it writes no other pictures


def import_seconds(repeats):
    """Seconds of fresh processes, a dict of medians; the first round, which warms the disk's cache, does not count."""
    times = {name: [] for name in CODE}
    for _ in range(repeats + 1):
        for name, code in CODE.items():
            times[name].append(seconds_of_process(code)[0])
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def installed_bytes():
    """Bytes of the files of each folder in site-packages, largest first; a dict, "all" the whole."""
    site, sizes = Path(sysconfig.get_path("purelib")), {}
    for path in site.iterdir():
        files = [path] if path.is_file() else path.rglob("*")
        sizes[path.name] = sum(file.lstat().st_size for file in files if not file.is_dir())
    return {"all": sum(sizes.values())} | dict(sorted(sizes.items(), key=lambda item: -item[1]))


def bare(preset, limit):
    """Seconds from `make demo` in a fresh clone until `.venv` is ready and until the first filled picture, a dict.

    None stands for what did not come within `limit` seconds, or before the command ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        clone, out = Path(folder) / "lab3", Path(folder) / "lab3" / "out" / "demo"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        found, began = {"installed": None, "first filled picture": None}, time.perf_counter()
        process = subprocess.Popen(["make", "demo", f"PRESET={preset}"], cwd=clone, start_new_session=True,
                                   env=os.environ | {"LAB3_CACHE": str(Path(folder) / "cache")})
        try:
            while process.poll() is None and time.perf_counter() - began < limit:
                now = time.perf_counter() - began
                if found["installed"] is None and (clone / ".venv" / ".installed").exists():
                    found["installed"] = now
                if any(next(out.glob(pattern), None) for pattern in FILLED):
                    found["first filled picture"] = now
                    break
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes of each kind")
    parser.add_argument("--bare", action="store_true", help="time make demo in a fresh clone instead")
    parser.add_argument("--preset", default="cpu", help="of make demo")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which make demo is stopped")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {"machine": machine()}
    print(f"{result['machine']}\n")
    if options.bare:
        result |= {"preset": options.preset, "limit": options.limit, "seconds": bare(options.preset, options.limit)}
        print(table((f"make demo, preset {options.preset}", "seconds"), [
            (name, "not within the limit" if seconds is None else f"{seconds:.0f}")
            for name, seconds in result["seconds"].items()]))
    else:
        result |= {"seconds": import_seconds(options.repeats), "bytes": installed_bytes()}
        print(table(("a fresh process", "seconds"), [(name, f"{one:.2f}") for name, one in result["seconds"].items()]))
        print()
        largest = list(result["bytes"].items())[:6]
        print(table(("installed", "MB"), [(name, f"{one / 1e6:.0f}") for name, one in largest]))
    if options.json:
        write_json(options.json, result)
