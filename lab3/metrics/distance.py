"""How far apart two sets of pictures are: FID, FD-Lite0 and KID; and how far two pictures are: PSNR.

In: uint8 pictures (N, 3, H, W), or folders of them. Between: one feature vector a picture. Out: numbers.

Two networks give features. `inception` is pytorch-fid's InceptionV3, and its distance is the FID of the literature.
`lite0` is EfficientNet-Lite0, whose weights come with the kit: its distance, FD-Lite0, needs no download.
The two scales have nothing to do with each other: features carry the name of their network, and nothing here compares
features of two networks.

With few pictures every Frechet distance comes out too high, the more the fewer: compare only numbers of the same count.
"""

import copy
import pickle
import socket
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lab3.common.files import InputError, SaveError, content_key, load_tensors, save_tensors, sha256
from lab3.common.progress import progress_bar
from lab3.data.photos import say_left_out
from lab3.data.pictures import FORMATS, NotAPicture, decode, read_bytes, to_rgb, why_not_read
from lab3.metrics.torchvision_fix import import_torchvision
from lab3.model.lite0 import lite0

NAMES = {"inception": "FID", "lite0": "FD-Lite0"}
BATCH_SIZE = 16  # fixed, as last digits can depend on it; small, as larger tensors cost page faults each time
LITE0_SIZE = 128  # tells damage apart as 224, the network's own size, does, in a third of the time
INCEPTION_SHA256 = "6726825d"
INCEPTION_DIMENSIONS = 2048
PSNR_CAP = 100.0  # dB; a single grey level of difference in a 64x64 picture gives 89
DOWNLOAD_TIMEOUT = 20  # seconds without an answer


@dataclass(frozen=True)
class Extractor:
    """A network that turns pictures into features; `load_extractor` makes one."""
    kind: str  # "inception" or "lite0"
    key: str  # the network, its weights and its input size: another key, other features
    net: nn.Module
    forward: Callable  # (net, float pictures (B, 3, H, W) in [0, 255]) -> (B, d)


@dataclass(frozen=True)
class Features:
    """Features of a set of pictures and the network that they come from."""
    kind: str
    key: str
    values: np.ndarray  # (N, d) float32


def load_extractor(kind, weights=None, weights_sha256=None, device="cpu"):
    """Load a network for features.

    Args:
        kind: "inception" (2048 features, pytorch-fid's InceptionV3, last pooling) or "lite0" (1280 features,
            EfficientNet-Lite0, its final features averaged over the picture).
        weights: a file with Inception's weights; None takes pytorch-fid's from torch's hub cache, and downloads them
            where they are not there.
        weights_sha256: the first digits, at least 8, of the weights' SHA-256; None: those of pytorch-fid's file.
        device: where the network runs.

    Raises:
        InputError: no such kind; weights that are not there, are others than expected, or do not fit.
    """
    if kind == "inception":
        return _load_inception(weights, weights_sha256, device)
    if weights is not None or weights_sha256 is not None:
        raise InputError(f"Weights can be named for inception features only, not for {kind!r}. Leave them out.")
    if kind == "lite0":
        return _load_lite0(device)
    raise InputError(f"Features are inception or lite0, not {kind!r}.")


def _load_lite0(device):
    # a copy: the depthwise convolutions run about twice as fast in this layout, which others need not share
    net = copy.deepcopy(lite0()).to(device, memory_format=torch.channels_last)
    return Extractor("lite0", f"lite0-{LITE0_SIZE}", net, _lite0_forward)


def _lite0_forward(net, pictures):
    # pictures above this size, from a user's own folder, would alias if they were not smoothed as they shrink
    pictures = F.interpolate(pictures, size=(LITE0_SIZE, LITE0_SIZE), mode="bilinear", antialias=True)
    pictures = ((pictures - 127) / 128).contiguous(memory_format=torch.channels_last)
    return net(pictures).mean(dim=(2, 3))


