import zipfile

import pytest

from labkit.assets.fetch import ensure
from labkit.assets.manifest import get_asset
from labkit.tasks.licenses import license_rows

BODY = "Permission is granted to everyone to do with this software what they like."
LABELS = {
    "permissive",
    "copyleft",
    "limited copyleft",
    "proprietary",
    "commercial",
    "restricted",
    "source-available",
}


@pytest.fixture(scope="module")
def archive():
    return ensure("licenses") / get_asset("licenses").wheel


@pytest.fixture(scope="module")
def rows(archive):
    return license_rows(archive, get_asset("licenses").members[0])


def rows_of(tmp_path, header: str, body: str = BODY, name: str = "data/one.LICENSE") -> list[dict]:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as bundle:
        bundle.writestr(name, f"---\nkey: one\n{header}\n---\n\n{body}\n")
    return license_rows(tmp_path / "archive.zip", "data/*.LICENSE")


@pytest.mark.parametrize(
    ("category", "label"),
    [("Permissive", "permissive"), ("Copyleft Limited", "limited copyleft"), ("Proprietary Free", "proprietary")],
)
def test_a_licence_becomes_a_row(tmp_path, category, label):
    header = f"short_name: One\ncategory: {category}\nspdx_license_key: One-1.0"
    assert rows_of(tmp_path, header) == [{"id": "one", "text": BODY, "label": label}]


def test_white_space_is_folded(tmp_path):
    assert rows_of(tmp_path, "category: Permissive", BODY.replace(" ", "\n  "))[0]["text"] == BODY


@pytest.mark.parametrize(
    "header",
    [
        "category: Permissive\nis_deprecated: yes",
        "category: Permissive\nis_generic: yes",
        "category: Permissive\nis_unknown: yes",
        "category: Permissive\nlanguage: fr",
        "category: Patent License",
        "short_name: One",
    ],
)
def test_an_unusable_licence_is_left_out(tmp_path, header):
    assert rows_of(tmp_path, header) == []


def test_a_text_without_words_enough_is_left_out(tmp_path):
    assert rows_of(tmp_path, "category: Permissive", "See LICENSE.") == []


def test_files_of_other_names_are_left_out(tmp_path):
    assert rows_of(tmp_path, "category: Permissive", name="data/one.RULE") == []


def test_a_rule_line_inside_the_text_does_not_end_it(tmp_path):
    text = rows_of(tmp_path, "category: Permissive", f"{BODY}\n---\nAnd no warranty.")[0]["text"]
    assert text == f"{BODY} --- And no warranty."


def test_a_long_text_is_cut_between_words(tmp_path):
    text = rows_of(tmp_path, "category: Permissive", "word " * 500)[0]["text"]
    assert text.endswith("word …")
    assert 590 <= len(text) <= 602
    assert set(text.split()) == {"word", "…"}


def test_every_text_is_the_opening_of_its_licence(archive, rows):
    with zipfile.ZipFile(archive) as bundle:
        for row in rows:
            whole = bundle.read(f"licensedcode/data/licenses/{row['id']}.LICENSE").decode()
            body = " ".join(whole.split("\n---", 1)[1].split())
            opening = row["text"].removesuffix(" …")
            assert body.startswith(opening)
            assert opening == body or len(opening) > 500


def test_there_are_seven_categories_and_each_licence_comes_once(rows):
    assert {row["label"] for row in rows} == LABELS
    assert len({row["id"] for row in rows}) == len(rows) > 1000
