"""A round of DTFL (clients and a server, no peers) in the terms of our cost model, relative to FedAvg.

The method: S. M. Sajjadi Mohammadabadi, S. Zawad, F. Yan, L. Yang, "Speed Up Federated Learning in
Heterogeneous Environments: A Dynamic Tiering Approach", IEEE Internet of Things Journal, 2024,
doi 10.1109/JIOT.2024.3487473, arXiv 2312.05642. Symbols as in planning/costs.py, k a client, m a tier:

    batches of a round        N      =  samples of a client / batch size
    speed on the whole model  p_k    =  CPUs of k * FLOP/s of a CPU / FLOPs of a batch
    client's layers           T_c    =  N a_m / p_k
    server's layers           T_s    =  N b_m / p_server
    bytes                     D      =  N d_m + n w_m     activations, labels; the client's weights n times
    on the link of k          T_com  =  D / nu_k          1 Mbps = 125,000 bytes/s
    client k is done at       T_k(m) =  max(T_c + T_com, T_s + T_com)              (DTFL's formula)
    the round is done at      T(m)   =  max over k of T_k(m)

FedAvg is the tier that keeps all: a = 1, b = 0, d = 0, w = the whole model. Communication does not overlap
with computing here; the published totals are the sum of the two, too. The columns "compute" and
"communication" are those of the straggler, the client that sets T(m).

Published are seconds until an accuracy is reached, which is (rounds to it) * (time of a round). With rho_m,
the rounds in tier m over the rounds of FedAvg (1 where nothing is known), the ratios to FedAvg are

    compute                   rho_m max(T_c, T_s)(m) / T_c(FedAvg)
    communication             rho_m T_com(m) / T_com(FedAvg)
    total                     rho_m T(m) / T(FedAvg)

Fitted, not predicted, where a hypothesis says so, and always to the first case alone:

    the speed of a CPU        T_c / T_com of FedAvg is as published (1 number)
    rho_m                     ln rho_m = the mean of ln(published / predicted) of compute and communication,
                              the least-squares fit of both columns (1 number a tier for 2 entries)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import fmean

from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS, Cut, Link, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Compute, communication and total: seconds, or ratios to FedAvg's."""

    compute: float
    communication: float
    total: float

    def over(self, other: "Times", factor: float = 1.0) -> "Times":
        """Return the ratios to another one, times a factor."""
        return Times(
            compute=factor * self.compute / other.compute,
            communication=factor * self.communication / other.communication,
            total=factor * self.total / other.total,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A published case: the clients' devices and links, and the seconds to the target accuracy."""

    label: str
    cpus: tuple[float, ...]
    mbps: tuple[float, ...]
    tiers: tuple[Times, ...]
    fedavg: Times

    @property
    def ratios(self) -> tuple[Times, ...]:
        """The published ratios to FedAvg, tiers 1..6."""
        return tuple(tier.over(self.fedavg) for tier in self.tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What stays at the client: a cut, and the bytes of the weights below it."""

    cut: Cut
    weight_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a prediction rests on.

    Parameters
    ----------
    tiers, fedavg : tuple[Tier, ...], Tier
        Tiers 1..6, and the one that keeps all.
    num_batches : float
        N.
    cpu_batches_per_s : float
        What one CPU trains of the whole model.
    server_cpus, model_trips, link_factor, bytes_factor : float
        The server's speed; n; and what a hypothesis claims of links and activations.
    """

    tiers: tuple[Tier, ...]
    fedavg: Tier
    num_batches: float
    cpu_batches_per_s: float
    server_cpus: float
    model_trips: int = 2
    link_factor: float = 1.0
    bytes_factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Ratios to FedAvg for one case: tiers 1..6, and FedAvg's own round in seconds."""

    ratios: tuple[Times, ...]
    fedavg_round: Times


def client_of(case: Case, client: int, world: World) -> Profile:
    """Describe a client; its one link, to the server, has the id after the last client's."""
    bytes_per_s = case.mbps[client] * BYTES_PER_S_PER_MBPS * world.link_factor
    return Profile(
        agent=client,
        batches_per_s=case.cpus[client] * world.cpu_batches_per_s,
        num_batches=world.num_batches,
        links={len(case.cpus): Link(bytes_per_s=bytes_per_s)},
    )


def client_times(client: Profile, tier: Tier, world: World) -> Times:
    """Return T_k(m) and its two parts, in seconds."""
    (link,) = client.links.values()
    num_batches, cut = client.num_batches, tier.cut
    client_s = num_batches * cut.slow_share / client.batches_per_s
    server_s = num_batches * cut.fast_share / (world.server_cpus * world.cpu_batches_per_s)
    num_bytes = num_batches * cut.bytes_per_batch * world.bytes_factor + world.model_trips * tier.weight_bytes
    communication_s = num_bytes / link.bytes_per_s
    return Times(
        compute=max(client_s, server_s),
        communication=communication_s,
        total=max(client_s + communication_s, server_s + communication_s),
    )


def round_times(case: Case, tier: Tier, world: World) -> Times:
    """Return the straggler's times when all clients are in one tier, in seconds."""
    clients = (client_of(case, client, world) for client in range(len(case.cpus)))
    return max((client_times(client, tier, world) for client in clients), key=lambda times: times.total)


def predict(case: Case, world: World, rounds: Sequence[float]) -> Prediction:
    """Predict the ratios to FedAvg; `rounds` are rho_m of tiers 1..6."""
    fedavg = round_times(case, world.fedavg, world)
    ratios = (
        round_times(case, tier, world).over(fedavg, rho)
        for tier, rho in zip(world.tiers, rounds, strict=True)
    )
    return Prediction(ratios=tuple(ratios), fedavg_round=fedavg)


def with_their_cpu(case: Case, world: World) -> World:
    """Return the world in which FedAvg's compute over communication is as published for the case."""
    fedavg = round_times(case, world.fedavg, world)
    published = case.fedavg.compute / case.fedavg.communication
    slower = published / (fedavg.compute / fedavg.communication)
    return replace(world, cpu_batches_per_s=world.cpu_batches_per_s / slower)


def fitted_rounds(case: Case, world: World) -> tuple[float, ...]:
    """Fit rho_m, the rounds of a tier over those of FedAvg, to two columns of a case."""
    equal = predict(case, world, [1.0] * len(world.tiers)).ratios
    return tuple(
        exp(
            fmean(
                (
                    log(published.compute / predicted.compute),
                    log(published.communication / predicted.communication),
                )
            )
        )
        for published, predicted in zip(case.ratios, equal, strict=True)
    )
