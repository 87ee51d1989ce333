"""Devices, links, and how the plan of a round is made."""

from typing import Literal

from comdml_flwr.core.settings.base import Settings, setting


class PlanningSettings(Settings, title="Planning"):
    """Devices, links, and how the plan of a round is made."""

    fleet: str = setting(
        "ten",
        description="speeds and links: a preset by its name, such as `ten` or `comdml-10`, or a fleet file:"
        " an absolute path, or one inside the app's folder",
    )
    profiles: Literal["auto", "fleet", "measured"] = setting(
        "auto",
        description="speeds and links that plans are made of: the `fleet` file's, or `measured` on the nodes;"
        " `auto` measures on SuperNodes alone",
        dry_run="of the fleet",
    )
    solver: Literal["exact", "greedy"] = setting(
        "exact", description="how pairs are found: `exact`, or `greedy` as published"
    )
    time_model: Literal["pipeline", "overlap"] = setting(
        "pipeline", description="`overlap` is the published formula; `pipeline` adds fill, drain and latency"
    )
    hysteresis: float = setting(
        0.0,
        ge=0,
        lt=1,
        description="share of the makespan that another pairing must gain to replace the last one",
    )
    topology: str = setting(
        "fleet",
        description="which of the fleet's links there are: `fleet` (all), `ring`, `torus`, `star`, `full`,"
        " `exponential`, `random-regular`, `erdos-renyi` or `watts-strogatz`",
    )
    topology_degree: int = setting(4, ge=1, description="neighbours of `random-regular` and `watts-strogatz`")
    topology_probability: float = setting(
        0.2, ge=0, le=1, description="of a link in `erdos-renyi`, of rewiring in `watts-strogatz`"
    )
