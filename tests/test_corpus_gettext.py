"""Catalogs are read as gettext means them; of one that is cut nothing is read; a broken string costs its message."""

import collections
import pathlib

import numpy as np
import polib
import pytest

from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import catalog, gettext
from emma_jax.corpus.statistics import Report

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "gettext"
GERMAN = FIXTURES / "shop/locale/de/LC_MESSAGES/shop.po"
HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={charset}\\n"\n\n'


def make_source(path):
    return source_lib.Source(name="shop", reader="gettext", path=str(path), licence="CC0")


def read_all(path):
    """Language as it is spelled -> message id -> text, and the report, of all parts of a folder."""
    report, result = Report(), collections.defaultdict(dict)
    for part in gettext.parts(make_source(path)):
        for batch in gettext.read(part, report):
            for row in batch.to_pylist():
                result[row["lang"]].setdefault(row["message_id"], row["text"])
    return result, report


def put(folder, code, text, encoding="utf-8", suffix="po"):
    path = folder / code / "LC_MESSAGES" / f"shop.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def test_messages_and_what_is_left_out():
    sentences, report = read_all(FIXTURES / "shop")
    german = sentences["de"]
    assert german["\x04Save"] == "Speichern"
    assert german["\x04Close the window"] == "Schließe das Fenster"
    assert german["verb\x04Close the window"] == "Fenster schließen"
    assert "\x04Blue sky" not in german and "\x04Not yet" not in german and "\x04Old word" not in german
    english = sentences["en"]
    assert english["\x04Blue sky"] == "Blue sky" and "\x04Old word" not in english
    counts = report.counts["read"]
    assert (counts["fuzzy"], counts["untranslated"], counts["obsolete"]) == (1, 1, 1)
    assert counts["kept"] == sum(map(len, sentences.values()))
    assert report.refused_codes == {("en_GB", "shop", "the same language as the messages"): 14}
    assert counts["refused_code"] == 14
    assert {"pt", "pt_BR", "sr@latin", "qq"} < set(sentences)  # what qq is, is not decided here


def test_plurals_are_paired_where_the_forms_are_for_the_same_numbers():
    sentences, report = read_all(FIXTURES / "shop")
    singular, plural = "\x04One day", "\x04One day\0"
    assert (sentences["en"][singular], sentences["en"][plural]) == ("One day", "%d days")
    assert (sentences["de"][singular], sentences["de"][plural]) == ("Ein Tag", "%d Tage")
    assert (sentences["fr"][singular], sentences["fr"][plural]) == ("Un jour", "%d jours")
    assert (sentences["ja"].get(singular), sentences["ja"][plural]) == (None, "%d 日")
    assert (sentences["ru"][singular], sentences["ru"].get(plural)) == ("Один день", None)
    assert report.counts["read"]["no_plural_form"] == 2


@pytest.mark.parametrize("rule", ["n +* 2", "", "n / 0", "(" * 300 + "n" + ")" * 300])
def test_malformed_plural_rule_gives_no_plurals(rule):
    assert gettext.plural_forms(rule) == (None, None)


def test_the_catalog_without_a_region_comes_first():
    (part,) = gettext.parts(make_source(FIXTURES / "shop"))
    codes = [pathlib.PurePosixPath(file.name).parts[1] for file in part.files]
    assert codes.index("pt") < codes.index("pt_BR")
    assert part.languages >= {"por_Latn", "srp_Cyrl", "srp_Latn", "eng_Latn"} and "" not in part.languages


def test_po_goes_before_mo_and_mo_alone_is_read(tmp_path):
    compiled = polib.pofile(str(GERMAN))
    for code in ("de", "nl"):
        (tmp_path / code / "LC_MESSAGES").mkdir(parents=True)
        compiled.save_as_mofile(str(tmp_path / code / "LC_MESSAGES" / "shop.mo"))
    put(tmp_path, "de", HEADER.format(charset="UTF-8") + 'msgid "Save"\nmsgstr "Sichern"\n')
    sentences, _ = read_all(tmp_path)
    assert sentences["de"] == {"\x04Save": "Sichern"}
    assert sentences["nl"] == read_all(FIXTURES / "shop")[0]["de"]


