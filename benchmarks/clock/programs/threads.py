import os
import queue
import random
import select
import socket
import subprocess
import threading
import time
import uuid

begun, order, lock = time.monotonic(), [], threading.Lock()


def work(number: int, jobs: queue.Queue[int]) -> None:
    while True:
        job = jobs.get()
        if job < 0:
            return
        time.sleep(random.random())
        with lock:
            order.append((number, job))
            print(f"{time.monotonic() - begun:.6f} worker {number} job {job} {uuid.uuid4()}")


jobs: queue.Queue[int] = queue.Queue()
workers = [threading.Thread(target=work, args=(n, jobs)) for n in range(6)]
for thread in workers:
    thread.start()
for job in range(24):
    jobs.put(job)
    time.sleep(0.1)
for _ in workers:
    jobs.put(-1)
for thread in workers:
    thread.join()
lock.acquire()
t = time.time()
print("lock", lock.acquire(timeout=3600), round(time.time() - t, 3))
event = threading.Event()
t = time.time()
print("event", event.wait(120.5), round(time.time() - t, 3))
a, b = socket.socketpair()
t = time.time()
print("select", select.select([a], [], [], 7.25), round(time.time() - t, 3))
poll = select.poll()
poll.register(a, select.POLLIN)
t = time.time()
print("poll", poll.poll(1500), round(time.time() - t, 3))
a.settimeout(9)
t = time.time()
try:
    a.recv(1)
except TimeoutError:
    print("recv", round(time.time() - t, 3))
t = time.time()
print(
    subprocess.run(["sh", "-c", "sleep 2; echo child"], capture_output=True, check=True).stdout,
    round(time.time() - t, 1),
)
with open("/dev/urandom", "rb") as device:
    drawn = device.read(4)
print(
    time.time(),
    hash("text"),
    id(order) % 4096,
    os.getpid(),
    os.urandom(4).hex(),
    drawn.hex(),
)
t = time.time()
time.sleep(3600)
print(f"python asked 3600.000 passed {time.time() - t:.3f}")
