"""A node's key is used once in each exchange, whoever asks, however many at a time."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from flwr.app import Context, RecordDict

from comdml_flwr.carriers.sealed.key_cards import KeyCard
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp.keys import introduce, sealer_of


def context_of(**node_config):
    return Context(run_id=7, node_id=3, node_config=node_config, state=RecordDict(), run_config={})


def introduced(folder):
    return introduce(folder, 1, "token", context_of())


def use(folder, card, exchange):
    return sealer_of(folder, 1, exchange, "token", [card], context_of(), has_server=False)


def test_a_letter_to_oneself_is_for_the_exchange_after(tmp_path):
    card = introduced(tmp_path)
    packed = use(tmp_path, card, 1).seal(1, b"for later")
    assert use(tmp_path, card, 4).unseal(packed) == (1, b"for later")


@pytest.mark.parametrize("again", [3, 2, 1, 0, -1])
def test_an_exchange_that_is_over_does_not_come_again(again, tmp_path):
    card = introduced(tmp_path)
    use(tmp_path, card, 3)
    with pytest.raises(RunError, match=f"took part in exchange 3 and seals no mail of exchange {again}"):
        use(tmp_path, card, again)
    use(tmp_path, card, 4)


def test_of_many_who_ask_at_once_one_gets_the_key(tmp_path):
    card, together = introduced(tmp_path), Barrier(8)

    def ask(exchange):
        together.wait()
        try:
            use(tmp_path, card, exchange)
        except RunError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        for exchange in range(1, 30):
            assert sum(pool.map(ask, [exchange] * 8)) == 1


def test_every_introduction_makes_a_new_key(tmp_path):
    """So what was sealed before it cannot be asked for again under the same key."""
    cards = [introduced(tmp_path) for _ in range(2)]
    one, other = (KeyCard.unpack(card).public_key for card in cards)
    assert one != other
    with pytest.raises(RunError, match="holds another key for agent 1"):
        use(tmp_path, cards[0], 1)


def test_a_key_that_is_not_there_is_told(tmp_path):
    card = introduced(tmp_path)
    with pytest.raises(RunError, match="agent 1 has lost its key for this run"):
        use(tmp_path / "elsewhere", card, 1)
