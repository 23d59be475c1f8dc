"""The settings: defaults of the guide, derived pairs, and contradictions that all speak up at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from job_harness_reference.config import Config, load_config
from job_harness_reference.errors import ConfigurationError


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load_config(environ)
    return str(refused.value)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    config = load_config({})

    assert (config.job_timeout_ms, config.job_timeout_seconds) == (600_000, 600)
    assert config.stuck_after == timedelta(minutes=30)
    assert (config.job_max_attempts, config.job_retry_limit) == (3, 2)
    assert (config.job_retry_delay_seconds, config.job_retry_backoff) == (60, True)
    assert (config.pgboss_batch_size, config.pgboss_polling_interval) == (5, 2)
    assert config.job_retention_days == 7
    assert (config.database_url, config.cron_secret, config.use_pgboss_workers) == (None, None, None)


def test_the_lease_outlives_the_timeout_by_default() -> None:
    assert load_config({}).lease == timedelta(minutes=11)
    assert load_config({"JOB_TIMEOUT_MS": "30000"}).lease == timedelta(seconds=90)


def test_the_process_environment_is_read_by_its_exact_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGBOSS_BATCH_SIZE", "7")
    monkeypatch.setenv("use_pgboss_workers", "true")
    monkeypatch.delenv("USE_PGBOSS_WORKERS", raising=False)

    config = load_config()

    assert config.pgboss_batch_size == 7
    assert not config.workers_enabled


@pytest.mark.parametrize("pair", [{"JOB_TIMEOUT_MS": "300000"}, {"JOB_TIMEOUT_SECONDS": "300"}])
def test_one_half_of_the_timeout_pair_is_enough(pair: dict[str, str]) -> None:
    config = load_config(pair)

    assert (config.job_timeout_ms, config.job_timeout_seconds) == (300_000, 300)


def test_one_half_of_the_attempts_pair_is_enough() -> None:
    assert load_config({"JOB_MAX_ATTEMPTS": "5"}).job_retry_limit == 4
    for limit in (0, 4):
        assert load_config({"JOB_RETRY_LIMIT": str(limit)}).job_max_attempts == limit + 1


def test_the_guides_own_pairs_are_contradictions() -> None:
    text = refusal(JOB_TIMEOUT_MS="600000", JOB_EXPIRE_IN_SECONDS="600", JOB_MAX_ATTEMPTS="3", JOB_RETRY_LIMIT="3")

    assert "2 settings must change" in text
    assert "JOB_EXPIRE_IN_SECONDS=600:" in text
    assert "Set JOB_EXPIRE_IN_SECONDS=660." in text
    assert "Set JOB_RETRY_LIMIT=2." in text


def test_unreadable_values_and_contradictions_are_listed_together() -> None:
    text = refusal(
        JOB_TIMEOUT_MS="soon",
        PGBOSS_POLLING_INTERVAL="nan",
        JOB_MAX_ATTEMPTS="3",
        JOB_RETRY_LIMIT="3",
        STUCK_JOB_TIMEOUT_MINUTES="5",
    )

    assert "JOB_TIMEOUT_MS='soon'" in text
    assert "PGBOSS_POLLING_INTERVAL='nan'" in text
    assert "JOB_RETRY_LIMIT=3" in text
    assert "STUCK_JOB_TIMEOUT_MINUTES=5" in text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JOB_TIMEOUT_MS", "0"),
        ("JOB_TIMEOUT_MS", "-1"),
        ("JOB_TIMEOUT_SECONDS", "inf"),
        ("STUCK_JOB_TIMEOUT_MINUTES", "1e999"),
        ("JOB_MAX_ATTEMPTS", "0"),
        ("JOB_RETRY_BACKOFF", "yes"),
        ("JOB_RETENTION_DAYS", "0"),
        ("PGBOSS_BATCH_SIZE", ""),
        ("PGBOSS_BATCH_SIZE", "2.5"),
        ("PROCESSOR_CANCEL_GRACE_SECONDS", "-5"),
    ],
)
def test_a_value_out_of_range_names_its_variable_and_an_accepted_value(variable: str, value: str) -> None:
    text = refusal(**{variable: value})

    assert f"{variable}={value!r}" in text
    accepted = text.split(f"Set {variable}=")[1].split("\n")[0].rstrip(".")
    load_config({variable: accepted})


@pytest.mark.parametrize(
    "environ",
    [
        {"JOB_TIMEOUT_MS": "500000", "JOB_TIMEOUT_SECONDS": "600"},
        {"JOB_EXPIRE_IN_SECONDS": "600"},
        {"STUCK_JOB_TIMEOUT_MINUTES": "10"},
        {"JOB_MAX_ATTEMPTS": "4", "JOB_RETRY_LIMIT": "4"},
        {"JOB_RETRY_DELAY_SECONDS": "7200"},
    ],
)
def test_following_the_advice_of_a_contradiction_repairs_it(environ: dict[str, str]) -> None:
    text = refusal(**environ)

    for line in text.splitlines()[1:]:
        name, value = line.rsplit("Set ", 1)[1].rstrip(".").split("=")
        environ = {**environ, name: value}
    load_config(environ)


@pytest.mark.parametrize("value", [None, "", "TRUE", "True", "1", "yes", " true", "true "])
def test_workers_are_off_unless_the_variable_is_exactly_true(value: str | None) -> None:
    config = Config(use_pgboss_workers=value)

    assert not config.workers_enabled
    assert config.workers_off_reason is not None
    assert "Set USE_PGBOSS_WORKERS=true" in config.workers_off_reason


def test_exactly_true_enables_workers() -> None:
    config = load_config({"USE_PGBOSS_WORKERS": "true"})

    assert config.workers_enabled
    assert config.workers_off_reason is None


@pytest.mark.parametrize("value", [None, "", "  ", "undefined", "null", "NULL"])
def test_the_text_of_an_unset_variable_is_no_secret(value: str | None) -> None:
    assert Config(cron_secret=value).usable_cron_secret is None


def test_a_secret_from_a_file_is_without_its_newline() -> None:
    assert Config(cron_secret="hush\n").usable_cron_secret == "hush"


def test_secrets_are_not_shown() -> None:
    shown = repr(Config(cron_secret="hush", database_url="postgresql://u:hush@h/d"))

    assert "hush" not in shown


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="'job_timeout_sm': did you mean 'job_timeout_ms'"):
        Config(job_timeout_sm=5)
