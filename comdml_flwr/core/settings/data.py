"""The data set and how it is spread over the agents."""

from typing import Literal

from comdml_flwr.core.settings.base import Settings, setting


class DataSettings(Settings, title="Data"):
    """The data set and how it is spread over the agents."""

    dataset: str = setting(
        "digits",
        description="`digits`, `cifar-10`, `cifar-100`, `cinic-10`, `fashion-mnist`, or a data set of"
        " your own app",
        dry_run="of the fleet",
    )
    data_dir: str = setting(
        "data",
        description="folder with the files of CIFAR, CINIC-10 or Fashion-MNIST as they are published",
        on_resume="may change",
    )
    download: bool = setting(
        False,
        description="let torchvision download the files of CIFAR or Fashion-MNIST that `data-dir` lacks",
        on_resume="may change",
    )
    partition: Literal[
        "iid",
        "dirichlet",
        "inner-dirichlet",
        "shard",
        "pathological",
        "linear",
        "square",
        "exponential",
        "natural-id",
    ] = setting(
        "iid",
        description="how samples are spread, as flwr_datasets does: `iid`; label-skewed by `dirichlet`,"
        " `inner-dirichlet` (sizes alike), `shard` or `pathological`; sizes that grow as `linear`, `square`"
        " or `exponential`; or by a column, `natural-id`",
        dry_run="of the fleet",
    )
    alpha: float = setting(
        0.5,
        gt=0,
        description="concentration of the Dirichlet partitions; smaller is more skewed, nobody goes without",
        dry_run="of the fleet",
    )
    classes_per_agent: int = setting(
        2, ge=1, description="of `pathological`: labels that each agent has", dry_run="of the fleet"
    )
    shards_per_agent: int = setting(
        2,
        ge=1,
        description="of `shard`: shards, sorted by label, that each agent has",
        dry_run="of the fleet",
    )
