"""Three tasks. Nothing here knows how it is tested."""

from shop import outside
from shop.app import app


@app.task
def charge(order, cents):
    """Charge an order. Not idempotent: `idempotency_key=order` would make it so."""
    receipt = outside.payments.charge(order=order, cents=cents)
    outside.orders[order] = receipt
    return receipt


@app.task(bind=True, autoretry_for=(ConnectionError,), max_retries=6, retry_backoff=3600, retry_backoff_max=86_400,
          retry_jitter=False)  # fmt: skip
def deliver_webhook(self, url, event):
    """Tell a customer's server; it is tried again after 1, 2, 4, 8, 16 and 24 hours, which are more than two days."""
    outside.http.post(url, event)
    return self.request.retries


@app.task
def report(day):
    """Count the orders of a day."""
    if not outside.orders:
        raise LookupError(f"no orders on {day}")
    return len(outside.orders)
