"""A worker that does one wrong thing on one sample: `bad_worker.py FAULT GUILTY`."""

import json
import os
import subprocess
import sys
import time

from PIL import Image

fault, guilty = sys.argv[1:]


def say(text):
    print(text, flush=True)


if fault == "not ready":
    sys.exit(3)
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "hello":
        say(json.dumps({"type": "ready", "protocol": 2 if fault == "protocol" else 1}))
    if message["type"] != "request":
        continue
    answer = {"type": "result", "id": message["id"], "status": "ok"}
    if message["sample_id"] == guilty:
        if fault == "die":
            os._exit(9)
        if fault == "die for good":
            open(sys.argv[0] + ".gone", "w").close()
            os.rename(sys.argv[0], sys.argv[0] + ".moved")
            os._exit(9)
        if fault == "hang":
            child = subprocess.Popen(["sleep", "1000"])
            with open(sys.argv[0] + ".pids", "w") as file:
                file.write(f"{os.getpid()} {child.pid}")
            time.sleep(1000)
        if fault == "nonsense":
            say("Loading checkpoint shards: 100%")
            continue
        if fault == "other id":
            answer["id"] += 1
        if fault == "endless":
            while True:
                sys.stdout.write("x" * 65536)
        if fault == "refuse":
            answer |= {"status": "refused", "detail": "not\nallowed"}
        if fault == "status":
            answer["status"] = "fine"
        if fault == "no image":
            say(json.dumps(answer))
            continue
        if fault == "not an image":
            with open(message["output"], "w") as file:
                file.write("no image")
            say(json.dumps(answer))
            continue
        if fault == "link":
            os.symlink(message["source"], message["output"])
            say(json.dumps(answer))
            continue
    Image.open(message["source"]).save(message["output"])
    say(json.dumps(answer))
