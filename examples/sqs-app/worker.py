"""Takes orders from the queue and charges them."""

import json
import os
import time
import urllib.request

import boto3
from botocore.exceptions import BotoCoreError, ClientError

REPAIRED = os.environ["PAYMENTS_REPAIRED"] == "true"

sqs = boto3.client("sqs")
queue = os.environ["QUEUE_URL"]


def charge(order):
    headers = {"content-type": "application/json"}
    if REPAIRED:  # The host recognises a second request for the same order.
        headers["idempotency-key"] = order
    body = json.dumps({"order": order}).encode()
    request = urllib.request.Request("http://pay.example.com/charge", body, headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


def work():
    for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20).get("Messages", []):
        charge(json.loads(message["Body"])["order"])
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


while True:
    try:
        work()
    except (OSError, ValueError, BotoCoreError, ClientError) as error:
        print(f"not done: {error}")  # A message comes back when its visibility timeout is over.
        time.sleep(1)
