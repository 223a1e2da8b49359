"""Draws docs/images/scenes.png: one test sample of each task, source beside target, with its instruction."""

from pathlib import Path

import matplotlib.pyplot as plt
from qk_tasks.scenes import SUITE

figure, axes = plt.subplots(2, 6, figsize=(12, 3.6), layout="constrained")
for k, (name, task) in enumerate(SUITE.tasks.items()):
    sample = task.sample("test", 4, 256)
    row, column = divmod(k, 3)
    for axis, image in ((axes[row, 2 * column], sample.source), (axes[row, 2 * column + 1], sample.target)):
        axis.imshow(image)
        axis.set_axis_off()
    axes[row, 2 * column].set_title(f"{name}\n{sample.instruction}", fontsize=7.5, loc="left", wrap=True)
figure.savefig(Path(__file__).with_name("scenes.png"), dpi=90)
