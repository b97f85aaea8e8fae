"""Elements of HTML and SVG as strings. What is not made by `tag` is escaped, so no text breaks a page."""

import html


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *content, **attributes) -> Markup:
    """One element; attributes lose a trailing underscore, other underscores become hyphens, None leaves one out.

    >>> tag("td", "a < b", tag("br"), class_="n", data_sort=3, title=None)
    '<td class="n" data-sort="3">a &lt; b<br></td>'
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(_text(value))}"')
    inner = join(content)
    closing = "" if not content and name in ("br", "meta") else f"</{name}>"
    return Markup(f"<{' '.join(words)}>{inner}{closing}")


def join(parts) -> Markup:
    """The parts after one another, each escaped unless it is markup.

    >>> join(["a & b", tag("b", "c")])
    'a &amp; b<b>c</b>'
    """
    escaped = (part if isinstance(part, Markup) else html.escape(_text(part), quote=False) for part in parts)
    return Markup("".join(escaped))


def _text(value) -> str:
    """Numbers with at most two decimals: positions in a drawing need no more."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
