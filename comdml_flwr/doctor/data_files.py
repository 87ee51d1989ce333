"""Whether a run's data set is there, by its files: nothing is decoded, and memory stays as it is."""

from pathlib import Path

from comdml_flwr.assemble import DATASETS
from comdml_flwr.config import RunConfig
from comdml_flwr.doctor.findings import Finding, State
from comdml_flwr.learning.cinic import BASE_FOLDER, CLASSES
from comdml_flwr.learning.data import load_digits

CHECK = "data"
CINIC_IMAGES = 9_000  # of each class in each part


def check_data(config: RunConfig) -> Finding:
    """Look for the files of the data set that a configuration names."""
    if config.dataset == "digits":
        num_samples = len(load_digits().y_train_N)
        return Finding(CHECK, "ok", f"digits: {num_samples} training samples, from scikit-learn")
    if config.dataset not in DATASETS:
        says = f"{config.dataset} is none of ours ({', '.join(sorted(DATASETS))}), so it is not looked at"
        return Finding(CHECK, "warning", says, "load it with your own app's loader; or --set dataset=NAME")
    folder = Path(config.data_dir).absolute()
    if config.dataset == "cinic-10":
        return _check_cinic(folder)
    return _check_cifar(folder, 10 if config.dataset == "cifar-10" else 100, config.download)


def _check_cifar(folder: Path, num_classes: int, download: bool) -> Finding:
    """Compare the files' checksums with the published ones, as torchvision does when it loads them."""
    from torchvision.datasets import CIFAR10, CIFAR100
    from torchvision.datasets.utils import check_integrity

    reader = CIFAR10 if num_classes == 10 else CIFAR100
    files = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    base = folder / reader.base_folder
    lacking = [name for name, md5 in files if not check_integrity(str(base / name), md5)]
    if not lacking:
        return Finding(CHECK, "ok", f"CIFAR-{num_classes}: {len(files)} files in {base}, checksums right")
    says = f"CIFAR-{num_classes}: {base} lacks {', '.join(lacking)}, or they are not the published files"
    facts = {"lacking": lacking}
    if download:
        return Finding(CHECK, "warning", f"{says}; the run will fetch them", "nothing, with a network", facts)
    mend = "--set data-dir=FOLDER, the one that holds that folder; or download=true in the run configuration"
    return Finding(CHECK, "wrong", says, mend, facts)


def _check_cinic(folder: Path) -> Finding:
    lacking: dict[str, int] = {}
    for part in ("train", "test"):
        for name in CLASSES:
            num_missing = CINIC_IMAGES - _num_images(folder / BASE_FOLDER / part / name)
            if num_missing > 0:
                lacking[f"{part}/{name}"] = num_missing
    base = folder / BASE_FOLDER
    if not lacking:
        return Finding(CHECK, "ok", f"CINIC-10: {2 * len(CLASSES) * CINIC_IMAGES:,} images in {base}")
    is_whole_class_missing = CINIC_IMAGES in lacking.values()
    first, num_missing = next(iter(lacking.items()))
    says = f"CINIC-10: {base}/{first} lacks {num_missing:,} of {CINIC_IMAGES:,} images"
    says += f" (and {len(lacking) - 1} more folders)" if len(lacking) > 1 else ""
    mend = f"unpack CINIC-10.tar.gz of doi 10.7488/ds/2448 into {base}; or --set data-dir=FOLDER that has it"
    state: State = "wrong" if is_whole_class_missing else "warning"
    return Finding(CHECK, state, says, mend, {"lacking": lacking})


def _num_images(folder: Path) -> int:
    try:
        return sum(path.suffix.lower() == ".png" for path in folder.iterdir())
    except OSError:
        return 0
