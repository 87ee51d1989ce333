"""A node takes part in what its owner allows, and in nothing else."""

import json

import pytest

from comdml_flwr.carriers.sealed.key_cards import fingerprint, load_signing_key, new_card
from comdml_flwr.carriers.sealed.revoked import read_revoked
from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.core.errors import InputError
from comdml_flwr.flower import mail
from comdml_flwr.flower.clientapp import session
from comdml_flwr.flower.clientapp.policy import policy_of
from tests.flower.clientapp.test_signed_keys import members
from tests.flower.wiretap import Wiretap, in_round, patterned_config, printed, refused, run


def only_at(place, **keys):
    """Return what node configurations hold where one node has a policy."""
    own = {name.replace("_", "-"): value for name, value in keys.items()}
    return lambda other: own if other == place else {}


def test_a_node_without_a_policy_takes_part_in_everything():
    policy = policy_of({"partition-id": 0, "num-partitions": 2})
    policy.check_method("splitfed")
    policy.check_data("digits")
    policy.check_members(1, 1)
    policy.check_direct(has_certificates=False)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            {"allowed_methods": "allreduce, gossip"},
            "method = 'comdml': must be one of allreduce, gossip (allowed-methods of --node-config)",
        ),
        (
            {"allowed_data": "my-data"},
            "dataset = 'sevens': must be one of my-data (allowed-data of --node-config)",
        ),
        (
            {"min_members": 4},
            "agents in round 1 = 3: must be at least 4 (min-members of --node-config)",
        ),
        ({"policy": "nowhere.toml"}, "policy = 'nowhere.toml': must be a file that can be read (No such"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_against_a_node_s_policy_is_refused_in_a_line_before_any_training(keys, line, tmp_path):
    config = patterned_config(tmp_path)
    assert line in refused(Wiretap(config, only_at(1, **keys)), config)
    assert not list(tmp_path.glob("*/rounds.jsonl"))


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"min-members": "4"}, "--node-config min-members = '4': must be a whole number"),
        ({"min-members": True}, "--node-config min-members = True: must be a whole number"),
        ({"sealed-only": 1}, "--node-config sealed-only = 1: must be true or false"),
        ({"allowed-methods": False}, "--node-config allowed-methods = False: must be"),
        ({"policy": 3}, "--node-config policy = 3: must be a path"),
        (
            {"revoked": "nowhere"},
            "--node-config revoked = 'nowhere': must be a file that can be read (No such",
        ),
    ],
)
def test_a_key_that_is_no_policy_is_refused(keys, line):
    with pytest.raises(InputError) as refusal:
        policy_of(keys)
    assert str(refusal.value).startswith(line)


