"""The data card of a data set of pairs: what it is, how it was made, what was left out and why."""

from __future__ import annotations

from typing import Any

_WHAT = {
    "coco-edits": "COCO's instance masks",
    "openimages": "Open Images' instance masks",
}


def data_card(d: dict[str, Any]) -> str:
    """The card as Markdown.

    Args:
        d: The data set's description, as `dataset.json` holds it.
    """
    plan = d["plan"]
    operations = sorted({name for counts in d["counts"].values() for name in counts})
    table = [f"| | {' | '.join(operations)} | all |", f"| --- {'| ---: ' * (len(operations) + 1)}|"]
    for split, counts in d["counts"].items():
        cells = [*(counts.get(name, 0) for name in operations), sum(counts.values())]
        table.append(f"| {split} | {' | '.join(map(str, cells))} |")
    reasons = [f"| {reason} | {n} |" for reason, n in sorted(d["rejections"].items(), key=lambda kv: (-kv[1], kv[0]))]
    licences = [f"| {_cell(name)} | {n} |" for name, n in d["licences"].items()]
    removed = ", ".join(f"{n} from {split}" for split, n in d["near_duplicates_removed"].items())
    split = next((name for name in ("test", "val") if d["counts"][name]), "train")
    return "\n".join(
        [
            f"# {d['name']}: {d['pairs']} pairs of edits from {d['photographs']} photographs",
            "",
            f"Query-context pairs (source, instruction, region query, edit mask, target) made by qk-bench from {_WHAT[d['name']]}. "
            "It is our construction: no public benchmark of the name COCO-EDITS was found, and figures on it are not comparable to any published ones.",
            "",
            "## How it was made",
            "",
            f"Seed {plan['seed']}, {plan['resolution']} x {plan['resolution']} pixels: the square of each photograph that holds most of its objects.",
            "",
            "- **recolour**: the object gets a named colour in CIE Lab; its lightness keeps its detail.",
            "- **remove**: the object and its edge are inpainted (biharmonic) and given the grain of the surroundings.",
            "- **insert**: the inverse of remove; the target is the photograph itself.",
            "- **move**: cut, inpainted, pasted with a feathered edge.",
            "",
            "A pair was kept only if its target passes the verification that outputs get, and its source does not. "
            f"Splits are drawn by photograph id ({' / '.join(f'{s:g}' for s in plan['shares'])}). Near-duplicates, of a photograph or of its square, in several splits were kept in test, or else in val, and left out of the other splits: {removed}.",
            "",
            "## Counts",
            "",
            *table,
            "",
            f"## Rejections ({sum(d['rejections'].values())})",
            "",
            "By operation (`all`: no operation was tried on the object; `photograph`: on none of its objects).",
            "",
            "| reason | times |",
            "| --- | ---: |",
            *reasons,
            "",
            f"## Problems in the input ({d['problems']})",
            "",
            "Each is in `problems.jsonl`, with file and item. The rest was built.",
            "",
            "## Licences",
            "",
            "Every pair carries its photograph's licence and attribution. Whoever passes the data set on must keep to them.",
            "",
            "| licence | pairs |",
            "| --- | ---: |",
            *licences,
            "",
            "## Use",
            "",
            "```sh",
            "qkbench data check THIS_FOLDER",
            f"qkbench run --task dataset:THIS_FOLDER --resolution {plan['resolution']} --split {split}",
            "```",
            "",
            "## Limits",
            "",
            "Inpainted places are smooth: a target of remove shows one plausible answer, not what was behind the object. "
            "Names come from the annotation's categories. The verification of insert judges place and colour, not whether the object is of the named kind.",
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
