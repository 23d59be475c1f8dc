"""The contract of replay tokens: what is encoded reads back, whatever else is refused with a reason."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b32encode
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_harness.core.model.duration import MINUTE
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.replay_token import _COMMON, LARGEST, VERSION, ReplayToken, decode, encode, target_of
from job_harness.core.sim.choices import Deviation
from job_harness.doors.cli import main
from job_harness.errors import UsageError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/contracts/replay_token.md").read_text(encoding="utf-8")
SCENARIO = "scenarios/crashes/while_running.yaml"
TEXT = st.text(min_size=1, max_size=40)
DEVIATIONS = st.builds(Deviation, TEXT, st.integers(1, 10**6), TEXT)
TOKENS = st.builds(ReplayToken, TEXT, st.none() | st.integers(), st.lists(DEVIATIONS, max_size=12).map(tuple))
CRASH = ReplayToken("9f2c", 7, (Deviation("w1 complete a", 1, "crash"),))
HELD = "jh1_rnlletbtak5n2he72zmabxez6jwa"


@given(TOKENS)
def test_what_is_encoded_is_one_word_and_reads_back(token: ReplayToken) -> None:
    word = encode(token)
    assert re.fullmatch(rf"jh{VERSION}_[a-z2-7]+", word)
    assert decode(word) == decode(f"  {word.upper()}\n") == token


@given(TOKENS, st.data())
def test_a_damaged_token_is_refused(token: ReplayToken, data: st.DataObject) -> None:
    word = encode(token)
    place = data.draw(st.integers(len("jh1_"), len(word) - 1))
    other = data.draw(st.sampled_from(ALPHABET))
    for damaged in (word[:place], word[:place] + other + word[place + 1 :]):
        assert damaged == word or read_or_refused(damaged) is None


ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def read_or_refused(word: str) -> ReplayToken | None:
    try:
        return decode(word)
    except UsageError:
        return None


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("", "'' is not a replay token"),
        ("w1 claim #3", "is not a replay token"),
        ("jh2_abcdefgh", "has version 2; this program reads version 1"),
        (f"jh{'9' * 5000}_aa", "...' is not a replay token"),
        ("jh1_ABC018", "damaged or cut off: it has characters other than a-z and 2-7"),
    ],
)
def test_what_is_no_token_of_this_version_is_refused_by_name(word: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        decode(word)


def test_a_token_whose_last_character_was_changed_is_refused_though_its_bytes_are_the_same() -> None:
    word = next(word for seed in range(9) if len(word := encode(ReplayToken("a", seed))[4:]) % 8)
    last = ALPHABET[ALPHABET.index(word[-1]) + 1]
    with pytest.raises(UsageError, match="damaged or cut off: its last character"):
        decode(f"jh1_{word[:-1]}{last}")


def sealed(content: bytes) -> str:
    packing = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_COMMON)
    packed = packing.compress(content) + packing.flush()
    return "jh1_" + b32encode(packed + zlib.crc32(packed).to_bytes(4, "big")).decode().rstrip("=").lower()


@pytest.mark.parametrize(
    "content",
    [
        *(b"7", b"[7]", b'["a",true]', b'["a",1,["w1",1]]', b'["a",1,["w1","1","crash"]]'),
        *(b'"' + b" " * LARGEST, b"[" * 99_999),
    ],
)
def test_a_sealed_content_that_says_something_else_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="damaged"):
        decode(sealed(content))


def test_a_token_that_was_printed_once_is_read_for_ever() -> None:
    assert decode(HELD) == CRASH


def test_the_page_shows_a_token_and_the_places_of_its_content() -> None:
    shown = re.search(r"```\n(jh1_\w+)\n```", PAGE)
    assert shown is not None
    assert decode(shown[1]) == CRASH
    assert re.findall(r"^\| \d `(\w+)` \|", PAGE, re.MULTILINE) == ["target", "seed"]
    content = json.loads(zlib.decompressobj(-15, zdict=_COMMON).decompress(_packed(shown[1])))
    assert content == ["9f2c", 7, ["w1 complete a", 1, "crash"]]


def _packed(word: str) -> bytes:
    from base64 import b32decode

    body = word.partition("_")[2].upper()
    return b32decode(body + "=" * (-len(body) % 8))[:-4]


def test_the_target_of_a_scenario_changes_with_what_is_run_and_with_nothing_else() -> None:
    scenario = read_scenario(ROOT / SCENARIO)
    assert target_of(replace(scenario, title="other", why="", controls=(), expect={}, path="x")) == target_of(scenario)
    assert target_of(replace(scenario, settings=scenario.settings.changed(lease=MINUTE))) != target_of(scenario)


def test_the_command_line_replays_a_token_on_its_scenario_and_refuses_it_on_another(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path, report = "scenarios/crashes/every_attempt_crashes.yaml", tmp_path / "report.json"
    main(["run", path, "--seed", "5", "--json", str(report)])
    drawn = json.loads(report.read_text())["cases"][0]["run"]
    assert drawn["tape"], "the seed was to deviate"
    main(["run", path, "--replay", drawn["token"], "--json", str(report)])
    (case,) = json.loads(report.read_text())["cases"]
    assert case["run"]["tape"] == drawn["tape"]
    assert case["replay"] == f"job-harness run {path} --engine memory --replay {drawn['token']}"
    assert main(["run", SCENARIO, "--replay", drawn["token"]]) == 2
    assert "not for scenarios/crashes/while_running.yaml" in capsys.readouterr().err
