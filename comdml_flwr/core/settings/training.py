"""How an agent trains its model in a round."""

from typing import Literal

from comdml_flwr.core.settings.base import Settings, setting


class TrainingSettings(Settings, title="Training"):
    """How an agent trains its model in a round."""

    local_epochs: int = setting(2, ge=1, description="passes over an agent's own samples in a round")
    batch_size: int = setting(32, ge=1, description="samples per batch", dry_run="of the fleet")
    optimizer: Literal["sgd", "adam"] = setting(
        "adam", description="`sgd` or `adam`, begun afresh in every round"
    )
    learning_rate: float = setting(0.005, gt=0, description="step size")
    momentum: float = setting(0.9, ge=0, lt=1, description="of `sgd`; `adam` keeps its own 0.9 and 0.999")
    weight_decay: float = setting(0.0, ge=0, description="L2 penalty")
    threads_per_agent: int = setting(
        1, ge=1, description="threads of a convolution; another number, other bits"
    )
