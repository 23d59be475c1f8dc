"""What a person reads is plain English: none of the turns of phrase that were met here too often."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.prose import files, hits


def test_no_turn_of_phrase_is_left_that_has_to_be_decoded() -> None:
    assert list(map(str, hits(files()))) == []


def test_a_turn_of_phrase_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# How green?\n\nThe run was " + "had again.\n", encoding="utf-8")
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)

    assert [str(hit) for hit in hits([page])] == [
        "page.md:1: '# How green?': a title is what people search for, not a question",
        "page.md:3: 'had again': reproduces; is available",
    ]