def _load_inception(weights, weights_sha256, device):
    try:
        import_torchvision()
        from pytorch_fid import inception
    except ImportError as error:
        raise InputError(f'FID needs the package {error.name}: pip install "maskgit-lab[fid]". '
                         "FD-Lite0 (--features lite0) does without it.") from None

    if weights is None:
        path = _cached_weights(inception.FID_WEIGHTS_URL)
        remedy = "Delete it, and it is downloaded again."
    else:
        path = Path(weights)
        remedy = f"pytorch-fid's own is {Path(inception.FID_WEIGHTS_URL).name}; use that, or --features lite0."
        if not path.is_file():
            raise InputError(f"{path}: no such file of Inception weights. {remedy}")
    tensors, digest = _checked_weights(path, weights_sha256 or INCEPTION_SHA256, remedy)
    # pytorch-fid builds the network and fetches its weights in one go, unchecked and as a free pickle: it is handed
    # the checked ones instead
    with patch.object(inception, "load_state_dict_from_url", return_value=tensors):
        try:
            net = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[INCEPTION_DIMENSIONS]])
        except (RuntimeError, TypeError) as error:
            raise InputError(f"{path}: not weights of pytorch-fid's InceptionV3 ({_first_line(error)}). "
                             f"{remedy}") from None
    return Extractor("inception", f"inception-{digest[:8]}", net.to(device).eval(), _inception_forward)


def _inception_forward(net, pictures):
    return net(pictures / 255)[0].flatten(1)


