"""Which files of a published data set are not there: for a run and for `comdml doctor`, in the same words.

Nothing is decoded, and memory stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CINIC_FOLDER = "CINIC-10"
CINIC_PARTS = ("train", "test")
CINIC_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CINIC_IMAGES = 9_000  # of each class in each part

FASHION_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
FASHION_FOLDER = Path("FashionMNIST", "raw")  # as torchvision lays them
FASHION_OF_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What of a data set is not there.

    Parameters
    ----------
    says : str
        In one sentence.
    is_fatal : bool
        Whether a run cannot begin; otherwise it would train on what there is.
    lacking : Sequence[str] or Mapping[str, int]
        The files, or how many images each folder lacks.
    """

    says: str
    is_fatal: bool
    lacking: Sequence[str] | Mapping[str, int]


def cifar_lack(folder: Path, num_classes: int) -> Lack | None:
    """Compare the checksums of CIFAR's files with the published ones, as torchvision does when it loads them.

    Parameters
    ----------
    folder : Path
        The folder that holds `cifar-10-batches-py` or `cifar-100-python`.
    num_classes : int
        10 or 100.
    """
    from torchvision.datasets import CIFAR10, CIFAR100
    from torchvision.datasets.utils import check_integrity

    reader = CIFAR10 if num_classes == 10 else CIFAR100
    files = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    base = folder.absolute() / reader.base_folder
    lacking = [name for name, md5 in files if not check_integrity(str(base / name), md5)]
    if not lacking:
        return None
    says = f"CIFAR-{num_classes}: {base} lacks {', '.join(lacking)}, or they are not the published files"
    return Lack(says=says, is_fatal=True, lacking=lacking)


def cinic_lack(folder: Path) -> Lack | None:
    """Count CINIC-10's images in each class of the parts that are used.

    Parameters
    ----------
    folder : Path
        The folder that holds `CINIC-10`.
    """
    base = folder.absolute() / CINIC_FOLDER
    missing = {
        f"{part}/{name}": CINIC_IMAGES - _num_images(base / part / name)
        for part in CINIC_PARTS
        for name in CINIC_CLASSES
    }
    lacking = {place: number for place, number in missing.items() if number > 0}
    if not lacking:
        return None
    first, number = max(lacking.items(), key=lambda item: item[1])
    says = f"CINIC-10: {base}/{first} lacks {number:,} of {CINIC_IMAGES:,} images"
    others = len(lacking) - 1
    says += f" (and {others} more folder{'s' * (others > 1)} lack some)" if others else ""
    return Lack(says=says, is_fatal=CINIC_IMAGES in lacking.values(), lacking=lacking)


def fashion_files(folder: Path) -> Mapping[str, Path] | None:
    """Return the path of each of Fashion-MNIST's files; None where no place has all four.

    Parameters
    ----------
    folder : Path
        Looked at are `FashionMNIST/raw` in it, the folder itself, and where Debian's package puts the files;
        for each file plain, then `.gz`.
    """
    found = (_fashion_files_in(place) for place in _fashion_places(folder))
    return next((files for files in found if len(files) == len(FASHION_FILES)), None)


def fashion_lack(folder: Path) -> Lack | None:
    """Say which of Fashion-MNIST's files are not there, in the place that has most of them.

    Parameters
    ----------
    folder : Path
        As for `fashion_files`.
    """
    if fashion_files(folder) is not None:
        return None
    place = max(_fashion_places(folder), key=lambda place: len(_fashion_files_in(place)))
    lacking = [name for name in FASHION_FILES if name not in _fashion_files_in(place)]
    says = f"Fashion-MNIST: {place} lacks {', '.join(lacking)} (plain or .gz)"
    return Lack(says=says, is_fatal=True, lacking=lacking)


def _fashion_places(folder: Path) -> Sequence[Path]:
    return folder.absolute() / FASHION_FOLDER, folder.absolute(), FASHION_OF_DEBIAN


def _fashion_files_in(place: Path) -> Mapping[str, Path]:
    ways = {name: (place / name, place / f"{name}.gz") for name in FASHION_FILES}
    found = {name: [path for path in paths if path.is_file()] for name, paths in ways.items()}
    return {name: paths[0] for name, paths in found.items() if paths}


def _num_images(folder: Path) -> int:
    try:
        return sum(path.suffix.lower() == ".png" for path in folder.iterdir())
    except OSError:
        return 0
