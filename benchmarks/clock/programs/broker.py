"""A RabbitMQ server, and a message that waits in a queue of 30 seconds until it is delivered to another."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pika
import pika.exceptions

folder, server = sys.argv[1:3]
home = os.path.join(folder, "home")
shutil.rmtree(home, ignore_errors=True)
os.makedirs(home)
PORT = 56720
settings = {
    "MNESIA_BASE": f"{home}/db",
    "LOG_BASE": f"{home}/log",
    "NODENAME": "clock@localhost",
    "NODE_PORT": str(PORT),
    "DIST_PORT": "56721",
    "PID_FILE": f"{home}/pid",
    "ENABLED_PLUGINS_FILE": f"{home}/plugins",
    "FEATURE_FLAGS_FILE": f"{home}/flags",
}
environment = os.environ | {f"RABBITMQ_{name}": value for name, value in settings.items()}
environment |= {"ERL_EPMD_PORT": "4377", "HOME": home}
process = subprocess.Popen([server], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home)
begun = time.time()
while True:
    try:
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", PORT))
        break
    except pika.exceptions.AMQPConnectionError:
        time.sleep(1)
print(f"up after {time.time() - begun:.3f}", flush=True)
channel = connection.channel()
channel.queue_declare("work")
later = {"x-message-ttl": 30_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"}
channel.queue_declare("wait", arguments=later)
begun = time.time()
for number in range(3):
    channel.basic_publish("", "wait", b"message %d" % number)
    time.sleep(1)
for _, (method, _, body) in zip(range(3), channel.consume("work", inactivity_timeout=100), strict=False):
    assert method is not None
    print(f"{time.time() - begun:.3f}", body.decode(), flush=True)
connection.close()
process.send_signal(signal.SIGTERM)
print(process.wait())
