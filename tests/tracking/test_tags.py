"""The tags are defined in one file. tests/test_docs.py compares the docs' table."""

import re

from tests.conftest import ROOT
from tunetrail.tracking import tags

SOURCE = ROOT / "src" / "tunetrail"


def test_no_other_file_contains_a_tags_name():
    names = {name for name in tags.MEANINGS if "." in name} - {"base.license"}  # also a key of params.yaml
    bare = re.compile(rf"""["']({"|".join(map(re.escape, names))})["']""")
    for file in (*SOURCE.rglob("*.py"), *SOURCE.rglob("*.jinja")):
        if file.name != "tags.py":
            assert not bare.search(file.read_text()), file


def test_every_tag_has_a_name_and_a_meaning():
    constants = {name: value for name, value in vars(tags).items() if name.isupper() and isinstance(value, str)}
    assert sorted(constants.values()) == sorted(tags.MEANINGS)
    assert all(meaning and "|" not in meaning for meaning in tags.MEANINGS.values())
