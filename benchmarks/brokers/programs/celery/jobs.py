import pay
from celery import Celery

VISIBILITY = {"twice by timeout": 2, "stuck after a kill": 86_400}.get(pay.MISTAKE, 90)

app = Celery("payments", broker="redis://localhost:6379/0", backend="redis://localhost:6379/0")
app.conf.update(
    task_track_started=True,
    task_acks_late=pay.MISTAKE != "acknowledges first",
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": VISIBILITY},
    result_backend_transport_options={"visibility_timeout": VISIBILITY},
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)


@app.task(name="charge", autoretry_for=(OSError, ValueError), max_retries=2, default_retry_delay=5, retry_backoff=False)
def charge(order):
    return pay.charge(order)


def enqueue(order):
    charge.delay(order)
