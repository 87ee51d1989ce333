"""What all agents of a run have in common: data, model, fleet and configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from comdml_flwr.agents.last_result import LastResult, are_same_objects
from comdml_flwr.core.by_cut import ByCut
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import PeerFaultError
from comdml_flwr.core.slots import Slot
from comdml_flwr.learning.codec import ActivationCodec
from comdml_flwr.learning.data.batches import epoch_sizes
from comdml_flwr.learning.data.source import AgentData, DataSource, Place, Samples
from comdml_flwr.learning.device import Device
from comdml_flwr.learning.learner_pool import LearnerPool
from comdml_flwr.learning.metrics import KnownTests
from comdml_flwr.learning.models.contract import ModelTraits
from comdml_flwr.learning.state_layout import StateLayout
from comdml_flwr.learning.task import Task, most_counts
from comdml_flwr.planning.clock.whole_round import Judged
from comdml_flwr.planning.fleet.scenario import Availability
from comdml_flwr.planning.participation import draw_participants, newcomers_after
from comdml_flwr.planning.types import SERVER, CutTable, Link, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all agents of a run share.

    Parameters
    ----------
    config : RunConfig
        The run's configuration.
    ids : tuple[int, ...]
        All agents, ascending, absent ones included, without the server.
    profiles_at : Callable[[int], Mapping[int, Profile]]
        Speed, links and work of every agent in a round, and of the server; an agent uses its own and learns
        the others' by mail.
    batch_flops : float
        FLOPs to train the whole model on a full batch.
    relay : Link
        Stands in where two agents have no direct link (on the virtual clock, outside the offload).
    task : Task
        What is learned.
    load_data : DataSource
        Gives an agent its data.
    same_data : Mapping[str, object]
        What all nodes must have loaded alike, by name.
    num_samples : Mapping[int, int]
        How many training samples every agent has; of data that are the agents' own, those of the agents of
        this process, until all have told.
    num_own_tests : Mapping[int, int]
        How many test samples each agent has that does not evaluate a share of those that all have alike, as
        `num_samples`.
    num_shared_tests : int
        How many test samples the others have, all alike; 0 where there is none of those, or as long as it is
        not told.
    codec : ActivationCodec
        How activations travel between the sides of a split model.
    cuts : CutTable
        What each cut costs.
    traits : ModelTraits
        What training must know of the model.
    device : Device
        Where this process trains.
    learners : LearnerPool
        Modules to train with, one set a thread.
    layout : StateLayout
        Names and shapes of the model's state.
    initial_weights_P : Tensor
        float32 weights that all begin with.
    initial_aux_heads : Mapping[int, Tensor]
        float32 weights of the auxiliary heads that all begin with, by cut.
    fast_floats : ByCut[int]
        How many of the weights are the fast side's, by cut.
    activation_shapes : ByCut[tuple[int, ...]]
        Of one sample, without the samples, by cut.
    slots : tuple[Slot, ...]
        What the method keeps, beside what every agent does.
    availability : Availability, optional
        Who leaves and returns; without it, all are there in all rounds.
    warnings : tuple[str, ...]
        What should be known before training and is no fault: a line each.
    drawn : dict[int, tuple[int, ...]]
        Who takes part, by round, as far as somebody of this process has asked.
    places : dict[int, Place]
        What this process knows of its agents' places; of others, their numbers.
    loaded : dict[int, AgentData]
        The data of each agent of this process.
    met : LastResult
        The last profiles that were read from introductions, and the faults of those whose cannot be.
    plans : LastResult
        The last plan that an agent of this process found, judged by the whole round, with its digest.
    models, digests : LastResult
        The last model that was joined from averaged shards, and the last digest of a model: agents of one
        process that hold the same model share it.
    """

    config: RunConfig
    ids: tuple[int, ...]
    profiles_at: Callable[[int], Mapping[int, Profile]]
    batch_flops: float
    relay: Link
    task: Task
    load_data: DataSource
    same_data: Mapping[str, object]
    num_samples: Mapping[int, int]
    num_own_tests: Mapping[int, int]
    num_shared_tests: int
    codec: ActivationCodec
    cuts: CutTable
    traits: ModelTraits
    device: Device
    learners: LearnerPool
    layout: StateLayout
    initial_weights_P: Tensor
    initial_aux_heads: Mapping[int, Tensor]
    fast_floats: ByCut[int]
    activation_shapes: ByCut[tuple[int, ...]]
    slots: tuple[Slot, ...] = ()
    availability: Availability | None = None
    warnings: tuple[str, ...] = ()
    drawn: dict[int, tuple[int, ...]] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    loaded: dict[int, AgentData] = field(default_factory=dict)
    met: LastResult[tuple[tuple[Profile, ...], tuple[PeerFaultError, ...]]] = field(
        default_factory=lambda: LastResult(are_same_objects)
    )
    plans: LastResult[tuple[Judged, str]] = field(default_factory=LastResult)
    models: LastResult[Tensor] = field(default_factory=lambda: LastResult(are_same_objects))
    digests: LastResult[str] = field(default_factory=lambda: LastResult(are_same_objects))

    @property
    def known_tests(self) -> KnownTests:
        """What all know of each other's test samples."""
        return KnownTests(
            ids=self.ids,
            own=self.num_own_tests,
            num_shared=self.num_shared_tests,
            most_counts=most_counts(self.task),
        )

    @property
    def most_batches(self) -> int:
        """How many batches the agent with the most samples trains in a round."""
        most_samples, smallest = max(self.num_samples.values()), self.traits.smallest_batch
        return len(epoch_sizes(most_samples, self.config.batch_size, smallest)) * self.config.local_epochs

    def data(self, agent: int) -> AgentData:
        """Return an agent's samples.

        A server has no training samples, and the test samples of the first agent, which all have.
        """
        if agent == SERVER:
            first = self.data(self.ids[0])
            return replace(first, train=first.train.none())
        if agent not in self.loaded:
            number = self.ids.index(agent)
            numbers = Place(partition_id=number, num_partitions=len(self.ids))
            self.loaded[agent] = self.load_data(self.places.get(agent, numbers))
        return self.loaded[agent]

    def tests(self) -> tuple[Samples, ...]:
        """Return what all agents test on: samples that several of them share, once, and each one's own."""
        data = [self.data(agent) for agent in self.ids]
        shared = [of_agent.test for of_agent in data if of_agent.all_have_test][:1]
        return (*shared, *(of_agent.test for of_agent in data if not of_agent.all_have_test))

    def present(self, round_: int) -> tuple[int, ...]:
        """Return who takes part in a round: a seeded sample that everybody can draw for himself."""
        if round_ not in self.drawn:
            share, seed = self.config.participation, self.config.seed
            self.drawn[round_] = draw_participants(self.ids, share, seed, round_, self.availability)
        return self.drawn[round_]

    def newcomers(self, round_: int) -> tuple[int, ...]:
        """Return who is absent in a round and takes part in the next, and so lacks the model."""
        return newcomers_after(round_, self.config.num_rounds, self.present)
