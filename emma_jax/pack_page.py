"""The picture of a plan, `plan-<run>.html`: one file to look at, which loads nothing from anywhere.

Owns text, order and figures; the numbers are of `pack_budget`.
"""

from emma_jax.pack_budget import Budget, Component, Task
from emma_jax.pack_summary import notes
from emma_jax.reporting import elements, style
from emma_jax.reporting.elements import BYTES, duration, short
from emma_jax.reporting.markup import Markup, join, tag
from emma_jax.reporting.plots import Point, scatter_plot

CSS = """
.tasks td:nth-child(n+4), .tasks th:nth-child(n+4) { text-align: right; }
.tasks td:first-child { font-family: ui-monospace, monospace; font-size: 12px; }
"""


def html(budget: Budget) -> str:
    """The whole page; the same for the same plan."""
    sections = {
        "Components": _components(budget),
        "Epochs by size": _epochs(budget),
        "Resource classes": _classes(budget),
        "What this rests on": tag("ul", *(tag("li", note) for note in notes(budget))),
        "Every task": _tasks(budget),
    }
    body = [tag("h1", f"Plan of {budget.run}"), _tiles(budget)]
    body += [tag("section", tag("h2", title), inner) for title, inner in sections.items() if inner]
    return elements.html(f"Plan of {budget.run}", body, CSS)


def _tiles(budget: Budget) -> Markup:
    run = [(short(budget.run_tokens), "tokens of the run"), (f"{budget.steps:,}", "steps")] if budget.steps else []
    packed = [
        (short(budget.tokens), "tokens in rows"),
        (f"{len(budget.tasks):,}", "tasks"),
        (short(sum(map(budget.rows, budget.components))), f"rows of {budget.row_length:,}"),
        (short(budget.store_bytes, BYTES), "on disk"),
        (short(budget.text_bytes, BYTES), "of text"),
        (duration(budget.core_seconds), "of a core"),
    ]
    return elements.tiles(run + packed)


def _components(budget: Budget) -> Markup:
    most = max(max(component.tokens, component.run_tokens) for component in budget.components)
    rows = [
        (component.name, f"{component.share:.1%}" if component.share else "", [
            (component.tokens, most, short(component.tokens)),
            (component.run_tokens, most, short(component.run_tokens)),
        ])
        for component in budget.components
    ]  # fmt: skip
    return elements.bars(["component, and its share of the run", "tokens in rows", "tokens that the run reads"], rows)


def _epochs(budget: Budget) -> Markup:
    known = [component for component in budget.components if not component.assumed]
    points = {
        component.name: [Point(task.size, task.epochs, task.name) for task in component.tasks] for component in known
    }
    if not points:
        return Markup()
    colors = {component.name: 1 + at % (style.NUM_COLORS - 1) for at, component in enumerate(known)}
    legend = tag(
        "p", *(tag("span", tag("i", class_=f"c{color}"), name) for name, color in colors.items()), class_="legend"
    )
    labels = ("tokens in one epoch of a task", "epochs in the rows")
    drawing = scatter_plot(points, colors, labels, log_x=True, log_y=True)
    return join([legend, elements.figure("A dot is a task", drawing)])


def _classes(budget: Budget) -> Markup:
    figures = [_class_bars(component) for component in budget.components if len(component.by_class()) > 1]
    return tag("div", *figures, class_="figures") if figures else Markup()


def _class_bars(component: Component) -> Markup:
    classes = component.by_class()
    totals = {
        label: [sum(getattr(task, key) for task in tasks) for key in ("size", "tokens")]
        for label, tasks in classes.items()
    }
    size_most, most = (max(values) for values in zip(*totals.values(), strict=True))
    epochs = {label: tokens / size for label, (size, tokens) in totals.items()}
    rows = [
        (label or "no class", f"{len(classes[label]):,} tasks", [
            (size, size_most, short(size)),
            (tokens, most, short(tokens)),
            (epochs[label], max(epochs.values()), f"{epochs[label]:.3g}"),
        ])
        for label, (size, tokens) in totals.items()
    ]  # fmt: skip
    return elements.figure(component.name, elements.bars(["class", "one epoch", "tokens in rows", "epochs"], rows))


def _tasks(budget: Budget) -> Markup:
    ordered = sorted(budget.tasks, key=lambda of: (-of[1].tokens, of[1].name))
    head = ["task", "component", "class", "one epoch", "in rows", "epochs", "read by the run", "epochs of the run"]
    return elements.table(head, [_cells(*of) for of in ordered], "tasks", "Filter by code, component or class")


def _cells(component: Component, task: Task) -> list[str | Markup]:
    numbers = [short(task.size), short(task.tokens), f"{task.epochs:.3g}", short(task.run_tokens)]
    numbers.append(f"{task.run_epochs:.3g}")
    values = (task.size, task.tokens, task.epochs, task.run_tokens, task.run_epochs)
    unknown = {2, 4} if component.assumed else ()
    cells = [
        tag("td", "?" if at in unknown else text, data_value=repr(value))
        for at, (text, value) in enumerate(zip(numbers, values, strict=True))
    ]
    return [task.name, component.name, task.resource_class, *cells]
