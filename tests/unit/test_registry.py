"""The registry and the tools that ship with it."""

from __future__ import annotations

import asyncio

import pytest

from job_harness_reference.errors import ConfigurationError, UnknownToolError
from job_harness_reference.models import JobResult, NonRetryableError, ToolJob, ToolJobStatus
from job_harness_reference.processors import REGISTRATIONS, TOOL_SLUGS
from job_harness_reference.processors.json_format import process_json_format
from job_harness_reference.processors.word_count import process_word_count
from job_harness_reference.registry import Registry


def job(value: object) -> ToolJob:
    return ToolJob(id="job-1", tool_slug="my-tool", status=ToolJobStatus.PROCESSING, input=value)


def succeed(_job: ToolJob) -> JobResult:
    return JobResult(success=True)


def test_every_shipped_slug_is_registered() -> None:
    registry = Registry()
    registry.register_all_processors(REGISTRATIONS)

    registry.require_tools(TOOL_SLUGS)
    assert registry.get_registered_tools() == TOOL_SLUGS


def test_a_registered_processor_is_found_by_its_slug() -> None:
    registry = Registry()
    registry.register_processor("my-tool", succeed)

    assert registry.has_processor("my-tool")
    assert registry.get_processor("my-tool") is succeed


def test_two_registries_share_nothing() -> None:
    Registry().register_processor("my-tool", succeed)

    assert not Registry().has_processor("my-tool")


def test_an_unknown_slug_gets_did_you_mean() -> None:
    registry = Registry()
    registry.register_processor("my-tool", succeed)

    with pytest.raises(UnknownToolError, match="did you mean 'my-tool'"):
        registry.get_processor("my-tol")


def test_every_tool_slug_without_a_processor_is_named_at_once() -> None:
    registry = Registry()
    registry.register_processor("my-tool", succeed)

    with pytest.raises(ConfigurationError, match=r"'my-tol' \(did you mean 'my-tool'\?\); 'zzz'"):
        registry.require_tools(["my-tool", "my-tol", "zzz"])


def test_a_second_processor_for_a_slug_is_refused() -> None:
    registry = Registry()
    registry.register_processor("my-tool", succeed)
    registry.register_processor("my-tool", succeed)

    with pytest.raises(ConfigurationError, match="already has the processor"):
        registry.register_processor("my-tool", lambda _job: JobResult(success=True))


@pytest.mark.parametrize("slug", ["my-tool", "sendEmail", "send_email", "user.created", "email:send", "v2/pay"])
def test_a_tool_may_be_called_as_jobs_are_called_elsewhere(slug: str) -> None:
    registry = Registry()
    registry.register_processor(slug, succeed)

    assert registry.get_registered_tools() == (slug,)


@pytest.mark.parametrize("slug", ["", "a b", "-a", "x" * 101, "a'; DROP TABLE", "caf\u00e9", "a\n"])
def test_what_is_no_plain_name_is_no_slug(slug: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a valid tool name"):
        Registry().register_processor(slug, succeed)


def test_words_are_counted() -> None:
    result = asyncio.run(process_word_count(job({"text": "To be or\nnot to be"})))

    assert result.output == {"lines": 2, "words": 6, "distinctWords": 4, "characters": 18}


@pytest.mark.parametrize("value", [None, [], {}, {"text": 5}])
def test_input_without_text_is_final(value: object) -> None:
    with pytest.raises(NonRetryableError, match="word-count needs"):
        asyncio.run(process_word_count(job(value)))


def test_json_is_laid_out_with_sorted_keys() -> None:
    result = process_json_format(job({"text": '{"b":1,"a":[]}', "indent": 1}))

    assert result == JobResult(success=True, output={"text": '{\n "a": [],\n "b": 1\n}'})


@pytest.mark.parametrize(
    "value", [None, {"text": "{"}, {"text": "NaN"}, {"text": "1", "indent": True}, {"text": "[" * 100_000}]
)
def test_text_that_is_no_json_fails_for_good(value: object) -> None:
    result = process_json_format(job(value))

    assert not result.success
    assert result.error
    assert not result.retryable
