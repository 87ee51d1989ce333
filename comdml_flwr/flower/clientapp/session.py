"""What a node works with while it handles one message: found once, when it is first asked for."""

import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.setup import Setup
from comdml_flwr.carriers.sealed.sealing import Sealer
from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import write_file
from comdml_flwr.core.program import Absence, Step
from comdml_flwr.core.settings.device import check_device_name
from comdml_flwr.core.strict_json import read_json_file
from comdml_flwr.core.typed_json import read_table
from comdml_flwr.flower.app_paths import with_data_found
from comdml_flwr.flower.clientapp.checkpoints import place_of
from comdml_flwr.flower.clientapp.chosen import (
    by_way_of_relay,
    chosen,
    own_tests_told,
    relay_told,
    samples_told,
)
from comdml_flwr.flower.clientapp.keys import TRUSTED_KEYS, sealer_of
from comdml_flwr.flower.clientapp.models import FACT, ModelNews, place_of_models, read_news
from comdml_flwr.flower.clientapp.policy import Policy, policy_of
from comdml_flwr.flower.clientapp.probe import load_measured
from comdml_flwr.flower.mail import CONFIG, FLEET, TOKEN, is_shared, own_folder
from comdml_flwr.flower.records import blobs, integer, text
from comdml_flwr.learning.data.source import Place
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.assemble import agent_ids, assemble, knowing_samples, program_of
from comdml_flwr.runs.catalogue import Catalogue

_SETUPS: dict[tuple[object, ...], Setup] = {}
"""The set-up of the run that this process last worked for; it can be built again from the run's files.

And what became of it with what the ServerApp has told since.
"""


