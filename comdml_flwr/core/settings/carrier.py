"""Who moves the mail."""

from typing import Literal

from comdml_flwr.core.settings.base import Settings, setting


class CarrierSettings(Settings, title="Carriers"):
    """Who moves the mail."""

    carrier: Literal["grid", "direct", "auto", "local"] = setting(
        "grid",
        description="who moves the mail: `grid` (Flower), `direct` (peer to peer) or `auto` (`direct` if all"
        " nodes reach each other) under `flwr run`, `local` under `comdml run`",
    )
    rounds_per_message: int = setting(
        10,
        ge=1,
        description="of `direct`: rounds that one message of Flower's starts",
        on_resume="may change",
    )
    min_agents: int = setting(
        0,
        ge=0,
        description="of `direct`: how many agents must be there for a round to count; 0: more than half of"
        " those who ended the last one, or half with the lowest id",
        on_resume="may change",
    )
