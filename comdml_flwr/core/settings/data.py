"""The data set and how it is spread over the agents."""

from typing import Literal

from comdml_flwr.core.settings.base import Settings, setting


class DataSettings(Settings, title="Data"):
    """The data set and how it is spread over the agents."""

    dataset: str = setting(
        "digits",
        description="`digits`, `cifar-10`, `cifar-100`, `cinic-10`, or a data set of your own app",
        dry_run="of the fleet",
    )
    data_dir: str = setting(
        "data",
        description="folder with the files of CIFAR or CINIC-10 in their published layout",
        on_resume="may change",
    )
    download: bool = setting(
        False,
        description="let torchvision download the CIFAR files that `data-dir` lacks",
        on_resume="may change",
    )
    partition: Literal["iid", "dirichlet"] = setting(
        "iid",
        description="how samples are spread: `iid`, or label-skewed by `dirichlet`",
        dry_run="of the fleet",
    )
    alpha: float = setting(
        0.5,
        gt=0,
        description="concentration of the Dirichlet partition; smaller is more skewed, nobody goes without",
        dry_run="of the fleet",
    )
