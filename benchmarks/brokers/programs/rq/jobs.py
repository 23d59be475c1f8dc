from pay import MISTAKE, charge
from redis import Redis
from rq import Queue, Retry

queue = Queue("payments", connection=Redis())


def enqueue(order):
    seconds = 2 if MISTAKE == "twice by timeout" else 30
    queue.enqueue(charge, order, retry=Retry(max=2, interval=5), job_timeout=seconds)