def test_po_cut_anywhere_is_bad_or_has_whole_messages_only(tmp_path):
    whole = GERMAN.read_bytes()
    expected = {entry.msgid_with_context: entry.msgstr for entry in polib.pofile(str(GERMAN)) if not entry.obsolete}
    path, num_bad = tmp_path / "de.po", 0
    for length in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:length])
        try:
            found, _ = catalog.open_catalog(source_lib.File(path.name, str(path)))
        except source_lib.BadFile:
            num_bad += 1
            continue
        for entry in found:
            assert entry.obsolete or entry.msgstr == expected[entry.msgid_with_context], whole[:length][-40:]
    assert num_bad > 0.2 * len(whole)


def test_mo_cut_anywhere_is_bad(tmp_path):
    path = tmp_path / "de.mo"
    polib.pofile(str(GERMAN)).save_as_mofile(str(path))
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 1, 5), len(whole) - 2]:  # the last byte is the zero after the last string
        path.write_bytes(whole[:length])
        with pytest.raises(source_lib.BadFile, match="is cut short|is not a .mo file"):
            catalog.open_catalog(source_lib.File(path.name, str(path)))


def test_bad_files_are_named_counted_and_skipped(tmp_path):
    entry = 'msgid "Save"\nmsgstr "{}"\n'
    put(tmp_path, "de", HEADER.format(charset="UTF-8") + entry.format("Süß"))
    put(tmp_path, "nl", HEADER.format(charset="UTF-8") + entry.format("Één"), "latin-1")
    put(tmp_path, "fr", HEADER.format(charset="ISO-8859-1") + entry.format("Été"))
    put(tmp_path, "ru", HEADER.format(charset="windows-1251") + entry.format("Сохранить"), "cp1251")
    put(tmp_path, "it", HEADER.format(charset="CHARSET") + entry.format("Però"))
    put(tmp_path, "es", HEADER.format(charset="UTF-8") + entry.format("Guardar") + 'msgid "Store"\nmsgstr "Alma')
    put(tmp_path, "sv", "")
    put(tmp_path, "da", HEADER.format(charset="UTF-8") + 'msgid "Save"\nmsgid "Store"\nmsgstr "Gem"\nbadword "x"\n')
    put(tmp_path, "cs", "not a compiled catalog", suffix="mo")
    sentences, report = read_all(tmp_path)
    assert {lang: texts["\x04Save"] for lang, texts in sentences.items()} == {
        "de": "Süß", "ru": "Сохранить", "it": "Però", "en": "Save",
    }  # fmt: skip
    reasons = {name.split("/")[1]: reason for name, reason in report.bad_files.items()}
    assert sorted(reasons) == ["cs", "da", "es", "fr", "nl", "sv"]
    assert "says that it is in utf-8, and is not" in reasons["nl"].lower()
    assert "is in UTF-8" in reasons["fr"]
    assert "is cut short" in reasons["es"]
    assert "is empty" in reasons["sv"]
    assert str(tmp_path) not in "".join(report.bad_files.values())


BROKEN = [
    'msgid "broken\nmsgstr "kaputt"\n',
    'msgid "broken"\nmsgstr "kaputt\n',
    'msgid "broken"\nmsgstr kaputt"\n',
    'msgid "broken"\nmsgstr "kaputt\\"\n',
    "msgid broken\nmsgstr kaputt\n",
    'msgid "broken"\nmsgstr "kap"putt"\n',
    'msgctxt "x\nmsgid "broken"\nmsgstr "kaputt"\n',
    'msgid ""\n"bro"\n"ken\nmsgstr "kaputt"\n',
    'msgid "broken"\nmsgid_plural "broken\nmsgstr[0] "kaputt"\nmsgstr[1] "kaputt"\n',
    'msgid "broken"\nmsgid_plural "brokens"\nmsgstr[0] "kaputt"\nmsgstr[1] "kaputt\n',
]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("separator", ["\n", "", "# a comment\n#, c-format\n"])
def test_message_with_a_broken_string_is_left_out_and_counted(tmp_path, broken, separator):
    before, after = 'msgid "Save"\nmsgstr "Süß\\u2028\u2028"\n', 'msgid "Open"\nmsgstr ""\n"Auf"\n'
    messages = separator.join(["", before, broken, after])
    put(tmp_path, "de", "\ufeff" + HEADER.format(charset="UTF-8").rstrip("\n") + "\n" + messages)
    sentences, report = read_all(tmp_path)
    assert set(sentences["de"]) == set(sentences["en"]) == {"\x04Save", "\x04Open"}
    assert sentences["de"]["\x04Open"] == "Auf"
    assert report.counts["read"]["bad_quoting"] == 1 and not report.bad_files


