"""The network and the clock of one simulated agent, as the agreement between peers wants them."""

from collections.abc import Callable, Iterable, Mapping

from comdml_flwr.carriers.simulated.network import Network
from comdml_flwr.carriers.simulated.turns import Turns
from comdml_flwr.core.errors import OverdueError, PeerGoneError
from comdml_flwr.core.messages import Envelope

_LOOK_S = 0.05  # how often it is looked whether mail has arrived


class SimulatedClock:
    """The virtual time, for one agent.

    Parameters
    ----------
    agent : int
        Who waits by it.
    network : Network
        Keeps the time.
    turns : Turns
        Lets it pass.
    """

    def __init__(self, agent: int, network: Network, turns: Turns) -> None:
        self._agent, self._network, self._turns = agent, network, turns

    def now_s(self) -> float:
        """Return the virtual time in seconds."""
        return self._network.now_s

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._turns.sleep(self._agent, seconds)


class SimulatedTransport:
    """One agent's end of a simulated network.

    Parameters
    ----------
    agent : int
        Whose end.
    network : Network
        Moves the mail.
    turns : Turns
        Lets time pass; what the agent does here are its actions.
    instead_of : Callable
        What it sends in place of an envelope.
    """

    def __init__(
        self,
        agent: int,
        network: Network,
        turns: Turns,
        instead_of: Callable[[Envelope], Iterable[Envelope]] = lambda envelope: (envelope,),
    ) -> None:
        self._agent, self._network, self._turns = agent, network, turns
        self._instead_of = instead_of

    def send(self, envelope: Envelope, timeout_s: float) -> None:
        """Put an envelope under way; there is always room."""
        self._turns.act(self._agent)
        for sent in self._instead_of(envelope):
            try:
                self._network.send(sent)
            except PeerGoneError:
                if sent.receiver == envelope.receiver:  # of others, one that lies is not told
                    raise

    def receive(self, timeout_s: float) -> Envelope | None:
        """Return the next envelope that came; None when none comes in time."""
        self._turns.act(self._agent)
        if not self._network.has_mail(self._agent):
            self._turns.wait_for_mail(self._agent, timeout_s)
        return self._network.take(self._agent)

    def flush(self, timeout_s: float, peers: Iterable[int] | None = None) -> None:
        """Wait until the mail for these peers (by default all) has arrived."""
        self._turns.act(self._agent)
        wanted = sorted(self._network.peers_of(self._agent) if peers is None else peers)
        give_up_s = self._network.now_s + timeout_s
        while late := [peer for peer in wanted if self._network.waits_for_arrival(self._agent, peer)]:
            if self._network.now_s > give_up_s:
                raise OverdueError(f"agent {late[0]} has not taken its mail by the deadline")
            self._turns.sleep(self._agent, _LOOK_S)
            self.gone  # noqa: B018  drops the mail of those who are gone
        for peer in wanted:
            if peer in self.gone:
                raise PeerGoneError(peer, self.gone[peer])

    def watch(self, peers: Iterable[int]) -> None:
        """Hear when one of these peers goes; try again one that is gone."""
        self._network.watch(self._agent, peers)

    @property
    def gone(self) -> Mapping[int, str]:
        """Why peers are gone, by agent."""
        return self._network.gone(self._agent)

    def set_patience(self, patience_s: float) -> None:
        """Say how long a peer may be out of reach, from now on, before it is gone."""
        self._network.set_patience(self._agent, patience_s)

    def set_rounds(self, first: int, last: int) -> None:
        """Take envelopes of these rounds only, both included."""
        self._network.set_rounds(self._agent, first, last)
