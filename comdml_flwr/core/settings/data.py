"""The data set and how it is spread over the agents."""

from typing import Literal

from comdml_flwr.core.settings.base import Settings, setting


class DataSettings(Settings, title="Data"):
    """The data set and how it is spread over the agents."""

    dataset: str = setting(
        "digits",
        description="`digits`, `cifar-10`, `cifar-100`, `cinic-10`, `fashion-mnist`, `folder` (of images),"
        " `hf:NAME` (of the Hugging Face hub), `hf:./FOLDER`, or a data set of your own app",
        dry_run="of the fleet",
    )
    data_dir: str = setting(
        "data",
        description="folder with the files of CIFAR, CINIC-10 or Fashion-MNIST as they are published, or of"
        " `folder` with `train/CLASS/*` and `test/CLASS/*`",
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
    partition_by: str = setting(
        "",
        description="of `natural-id`: the column of an `hf:` data set that says whose a sample is; empty: the"
        " partition of `flwr-datasets create`",
        dry_run="of the fleet",
    )
    image_size: int = setting(
        0,
        ge=0,
        le=4096,
        description="of `folder` and `hf:`: side, in pixels, that images are scaled and cropped to; 0: they"
        " are of one size already",
        dry_run="of the fleet",
    )
    label_column: str = setting(
        "",
        description="of `hf:`: the column of labels; empty: the only one of class labels",
        dry_run="of the fleet",
    )
    test_share: float = setting(
        0.0,
        ge=0,
        lt=1,
        description="of `folder` and `hf:`: share of the training samples that is tested on where there is no"
        " test part; 0: that is refused",
        dry_run="of the fleet",
    )
