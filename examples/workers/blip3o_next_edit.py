"""BLIP3o-NEXT-edit as a worker of docs/exec-protocol.md. NOT RUN HERE: it needs the authors' code, weights and a GPU.

    git clone --branch BLIP3o-NEXT-edit https://github.com/JiuhaiChen/BLIP3o     # in an environment of its own, as
    hf download BLIP3o/BLIP3o-NEXT-edit-VAE --local-dir WEIGHTS                  # the authors' README sets it up
    qkbench check model "exec:BLIP3O_ENV/bin/python examples/workers/blip3o_next_edit.py BLIP3o WEIGHTS"
    qkbench run --task edit --resolution 512 --model "exec:..." --model-arg name=blip3o-next-edit

Written against the authors' `inference_editing.py`, whose inference class it imports rather than repeats. If your
checkout calls things otherwise, `load` says so at the start; the names below are what to change.

Their `generate_images` samples tokens (`do_sample=True`) and ignores the `generator` it accepts, so that only the
global generators count; and `generate_image` first seeds those with 42. Its `set_global_seed` is therefore replaced by
one that seeds with the seed of the request. The flags are those the authors' script has for the -VAE checkpoint.
"""

import importlib
import json
import os
import random
import sys

MODULE, CLASS, CONFIG, SEEDER = "inference_editing", "ImageEditingInference", "EditingConfig", "set_global_seed"
FLAGS = {"use_und_image_vae": True}

lines = os.fdopen(os.dup(1), "w")  # the protocol keeps stdout for itself: the authors' code prints
os.dup2(2, 1)


def say(**message):
    print(json.dumps(message), file=lines, flush=True)


def load(checkout, weights):
    """The authors' module, and its inference object."""
    sys.path.insert(0, os.path.abspath(checkout))
    module = importlib.import_module(MODULE)
    lacking = [name for name in (CLASS, CONFIG, SEEDER) if not hasattr(module, name)]
    if lacking:
        sys.exit(f"{module.__file__} has no {' and no '.join(lacking)}: another version than this worker knows")
    return module, getattr(module, CLASS)(getattr(module, CONFIG)(model_path=weights, **FLAGS))


def seed_everything(seed):
    """Seed the global generators. numpy takes 32 bits, so all get the same 32."""
    import numpy
    import torch

    seed %= 2**32
    random.seed(seed)
    numpy.random.seed(seed)  # noqa: NPY002 (what the authors' code draws from)
    torch.manual_seed(seed)  # on every device


def edit(module, model, request):
    """The edited image, as PIL."""
    from PIL import Image

    source = Image.open(request["source"]).convert("RGB")
    setattr(module, SEEDER, lambda *_: seed_everything(request["seed"]))
    made = model.generate_image(request["instruction"], [source])
    if made is None:
        raise RuntimeError("the model returned no image")
    return made.convert("RGB")


def main():
    """Answer requests until the input ends."""
    if len(sys.argv) != 3:
        sys.exit("usage: blip3o_next_edit.py CHECKOUT WEIGHTS")
    module, model = load(*sys.argv[1:])
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "hello":
            say(type="ready", protocol=1, name="BLIP3o-NEXT-edit")
        if message["type"] == "request":
            try:
                edit(module, model, message).save(message["output"])
                say(type="result", id=message["id"], status="ok")
            except Exception as error:
                say(type="result", id=message["id"], status="model_error", detail=repr(error))


if __name__ == "__main__":
    main()