class NodeSession:
    """A node that handles a message.

    Parameters
    ----------
    catalogue : Catalogue
        The app's own models and data sets.
    facts : ConfigRecord
        What the message tells.
    context : Context
        Flower's, of this node.
    """

    def __init__(self, catalogue: Catalogue, facts: ConfigRecord, context: Context) -> None:
        self.catalogue, self.facts, self.context = catalogue, facts, context

    @cached_property
    def policy(self) -> Policy:
        """What this node's owner lets it take part in, as it is written now."""
        return policy_of(self.context.node_config)

    @cached_property
    def shares_folder(self) -> bool:
        """Whether this node sees the run's folder, which all who see it share, and mail may be open there."""
        never_open = self.policy.sealed_only or TRUSTED_KEYS in self.context.node_config
        return not never_open and is_shared(Path(text(self.facts, "folder")), text(self.facts, "token"))

    @cached_property
    def folder(self) -> Path:
        """Where this node keeps what it needs of the run: the run's folder, or one of its own."""
        if self.shares_folder:
            return Path(text(self.facts, "folder"))
        return own_folder(self.context.run_id, self.context.node_id)

    def close(self) -> None:
        """Remove what was written after the run's end: this node still worked when its folder was removed."""
        if "folder" in vars(self) and not (self.folder / TOKEN).exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def agent(self) -> Agent:
        """The agent that this node is, as it begins."""
        agent = Agent(self.agent_id, self.setup)
        if self.facts.get("profiles") == "measured":
            load_measured(agent, self.folder)
        return agent

    @property
    def agent_id(self) -> int:
        """The id of the agent that this node is."""
        return self.setup.ids[self.number("partition-id")]

    @cached_property
    def setup(self) -> Setup:
        """What all agents of the run share; built again where this process has worked for another run."""
        try:
            fleet_text = (self.folder / FLEET).read_text()
        except OSError:
            what = f"{self.folder / FLEET} is not there: this node lost what it kept of the run"
            raise RunError(what) from None
        num_agents, number = self.number("num-partitions"), self.number("partition-id")
        run_config = parse_config(self._run_config())
        self.policy.check_method(run_config.method)
        self.policy.check_data(self.catalogue.with_own_names(run_config).dataset)
        values = {**run_config.with_defaults_named(), **chosen(self.facts), **self._own_device}
        fleet = parse_fleet(fleet_text, str(self.folder / FLEET))
        place = Place(
            partition_id=number,
            num_partitions=num_agents,
            node_config=self.context.node_config,
            run_config=run_config.with_defaults_named(),
        )
        of_run = (fleet_text, num_agents, *sorted(values.items()))
        if of_run not in _SETUPS:
            config = with_data_found(parse_config(values))
            places = {agent_ids(fleet, num_agents)[number]: place}
            try:
                base = assemble(config, fleet, num_agents, self.catalogue, places)
            except InputError as error:
                if error.what != "device":  # the others are the run's: they are the same at all nodes
                    raise
                raise InputError(self._device_here, error.value, error.rule) from None
            _SETUPS.clear()
            _SETUPS[of_run] = base
        setup, sizes, relay = _SETUPS[of_run], samples_told(self.facts), relay_told(self.facts)
        tests = own_tests_told(self.facts)
        self.policy.check_members(len(setup.present(1)), 1)
        setup.places[setup.ids[number]] = place  # a process may be several nodes, one after another
        told = (*of_run, sizes, tests, relay)
        if told not in _SETUPS:
            if sizes:
                num_samples = dict(zip(setup.ids, sizes, strict=True))
                num_own_tests = {a: n for a, n in zip(setup.ids, tests, strict=True) if n is not None}
                num_shared_tests = integer(self.facts, "shared-tests")
                setup = knowing_samples(setup, fleet, num_samples, num_own_tests, num_shared_tests)
            _SETUPS[told] = by_way_of_relay(setup, relay)
        return _SETUPS[told]

    def _run_config(self) -> Mapping[str, bool | int | float | str | bytes]:
        """Return the run's configuration, which is in its folder unless it is Flower's own."""
        try:
            values: Any = read_table(read_json_file(self.folder / CONFIG))
        except FileNotFoundError:
            return self.context.run_config
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{self.folder / CONFIG} cannot be read: {error}") from None
        found: Mapping[str, bool | int | float | str | bytes] = values  # parse_config checks them
        return found

    @property
    def _own_device(self) -> dict[str, str]:
        """Return the device that this node's configuration names for the run's; none where it names none."""
        name = self.context.node_config.get("device")
        return {} if name is None else {"device": check_device_name(name, self._device_here)}

    @property
    def _device_here(self) -> str:
        """What people know this node's device by."""
        key = "--node-config device" if "device" in self.context.node_config else "device"
        return f"{key} (partition-id={self.number('partition-id')})"

    @cached_property
    def sealer(self) -> Sealer | None:
        """What seals this node's mail in this exchange; None where all nodes see the run's folder."""
        facts = self.facts
        if facts["files"]:
            if not self.shares_folder:  # or the ServerApp could talk a node into sending unsealed mail
                raise RunError(f"this node is told that it shares {self.folder}, which it does not see")
            return None
        return sealer_of(
            self.folder,
            self.agent.id,
            integer(facts, "exchange"),
            text(facts, "token"),
            blobs(facts, "cards"),
            self.context,
            has_server=program_of(self.agent.setup).has_server,
        )

    def check_members(self, steps: Sequence[Step], absence: Absence) -> list[int]:
        """Refuse rounds with too few members; return whom this node holds revoked, of those who are not gone.

        The ServerApp hears of them with the reply, and leaves them out from the next exchange on if most
        say so (grid_carrier.py). Where one takes part in a second exchange, this node takes no part in it.

        Raises
        ------
        InputError
            With the rule that is broken.
        """
        policy, members = self.policy, set[int]()
        for step in steps:
            present = absence.without(self.setup.present(step.round), step.round)
            policy.check_members(len(present), step.round)
            members |= {*present}
        cards = () if self.facts["files"] else blobs(self.facts, "cards")
        revoked = policy.revoked.among(cards) & {*self.setup.ids} - absence.gone
        if takes_part := revoked & members:
            path = self.folder / "revoked" / str(self.agent_id)
            before = {int(agent) for agent in path.read_text().split()} if path.exists() else set()
            policy.check_revoked(takes_part & before)
            write_file(path, " ".join(map(str, sorted(takes_part))).encode())
        return sorted(revoked)

    def checkpoints_of(self, agent: int) -> Path:
        """Return where this node keeps an agent's checkpoints."""
        return place_of(self._folder_of_all, text(self.facts, "checkpoints"), agent)

    @cached_property
    def models(self) -> tuple[ModelNews, Path]:
        """What this node is told about the run's models, and where it keeps its agent's."""
        news = read_news(self.facts[FACT])
        return news, place_of_models(self._folder_of_all, news.run, self.agent_id)

    @property
    def _folder_of_all(self) -> Path | None:
        """The run's folder, if all nodes see it."""
        return self.folder if self.shares_folder and self.facts["files"] else None

    def number(self, key: str) -> int:
        """Return a whole number of the node's configuration. Raises InputError where it is none."""
        value = self.context.node_config.get(key)
        if not isinstance(value, int):
            raise InputError(f"--node-config {key}", value, "must be a whole number on every SuperNode")
        return value
