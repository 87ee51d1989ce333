"""The run configuration: `[tool.flwr.app.config]` in pyproject.toml, `--run-config`, `comdml run --set`.

Every key is documented once, in its `Field` below; the table in docs/reference/configuration.md is made of
these descriptions.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.rules import broken_rule


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _wandb_name(name: str) -> str:
    if not re.fullmatch(r"[^/\\#?%:]{1,128}", name):
        raise ValueError(r"must be 1 to 128 characters, none of them one of / \ # ? % :")
    return name


class RunConfig(BaseModel):
    """What one run does. Keys are kebab-case outside and snake_case in code."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=_kebab, populate_by_name=True, allow_inf_nan=False
    )

    method: str = Field(
        "comdml",
        description="training method: `comdml`, `allreduce`, `fedavg`, `splitfed`, `gossip`, `braintorrent`"
        " or `dpsgd`",
    )
    model: str = Field("resnet-56", description="`resnet-56`, `resnet-110`, or a model of your own app")
    dataset: str = Field(
        "digits", description="`digits`, `cifar-10`, `cifar-100`, `cinic-10`, or a data set of your own app"
    )
    data_dir: str = Field(
        "data", description="folder with the files of CIFAR or CINIC-10 in their published layout"
    )
    download: bool = Field(
        False, description="let torchvision download the CIFAR files that `data-dir` lacks"
    )
    partition: Literal["iid", "dirichlet"] = Field(
        "iid", description="how samples are spread: `iid`, or label-skewed by `dirichlet`"
    )
    alpha: float = Field(
        0.5,
        gt=0,
        description="concentration of the Dirichlet partition; smaller is more skewed, nobody goes without",
    )
    num_rounds: int = Field(10, ge=1, description="rounds of training and averaging")
    target_metric: float = Field(
        0.0,
        ge=0,
        le=1,
        description="test accuracy with which the run ends after the first round that reaches it; 0: none",
    )
    local_epochs: int = Field(2, ge=1, description="passes over an agent's own samples in a round")
    batch_size: int = Field(32, ge=1, description="samples per batch")
    optimizer: Literal["sgd", "adam"] = Field(
        "adam", description="`sgd` or `adam`, begun afresh in every round"
    )
    learning_rate: float = Field(0.005, gt=0, description="step size")
    momentum: float = Field(0.9, ge=0, lt=1, description="of `sgd`; `adam` keeps its own 0.9 and 0.999")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")
    participation: float = Field(
        1.0, gt=0, le=1, description="share of the agents that takes part in a round, drawn from the seed"
    )
    fleet: str = Field(
        "ten",
        description="speeds and links: a preset by its name, such as `ten` or `comdml-10`, or a fleet file:"
        " an absolute path, or one inside the app's folder",
    )
    solver: Literal["exact", "greedy"] = Field(
        "exact", description="how pairs are found: `exact`, or `greedy` as published"
    )
    time_model: Literal["pipeline", "overlap"] = Field(
        "pipeline", description="`overlap` is the published formula; `pipeline` adds fill, drain and latency"
    )
    averaging: Literal["allreduce", "mixing"] = Field(
        "allreduce",
        description="of `comdml`: `allreduce` among all who take part, or `mixing` with linked neighbours",
    )
    topology: str = Field(
        "fleet",
        description="which of the fleet's links there are: `fleet` (all), `ring`, `torus`, `star`, `full`,"
        " `exponential`, `random-regular`, `erdos-renyi` or `watts-strogatz`",
    )
    topology_degree: int = Field(4, ge=1, description="neighbours of `random-regular` and `watts-strogatz`")
    topology_probability: float = Field(
        0.2, ge=0, le=1, description="of a link in `erdos-renyi`, of rewiring in `watts-strogatz`"
    )
    cut: int = Field(6, ge=1, description="where `splitfed` cuts the model; 6 of a ResNet is DTFL's")
    splitfed_version: int = Field(
        1, ge=1, le=2, description="1: a server side for each agent, then averaged; 2: one for all, in turn"
    )
    hysteresis: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the makespan that another pairing must gain to replace the last one",
    )
    num_chunks: int = Field(
        1, ge=1, description="messages in which a slow agent's activations travel under `flwr run`"
    )
    threads_per_agent: int = Field(
        1, ge=1, description="threads of a convolution; another number, other bits"
    )
    profiles: Literal["auto", "fleet", "measured"] = Field(
        "auto",
        description="speeds and links that plans are made of: the `fleet` file's, or `measured` on the nodes;"
        " `auto` measures on SuperNodes alone",
    )
    carrier: Literal["grid", "direct", "auto", "local"] = Field(
        "grid",
        description="who moves the mail: `grid` (Flower), `direct` (peer to peer) or `auto` (`direct` if all"
        " nodes reach each other) under `flwr run`, `local` under `comdml run`",
    )
    rounds_per_message: int = Field(
        10, ge=1, description="of `direct`: rounds that one message of Flower's starts"
    )
    seed: int = Field(1, ge=0, lt=2**63, description="same seed, same result, to the bit")
    checkpoint_every: int = Field(
        0, ge=0, description="rounds between two checkpoints, from which the run can go on; 0: none"
    )
    resume: str = Field(
        "", description="folder of a run that goes on from its last checkpoint; empty: begin a new one"
    )
    results_dir: str = Field(
        "results", description="where the run's folder is made; its full path is printed at the end"
    )
    wandb: Literal["disabled", "offline", "online"] = Field(
        "disabled",
        description="Weights & Biases: `disabled`, `offline` or `online`, whatever `WANDB_MODE` says",
    )
    wandb_project: Annotated[str, AfterValidator(_wandb_name)] = Field(
        "comdml-flwr", description="project of the runs in Weights & Biases"
    )
    tensorboard: bool = Field(False, description="write TensorBoard's event files into the run's folder")

    def with_defaults_named(self) -> dict[str, bool | int | float | str]:
        """Return every key, kebab-case, with its value."""
        return self.model_dump(by_alias=True)


def parse_config(values: Mapping[str, object]) -> RunConfig:
    """Check a run configuration.

    Parameters
    ----------
    values : Mapping[str, object]
        Kebab-case keys, as Flower's `context.run_config` has them.

    Returns
    -------
    RunConfig
        The checked configuration.

    Raises
    ------
    InputError
        An unknown key or an impossible value: one line with the key, the value and the rule.

    Examples
    --------
    >>> parse_config({"num-rounds": 3}).num_rounds
    3
    """
    known = [_kebab(name) for name in RunConfig.model_fields]
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the keys are {', '.join(known)}"
            raise InputError(key, value, f"is no key of the run configuration{hint}")
        if isinstance(value, bool) != (RunConfig.model_fields[key.replace("-", "_")].annotation is bool):
            raise InputError(
                key,
                value,
                "must be true or false" if not isinstance(value, bool) else "must not be true or false",
            )
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "run configuration"
        raise InputError(key, first["input"], broken_rule(first)) from None


def find_fleet(name: str) -> Path:
    """Return the path of a configuration's fleet file, or a preset's name as it is.

    An absolute path, a path inside the folder that holds this package (the checkout, or what Flower made of
    it), or else a path from the working directory. A name without a folder and a suffix may be a preset's.
    """
    if not Path(name).suffix and name == Path(name).name:
        return Path(name)
    own = Path(__file__).resolve().parents[2] / name
    return own if own.is_file() else Path(name).absolute()