def test_a_policy_may_stand_in_a_file(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('allowed-methods = ["comdml", "dpsgd"]\nallowed-data = "a b"\nmin-members = 3\n')
    policy = policy_of({"policy": str(path), "sealed-only": True})
    assert policy.allowed_methods == ("comdml", "dpsgd")
    assert (policy.allowed_data, policy.min_members, policy.sealed_only) == (("a", "b"), 3, True)
    with pytest.raises(InputError, match=r"policy.toml and --node-config\)"):
        policy.check_method("splitfed")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("min-member = 3", "min-member = 3: is no key of a policy; they are allowed-methods"),
        ("min-members = 0", "min-members = 0: must be at least 1"),
        ("min-members = ", "must be TOML"),
        ("[policy]\nmin-members = 3", "is no key of a policy"),
        ("allowed-methods = 3", "allowed-methods = 3: must be"),
        ("sealed-only = true", "--node-config sealed-only = False: is also in"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(content, line, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(content)
    with pytest.raises(InputError) as refusal:
        policy_of({"policy": str(path), "sealed-only": False})
    assert line in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_sealed_only_refuses_what_others_could_read():
    policy = policy_of({"sealed-only": True})
    with pytest.raises(InputError, match=r"fedavg.*in the open \(sealed-only of --node-config\)"):
        policy.check_method("fedavg")
    with pytest.raises(InputError, match="p2p-certificates = None: must be given"):
        policy.check_direct(has_certificates=False)
    policy.check_direct(has_certificates=True)


@pytest.mark.parametrize("key", ["sealed-only", "trusted-keys"])
def test_mail_of_a_node_that_wants_it_sealed_is_sealed_though_all_see_the_folder(key, tmp_path):
    config = patterned_config(tmp_path)
    node_config = members(tmp_path) if key == "trusted-keys" else only_at(2, sealed_only=True)
    grid = Wiretap(config, node_config)
    run(grid, config)
    assert grid.packed
    assert all(packed.startswith(b"#") for packed in grid.packed)
    assert grid.found() == set()


def test_a_shared_folder_is_believed_only_where_nobody_else_can_write(tmp_path):
    folder = tmp_path / "comdml-flwr-run"
    folder.mkdir(0o700)
    (folder / mail.TOKEN).write_text("token")
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert mail.is_shared(folder, "token")
    assert not mail.is_shared(folder, "another")
    assert not mail.is_shared(link, "token")
    for mode in (0o770, 0o707):
        folder.chmod(mode)
        assert not mail.is_shared(folder, "token")


def test_a_folder_of_another_user_is_not_believed(tmp_path, monkeypatch):
    (tmp_path / mail.TOKEN).write_text("token")
    monkeypatch.setattr(mail.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert not mail.is_shared(tmp_path, "token")


@pytest.mark.parametrize("shares", [True, False], ids=["the run's folder", "its own folder"])
def test_a_node_in_the_middle_of_a_run_is_not_greeted_again(shares, tmp_path, temporary, monkeypatch):
    """Else whoever can send it messages could take its state and its key from it."""
    if not shares:
        monkeypatch.setattr(session, "is_shared", lambda folder, token: False)
    config = patterned_config(tmp_path)
    grid = Wiretap(config)
    greetings, lines = [], []

    def greet_again(message):
        kind, facts = message.metadata.message_type, message.content["facts"]
        if kind == "query.hello":
            greetings.append(message)
        elif kind == "train.steps" and not lines and facts["exchange"] == 3:
            grid.change = lambda message: None
            name = grid._handle(greetings[0])
            (reply,) = grid.pull_messages([name])
            lines.append(reply.content["facts"]["failure"])

    grid.change = greet_again
    text = printed(config, grid)
    assert "is in the middle of this run, and is not greeted twice" in lines[0]
    assert "failed" not in text
    assert gone_in_rounds(tmp_path) == [[], []]


def test_certificates_names_and_keys_can_be_revoked(tmp_path):
    make_certificates(tmp_path / "federation", range(3), {}, 1)
    node_config = members(tmp_path)
    certificate = (tmp_path / "federation" / "agent-2" / "agent.crt").read_text()
    public_key = (tmp_path / "members" / "1.pub").read_text()
    path = tmp_path / "revoked"
    path.write_text(f"# stolen\n{certificate}\ncomdml://agent/7  # lost\n{public_key} somebody@somewhere\n")
    revoked = read_revoked(path, "revoked")
    keys = [load_signing_key(tmp_path / f"key-{place}") for place in range(3)]
    assert revoked.agents == {2, 7}
    assert revoked.keys == {fingerprint(keys[1].public_key())}
    assert node_config(1)["signing-key"] == str(tmp_path / "key-1")
    cards = [new_card("run", place, bytes(32), key).pack() for place, key in enumerate(keys)]
    assert revoked.among(cards) == {1, 2, 7}


@pytest.mark.parametrize("content", ["agent 3", "comdml://agent/x", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_revokes_nobody_by_mistake_is_refused(content, tmp_path):
    path = tmp_path / "revoked"
    path.write_text(content)
    with pytest.raises(InputError, match="must hold certificates or public keys"):
        read_revoked(path, "revoked")


def gone_in_rounds(tmp_path):
    (path,) = tmp_path.glob("**/rounds.jsonl")
    return [json.loads(line)["gone"] for line in path.read_text().splitlines()]


def revoke_in_round_2(grid, path):
    """Let the list be written while the run goes on."""

    def write(facts):
        path.write_text("comdml://agent/1\n")

    grid.change = in_round(2, 0, write)


def test_who_is_revoked_in_a_run_is_left_out_from_the_next_exchange_on(tmp_path, apart):
    config = patterned_config(tmp_path, num_rounds=4)
    path = tmp_path / "revoked"
    path.write_text("")
    grid = Wiretap(config, lambda place: {} if place == 1 else {"revoked": str(path)})
    revoke_in_round_2(grid, path)
    text = printed(config, grid)
    assert "its certificate or key is revoked, by the policy of agents 0, 2" in text
    assert gone_in_rounds(tmp_path) == [[], [1], [1], [1]]


def test_who_is_revoked_and_not_drawn_is_left_out_as_soon_as_it_is(tmp_path, apart):
    """Nobody leaves because of one who takes no part."""
    config = patterned_config(tmp_path, num_rounds=6, participation=0.6)
    path = tmp_path / "revoked"
    path.write_text("comdml://agent/1\n")
    grid = Wiretap(config, lambda place: {} if place == 1 else {"revoked": str(path)})
    text = printed(config, grid)
    assert text.count("agent 1 failed in round 2, introduce: its certificate or key is revoked") == 1, text
    assert {0, 2}.isdisjoint(agent for gone in gone_in_rounds(tmp_path) for agent in gone)


def test_a_node_whose_list_the_others_do_not_share_leaves_by_itself(tmp_path, apart):
    config = patterned_config(tmp_path, num_rounds=3)
    path = tmp_path / "revoked"
    path.write_text("")
    grid = Wiretap(config, lambda place: {"revoked": str(path)} if place == 0 else {})
    revoke_in_round_2(grid, path)
    text = printed(config, grid)
    assert f"agent = 1: takes part, and its certificate or key is revoked ({path})" in text
    assert gone_in_rounds(tmp_path)[:2] == [[], [0]]
