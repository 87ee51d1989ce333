"""A comparison of a task whose metric is another one, and of which less is better."""

from dataclasses import replace

from comdml_flwr.comparison.contents import Case, Method, MethodNumbers, Round
from comdml_flwr.comparison.main_table import main_columns, main_csv, main_rows
from comdml_flwr.comparison.records import RunFiles
from comdml_flwr.comparison.statistics import _scores, _until
from comdml_flwr.comparison.verdict import verdict

TARGETS = (40.0, 30.0)


def values(by_seed):
    return {"mean": by_seed, "spread": None, "by_seed": {"1": by_seed}}


def numbers(label, perplexity, times):
    """Return a method's numbers; `times` are those to a perplexity of 40 and of 30."""
    reached = [{**values(time), "num_reached": int(time is not None)} for time in times]
    return MethodNumbers.model_validate(
        {
            "label": label,
            "settings": {"method": label},
            "metric": "perplexity",
            "better": "lower",
            "perplexity": values(perplexity),
            "virtual_time_s": values(100.0),
            "bytes_sent": values(1e6),
            "round_virtual_time_s": values(10.0),
            "time_to": dict(zip(map(str, TARGETS), reached, strict=True)),
        }
    )


SLOW, QUICK = numbers("allreduce", 35.0, (90.0, None)), numbers("comdml", 29.0, (50.0, 80.0))
CASE = Case(
    label="case",
    name="case",
    fleet="ten",
    num_agents=10,
    settings={},
    methods=tuple(Method(numbers=one, runs=()) for one in (SLOW, QUICK)),
)


def test_the_best_is_the_lowest():
    rows = main_rows(CASE, TARGETS)
    assert [row[1].text for row in rows] == ["35.000", "29.000"]
    assert main_columns(CASE.metric, TARGETS)[1] == "Final test perplexity"
    assert (
        main_csv(CASE, TARGETS)
        .decode()
        .splitlines()[0]
        .startswith("method,perplexity_mean,perplexity_spread")
    )


def test_the_harder_target_is_the_lower_one():
    said = verdict([SLOW, QUICK], TARGETS, "allreduce")
    assert said.startswith("comdml reached a perplexity of 30 in ")
    assert "comdml's perplexity was 29.000, allreduce's 35.000" in said
    assert verdict([numbers("comdml", 35.0, (50.0, None)), SLOW], TARGETS, "allreduce").startswith(
        "comdml reached a perplexity of 40"
    )


def test_a_target_is_reached_from_above():
    lines = [
        {"round": n, "metric": "perplexity", "better": "lower", "perplexity": x, "virtual_time_s": 2.0}
        for n, x in ((1, 50.0), (2, 39.0), (3, 31.0))
    ]
    run = RunFiles(case="c", label="a", seed=1, config={}, rounds=lines, summary={}, agents=[])
    assert [_until(run, target, "virtual_time_s") for target in TARGETS] == [4.0, None]
    nobodys = {**lines[1], "perplexity": None, "num_evaluated": 0}  # of a round without test data
    assert _scores(replace(run, rounds=[nobodys, *lines[:2], nobodys])) == [None, 50.0, 39.0, 39.0]
    assert Round.model_validate({**lines[0], "bytes_sent": 0}).score == 50.0
