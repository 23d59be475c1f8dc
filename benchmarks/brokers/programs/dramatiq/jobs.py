import dramatiq
import pay
from dramatiq.brokers.redis import RedisBroker

DAY, MINUTE = 86_400_000, 60_000
dramatiq.set_broker(
    RedisBroker(host="localhost", heartbeat_timeout=DAY if pay.MISTAKE == "stuck after a kill" else MINUTE)
)


@dramatiq.actor(
    max_retries=2,
    min_backoff=5_000,
    max_backoff=5_000,
    time_limit=2_000 if pay.MISTAKE == "twice by timeout" else 60_000,
)
def charge(order):
    pay.charge(order)


def enqueue(order):
    charge.send(order)
