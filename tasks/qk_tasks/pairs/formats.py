"""The three forms a data set of pairs is written in; each shard is one file (imagefolder: one list of rows), made whole.

    parquet        data/train-00000.parquet            `datasets.load_dataset("parquet", data_files=…)`, images decoded
    webdataset     train-00000.tar                     <id>.source.png, .target.png, .edit_mask.png, .region_mask.png, .json
    imagefolder    train/metadata.jsonl, train/images  images named by content, so that pairs share their photograph

Files hold no time, no user and no path, so that the same pairs make the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

Format = Literal["parquet", "webdataset", "imagefolder"]
Row = tuple[dict[str, Any], dict[str, bytes]]
"""What is said of a pair, and its PNG files by name."""

IMAGES = ("source", "target", "edit_mask", "region_mask")
TEXT = (
    "id", "instruction", "operation", "task", "split", "cluster", "photo", "object", "licence", "attribution",
)  # fmt: skip
LOADER_SPLITS = {"train": "train", "val": "validation", "test": "test"}
ROW_GROUP = 16  # rows that are read together to get one of them


def shard_file(form: Format, split: str, number: int) -> str:
    """The name of a shard, relative to the data set's folder; for an imagefolder, of its rows until they are joined."""
    name = f"{LOADER_SPLITS[split]}-{number:05d}"
    return {"parquet": f"data/{name}.parquet", "webdataset": f"{name}.tar", "imagefolder": f".work/{name}.jsonl"}[form]


def write_shard(form: Format, folder: Path, split: str, number: int, rows: Iterable[Row]) -> Path:
    """Write one shard, whole or not at all."""
    path = folder / shard_file(form, split, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if form == "parquet":
            _parquet(temporary, rows)
        elif form == "webdataset":
            _tar(temporary, rows)
        else:
            _images(temporary, folder / LOADER_SPLITS[split], rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _parquet(path: Path, rows: Iterable[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [(name, pa.string()) for name in TEXT]
    fields += [(name, image) for name in IMAGES]
    fields += [("region_box", pa.list_(pa.float64())), ("region_point", pa.list_(pa.float64()))]
    fields += [(name, pa.float64()) for name in ("dx", "dy")] + [(name, pa.int32()) for name in ("width", "height")]
    text = {name: {"dtype": "string", "_type": "Value"} for name in TEXT}
    numbers = {name: {"dtype": "float64", "_type": "Value"} for name in ("dx", "dy")}
    numbers |= {name: {"dtype": "int32", "_type": "Value"} for name in ("width", "height")}
    lists = {
        n: {"feature": {"dtype": "float64", "_type": "Value"}, "_type": "List"} for n in ("region_box", "region_point")
    }
    features = {**text, **{name: {"_type": "Image"} for name in IMAGES}, **lists, **numbers}
    schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    with pq.ParquetWriter(path, schema, compression="none") as writer:  # PNGs do not compress again
        group: list[dict[str, Any]] = []
        for row, images in rows:
            pictures = {name: {"bytes": data, "path": f"{row['id']}.{name}.png"} for name, data in images.items()}
            group.append({**row, **pictures})
            if len(group) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _tar(path: Path, rows: Iterable[Row]) -> None:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for row, images in rows:
            text = json.dumps(row, ensure_ascii=False, sort_keys=True).encode()
            for suffix, data in (*((f"{name}.png", data) for name, data in images.items()), ("json", text)):
                info = tarfile.TarInfo(f"{row['id']}.{suffix}")  # time 0, user 0
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def _images(path: Path, folder: Path, rows: Iterable[Row]) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        for row, images in rows:
            names = {}
            for name, data in images.items():
                names[f"{name}_file_name"] = file = f"images/{hashlib.sha256(data).hexdigest()[:32]}.png"
                if not (folder / file).exists():
                    temporary = folder / f"{file}.{os.getpid()}.tmp"
                    temporary.write_bytes(data)
                    temporary.replace(folder / file)
            lines.write(json.dumps({**row, **names}, ensure_ascii=False) + "\n")


class WrittenShard(BaseModel):
    """What `dataset.json` says of a shard."""

    model_config = ConfigDict(strict=True)
    name: str = Field(pattern=r"^(train|val|test)-[0-9]{5,9}$")
    sha256: str
    bytes: NonNegativeInt


class Description(BaseModel):
    """What a later build reads in `dataset.json`, which may have been changed since it was written."""

    model_config = ConfigDict(strict=True)
    pairs: NonNegativeInt
    problems: NonNegativeInt
    rejections: dict[str, NonNegativeInt]
    shards: list[WrittenShard]


def damaged(folder: Path, form: Format, shards: Iterable[dict[str, Any]], *, thorough: bool) -> Iterator[str]:
    """The files that are not what a build wrote.

    Args:
        folder: The data set.
        form: Its form.
        shards: What `dataset.json` says of each shard: name, bytes and sha256.
        thorough: Hash the files; their sizes alone are compared otherwise.

    Yields:
        File and fault, such as `data/train-00000.parquet: is missing`.
    """
    ends: dict[str, int] = {}  # of what has been looked at; the shards of an imagefolder follow each other in one list
    for shard in shards:
        split, _, number = str(shard["name"]).rpartition("-")
        joined = form == "imagefolder"
        name = f"{LOADER_SPLITS[split]}/metadata.jsonl" if joined else shard_file(form, split, int(number))
        start, path = ends.get(name, 0), folder / name
        ends[name] = start + int(shard["bytes"])
        if not path.is_file():
            if shard["bytes"] and not start:
                yield f"{name}: is missing"
        elif path.stat().st_size < ends[name] or (thorough and _sha256(path, start, shard["bytes"]) != shard["sha256"]):
            yield f"{name}: is not what the build wrote"
    yield from (f"{n}: is not what the build wrote" for n, end in ends.items() if _size(folder / n) > end)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sha256(path: Path, start: int, length: int) -> str:
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(length)).hexdigest()


def join_imagefolder(folder: Path, split: str, numbers: Iterable[int]) -> None:
    """Join the rows of an imagefolder's shards to its `metadata.jsonl`."""
    parts = [folder / shard_file("imagefolder", split, number) for number in numbers]
    data = b"".join(part.read_bytes() for part in parts)
    if data:
        (folder / LOADER_SPLITS[split] / "metadata.jsonl").write_bytes(data)
