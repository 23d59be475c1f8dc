"""The application: a broker on Redis, late acknowledgement, so that a crash loses nothing."""

from celery import Celery

app = Celery("shop", broker="redis://localhost:6379/0", include=["shop.tasks"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={"visibility_timeout": 660},
    worker_prefetch_multiplier=1,
)
