"""Evaluations by a model of another company, and no limit to how long one takes: `python app.py`."""

import json
import os
import time
import urllib.request

import psycopg

LIMIT = {"timeout": 60} if os.environ.get("REPAIRED") else {}
ME = os.environ.get("HOSTNAME", "worker")
CLAIM = """
UPDATE run SET state = 'active', worker = %s, attempts = attempts + 1
WHERE id = (SELECT id FROM run WHERE state = 'waiting' OR state = 'active' AND worker = %s ORDER BY id LIMIT 1
FOR UPDATE SKIP LOCKED) RETURNING id, trace"""
END = """
UPDATE run SET state = CASE WHEN %s THEN 'completed' WHEN attempts < 3 THEN 'waiting' ELSE 'failed' END WHERE id = %s"""


def evaluate(trace):
    body = json.dumps({"trace": trace}).encode()
    try:
        with urllib.request.urlopen("http://model.example.com/evaluate", data=body, **LIMIT) as response:
            return "run" in json.load(response)
    except (OSError, ValueError):
        return False


while True:
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
            while True:
                if row := db.execute(CLAIM, [ME, ME]).fetchone():
                    db.execute(END, [evaluate(row[1]), row[0]])
                else:
                    time.sleep(2)
    except psycopg.OperationalError:
        time.sleep(1)
