"""The set-up of a run, from its configuration: what all agents share."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.program import Program
from comdml_flwr.core.seeds import SHARED, derive_seed
from comdml_flwr.core.user_code import naming_user_code
from comdml_flwr.learning.codec import ActivationCodec, Cast, Plain
from comdml_flwr.learning.cut_profile import ModelProfile, profile_model
from comdml_flwr.learning.data.batches import epoch_sizes
from comdml_flwr.learning.data.source import Place
from comdml_flwr.learning.devices import find_device
from comdml_flwr.learning.learner_pool import LearnerPool
from comdml_flwr.learning.metrics import check_target
from comdml_flwr.learning.models.builder import BuiltModel, build_model
from comdml_flwr.learning.models.contract import ModelTraits
from comdml_flwr.learning.optimizer import OptimizerSettings
from comdml_flwr.learning.split import num_cuts, num_floats, split, write_floats
from comdml_flwr.learning.state_layout import layout_of
from comdml_flwr.learning.tasks.heads import with_head
from comdml_flwr.learning.tasks.trial import try_task
from comdml_flwr.planning.fleet.fleet import Fleet, TimeShares
from comdml_flwr.planning.fleet.profiles import profiles_by_round
from comdml_flwr.planning.types import SERVER, Cut, CutTable, Profile
from comdml_flwr.runs.catalogue import SERVERLESS, WITH_SERVER, Catalogue

CODEC: ActivationCodec = Plain()
"""How activations travel in float32."""


def agent_ids(fleet: Fleet, num_agents: int) -> tuple[int, ...]:
    """Return the ids of the agents of a run: the first `num_agents` of the fleet, ascending."""
    ids = sorted(agent.id for agent in fleet.agents)
    if num_agents > len(ids):
        raise InputError(
            "fleet", fleet.source, f"has {len(ids)} agents, too few for {num_agents} (one for each SuperNode)"
        )
    return tuple(ids[:num_agents])


def cut_table(
    profile: ModelProfile, batch_size: int, fleet: Fleet | None = None, parted: Collection[int] = ()
) -> CutTable:
    """Return what the planner needs of a model: shares of the work, bytes with the targets, memory.

    Shares are those of the time where the fleet has measured them, otherwise of the FLOPs. The cuts in
    `parted` are no plan's: each of them would part a weight that two stages share.

    Raises
    ------
    InputError
        The fleet's time shares are of a model with another number of cuts.
    """
    shares = [
        TimeShares(
            slow_share=cut.slow_flops / profile.whole_flops, fast_share=cut.fast_flops / profile.whole_flops
        )
        for cut in profile.cuts
    ]
    if fleet is not None and fleet.time_shares:
        if len(fleet.time_shares) != len(shares):
            what, rule = (
                f"{fleet.source}: time_shares",
                f"must be one for each of the model's {len(shares)} cuts",
            )
            raise InputError(what, f"{len(fleet.time_shares)} entries", rule)
        shares = list(fleet.time_shares)
    return CutTable(
        Cut(
            slow_share=share.slow_share,
            fast_share=share.fast_share,
            bytes_per_batch=batch_size * (cut.activation_bytes + profile.target_bytes),
            slow_bytes=cut.slow_peak_bytes,
            fast_bytes=cut.fast_peak_bytes,
            whole_bytes=profile.peak_bytes,
            is_possible=cut.cut not in parted,
        )
        for cut, share in zip(profile.cuts, shares, strict=True)
    )


def codec_of(config: RunConfig) -> ActivationCodec:
    """Return how the activations of a run travel: in the type of its precision."""
    return CODEC if config.precision == "float32" else Cast(config.precision)


def program_of(setup: Setup) -> Program[Agent]:
    """Return one round of the method of a run."""
    return _program(setup.config, len(setup.ids), setup.most_batches)


def _program(config: RunConfig, num_agents: int, num_batches: int) -> Program[Agent]:
    if config.method in WITH_SERVER:
        return WITH_SERVER[config.method](config, num_batches)
    return SERVERLESS[config.method](config, num_agents)


def participants_of(setup: Setup) -> tuple[Agent, ...]:
    """Return all agents of a run, and its server if it has one, as they begin."""
    server = (SERVER,) if program_of(setup).has_server else ()
    return tuple(Agent(agent, setup) for agent in (*server, *setup.ids))


@naming_user_code()
def assemble(
    config: RunConfig,
    fleet: Fleet,
    num_agents: int,
    catalogue: Catalogue | None = None,
    places: Mapping[int, Place] | None = None,
) -> Setup:
    """Build what all agents of a run share: data, partition, model, cuts, profiles, initial weights.

    Parameters
    ----------
    config : RunConfig
        Of the run.
    fleet : Fleet
        Of the run.
    num_agents : int
        How many of the fleet take part.
    catalogue : Catalogue, optional
        The app's own models and data.
    places : Mapping[int, Place], optional
        Of the agents of this process, where data are the app's own; by default all. How many samples the
        others have is then to be told: `knowing_samples`.

    Raises
    ------
    InputError
        A name, a value or a file that the run needs is wrong; nothing has been trained yet.
    RunError
        A loader, a model builder or a stage of the model fails: with the user's file and line.
    """
    catalogue = catalogue or Catalogue()
    config = catalogue.with_own_names(config)
    catalogue.check(config)
    device = find_device(config.device, config.precision, is_deterministic=config.deterministic)
    codec = codec_of(config)
    ids = agent_ids(fleet, num_agents)
    warnings: list[str] = []
    places = places or _all_places(config, ids)
    data = catalogue.load_data(config, ids, places, warnings.append)
    task = with_head(data.task, config.aux_head)
    check_target(config.target_metric, task.metrics)
    built = build_model(
        partial(catalogue.model(config.model), task.input_shape, task.num_outputs),
        config.model,
        data.example,
        task,
        partial(derive_seed, config.seed, SHARED, SHARED),
        warnings.append,
    )
    try_task(task, built.model, data.example, data.target)
    check_cuts(config, built)
    check_batch_size(config, built.traits)
    shares = data.share(built.traits.smallest_batch)
    program = _program(config, num_agents, _most_batches(config, shares.num_samples, built.traits))
    profile = profile_model(built.model, task, shares.largest_batch, codec)
    heads = {
        cut.cut: task.aux_head(cut.activation_shape, _generator(config, f"aux head {cut.cut}"))
        for cut in profile.cuts
    }
    batch_flops = profile.whole_flops * config.batch_size
    return Setup(
        config=config,
        ids=ids,
        profiles_at=_profiles_at(config, fleet, ids, shares.num_samples, program, batch_flops),
        batch_flops=batch_flops,
        relay=fleet.relay,
        task=task,
        load_data=shares.load,
        same_data=data.same,
        num_samples=shares.num_samples,
        num_own_tests=shares.num_own_tests,
        num_shared_tests=shares.num_shared_tests,
        codec=codec,
        cuts=cut_table(profile, config.batch_size, fleet, built.traits.parted),
        traits=built.traits,
        device=device,
        learners=LearnerPool(
            built.build,
            lambda cut: task.aux_head(profile.cuts[cut].activation_shape, torch.Generator()),
            optimizer_settings(config),
            task,
            device,
        ),
        layout=layout_of(built.model),
        initial_weights_P=write_floats(built.model),
        initial_aux_heads={cut: write_floats(head) for cut, head in heads.items()},
        fast_floats=ByCut(num_floats(split(built.model, cut.cut)[1]) for cut in profile.cuts),
        activation_shapes=ByCut(cut.activation_shape for cut in profile.cuts),
        slots=program.slots,
        availability=fleet.availability,
        warnings=tuple(warnings),
        places=dict(places),
    )


def knowing_samples(
    setup: Setup,
    fleet: Fleet,
    num_samples: Mapping[int, int],
    num_own_tests: Mapping[int, int],
    num_shared_tests: int,
) -> Setup:
    """Return a set-up that knows how many training and test samples all agents have, ids ascending."""
    setup = replace(setup, num_own_tests=num_own_tests, num_shared_tests=num_shared_tests)
    if setup.num_samples == num_samples:
        return setup
    program = _program(setup.config, len(setup.ids), 0)
    profiles_at = _profiles_at(setup.config, fleet, setup.ids, num_samples, program, setup.batch_flops)
    return replace(setup, num_samples=num_samples, profiles_at=profiles_at)


def _all_places(config: RunConfig, ids: Sequence[int]) -> dict[int, Place]:
    """Return the places of all agents, for one process that has them all."""
    run_config, num = config.with_defaults_named(), len(ids)
    numbers = [{"partition-id": number, "num-partitions": num} for number in range(num)]
    return {
        agent: Place(partition_id=number, num_partitions=num, node_config=node, run_config=run_config)
        for (number, agent), node in zip(enumerate(ids), numbers, strict=True)
    }


def _most_batches(config: RunConfig, num_samples: Mapping[int, int], traits: ModelTraits) -> int:
    most = max(num_samples.values())
    return len(epoch_sizes(most, config.batch_size, traits.smallest_batch)) * config.local_epochs


def _profiles_at(
    config: RunConfig,
    fleet: Fleet,
    ids: Sequence[int],
    num_samples: Mapping[int, int],
    program: Program[Agent],
    batch_flops: float,
) -> Callable[[int], Mapping[int, Profile]]:
    return profiles_by_round(
        config,
        fleet,
        num_samples,
        ids=ids,
        batch_flops=batch_flops,
        has_server=program.has_server,
        needs_links=program.needs_links,
    )


def check_cuts(config: RunConfig, built: BuiltModel) -> None:
    """Refuse a model that the method cannot cut as it has to.

    Raises
    ------
    InputError
        It has no such cut, or the cut would part a weight that stages share.
    """
    num, parted = num_cuts(built.model), built.traits.parted
    if config.method == "comdml" and len(parted) == num:
        why = f"each parts {parted[num]}" if num else built.traits.uncut or "it has one stage"
        rule = f"must have a cut for comdml ({why}); method = allreduce trains it whole"
        raise InputError("model", config.model, rule)
    if config.method == "splitfed" and config.cut > num:
        raise InputError("cut", config.cut, f"must be at most {num}, the cuts of {config.model}")
    if config.method == "splitfed" and config.cut in parted:
        raise InputError("cut", config.cut, f"must not part a shared weight: {parted[config.cut]}")


def check_batch_size(config: RunConfig, traits: ModelTraits) -> None:
    """Refuse batches of one sample for a model that cannot train on them."""
    if config.batch_size < traits.smallest_batch:
        rule = f"must be at least {traits.smallest_batch}: {traits.alone} cannot train on one sample"
        raise InputError("batch-size", config.batch_size, rule)


def optimizer_settings(config: RunConfig) -> OptimizerSettings:
    """Return the optimizer that every agent begins a round with."""
    return OptimizerSettings(
        name=config.optimizer,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        decay_norms=config.decay_norms,
        clip_norm=config.clip_norm,
    )


def _generator(config: RunConfig, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(config.seed, SHARED, SHARED, purpose))
