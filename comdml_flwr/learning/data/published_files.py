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


def _num_images(folder: Path) -> int:
    try:
        return sum(path.suffix.lower() == ".png" for path in folder.iterdir())
    except OSError:
        return 0
