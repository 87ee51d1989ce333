"""Where results go, and who else is told of them."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from comdml_flwr.core.settings.base import Settings, setting


def _wandb_name(name: str) -> str:
    if not re.fullmatch(r"[^/\\#?%:]{1,128}", name):
        raise ValueError(r"must be 1 to 128 characters, none of them one of / \ # ? % :")
    return name


class ResultsSettings(Settings, title="Results"):
    """Where results go, and who else is told of them."""

    results_dir: str = setting(
        "results",
        description="where the run's folder is made; its full path is printed at the end",
        on_resume="not compared",
    )
    share_results: bool = setting(
        False,
        description="let other users of the machine read the run's folder, as the umask says;"
        " without it nobody else can",
    )
    wandb: Literal["disabled", "offline", "online"] = setting(
        "disabled",
        description="Weights & Biases: `disabled`, `offline` or `online`, whatever `WANDB_MODE` says",
    )
    wandb_project: Annotated[str, AfterValidator(_wandb_name)] = setting(
        "comdml-flwr", description="project of the runs in Weights & Biases"
    )
    tensorboard: bool = setting(False, description="write TensorBoard's event files into the run's folder")
