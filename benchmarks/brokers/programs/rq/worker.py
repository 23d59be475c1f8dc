from jobs import queue
from pay import MISTAKE
from rq import Worker

DAY = 86_400
options = {"maintenance_interval": DAY} if MISTAKE == "stuck after a kill" else {}
Worker([queue], connection=queue.connection, **options).work(with_scheduler=True)
