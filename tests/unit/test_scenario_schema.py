"""The JSON schema for editors: current, and in agreement with the reader."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from job_harness.core.model.settings import Settings
from job_harness.core.scenario.document import read_document
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.schema import SettingsPart, json_schema, schema_text

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").rglob("*.yaml"))


def test_the_shipped_schema_is_current() -> None:
    shipped = files("job_harness.core.scenario").joinpath("scenario.schema.json").read_text("utf-8")
    assert shipped == schema_text(json_schema()), (
        "run: job-harness schema > harness/job_harness/core/scenario/scenario.schema.json"
    )


def test_the_schema_is_a_valid_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_every_setting_can_be_written_down() -> None:
    assert tuple(SettingsPart.model_fields) == Settings.names()


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_schema_accepts_every_scenario_there_is(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    read_scenario(path)
    validator.validate(read_document(path.read_bytes(), str(path)).data)


@pytest.mark.parametrize(
    "document",
    [
        {"format": 2, "jobs": {"a": {}}},
        {"format": 1},
        {"format": 1, "jobs": {"a": {"tol": "x"}}},
        {"format": 1, "jobs": {"a": {"takes": 30}}},
        {"format": 1, "jobs": {"a": {"outcomes": ["fial"]}}},
        {"format": 1, "jobs": {"a": {}}, "settings": {"lease": "10"}},
        {"format": 1, "jobs": {"a": {}}, "controls": [{"queue": "x", "finds": "nothing"}]},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(
    document: dict[str, object], validator: jsonschema.Draft202012Validator
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document)