def _cached_weights(url):
    """The place of pytorch-fid's weights in torch's hub cache; downloads them if they are not there.

    Raises:
        InputError: they are not there and cannot be downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if path.is_file():
        return path
    timeout = socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # torch sets none: behind a silent firewall it would wait for ever
        torch.hub.download_url_to_file(url, str(path), hash_prefix=INCEPTION_SHA256)
    except (OSError, RuntimeError, HTTPException) as error:
        raise InputError(f"{path.name}: Inception's weights are not in {path.parent} and cannot be downloaded "
                         f"({error}). Fetch that file from the releases of pytorch-fid ({url}) and put it there or "
                         "name it with --weights FILE; or use --features lite0, which needs no download.") from None
    finally:
        socket.setdefaulttimeout(timeout)
    return path


def _checked_weights(path, expected, remedy):
    """Read a file of weights if its SHA-256 begins with `expected`: (tensors, SHA-256). Raises `InputError`."""
    if len(expected) < 8:
        raise InputError(f"weights_sha256 {expected!r} is too short. Give at least the first 8 digits.")
    try:
        digest = sha256(path)
        if not digest.startswith(expected.lower()):
            raise InputError(f"{path}: the SHA-256 begins with {digest[:len(expected)]}, not with {expected}: "
                             f"these are other weights, or damaged ones. {remedy}")
        return torch.load(path, map_location="cpu", weights_only=True), digest
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{path}: not readable as weights ({_first_line(error)}). {remedy}") from None


def _first_line(error):
    return str(error).partition("\n")[0].rstrip(" :.")


def features(pictures, extractor, batch_size=BATCH_SIZE, progress=False):
    """Features of pictures.

    Args:
        pictures: (N, 3, H, W) uint8.
        extractor: what `load_extractor` gives.
        batch_size: pictures that go through the network together; leave it alone where numbers are compared.
        progress: show a progress bar.

    Returns:
        `Features` with values (N, d) float32.

    Raises:
        ValueError: pictures of another shape or type, or none.
    """
    if pictures.dtype != torch.uint8 or pictures.dim() != 4 or pictures.shape[1] != 3 or not len(pictures):
        raise ValueError(f"pictures must be uint8 of shape (N, 3, H, W) with N > 0, "
                         f"not {pictures.dtype} of shape {tuple(pictures.shape)}")
    return _features(pictures.split(batch_size), extractor, progress)


@torch.no_grad()
def _features(batches, extractor, progress):
    """Features of pictures that come in batches: a sequence of (B, 3, H, W) uint8."""
    device = next(extractor.net.parameters()).device
    batches = progress_bar(batches, desc=f"{extractor.kind} features", disable=not progress, leave=False)
    # a caller's autocast or a GPU's TF32 would give other numbers than float32 does
    with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        values = [extractor.forward(extractor.net, batch.to(device).float()).cpu() for batch in batches]
    return Features(extractor.kind, extractor.key, torch.cat(values).numpy())


def cached_features(pictures, extractor, cache_dir, key, progress=False):
    """Features of pictures that do not change, computed once and kept in `cache_dir`.

    A file that is missing, damaged or not about these pictures and this network is computed again. A folder that cannot
    be written costs a warning and the time to compute again.

    Args:
        pictures: (N, 3, H, W) uint8, or a function that gives them, which is called where they are not in the cache.
        extractor: what `load_extractor` gives.
        cache_dir: a folder; it is made when needed.
        key: names the pictures in the cache's file name: other pictures need another key.
        progress: show a progress bar.

    Returns:
        `Features`, as `features` gives them.
    """
    path = Path(cache_dir) / f"features-{extractor.key}-{key}.safetensors"
    about = {"extractor": extractor.key, "key": key, "count": None if callable(pictures) else len(pictures)}
    try:
        tensors, found = load_tensors(path)
        values = tensors["values"].numpy()
        if found == about | {"content": _content(values)}:
            return Features(extractor.kind, extractor.key, values)
    except (InputError, KeyError):
        pass
    computed = features(pictures() if callable(pictures) else pictures, extractor, progress=progress)
    about["content"] = _content(computed.values)
    try:
        save_tensors(path, {"values": torch.from_numpy(computed.values)}, about)
    except SaveError as error:
        warnings.warn(f"{error} Features are computed again next time.", stacklevel=2)
    return computed


def _content(values):
    return content_key([f"{values.dtype} {values.shape}".encode(), values.tobytes()])


def _pair(x, y):
    """Two sets of features as float64 arrays, if they may be compared."""
    if x.key != y.key:
        raise ValueError(f"features of {x.key} and of {y.key} cannot be compared: compute both with one network")
    for values in (x.values, y.values):
        if len(values) < 2:
            raise ValueError(f"a distance needs at least 2 pictures on each side, not {len(values)}")
        if not np.isfinite(values).all():
            raise ValueError(f"features of {x.key} hold values that are not finite")
    return x.values.astype(np.float64), y.values.astype(np.float64)


def distance(x, y):
    """The Frechet distance of two sets of features: the FID for inception, FD-Lite0 for lite0.

    For features with means m and covariances S: |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)
    (Dowson and Landau 1982; Heusel et al. 2017). The last trace is the nuclear norm of
    X1 X2^T / sqrt((n1 - 1)(n2 - 1)), X being the features less their mean: no root of a covariance is taken, which
    stays exact where there are fewer pictures than features.

    Args:
        x, y: `Features` of n1 and n2 pictures.

    Returns:
        A float, at least 0. Computed in float64.

    Raises:
        ValueError: features of two networks, fewer than 2 pictures, or values that are not finite.
    """
    x, y = _pair(x, y)
    shift = x.mean(axis=0) - y.mean(axis=0)
    x = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    y = (y - y.mean(axis=0)) / np.sqrt(len(y) - 1)
    overlap = np.linalg.norm(_thin(x) @ _thin(y).T, ord="nuc")
    # rounding leaves the distance of a set to itself at some -1e-12
    return max(0.0, float(shift @ shift + np.square(x).sum() + np.square(y).sum() - 2 * overlap))


def _thin(x):
    """At most d rows with the same x^T x: a rotation of the rows leaves a nuclear norm as it is."""
    return np.linalg.qr(x, mode="r") if x.shape[0] > x.shape[1] else x


def kid(x, y):
    """The kernel distance of two sets of features: unbiased MMD^2 with the kernel (x.y / d + 1)^3.

    Binkowski et al. 2018, over all pairs instead of random subsets, hence without chance. Unlike a Frechet distance it
    does not grow as pictures get fewer. It is 0 on average, so now and then below 0, for sets of one distribution.

    Args:
        x, y: `Features` of n1 and n2 pictures.

    Returns:
        A float, of no unit. Computed in float64.

    Raises:
        ValueError: features of two networks, fewer than 2 pictures, or values that are not finite.
    """
    x, y = _pair(x, y)
    n, m = len(x), len(y)
    within_x = (_kernel_sum(x, x) - _kernel(np.square(x).sum(axis=1), x.shape[1]).sum()) / (n * (n - 1))
    within_y = (_kernel_sum(y, y) - _kernel(np.square(y).sum(axis=1), y.shape[1]).sum()) / (m * (m - 1))
    return float(within_x + within_y - 2 * _kernel_sum(x, y) / (n * m))


def _kernel(products, dimensions):
    return (products / dimensions + 1) ** 3


def _kernel_sum(x, y):
    # in blocks: 12,000 pictures on both sides would make a matrix of 1.1 GB
    return sum(_kernel(x[start:start + 1000] @ y.T, x.shape[1]).sum() for start in range(0, len(x), 1000))


def psnr(pictures, originals, where=None):
    """Peak signal-to-noise ratio: the mean over pictures of 10 log10(255^2 / mean squared error), in dB.

    Pictures are averaged, not errors, and identical pixels count as 100 dB instead of infinity. A picture in which
    `where` is empty is left out.

    Args:
        pictures, originals: (N, 3, H, W) uint8.
        where: (N, H, W) bool, the pixels that count; None: all.

    Returns:
        A float, at most 100.

    Raises:
        ValueError: shapes or types that do not match, or no pixel that counts.
    """
    if pictures.shape != originals.shape or pictures.dtype != torch.uint8 or originals.dtype != torch.uint8:
        raise ValueError(f"pictures and originals must be uint8 of one shape, not {pictures.dtype} "
                         f"{tuple(pictures.shape)} and {originals.dtype} {tuple(originals.shape)}")
    n, _, height, width = pictures.shape
    if where is None:
        where = torch.ones(n, height, width, dtype=torch.bool)
    if where.shape != (n, height, width) or where.dtype != torch.bool:
        raise ValueError(f"where must be bool of shape {(n, height, width)}, not {where.dtype} {tuple(where.shape)}")
    squares = (pictures.double() - originals.double()).square().mean(dim=1)
    counted = where.sum(dim=(1, 2))
    if not counted.any():
        raise ValueError("where holds no pixel: there is nothing to compare")
    errors = (squares * where).sum(dim=(1, 2))[counted > 0] / counted[counted > 0]
    return float((10 * torch.log10(255 ** 2 / errors)).clamp(max=PSNR_CAP).mean())


@dataclass
class PictureFolder:
    """The pictures of one folder, in the order of their names, read a batch at a time. Made by `open_folder`.

    As a sequence it has the batches: (B, 3, H, W) uint8, at the pictures' own size. A batch with a file that cannot be
    read, or with a picture of another size than the folder's first, is an `InputError`.
    """
    paths: list
    left_out: dict  # other files and folders there, name -> why they are not pictures
    batch_size: int = BATCH_SIZE

    def __len__(self):
        return -(-len(self.paths) // self.batch_size)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        paths = self.paths[index * self.batch_size:][:self.batch_size]
        pictures = [_read(path) for path in paths]
        for path, picture in zip(paths, pictures, strict=True):
            if picture.shape != self._shape:
                sizes = [f"{width}x{height}" for height, width, _ in (picture.shape, self._shape)]
                raise InputError(f"{path}: a picture of {sizes[0]} pixels among others of {sizes[1]}. "
                                 "Bring the folder's pictures to one size.")
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)

    @cached_property
    def _shape(self):
        return _read(self.paths[0]).shape


def _read(path):
    try:
        return np.array(to_rgb(decode(read_bytes(path)).picture))
    except NotAPicture as reason:
        raise InputError(f"{path}: not a readable picture ({reason}). Remove it.") from None


def open_folder(folder):
    """Look at a folder for a distance: a `PictureFolder`, read later.

    Its pictures are the files with a suffix of `FORMATS`, in any case, not those in folders within. RGB, grey and CMYK
    are read as pytorch-fid does. Unlike there, pictures are turned as their EXIF data say, 16 bits are scaled to 8
    instead of cut off at 255, and transparent parts are white.

    Raises:
        InputError: no such folder, fewer than 2 pictures, or one that is not a regular file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of pictures.")
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    left_out = {path.name: "a folder" if path.is_dir() else why_not_read(path.name) for path in inside}
    left_out = {name: why for name, why in left_out.items() if why}
    paths = [path for path in inside if path.name not in left_out]
    if len(paths) < 2:
        raise InputError(f"{folder}: {len(paths)} pictures ({', '.join(suffix[1:] for suffix in FORMATS)}). "
                         f"{' '.join(f'{line}. ' for line in say_left_out(left_out))}"
                         "A distance needs at least 2, and says little below some hundreds.")
    found = PictureFolder(paths, left_out)
    for path in paths:
        if path.exists() and not path.is_file():  # before anything is computed
            _read(path)
    return found


