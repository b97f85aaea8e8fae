"""Parts that several pages have: bars, long tables that sort and filter, figures, numbers as people read them.

Owns how these look; what they show is said by the pages.
"""

from collections.abc import Iterable, Sequence

from emma_jax.reporting import style
from emma_jax.reporting.markup import Markup, tag

COUNT, BYTES = ("", "k", "M", "B", "T"), (" B", " kB", " MB", " GB", " TB")
BAR = 60  # percent of its column that the longest bar takes; the rest is for its number
FILTERED = 10  # rows beyond which a table can be filtered

CSS = """
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(135px, 1fr)); }
.bars { width: 100%; }
.bars th { white-space: nowrap; font-weight: 600; width: 1%; }
.bars thead th { cursor: default; }
.bars small { font-weight: 400; color: var(--soft); margin-left: 8px; }
.bars td { width: 33%; min-width: 110px; }
.bars i { display: inline-block; height: 11px; min-width: 1px; border-radius: 2px; background: var(--c);
  margin-right: 6px; }
.filter { font: inherit; padding: 5px 9px; width: 24em; max-width: 100%; margin: 0 10px 8px 0; color: var(--ink);
  background: var(--band); border: 1px solid var(--rule); border-radius: 6px; }
@media (max-width: 700px) {
  .bars small { display: block; margin: 0; }
  .bars th { white-space: normal; }
  .bars td { min-width: 84px; }
}
"""

# Filters the rows of a table by words that must all be in a row.
SCRIPT = """
for (const table of document.querySelectorAll("table.filtered")) {
  const rows = [...table.tBodies[0].rows], texts = rows.map(row => row.textContent.toLowerCase());
  const box = document.createElement("input"), shown = document.createElement("span");
  box.type = "search"; box.className = "filter"; box.placeholder = box.ariaLabel = table.dataset.filter;
  shown.className = "note"; shown.setAttribute("role", "status");
  table.parentNode.before(box, shown);
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(" ");
    let count = 0;
    rows.forEach((row, number) => {
      row.hidden = !words.every(word => texts[number].includes(word));
      count += !row.hidden;
    });
    shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  });
}
"""


def html(title: str, body: Iterable[Markup], css: str = "") -> str:
    """A whole page: one file, which loads nothing from anywhere."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(style.CSS + CSS + css)),
    ]
    script = tag("script", Markup(style.SCRIPT + SCRIPT))
    whole = tag("html", tag("head", *head), tag("body", tag("main", *body), script), lang="en")
    return f"<!doctype html>\n{whole}\n"


def tiles(values: Iterable[tuple[str, str]]) -> Markup:
    """The figures that matter most, each with what it is."""
    return tag("div", *(tag("div", tag("b", value), tag("span", label)) for value, label in values), class_="tiles")


def bars(head: Sequence[str], rows: Iterable[tuple[str, str, Sequence[tuple[int, int, str]]]]) -> Markup:
    """A table of bars: each row has a label, a small one, and (value, longest value, text) for each column."""
    body = []
    for label, small, cells in rows:
        drawn = []
        for column, (value, longest, text) in enumerate(cells, 1):
            width = f"width:{BAR * value / max(longest, 1):.2f}%"
            bar = tag("i", class_=f"c{column}", style=width) if value else Markup()
            drawn.append(tag("td", bar, text))
        body.append(tag("tr", tag("th", label, *([tag("small", small)] if small else [])), *drawn))
    names = tag("thead", tag("tr", *(tag("th", name) for name in head)))
    return tag("div", tag("table", names, tag("tbody", *body), class_="bars"), class_="scroll")


def counted(value: int, longest: int) -> tuple[int, int, str]:
    """The cell of a bar that is labelled with its value."""
    return value, longest, f"{value:,}"


def figure(title: str, inner: Markup) -> Markup:
    """A drawing and its caption."""
    return tag("figure", tag("figcaption", title), inner)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "", words: str | None = None) -> Markup:
    """A table that can be sorted, and filtered where `words` say by what; cells that are markup are whole cells."""
    if not rows:
        return Markup()
    body = (tag("tr", *(cell if isinstance(cell, Markup) else tag("td", cell) for cell in row)) for row in rows)
    filtered = "filtered" if words and len(rows) > FILTERED else ""
    inner = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", name) for name in head))),
        tag("tbody", *body),
        class_=" ".join(filter(None, ["sortable", kind, filtered])),
        data_filter=words if filtered else None,
    )
    return tag("div", tag("div", inner, class_="scroll"), class_="tall")


def short(number: float, units: Sequence[str] = COUNT) -> str:
    """A number in three digits, with a unit.

    >>> short(15), short(426_900_000_000), short(999_950), short(1_234, BYTES)
    ('15', '427B', '1M', '1.23 kB')
    """
    place = 0
    while number >= 999.5 and place + 1 < len(units):
        number, place = number / 1000, place + 1
    return f"{number:.3g}{units[place]}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(15.13), duration(900), duration(1_316_699)
    ('15 s', '15 min', '366 h')
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def share(value: float) -> str:
    """A share in percent, with more digits where it is small.

    >>> share(1.0), share(0.0276), share(0.0000123), share(1e-9)
    ('100%', '2.8%', '0.0012%', '<0.0001%')
    """
    percent = 100 * value
    if 0 < percent < 0.0001:
        return "<0.0001%"
    return f"{percent:.2g}%" if percent < 10 else f"{percent:.0f}%"
