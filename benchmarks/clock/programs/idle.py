"""Starts a server, lets it be idle for some seconds, and ends it: `idle.py SECONDS COMMAND...`."""

import os
import signal
import subprocess
import sys
import time

seconds, *command = sys.argv[1:]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
time.sleep(10)
time.sleep(float(seconds))
server.send_signal(signal.SIGTERM)
server.wait()
print("idle", seconds)
