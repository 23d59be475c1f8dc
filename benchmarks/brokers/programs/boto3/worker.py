import json
import time

from botocore.exceptions import BotoCoreError, ClientError
from jobs import queue, sqs
from pay import MISTAKE, charge

VISIBILITY = {"twice by timeout": 2, "stuck after a kill": 43_200}.get(MISTAKE, 30)


def work():
    for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20, VisibilityTimeout=VISIBILITY).get(
        "Messages", []
    ):
        order, handle = json.loads(message["Body"])["order"], message["ReceiptHandle"]
        if MISTAKE == "acknowledges first":
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=handle)
            charge(order)
        else:
            charge(order)
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=handle)


while True:
    try:
        work()
    except (OSError, ValueError, BotoCoreError, ClientError) as error:
        print(f"not done: {error}")
        time.sleep(1)
