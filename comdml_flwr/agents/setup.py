"""What all agents of a run have in common: data, model, fleet and configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from comdml_flwr.agents.last_result import LastResult, are_same_objects
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.slots import Slot
from comdml_flwr.learning.data.batches import epoch_sizes
from comdml_flwr.learning.data.dataset import Dataset
from comdml_flwr.learning.learner_pool import LearnerPool
from comdml_flwr.learning.models.contract import ModelTraits
from comdml_flwr.learning.state_layout import StateLayout
from comdml_flwr.learning.task import Task
from comdml_flwr.planning.clock.whole_round import Judged
from comdml_flwr.planning.fleet.scenario import Availability
from comdml_flwr.planning.participation import draw_participants, newcomers_after
from comdml_flwr.planning.types import CutTable, Link, Profile


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
    relay : Link
        Stands in where two agents have no direct link (on the virtual clock, outside the offload).
    task : Task
        What is learned.
    dataset : Dataset
        Training and test samples of all; an agent trains on its part only.
    parts : Mapping[int, ndarray]
        Indices (int64) of every agent's training samples.
    cuts : CutTable
        What each cut costs.
    traits : ModelTraits
        What training must know of the model.
    learners : LearnerPool
        Modules to train with, one set a thread.
    layout : StateLayout
        Names and shapes of the model's state.
    initial_weights_P : Tensor
        float32 weights that all begin with.
    initial_aux_heads : Mapping[int, Tensor]
        float32 weights of the auxiliary heads that all begin with, by cut.
    fast_floats : tuple[int, ...]
        How many of the weights are the fast side's, by cut.
    slots : tuple[Slot, ...]
        What the method keeps, beside what every agent does.
    availability : Availability, optional
        Who leaves and returns; without it, all are there in all rounds.
    warnings : tuple[str, ...]
        What should be known before training and is no fault: a line each.
    drawn : dict[int, tuple[int, ...]]
        Who takes part, by round, as far as somebody of this process has asked.
    met : LastResult
        The last profiles that were read from introductions.
    plans : LastResult
        The last plan that an agent of this process found, judged by the whole round, with its digest.
    models, digests : LastResult
        The last model that was joined from averaged shards, and the last digest of a model: agents of one
        process that hold the same model share it.
    """

    config: RunConfig
    ids: tuple[int, ...]
    profiles_at: Callable[[int], Mapping[int, Profile]]
    relay: Link
    task: Task
    dataset: Dataset
    parts: Mapping[int, NDArray[np.int64]]
    cuts: CutTable
    traits: ModelTraits
    learners: LearnerPool
    layout: StateLayout
    initial_weights_P: Tensor
    initial_aux_heads: Mapping[int, Tensor]
    fast_floats: tuple[int, ...]
    slots: tuple[Slot, ...] = ()
    availability: Availability | None = None
    warnings: tuple[str, ...] = ()
    drawn: dict[int, tuple[int, ...]] = field(default_factory=dict)
    met: LastResult[tuple[Profile, ...]] = field(default_factory=lambda: LastResult(are_same_objects))
    plans: LastResult[tuple[Judged, str]] = field(default_factory=LastResult)
    models: LastResult[Tensor] = field(default_factory=lambda: LastResult(are_same_objects))
    digests: LastResult[str] = field(default_factory=lambda: LastResult(are_same_objects))

    @property
    def most_batches(self) -> int:
        """How many batches the agent with the most samples trains in a round."""
        most_samples, smallest = max(map(len, self.parts.values())), self.traits.smallest_batch
        return len(epoch_sizes(most_samples, self.config.batch_size, smallest)) * self.config.local_epochs

    def present(self, round_: int) -> tuple[int, ...]:
        """Return who takes part in a round: a seeded sample that everybody can draw for himself."""
        if round_ not in self.drawn:
            share, seed = self.config.participation, self.config.seed
            self.drawn[round_] = draw_participants(self.ids, share, seed, round_, self.availability)
        return self.drawn[round_]

    def newcomers(self, round_: int) -> tuple[int, ...]:
        """Return who is absent in a round and takes part in the next, and so lacks the model."""
        return newcomers_after(round_, self.config.num_rounds, self.present)
