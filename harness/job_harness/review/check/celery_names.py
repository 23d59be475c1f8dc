"""What settings of Celery are called, by the names of Celery 3 and since."""

from __future__ import annotations

import re
from typing import Final

CONFIGURED: Final = "config_from_object"
"""Marks settings that an app takes from a module or an object: what is set on the app itself replaces them."""
OLD_NAMES: Final = {
    "CELERY_ACKS_LATE": "task_acks_late",
    "CELERY_TASK_REJECT_ON_WORKER_LOST": "task_reject_on_worker_lost",
    "CELERYD_PREFETCH_MULTIPLIER": "worker_prefetch_multiplier",
    "CELERYD_CONCURRENCY": "worker_concurrency",
    "CELERYD_MAX_TASKS_PER_CHILD": "worker_max_tasks_per_child",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERYD_TASK_SOFT_TIME_LIMIT": "task_soft_time_limit",
    "CELERYD_POOL": "worker_pool",
    "CELERYBEAT_SCHEDULE": "beat_schedule",
    "CELERY_RESULT_BACKEND": "result_backend",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
    "CELERY_DEFAULT_QUEUE": "task_default_queue",
    "CELERY_QUEUES": "task_queues",
    "CELERY_ROUTES": "task_routes",
    "CELERY_ALWAYS_EAGER": "task_always_eager",
    "CELERY_IGNORE_RESULT": "task_ignore_result",
    "BROKER_URL": "broker_url",
    "BROKER_TRANSPORT_OPTIONS": "broker_transport_options",
}
"""Names of Celery 3, which newer releases still read, and what they are called now."""
_NEW: Final = re.compile(
    r"^(task|worker|broker|result|beat)_[a-z_]+$|^(accept_content|timezone|enable_utc|imports|include|event_serializer)$"
)

SETTINGS: Final = frozenset({
    "beat_cron_starting_deadline", "beat_enable_remote_control", "beat_max_loop_interval",
    "beat_remote_control_max_tick_age", "beat_schedule", "beat_schedule_filename", "beat_scheduler",
    "beat_sync_every", "broker_channel_error_retry", "broker_connection_max_retries", "broker_connection_retry",
    "broker_connection_retry_on_startup", "broker_connection_timeout", "broker_failover_strategy",
    "broker_heartbeat", "broker_heartbeat_checkrate", "broker_host", "broker_login_method",
    "broker_native_delayed_delivery_queue_type", "broker_password", "broker_pool_acquire_timeout",
    "broker_pool_limit", "broker_port", "broker_read_url", "broker_transport", "broker_transport_options",
    "broker_url", "broker_use_ssl", "broker_user", "broker_vhost", "broker_write_url", "result_accept_content",
    "result_backend", "result_backend_always_retry", "result_backend_base_sleep_between_retries_ms",
    "result_backend_max_retries", "result_backend_max_sleep_between_retries_ms",
    "result_backend_transport_options", "result_cache_max", "result_chord_expires", "result_chord_join_timeout",
    "result_chord_retry_interval", "result_compression", "result_exchange", "result_exchange_type",
    "result_expires", "result_extended", "result_failure_expires", "result_persistent", "result_serializer",
    "task_acks_late", "task_acks_on_failure", "task_acks_on_failure_or_timeout", "task_acks_on_timeout",
    "task_allow_error_cb_on_chord_header", "task_always_eager", "task_annotations", "task_compression",
    "task_create_missing_queue_exchange_type", "task_create_missing_queue_type", "task_create_missing_queues",
    "task_default_delivery_mode", "task_default_exchange", "task_default_exchange_type",
    "task_default_priority", "task_default_queue", "task_default_queue_type", "task_default_rate_limit",
    "task_default_routing_key", "task_eager_propagates", "task_ignore_result", "task_inherit_parent_priority",
    "task_protocol", "task_publish_retry", "task_publish_retry_policy", "task_queue_ha_policy",
    "task_queue_max_priority", "task_queues", "task_reject_on_worker_lost", "task_remote_tracebacks",
    "task_repr_maxlevels", "task_retry_on_worker_lost", "task_routes", "task_send_sent_event",
    "task_serializer", "task_soft_time_limit", "task_store_eager_result", "task_store_errors_even_if_ignored",
    "task_time_limit", "task_track_started", "worker_agent", "worker_autoscaler",
    "worker_cancel_long_running_tasks_on_connection_loss", "worker_concurrency", "worker_consumer",
    "worker_deduplicate_successful_tasks", "worker_detect_quorum_queues", "worker_direct",
    "worker_disable_prefetch", "worker_disable_rate_limits", "worker_enable_prefetch_count_reduction",
    "worker_enable_remote_control", "worker_enable_soft_shutdown_on_idle", "worker_eta_task_limit",
    "worker_hijack_root_logger", "worker_log_color", "worker_log_datefmt", "worker_log_format",
    "worker_lost_wait", "worker_max_memory_per_child", "worker_max_tasks_per_child", "worker_pool",
    "worker_pool_putlocks", "worker_pool_restarts", "worker_pool_start_method", "worker_prefetch_multiplier",
    "worker_proc_alive_timeout", "worker_redirect_stdouts", "worker_redirect_stdouts_level",
    "worker_send_task_events", "worker_soft_shutdown_timeout", "worker_state_db", "worker_task_log_datefmt",
    "worker_task_log_format", "worker_timer", "worker_timer_precision",
})  # fmt: skip
"""Every setting under these five prefixes that some release from 4.4 to 5.7 reads."""
PREFIXES: Final = ("task_", "worker_", "broker_", "result_", "beat_")
OF_OTHERS: Final = frozenset({"beat_dburi", "beat_schema", "task_cls"})
"""Settings of packages beside Celery, and an argument of its app, under its prefixes."""


def celery_name(name: str, prefix: str) -> str | None:
    """Return what a setting is called now; None for what is none of Celery's."""
    if name in OLD_NAMES:
        return OLD_NAMES[name]
    if prefix:
        bare = name.removeprefix(prefix).lower() if name.startswith(prefix) else ""
        return bare if _NEW.match(bare) else None
    return name if _NEW.match(name) else None
