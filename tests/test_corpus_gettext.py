"""Catalogs are read as gettext means them, and one that is not whole is never read in part."""

import collections
import pathlib

import polib
import pytest

from emma_jax import languages
from emma_jax.corpus import source as source_lib
from emma_jax.corpus.readers import catalog, gettext
from emma_jax.corpus.statistics import Report

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "gettext"
GERMAN = FIXTURES / "shop/locale/de/LC_MESSAGES/shop.po"
HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={charset}\\n"\n\n'


def make_source(path):
    return source_lib.Source(name="shop", reader="gettext", path=str(path), licence="CC0")


def read_all(path):
    """Language -> message id -> text, and the report, of all parts of a folder."""
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
    german = sentences["deu_Latn"]
    assert german["\x04Save"] == "Speichern"
    assert german["\x04Close the window"] == "Schließe das Fenster"
    assert german["verb\x04Close the window"] == "Fenster schließen"
    assert "\x04Blue sky" not in german and "\x04Not yet" not in german and "\x04Old word" not in german
    english = sentences["eng_Latn"]
    assert english["\x04Blue sky"] == "Blue sky" and "\x04Old word" not in english
    counts = report.counts["read"]  # Portuguese has 14 messages twice
    assert (counts["fuzzy"], counts["untranslated"], counts["obsolete"]) == (1, 1, 1)
    assert counts["kept"] == sum(len(texts) for lang, texts in sentences.items() if lang != languages.ENGLISH) + 14
    assert report.refused_codes == {
        ("en_GB", "shop", "the same language as the messages"): 14,
        ("qq", "shop", "not a language code"): 14,
    }
    assert counts["refused_code"] == 28


def test_plurals_are_paired_where_the_forms_are_for_the_same_numbers():
    sentences, report = read_all(FIXTURES / "shop")
    singular, plural = "\x04One day", "\x04One day\0"
    assert (sentences["eng_Latn"][singular], sentences["eng_Latn"][plural]) == ("One day", "%d days")
    assert (sentences["deu_Latn"][singular], sentences["deu_Latn"][plural]) == ("Ein Tag", "%d Tage")
    assert (sentences["fra_Latn"][singular], sentences["fra_Latn"][plural]) == ("Un jour", "%d jours")
    assert (sentences["jpn_Jpan"].get(singular), sentences["jpn_Jpan"][plural]) == (None, "%d 日")
    assert (sentences["rus_Cyrl"][singular], sentences["rus_Cyrl"].get(plural)) == ("Один день", None)
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
    assert sentences["deu_Latn"] == {"\x04Save": "Sichern"}
    assert sentences["nld_Latn"] == read_all(FIXTURES / "shop")[0]["deu_Latn"]


def test_po_cut_anywhere_is_bad_or_has_whole_messages_only(tmp_path):
    whole = GERMAN.read_bytes()
    expected = {entry.msgid_with_context: entry.msgstr for entry in polib.pofile(str(GERMAN)) if not entry.obsolete}
    path, num_bad = tmp_path / "de.po", 0
    for length in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:length])
        try:
            found = catalog.open_catalog(str(path))
        except catalog.BadCatalog:
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
        with pytest.raises(catalog.BadCatalog, match="is cut short|is not a .mo file"):
            catalog.open_catalog(str(path))


def test_bad_catalogs_are_named_counted_and_skipped(tmp_path):
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
        "deu_Latn": "Süß", "rus_Cyrl": "Сохранить", "ita_Latn": "Però", "eng_Latn": "Save",
    }  # fmt: skip
    reasons = {name.split("/")[1]: reason for name, reason in report.bad_files.items()}
    assert sorted(reasons) == ["cs", "da", "es", "fr", "nl", "sv"]
    assert "says that it is in utf-8, and is not" in reasons["nl"].lower()
    assert "is in UTF-8" in reasons["fr"]
    assert "is cut short" in reasons["es"]
    assert "is empty" in reasons["sv"]
    assert str(tmp_path) not in "".join(report.bad_files.values())
    assert report.counts["read"]["bad_file"] == 6


def test_missing_disk_is_not_a_bad_catalog(tmp_path):
    with pytest.raises(FileNotFoundError):
        catalog.open_catalog(str(tmp_path / "gone.po"))


def test_installed_package_is_read():
    parts = gettext.parts(source_lib.Source("django", "gettext", "package:django", "BSD"))
    (auth,) = [part for part in parts if part.name == "django/contrib/auth/locale:django"]
    assert len(auth.languages) > 70
    report = Report()
    rows = {batch["lang"][0].as_py(): len(batch) for batch in gettext.read(auth, report) if len(batch)}
    assert not report.bad_files
    assert len(rows) > 70 and rows["eng_Latn"] >= max(rows.values())
    assert {code for code, _, _ in report.refused_codes} >= {"en", "en_GB"}