def test_broken_header_and_a_catalog_of_mostly_broken_messages_are_named(tmp_path):
    header, message = HEADER.format(charset="UTF-8"), 'msgid "Save"\nmsgstr "Sichern"\n'
    put(tmp_path, "de", header.replace('UTF-8\\n"', "UTF-8\\n") + message)
    put(tmp_path, "nl", header + BROKEN[0] * 2 + message)
    sentences, report = read_all(tmp_path)
    assert sentences.keys() == {"nl", "en"}
    assert {name.split("/")[1]: reason for name, reason in report.bad_files.items()} == {
        "de": "is damaged: a string of its first message, the header, is not whole (line 3)",
        "nl": "most of its records could not be read: 2 bad_quoting, 1 kept",
    }


def test_missing_disk_is_not_a_bad_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        catalog.open_catalog(source_lib.File("gone.po", str(tmp_path / "gone.po")))


@pytest.mark.parametrize("charset", ["base64", "undefined", "idna", "utf-16", "no-such-one"])
def test_charset_that_is_no_encoding_of_text_is_named(tmp_path, charset):
    put(tmp_path, "de", HEADER.format(charset=charset) + 'msgid "Save"\nmsgstr "Süß"\n')
    sentences, report = read_all(tmp_path)
    if charset == "no-such-one":  # then it is UTF-8, as in the template that nobody has filled in
        assert sentences["de"] == {"\x04Save": "Süß"}
    else:
        assert f"says that it is in {charset}" in report.bad_files["shop/de/LC_MESSAGES/shop.po"]


@pytest.mark.parametrize("suffix", ["po", "mo"])
def test_catalog_with_bytes_changed_is_named_or_read(tmp_path, suffix):
    whole = bytearray(GERMAN.read_bytes())
    if suffix == "mo":
        polib.pofile(str(GERMAN)).save_as_mofile(str(tmp_path / "whole.mo"))
        whole = bytearray((tmp_path / "whole.mo").read_bytes())
    random = np.random.default_rng(0)
    path = tmp_path / "source" / f"de.{suffix}"
    path.parent.mkdir()
    for _ in range(300):
        damaged = whole.copy()
        for place in random.integers(len(damaged), size=3):
            damaged[place] = random.integers(256)
        path.write_bytes(bytes(damaged))
        sentences, report = read_all(path.parent)
        assert report.bad_files or report.counts["read"], damaged
        assert str(tmp_path) not in str(report.bad_files) and "/tmp" not in str(report.bad_files)


def test_too_large_catalog_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "MAX_BYTES", 1000)
    put(tmp_path, "de", HEADER.format(charset="UTF-8") + "# long\n" * 1000 + 'msgid "a"\nmsgstr "b"\n')
    assert "more than 1,000 is not read" in read_all(tmp_path)[1].bad_files["shop/de/LC_MESSAGES/shop.po"]


def test_installed_package_is_read():
    parts = gettext.parts(source_lib.Source("django", "gettext", "package:django", "BSD"))
    (auth,) = [part for part in parts if part.name == "django/contrib/auth/locale:django"]
    assert len(auth.languages) > 70
    report = Report()
    rows = {batch["lang"][0].as_py(): len(batch) for batch in gettext.read(auth, report) if len(batch)}
    assert not report.bad_files
    assert len(rows) > 70 and rows["en"] >= max(rows.values())
    assert {code for code, _, _ in report.refused_codes} >= {"en", "en_GB"}
