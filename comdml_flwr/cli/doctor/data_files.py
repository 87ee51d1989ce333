"""Whether a run's data set is there, by its files: nothing is decoded, and memory stays as it is."""

from pathlib import Path

from comdml_flwr.cli.doctor.findings import Finding, State
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.data.folder import list_images
from comdml_flwr.learning.data.hub import PREFIX, folder_of
from comdml_flwr.learning.data.image_parts import check_test_share
from comdml_flwr.learning.data.published_files import (
    CINIC_FOLDER,
    cifar_lack,
    cinic_lack,
    fashion_files,
    fashion_lack,
)
from comdml_flwr.runs.catalogue import DATASETS

CHECK = "data"


def check_data(config: RunConfig) -> Finding:
    """Look for the files of the data set that a configuration names."""
    if config.dataset == "digits":
        num_samples = len(load_digits().y_train_N)
        return Finding(CHECK, "ok", f"digits: {num_samples} training samples, from scikit-learn")
    if config.dataset.startswith(PREFIX):
        return _check_hub(config.dataset)
    if config.dataset not in DATASETS:
        says = f"{config.dataset} is none of ours ({', '.join(sorted(DATASETS))}), so it is not looked at"
        return Finding(CHECK, "warning", says, "load it with your own app's loader; or --set dataset=NAME")
    folder = Path(config.data_dir).absolute()
    if config.dataset == "cinic-10":
        return _check_cinic(folder)
    if config.dataset == "folder":
        return _check_folder(folder, config.test_share)
    if config.dataset == "fashion-mnist":
        return _check_fashion(folder, config.download)
    return _check_cifar(folder, 10 if config.dataset == "cifar-10" else 100, config.download)


def _check_cifar(folder: Path, num_classes: int, download: bool) -> Finding:
    lack = cifar_lack(folder, num_classes)
    if lack is None:
        return Finding(CHECK, "ok", f"CIFAR-{num_classes}: all files in {folder}, checksums right")
    facts = {"lacking": lack.lacking}
    if download:
        says = f"{lack.says}; the run will fetch them"
        return Finding(CHECK, "warning", says, "nothing, with a network", facts)
    mend = "--set data-dir=FOLDER, the one that holds that folder; or download=true in the run configuration"
    return Finding(CHECK, "wrong", lack.says, mend, facts)


def _check_fashion(folder: Path, download: bool) -> Finding:
    lack, files = fashion_lack(folder), fashion_files(folder)
    if lack is None and files is not None:
        place = next(iter(files.values())).parent
        return Finding(CHECK, "ok", f"Fashion-MNIST: all files in {place}")
    says, facts = lack.says if lack else "", {"lacking": lack.lacking if lack else ()}
    if download:
        return Finding(CHECK, "warning", f"{says}; the run will fetch them", "nothing, with a network", facts)
    mend = (
        "apt install dataset-fashion-mnist; or --set data-dir=FOLDER that has them; or download=true in the"
        " run configuration"
    )
    return Finding(CHECK, "wrong", says, mend, facts)


def _check_folder(folder: Path, test_share: float) -> Finding:
    mend = "--set data-dir=FOLDER that has train/CLASS/* and test/CLASS/*"
    try:
        images = list_images(folder)
        if "test" not in images.parts:
            check_test_share(f"folder {folder}", test_share)
    except InputError as error:
        return Finding(CHECK, "wrong", str(error), mend)
    counts = ", ".join(f"{len(listed):,} in {part}" for part, listed in images.parts.items())
    return Finding(CHECK, "ok", f"{folder}: {len(images.classes)} classes, {counts}; not decoded here")


def _check_hub(name: str) -> Finding:
    folder = folder_of(name)
    if folder is None:
        mend = "nothing, with a network; without one fetch it before, and set HF_HUB_OFFLINE=1"
        return Finding(CHECK, "warning", f"{name}: the run looks for it on the Hugging Face hub", mend)
    if not folder.is_dir():
        return Finding(CHECK, "wrong", f"there is no folder {folder}", f"--set dataset={PREFIX}FOLDER")
    return Finding(CHECK, "ok", f"{folder} is there; it is not read here")


def _check_cinic(folder: Path) -> Finding:
    lack = cinic_lack(folder)
    if lack is None:
        return Finding(CHECK, "ok", f"CINIC-10: all images in {folder / CINIC_FOLDER}")
    mend = (
        f"unpack CINIC-10.tar.gz of doi 10.7488/ds/2448 into {folder / CINIC_FOLDER};"
        " or --set data-dir=FOLDER that has it"
    )
    state: State = "wrong" if lack.is_fatal else "warning"
    return Finding(CHECK, state, lack.says, mend, {"lacking": lack.lacking})
