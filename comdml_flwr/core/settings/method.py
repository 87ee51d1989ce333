"""Which method trains, and for how long."""

from comdml_flwr.core.settings.base import Settings, setting


class MethodSettings(Settings, title="The run as a whole"):
    """Which method trains, and for how long."""

    method: str = setting(
        "comdml",
        description="training method: `comdml`, `allreduce`, `fedavg`, `splitfed`, `gossip`, `braintorrent`"
        " or `dpsgd`",
    )
    model: str = setting(
        "resnet-56",
        description="`resnet-56`, `resnet-110`, or a model of your own app",
        dry_run="of the fleet",
    )
    num_rounds: int = setting(
        10, ge=1, description="rounds of training and averaging", on_resume="may change"
    )
    target_metric: float = setting(
        0.0,
        ge=0,
        description="value of the task's metric (for classes, accuracy) with which the run ends after the"
        " first round that reaches it; 0: none",
        on_resume="may change",
    )
    participation: float = setting(
        1.0, gt=0, le=1, description="share of the agents that takes part in a round, drawn from the seed"
    )
    seed: int = setting(1, ge=0, lt=2**63, description="same seed, same result, to the bit")
