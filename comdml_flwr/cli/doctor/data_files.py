"""Whether a run's data set is there, by its files: nothing is decoded, and memory stays as it is."""

from pathlib import Path

from comdml_flwr.cli.doctor.findings import Finding, State
from comdml_flwr.core.config import RunConfig
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.data.published_files import (
    CINIC_FOLDER,
    cifar_lack,
    cinic_lack,
    fashion_files,
    fashion_lack,
)
from comdml_flwr.runs.assemble import DATASETS

CHECK = "data"


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
