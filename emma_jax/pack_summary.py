"""A plan in words and columns, as it is printed.

Owns text and order; the numbers are of `pack_budget`.
"""

import statistics
from collections.abc import Sequence

from emma_jax.pack_budget import Budget, Component
from emma_jax.reporting.elements import BYTES, duration, short


def summary(budget: Budget) -> str:
    """What a person wants to know of a budget, as lines of text."""
    estimated = ", sizes estimated from its numbers" if budget.is_estimated else ""
    lines = [f"plan of {budget.run}, from the corpus in {budget.corpus!r}{estimated}:"]
    if budget.run_tokens:
        lines.append(f"the run reads {short(budget.run_tokens)} tokens in {budget.steps:,} steps")
    head = [
        "component",
        "share",
        "in rows",
        "rows",
        "on disk",
        "read",
        "tasks",
        "epochs of the smallest task",
        "of the median",
        "of the largest",
    ]
    table = [head, *(_component_cells(budget, component) for component in budget.components)]
    lines += ["", *_aligned(table), ""]
    table = [["component", "class", "tasks", "one epoch", "in rows", "epochs", "epochs of the run"]]
    for component in budget.components:
        for label, tasks in component.by_class().items():
            size, tokens, run = (sum(getattr(task, key) for task in tasks) for key in ("size", "tokens", "run_tokens"))
            epochs = ["?", "?"] if component.assumed else [f"{tokens / size:.3g}", f"{run / size:.3g}"]
            table.append([component.name, label or "-", f"{len(tasks):,}", short(size), short(tokens), *epochs])
    lines += [*_aligned(table), ""]
    lines += [f"  {note}" for note in notes(budget)]
    return "\n".join(lines)


def notes(budget: Budget) -> list[str]:
    """What the figures rest on, and what in them is not as it was wanted; a sentence each."""
    text, seconds = short(budget.text_bytes, BYTES), budget.core_seconds
    found = [
        f"Rows take {short(budget.store_bytes, BYTES)} on disk, and while they are made, temporary files up to "
        f"{short(budget.exchange_bytes, BYTES)} more.",
        f"{text} of text are tokenised and packed in about {duration(max(seconds, 1))} of one core, besides some 0.2 s "
        f"for each task; config.pack.num_workers is {budget.num_workers}, and workers share this.",
    ]
    if budget.validation_slices:
        found.append(
            f"Besides, up to {budget.validation_documents} documents of each of {budget.validation_slices:,} languages "
            "and directions are kept for validation."
        )
    for component in budget.components:
        times = component.run_tokens / component.tokens
        if component.tokens < 0.999 * component.wanted:
            found.append(
                f"{component.name} has {short(component.tokens)} tokens, not {short(component.wanted)}: its tasks have "
                "no more in max_epochs."
            )
        if times > 1.01:
            found.append(f"The run reads the rows of {component.name} {times:.2f} times; the same rows, in new order.")
    if budget.is_estimated:
        found.append(
            "Sizes are published rows and whitespace tokens, by bytes per word and Llama 3's tokens per byte of each "
            "language (text_rates.csv); on other text those are off by up to a fifth."
        )
    if assumed := [component.name for component in budget.components if component.assumed]:
        found.append(f"How large {', '.join(assumed)} are is not published; their epochs are not known.")
    return found


def _component_cells(budget: Budget, component: Component) -> list[str]:
    ordered = sorted(component.tasks, key=lambda task: task.size)
    epochs = ["?"] * 3
    if not component.assumed:
        middle = statistics.median(task.epochs for task in ordered)
        epochs = [f"{value:.3g}" for value in (ordered[0].epochs, middle, ordered[-1].epochs)]
    return [
        component.name,
        f"{component.share:.1%}" if component.share else "-",
        short(component.tokens),
        f"{budget.rows(component):,}",
        short(component.store_bytes, BYTES),
        f"{component.run_tokens / component.tokens:.2f}x" if component.run_tokens else "-",
        f"{len(component.tasks):,}",
        *epochs,
    ]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(cells)).rstrip()
        for cells in ([*zip(row, widths, strict=True)] for row in table)
    ]
