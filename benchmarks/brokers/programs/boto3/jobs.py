import json
import os

import boto3

sqs = boto3.client("sqs")
queue = os.environ["QUEUE_URL"]


def enqueue(order):
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"order": order}))
