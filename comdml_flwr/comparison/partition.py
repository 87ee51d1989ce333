"""How many training samples of each label every agent has."""

from functools import partial
from typing import TYPE_CHECKING

from comdml_flwr.comparison.chart import Chart, Layout
from comdml_flwr.comparison.contents import AgentOfRun, Case
from comdml_flwr.comparison.heat import draw_heat, thin_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def chart(case: Case) -> Chart | None:
    """Return the figure of a case, of its first method's first seed; None if no agent tells its samples."""
    method = case.methods[0]
    run = method.runs[0]
    agents = [agent for agent in run.agents if agent.label_counts]
    if not agents:
        return None
    num_labels = max(len(agent.label_counts) for agent in agents)
    return Chart(
        name="partition",
        title="Who has which samples",
        about=(
            f"Training samples of each label on each agent with seed {run.seed}, as {method.label} had them."
            " An empty cell is none."
        ),
        source=f"runs/{case.name}/*/seed-{run.seed}/agents.json",
        columns=("agent", "num_samples", *(f"label_{label}" for label in range(num_labels))),
        rows=[(agent.agent, agent.num_samples, *agent.label_counts) for agent in agents],
        height_in=lambda layout: 0.95 + min(num_labels, 24) * (0.27 if layout.is_wide else 0.24),
        draw=partial(_draw, agents, num_labels),
    )


def _draw(agents: list[AgentOfRun], num_labels: int, figure: "Figure", layout: Layout) -> None:
    axes = figure.subplots()
    cells = {
        (label, column): float(count)
        for column, agent in enumerate(agents)
        for label, count in enumerate(agent.label_counts)
        if count
    }
    draw_heat(axes, cells, (num_labels, len(agents)), lambda count: f"{count:.0f}")
    axes.grid(visible=False)
    axes.set_xticks(*thin_ticks([str(agent.agent) for agent in agents], 25 if layout.is_wide else 10))
    axes.set_yticks(*thin_ticks([str(label) for label in range(num_labels)], 12))
    axes.set(xlabel="agent", ylabel="label")
