"""The reference worker of docs/exec-protocol.md: needs only Pillow. Copy it, and put your model into `load` and `edit`."""

import json
import os
import random
import sys

from PIL import Image

lines = os.fdopen(os.dup(1), "w")  # the protocol keeps stdout for itself ...
os.dup2(2, 1)  # ... and whatever a library prints goes to the log


def say(**message):
    print(json.dumps(message), file=lines, flush=True)


def load():
    """Load the weights, once."""
    return random.Random


def edit(model, request):
    """Return a PIL image; here the source with a stripe of a colour drawn from the seed."""
    source, height = Image.open(request["source"]).convert("RGB"), request["height"] // 8 + 1
    source.paste(tuple(model(request["seed"]).choices(range(256), k=3)), (0, 0, source.width, height))
    return source


model = load()
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "hello":
        say(type="ready", protocol=1)
    if message["type"] == "request":
        try:
            edit(model, message).save(message["output"])
            say(type="result", id=message["id"], status="ok")
        except Exception as error:
            say(type="result", id=message["id"], status="model_error", detail=repr(error))
