"""Calibrate the cost model by DTFL's published cases: ratios of each tier to FedAvg, predicted and published.

    python -m experiments.dtfl_calibration [CONFIG] [--picture dtfl.svg] [--json] [--smoke]

Nothing is trained and nothing is measured. Absolute seconds depend on its authors' machine, ratios to FedAvg
do not. The model is derived in experiments/dtfl_model.py; the published numbers and the hypotheses are in
experiments/configs/dtfl.toml. What is printed:

    1. each tier's ratios as counted (FLOPs, true units, equal rounds), next to the published ones
    2. the same under the hypothesis that fits best
    3. all hypotheses: their worst and typical deviations, and what they say of the worst entry of 1
    4. what the published columns imply by themselves, without any hypothesis about speeds

Typical deviation: exp(root mean square of ln(predicted / published)) - 1, over the entries of a case. "Fits
best" is the smallest typical deviation in the last case, to which nothing is fitted. In 4, two things come
from the published columns alone, because bytes are known exactly:

    rounds           seconds of communication * bytes/s of the link / bytes of a round
    client's layers  seconds of compute over those of communication, times bytes: the rounds cancel; relative
                     to tier 6

FedAvg's own row compares communication over compute. docs/results/dtfl_calibration.md says what comes out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comdml_flwr.comparison.pictures import check_picture
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.planning.types import BYTES_PER_S_PER_MBPS
from experiments.command import CONFIGS, AsJson, Picture, Smoke, print_table, run, save_picture
from experiments.dtfl_model import Case, Times
from experiments.dtfl_study import (
    COLUMNS,
    Entry,
    Outcome,
    Study,
    best_outcome,
    entries,
    implied_rounds,
    implied_shares,
    read_study,
    try_out,
    typical,
    worst,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MIB_PER_S = 2.0**20  # what its code takes 1 Mbps for
_COMPUTE, _COMMUNICATION, _ANY_COLOUR = "#4477aa", "#ee7733", "#555555"
_FILLS: tuple[dict[str, Any], ...] = ({}, {"alpha": 0.35, "hatch": "//"}, {"alpha": 0.65})
_LEGEND_PT = 9


def main(
    config: Annotated[
        Path, typer.Argument(help="TOML with the published cases and the hypotheses.")
    ] = CONFIGS / "dtfl.toml",
    picture: Picture = None,
    smoke: Smoke = False,
    as_json: AsJson = False,
) -> None:
    """Compare predicted ratios to FedAvg with DTFL's published ones, and look for what explains them.

    Example: python -m experiments.dtfl_calibration --picture dtfl.svg

    DTFL published, for ten clients that are all in one tier, seconds of compute, communication and both
    until 80 % on CIFAR-10, and the same for FedAvg. The first table predicts the ratios from counted FLOPs
    and bytes; the second does so under the hypothesis of the file that fits best; the third shows all
    hypotheses; the last shows what the published columns imply by themselves. Nothing is trained.
    """
    if picture is not None:
        check_picture(picture)
    study = read_study(config, smoke=smoke)
    outcomes = [try_out(study, hypothesis) for hypothesis in study.hypotheses]
    best = best_outcome(study, outcomes)
    if picture is not None:
        shown = tuple(dict.fromkeys((outcomes[0], best)))
        drawing = partial(draw, cases=study.cases, outcomes=shown)
        save_picture(drawing, (5.0 * len(study.cases), 4.2), picture)
    if as_json:
        typer.echo(to_json(as_json_object(study, outcomes, best)))
        return
    _print_ratios(study, outcomes[0])
    if best is not outcomes[0]:
        _print_ratios(study, best)
    _print_hypotheses(study, outcomes, best)
    _print_implied(study)


def as_json_object(study: Study, outcomes: Sequence[Outcome], best: Outcome) -> dict[str, object]:
    """Return everything that is printed, for scripts; tiers and cases count from 1."""
    return {
        "best": best.hypothesis.label,
        "outcomes": [
            {
                "hypothesis": asdict(outcome.hypothesis),
                "rounds": outcome.rounds,
                "entries": [
                    {
                        "case": study.cases[entry.case].label,
                        "tier": entry.tier + 1,
                        "column": entry.column,
                        "published": entry.published,
                        "predicted": entry.predicted,
                        "deviation": entry.deviation,
                    }
                    for entry in entries(study, outcome)
                ],
                "fedavg_communication_over_compute": [
                    prediction.fedavg_round.communication / prediction.fedavg_round.compute
                    for prediction in outcome.predictions
                ],
            }
            for outcome in outcomes
        ],
        "implied": [{"case": case.label, **_implied(study, case)} for case in study.cases],
    }


def _print_ratios(study: Study, outcome: Outcome) -> None:
    heads = ["case, tier"]
    for column in COLUMNS:
        heads += [f"{column}: published", "predicted", "deviation"]
    title = f"Ratios to FedAvg, {outcome.hypothesis.label}"
    if outcome.hypothesis.rounds == "fitted":
        title += f" (fitted to compute and communication of {study.cases[0].label})"
    print_table(heads, _ratio_rows(study, outcome), title)


def _ratio_rows(study: Study, outcome: Outcome) -> Iterable[tuple[str, ...]]:
    found = {(entry.case, entry.tier, entry.column): entry for entry in entries(study, outcome)}
    for number, case in enumerate(study.cases):
        for tier in range(len(case.tiers)):
            row = [found[number, tier, column] for column in COLUMNS]
            cells = (
                (f"{entry.published:.3g}", f"{entry.predicted:.3g}", _percent(entry.deviation))
                for entry in row
            )
            yield (f"{case.label}, tier {tier + 1}", *(cell for three in cells for cell in three))
        own = _communication_over_compute(outcome.predictions[number].fedavg_round)
        published = _communication_over_compute(case.fedavg)
        compared = (f"{published:.2g}", f"{own:.2g}", _percent(own / published - 1))
        yield (f"{case.label}, FedAvg, of its compute", *("1", "1", ""), *compared, *("", "", ""))


def _communication_over_compute(times: Times) -> float:
    return times.communication / times.compute


def _percent(value: float) -> str:
    return f"{100 * value:+.0f} %"


def _print_hypotheses(study: Study, outcomes: Sequence[Outcome], best: Outcome) -> None:
    one = worst(entries(study, outcomes[0]))
    where = f"{study.cases[one.case].label}, tier {one.tier + 1}, {one.column}"
    heads = ["hypothesis", *(f"{column}: worst" for column in COLUMNS)]
    heads += [*(f"{case.label}: typical" for case in study.cases), where]
    rows = [[*_hypothesis_cells(study, o), f"{_same(one, study, o):.3g}"] for o in outcomes]
    rows[outcomes.index(best)][0] += " *"
    rows.append(["published", *[""] * (len(heads) - 2), f"{one.published:.3g}"])
    print_table(heads, rows, "Hypotheses (* fits best); last column: the worst entry as counted")


def _hypothesis_cells(study: Study, outcome: Outcome) -> list[str]:
    all_ = entries(study, outcome)
    cells = [_percent(worst([e for e in all_ if e.column == column]).deviation) for column in COLUMNS]
    for case in range(len(study.cases)):
        cells.append(f"{100 * typical([e for e in all_ if e.case == case]):.0f} %")
    return [outcome.hypothesis.label, *cells]


def _same(entry: Entry, study: Study, outcome: Outcome) -> float:
    place = (entry.case, entry.tier, entry.column)
    (found,) = (e for e in entries(study, outcome) if (e.case, e.tier, e.column) == place)
    return found.predicted


def _implied(study: Study, case: Case) -> dict[str, tuple[float, ...]]:
    once = replace(study.counted, model_trips=1)
    return {
        "rounds_in_true_units": implied_rounds(case, once, BYTES_PER_S_PER_MBPS),
        "rounds_if_mbps_are_mib_per_s": implied_rounds(case, once, _MIB_PER_S),
        "client_layers": implied_shares(case, once),
    }


def _print_implied(study: Study) -> None:
    heads, columns = ["tier"], []
    for case in study.cases:
        implied = _implied(study, case)
        heads += [f"{case.label}: rounds, true units", "rounds, Mbps as MiB/s", "client's layers"]
        columns += [[f"{rounds:.0f}" for rounds in implied["rounds_in_true_units"]]]
        columns += [[f"{rounds:.0f}" for rounds in implied["rounds_if_mbps_are_mib_per_s"]]]
        columns += [[*(f"{share:.2f}" for share in implied["client_layers"]), ""]]
    for name, shares in study.shares.items():
        heads.append(name)
        columns.append([*(f"{share / shares[-1]:.2f}" for share in shares), ""])
    tiers = [*(str(tier) for tier in range(1, len(columns[0]))), "FedAvg"]
    title = "What the published columns imply; client's layers and the last columns are relative to tier 6"
    print_table(heads, zip(tiers, *columns, strict=True), title)


def draw(figure: "Figure", *, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> None:
    """Draw compute and communication over FedAvg's total: published, and by two outcomes."""
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for number, (axis, case) in enumerate(zip(panels, cases, strict=True)):
        heights = [[(t.compute, t.communication, case.fedavg.total) for t in case.tiers]]
        for outcome in outcomes:
            own = outcome.predictions[number]
            alone = own.fedavg_round
            heights.append(
                [
                    (r.compute * alone.compute, r.communication * alone.communication, alone.total)
                    for r in own.ratios
                ]
            )
        for place, tiers in enumerate(heights):
            x = [tier + 0.27 * (place - 1) for tier in range(1, len(tiers) + 1)]
            compute = [c / total for c, _, total in tiers]
            communication = [s / total for _, s, total in tiers]
            axis.bar(x, compute, width=0.24, color=_COMPUTE, **_FILLS[place])
            axis.bar(x, communication, width=0.24, bottom=compute, color=_COMMUNICATION, **_FILLS[place])
        axis.axhline(1.0, color="#333333", linewidth=0.8, linestyle=":")
        axis.set(title=case.label, xlabel="all clients in tier")
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("time to accuracy, FedAvg = 1")
    _draw_legend(figure, [outcome.hypothesis.label for outcome in outcomes])


def _draw_legend(figure: "Figure", hypotheses: Sequence[str]) -> None:
    """Explain first the fills, a line each, then the two colours."""
    from matplotlib.patches import Patch

    fills = ["published", *(f"predicted: {label}" for label in hypotheses)]
    handles = [Patch(color=color) for color in (_COMPUTE, _COMMUNICATION)]
    figure.legend(
        handles, ["compute", "communication"], loc="outside lower right", frameon=False, fontsize=_LEGEND_PT
    )
    handles = [Patch(facecolor=_ANY_COLOUR, **fill) for fill in _FILLS[: len(fills)]]
    figure.legend(handles, fills, loc="outside lower left", frameon=False, fontsize=_LEGEND_PT)


if __name__ == "__main__":
    run(main)