def fid_folders(dir1, dir2, kind="inception", weights=None, weights_sha256=None, progress=False):
    """The distances of two folders of pictures, as `python -m lab3 fid` prints them.

    For inception either side can be an .npz file of statistics that pytorch-fid made; there is no KID then.

    Args:
        dir1, dir2: folders, or .npz files.
        kind, weights, weights_sha256: as in `load_extractor`.
        progress: show progress bars.

    Returns:
        A dict: features (the kind), name ("FID" or "FD-Lite0"), distance, kid (None with an .npz file),
        n (pictures on each side, None for an .npz file), extractor (the network and its weights), left_out (of each
        side, lines that say which files are not read, and why).

    Raises:
        InputError: whatever of it cannot be used.
    """
    sides = [Path(dir1), Path(dir2)]
    # pictures first: a folder that is not there should not cost a download
    contents = [_read_statistics(side, kind) if side.suffix == ".npz" else open_folder(side) for side in sides]
    for side in contents:
        if isinstance(side, PictureFolder):
            side[0]
    extractor = load_extractor(kind, weights, weights_sha256)
    found = [_features(side, extractor, progress) if isinstance(side, PictureFolder) else side for side in contents]
    folders_only = all(isinstance(side, Features) for side in found)
    return {
        "features": kind,
        "name": NAMES[kind],
        "distance": distance(*found) if folders_only else _distance_to_statistics(*found),
        "kid": kid(*found) if folders_only else None,
        "n": [len(side.values) if isinstance(side, Features) else None for side in found],
        "extractor": extractor.key,
        "left_out": [say_left_out(side.left_out) if isinstance(side, PictureFolder) else [] for side in contents],
    }


