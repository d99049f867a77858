"""How fast a distance is: `lab3 fid` against pytorch-fid's own command, on the same folders and the same weights.

    OMP_NUM_THREADS=1 python -m benchmarks.distance [--pictures 747] [--repeats 1] [--only CASE ...] [--weights FILE]
                                                    [--json FILE]

Two folders, the test pictures and the same with noise. Cold: both commands see two folders. Cached: the statistics of
one folder lie in a file that pytorch-fid made, which both commands take; and those of both do. Each command is a fresh
process, Python's start included. Without `--weights` InceptionV3 has random weights: the time and the agreement of both
commands do not depend on them, the value means nothing.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.timing import machine, seconds_of_process, table, times_as_fast
from lab3.common.files import read_json, sha256, write_json
from lab3.data.cats import Cats
from lab3.decoding.inpaint import save_pictures
from lab3.metrics.torchvision_fix import import_torchvision

THEIRS, OURS = "pytorch-fid", "lab3 fid"
CASES = {"cold": ("one", "two"), "one cached": ("one", "two.npz"), "both cached": ("one.npz", "two.npz")}
# pytorch-fid's command, with what lets torchvision be imported; and lab3's, told which weights are meant.
THEIR_CODE = ("from lab3.metrics.torchvision_fix import import_torchvision; import_torchvision()\n"
              "from pytorch_fid import fid_score; fid_score.main()")
OUR_CODE = ("import sys; from lab3.metrics import distance; distance.INCEPTION_SHA256 = sys.argv.pop(1)\n"
            "from lab3.cli import main; sys.exit(main())")


def random_inception(path):
    """Write InceptionV3 with random weights, of He's scale so that features of all layers have one size."""
    import_torchvision()
    from pytorch_fid import inception

    with patch.object(inception, "load_state_dict_from_url", return_value={}), \
            patch.object(nn.Module, "load_state_dict"):
        net = inception.fid_inception_v3()
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    torch.save(net.state_dict(), path)


def measure(pictures, repeats, only=tuple(CASES), weights=None):
    """All numbers, a dict."""
    import_torchvision()
    from pytorch_fid import inception

    with tempfile.TemporaryDirectory() as folder:
        folder, home = Path(folder), {"TORCH_HOME": folder}  # where both commands look for weights
        file = folder / "hub" / "checkpoints" / Path(inception.FID_WEIGHTS_URL).name
        file.parent.mkdir(parents=True)
        if weights is None:
            random_inception(file)
        else:
            file.symlink_to(weights.resolve())
        test = Cats().test[:pictures]
        noise = torch.randint(-40, 41, test.shape, generator=torch.Generator().manual_seed(0))
        save_pictures(test, folder / "one")
        save_pictures((test + noise).clamp(0, 255).to(torch.uint8), folder / "two")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        theirs = ("--device", device, "--num-workers", "0" if device == "cpu" else "8")
        for name in {Path(side).stem for case in only for side in CASES[case] if side.endswith(".npz")}:
            seconds_of_process(THEIR_CODE, "--save-stats", folder / name, folder / f"{name}.npz", *theirs, **home)
        found = {"machine": machine(), "pictures": len(test), "repeats": repeats, "weights": str(weights or "random"),
                 "seconds": {}, "times_as_fast": {}, "values": {}}
        for case in only:
            sides = [folder / side for side in CASES[case]]
            times, values = {THEIRS: [], OURS: []}, {}
            for _ in range(repeats):
                seconds, said = seconds_of_process(THEIR_CODE, *sides, *theirs, **home)
                times[THEIRS].append(seconds)
                values[THEIRS] = float(said.split("FID:")[1])
                seconds, _ = seconds_of_process(OUR_CODE, sha256(file), "fid", *sides, "--features", "inception",
                                                "--json", folder / "found.json", **home)
                times[OURS].append(seconds)
                values[OURS] = read_json(folder / "found.json")["distance"]
            found["seconds"][case], found["values"][case] = times, values
            found["times_as_fast"][case] = times_as_fast(times, THEIRS, OURS)
    return found


def show(found):
    """Print the numbers as they stand in docs/RESULTS.md."""
    print(f"{found['machine']}; {found['pictures']} pictures in each folder, weights {found['weights']}, "
          f"median of {found['repeats']}\n")
    print(table(("statistics", THEIRS, OURS, "times as fast", "values"), [
        (case, *(f"{statistics.median(times[way]):.1f} s" for way in (THEIRS, OURS)),
         f"{found['times_as_fast'][case]:.2f}", "; ".join(f"{value:.6f}" for value in found["values"][case].values()))
        for case, times in found["seconds"].items()]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=747)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--weights", type=Path, help="pytorch-fid's Inception weights; default: random ones")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.pictures, options.repeats, tuple(options.only), options.weights)
    show(result)
    if options.json:
        write_json(options.json, result)
