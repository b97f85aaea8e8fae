"""How a report looks, light and dark: the style sheet, and the script that sorts tables.

The colours are told apart by colour-blind readers, after Okabe and Ito (2008); grey is first, for the model that the
others start from.
"""

LIGHT = ("#6b7280", "#0072b2", "#d55e00", "#009e73", "#b04a8f", "#8a6d00")
DARK = ("#a3aab5", "#56b4e9", "#f08c3a", "#2fc79a", "#e29ac6", "#e6c84c")
NUM_COLORS = len(LIGHT)


def _colors(palette: tuple[str, ...]) -> str:
    return " ".join(f"--s{number}: {color};" for number, color in enumerate(palette))


_CLASSES = "\n".join(f".c{number} {{ --c: var(--s{number}); }}" for number in range(NUM_COLORS))

_PALETTE = f"""
:root {{ color-scheme: light dark; {_colors(LIGHT)}
  --page: #ffffff; --ink: #1b1f24; --soft: #5b6470; --rule: #dfe3e8; --band: #f5f7f9; --warn: #fff6e0; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_colors(DARK)}
  --page: #14171b; --ink: #e7eaee; --soft: #a2abb6; --rule: #333a43; --band: #1c2127; --warn: #33290f; }} }}
{_CLASSES}
"""
CSS = (
    _PALETTE
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 28px; margin: 0 0 8px; }
h2 { font-size: 20px; margin: 44px 0 10px; padding-top: 14px; border-top: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 18px 0 6px; }
.lead { font-size: 18px; max-width: 62em; }
.note { color: var(--soft); max-width: 62em; }
.warning { background: var(--warn); padding: 10px 14px; border-radius: 6px; max-width: 62em; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0; }
.tiles div { background: var(--band); border-radius: 8px; padding: 10px 16px; flex: 1 1 130px; }
.tiles b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: 13px; }
.figures { display: flex; flex-wrap: wrap; gap: 28px; align-items: flex-start; }
.figures > * { max-width: 100%; flex: 0 1 540px; min-width: 0; }
figure, .scroll { margin: 0 0 20px; overflow: auto; }
figcaption { font-weight: 600; margin-bottom: 6px; }
svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .code { fill: var(--ink); font-family: ui-monospace, monospace; }
svg .grid { stroke: var(--rule); }
svg .zero { stroke: var(--soft); }
svg .band { fill: var(--band); }
svg .stem { stroke: var(--c); stroke-width: 1.2; opacity: 0.55; }
svg .tick { stroke: var(--c); stroke-width: 1.4; }
svg .hollow { fill: var(--page); stroke: var(--c); stroke-width: 1.3; }
svg .full, svg .dot { fill: var(--c); }
svg .dot { fill-opacity: 0.75; }
svg .line { fill: none; stroke: var(--c); stroke-width: 1.8; }
.legend span { margin-right: 18px; font-weight: 600; }
.legend i { display: inline-block; width: 12px; height: 12px; background: var(--c);
  border-radius: 6px; margin-right: 6px; }
.tall .scroll { max-height: 640px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 7px; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: var(--page); vertical-align: bottom;
  font-size: 13px; cursor: pointer; }
th.n, td.n { text-align: right; }
td { white-space: nowrap; }
td.text { white-space: pre-wrap; text-align: start; unicode-bidi: plaintext; overflow-wrap: anywhere;
  width: 100%; min-width: 16em; }
.sample th { color: var(--c, var(--soft)); width: 7em; }
tbody tr:hover { background: var(--band); }
"""
)

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((heading, column) => heading.addEventListener("click", () => {
    const down = heading.dataset.order !== "down";
    for (const other of heading.parentNode.cells) delete other.dataset.order;
    heading.dataset.order = down ? "down" : "up";
    const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent.replaceAll(",", "");
    const compare = (a, b) => isNaN(a) || isNaN(b) ? String(a).localeCompare(b) : b - a;
    body.append(...[...body.rows].sort((a, b) => (down ? 1 : -1) * compare(key(a), key(b))));
  }));
}
"""
