"""Reader of gettext catalogs: messages and their translations from .po and .mo files.

The text of a message is its msgid, which is English. A catalog's language is in its path, either
`<folder>/<code>/LC_MESSAGES/<domain>.po` or `<folder>/<code>.po`; where a catalog is there as .po and as .mo, the .po
is read. Fuzzy, obsolete and missing translations are left out, and counted; so are messages with a broken string.

Plurals: a translation belongs to an English form if it is the form for the same numbers. The singular is the form for
one, unless a language has the same form for one and two; the plural is taken where a language has one form for all
numbers above one and below a thousand. So German gives both, Japanese the plural and Russian the singular.
"""

import collections
import functools
import gettext
import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping

import polib
import pyarrow as pa

from emma_jax import languages
from emma_jax.corpus import codes
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers.catalog import open_catalog
from emma_jax.corpus.statistics import KEPT, READ, Report

SUFFIXES = (".po", ".mo")
DEFAULT_PLURAL_RULE = "n != 1"  # of catalogs that do not say: the rule of English


def parts(source: source_lib.Source) -> list[source_lib.Part]:
    """A part for each set of catalogs that translate the same messages."""
    chosen = {}
    for file in source_lib.files(source, SUFFIXES):
        stem, suffix = file.name.rsplit(".", 1)
        if suffix == "po" or stem not in chosen:
            chosen[stem] = file
    domains = collections.defaultdict(list)
    for file in chosen.values():
        folder, code, domain = _locate(file)
        domains[f"{folder}:{domain}"].append((len(code), code, file))
    return [
        source_lib.Part(
            source=source,
            name=name,
            # The shorter code first: where a message has several translations, that of `pt` goes before `pt_BR`.
            files=tuple(file for _, _, file in sorted(found, key=lambda item: item[:2])),
            languages=frozenset(_language(code) for _, code, _ in found) - {""} | {languages.ENGLISH},
        )
        for name, found in sorted(domains.items())
    ]


def read(part: source_lib.Part, report: Report) -> Iterator[pa.RecordBatch]:
    """A batch of SENTENCES for each catalog of the part, and a last one of all messages in English."""
    english: dict[str, str] = {}
    yield from source_lib.each_file(part, report, functools.partial(_read_catalog, part, report, english))
    report.count(READ, KEPT, len(english))
    yield from _batches("en", english)


def _read_catalog(
    part: source_lib.Part, report: Report, english: dict[str, str], file: source_lib.File
) -> Iterator[pa.RecordBatch]:
    """The translations of a catalog; its messages are added to `english`."""
    catalog, num_broken = open_catalog(file)
    report.count(READ, "bad_quoting", num_broken)
    rule = re.search(r"plural\s*=([^;]+)", catalog.metadata.get("Plural-Forms", ""))
    translations = {}
    for entry in catalog:
        messages, fault = _messages(entry), _fault(entry)
        if fault != "obsolete":
            english.update(messages)
        if fault:
            report.count(READ, fault, len(messages))
            continue
        forms = _forms(entry, rule[1] if rule else DEFAULT_PLURAL_RULE)
        translations.update((key, form) for key, form in zip(messages, forms, strict=True) if form)
        report.count(READ, "no_plural_form", forms.count(""))
    code = _locate(file)[1]
    if _language(code) == languages.ENGLISH:
        report.refuse(code, part.source.name, "the same language as the messages", len(translations))
        report.count(READ, "refused_code", len(translations))
        return
    report.count(READ, KEPT, len(translations))
    yield from _batches(code, translations)


def _fault(entry: polib._BaseEntry) -> str:
    """Why the translation of an entry is not taken, or ""."""
    if isinstance(entry, polib.MOEntry):
        return ""  # compiled catalogs hold good translations only
    if entry.obsolete or entry.fuzzy:
        return "obsolete" if entry.obsolete else "fuzzy"
    return "" if entry.translated() else "untranslated"


def _messages(entry: polib._BaseEntry) -> dict[str, str]:
    """Message id -> English text, for the singular and, if there is one, the plural."""
    key = f"{entry.msgctxt or ''}\x04{entry.msgid}"  # as .mo files join them
    return {key: entry.msgid} | ({f"{key}\0": entry.msgid_plural} if entry.msgid_plural else {})


def _forms(entry: polib._BaseEntry, rule: str) -> list[str]:
    """The translation of each of `_messages(entry)`, "" where the language has no form for the same numbers."""
    if not entry.msgid_plural:
        return [entry.msgstr]
    return [entry.msgstr_plural.get(form, "") for form in plural_forms(rule)]


@functools.cache
def plural_forms(rule: str) -> tuple[int | None, int | None]:
    """Which form of a language is English singular and which is English plural; None where none is.

    `rule` is the expression of `Plural-Forms`, which gives the form for the number n.

    >>> plural_forms("n != 1"), plural_forms("0"), plural_forms("n == 1 ? 0 : n % 1000000 == 0 ? 1 : 2")
    ((0, 1), (None, 0), (0, 2))
    >>> plural_forms("n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 ? 1 : 2")
    (0, None)
    """
    try:
        form = gettext.c2py(rule.strip())
        one, many = form(1), {form(n) for n in range(2, 1000)}
    except (ValueError, ZeroDivisionError):
        return None, None
    return None if form(2) == one else one, many.pop() if len(many) == 1 else None


def _locate(file: source_lib.File) -> tuple[str, str, str]:
    """Folder, code and domain of a catalog.

    >>> _locate(source_lib.File("admin/locale/pt_BR/LC_MESSAGES/django.po", ""))
    ('admin/locale', 'pt_BR', 'django')
    >>> _locate(source_lib.File("po/de.po", ""))
    ('po', 'de', '')
    >>> _locate(source_lib.File("LC_MESSAGES/django.po", "po/de/LC_MESSAGES/django.po"))
    Traceback (most recent call last):
    ValueError: po/de/LC_MESSAGES/django.po has no folder of a language above it; name the folder above as the source
    """
    path = pathlib.PurePosixPath(file.name)
    if path.parent.name == "LC_MESSAGES":
        if len(path.parts) < 3:
            raise ValueError(f"{file.path} has no folder of a language above it; name the folder above as the source")
        return str(path.parents[2]), path.parents[1].name, path.stem
    return str(path.parent), path.stem, ""


def _language(code: str) -> str:
    try:
        return codes.normalise(code)
    except codes.RefusedCode:
        return ""


def _batches(code: str, sentences: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    items = iter(sentences.items())
    while found := list(itertools.islice(items, source_lib.MAX_BATCH_ROWS)):
        ids, texts = zip(*found, strict=True)
        yield pa.record_batch([ids, [code] * len(ids), texts], schema=source_lib.SENTENCES)