def _read_statistics(path, kind):
    """pytorch-fid's mean (2048,) and covariance (2048, 2048), in float64. Raises `InputError`."""
    if kind != "inception":
        raise InputError(f"{path}: statistics of pytorch-fid go with inception features only, not with {kind}. "
                         "Name the folder of pictures.")
    try:
        with np.load(path) as file:
            mean, covariance = file["mu"].astype(np.float64), file["sigma"].astype(np.float64)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except Exception as error:  # zip, zlib and numpy each have their own
        raise InputError(f"{path}: no statistics of pytorch-fid ({_first_line(error)}). "
                         "Compute it again with its --save-stats.") from None
    wanted = ((INCEPTION_DIMENSIONS,), (INCEPTION_DIMENSIONS,) * 2)
    if (mean.shape, covariance.shape) != wanted:
        raise InputError(f"{path}: mu {mean.shape} and sigma {covariance.shape}, where {wanted[0]} and {wanted[1]} "
                         "are needed. Compute it again with pytorch-fid's --dims 2048.")
    return mean, covariance


def _distance_to_statistics(x, y):
    """The distance where of one side at least only a mean and a covariance are left.

    tr (S1 S2)^(1/2) is the sum of the roots of the eigenvalues of X1 S2 X1^T, for any rows X1 with X1^T X1 = S1. As in
    `distance` no root of a matrix is taken, and where there are fewer pictures than features the matrix is as small.
    """
    if isinstance(y, Features):
        x, y = y, x
    mean2, covariance2 = y
    if isinstance(x, Features):
        values = x.values.astype(np.float64)
        mean1 = values.mean(axis=0)
        rows = _thin((values - mean1) / np.sqrt(len(values) - 1))
    else:
        mean1, covariance1 = x
        variances, directions = np.linalg.eigh(covariance1)
        kept = variances > variances[-1] * len(variances) * np.finfo(np.float64).eps  # what rounding left is none
        rows = np.sqrt(variances[kept])[:, None] * directions.T[kept]
    overlap = np.sqrt(np.linalg.eigvalsh(rows @ covariance2 @ rows.T).clip(min=0)).sum()
    shift = mean1 - mean2
    return max(0.0, float(shift @ shift + np.square(rows).sum() + np.trace(covariance2) - 2 * overlap))
