"""The CelebA-HQ holdout: read in its published layout, split by person, decided by its masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harness import Cli
from PIL import Image
from qk_tasks.faces.drawing import draw
from qk_tasks.faces.edits import draw_item

from qk_bench.compare.scores import load_run
from qk_bench.errors import UsageError
from qk_bench.interfaces import Task
from qk_bench.plugins import find_tasks
from qk_bench.run.spec import make_tasks, without_unusable

NAMES = (
    "Bald",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Eyeglasses",
    "Gray_Hair",
    "Smiling",
    "Wearing_Hat",
    "Wearing_Lipstick",
)
FILES = ("000500.jpg", "162770.jpg", "162771.jpg", "182637.jpg", "182638.jpg", "202599.jpg", "190000.jpg", "190001.jpg")
SIDE = 64


def write(root: Path) -> Path:
    """Eight drawn portraits with masks, in CelebAMask-HQ's layout; even ones wear glasses, odd ones a hat."""
    (root / "CelebA-HQ-img").mkdir(parents=True)
    (root / "CelebAMask-HQ-mask-anno" / "0").mkdir(parents=True)
    rows, mapping = [], ["idx    orig_idx    orig_file"]
    for number, name in enumerate(FILES):
        item = draw_item("portrait", "train", "background", 2 * number)
        look = item.source.look._replace(
            hair="black", glasses=("black", "round") if number % 2 == 0 else None, hat="red" if number % 2 else None,
            lips=None, smile=False,
        )  # fmt: skip
        picture = draw(item.source._replace(look=look, person=item.source.person._replace(style="long")), SIDE)
        Image.fromarray(picture.image).save(root / "CelebA-HQ-img" / f"{number}.jpg", quality=98)
        parts = picture.parts
        masks = {
            "skin": parts["skin"] + parts["brows"] + parts["eyes"] + parts["nose"], "hair": parts["hair"], "eye_g": parts["glasses"],
            "hat": parts["hat"], "cloth": parts["cloth"], "u_lip": parts["lips"], "l_lip": parts["lips"],
        }  # fmt: skip
        for part, share in masks.items():
            if (share > 0.5).any():
                mask = np.repeat(((share > 0.5) * np.uint8(255))[:, :, None], 3, axis=2)
                path = root / "CelebAMask-HQ-mask-anno" / "0" / f"{number:05d}_{part}.png"
                Image.fromarray(mask).resize((128, 128), Image.Resampling.NEAREST).save(path)
        true = {"Black_Hair", "Eyeglasses" if number % 2 == 0 else "Wearing_Hat"}
        rows.append(f"{number}.jpg  {' '.join('1' if n in true else '-1' for n in NAMES)}")
        mapping.append(f"{number}    {int(name[:6]) - 1}    {name}")
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join([str(len(rows)), " ".join(NAMES), *rows]) + "\n")
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(mapping) + "\n")
    return root


def task(root: Path, name: str) -> Task:
    return find_tasks([f"celeba-hq:{root}/{name}"])[0].task


def test_split_is_celebas_own_by_the_file_an_image_comes_from(tmp_path: Path) -> None:
    """Bounds included: CelebAMask-HQ's script is one off, because it compares numbers that count from 0."""
    background = task(write(tmp_path), "background")
    assert [background.size(split) for split in ("train", "val", "test")] == [2, 2, 4]


def test_known_people_are_never_in_train_and_holdout(tmp_path: Path) -> None:
    write(tmp_path)
    people = [1, 2, 3, 4, 2, 5, 6, 6]
    (tmp_path / "identity_CelebA.txt").write_text("".join(f"{f} {p}\n" for f, p in zip(FILES, people, strict=True)))
    (found,) = find_tasks([f"celeba-hq:{tmp_path}/background"])
    assert found.task.size("test") == 3
    assert list(found.suite.problems) == ["celeba-hq, image 4: person 2 is in the training split too"]
    samples = [found.task.sample("test", index, SIDE) for index in range(3)]
    assert [sample.cluster for sample in samples] == ["person-5", "person-6", "person-6"]


def test_images_of_people_that_are_not_told_are_in_no_split(tmp_path: Path) -> None:
    """The person of image 0, of train, is that of images 6 and 7, of the test split; the list of people lacks image 0."""
    write(tmp_path)
    people = [f"{name} {person}" for name, person in zip(FILES, [6, 2, 3, 4, 1, 5, 6, 6], strict=True)]
    (tmp_path / "identity_CelebA.txt").write_text("\n".join([*people[1:4], *people[5:], f"{FILES[5]} 6"]) + "\n")
    (found,) = find_tasks([f"celeba-hq:{tmp_path}/background"])
    assert [found.task.size(split) for split in ("train", "val", "test")] == [1, 2, 2]
    assert list(found.suite.problems) == [
        "celeba-hq, image 0: identity_CelebA.txt has no line for 000500.jpg",
        "celeba-hq, image 4: identity_CelebA.txt has no line for 182638.jpg",
        "celeba-hq, image 5: identity_CelebA.txt line 7: 6 for 202599.jpg, which has 5 above",
    ]


def test_an_image_is_in_the_split_of_its_first_line_and_no_file_is_two_images(tmp_path: Path) -> None:
    path = write(tmp_path) / "CelebA-HQ-to-CelebA-mapping.txt"
    rows = path.read_text().splitlines()
    rows[8] = rows[8].replace("190001.jpg", "190000.jpg")
    path.write_text("\n".join([*rows, "0    199000    199001.jpg"]) + "\n")
    (found,) = find_tasks([f"celeba-hq:{tmp_path}/background"])
    assert [found.task.size(split) for split in ("train", "val", "test")] == [2, 2, 3]
    assert list(found.suite.problems) == [
        "celeba-hq, CelebA-HQ-to-CelebA-mapping.txt line 10: image 0 is there twice, the first line counts",
        "celeba-hq, image 7: CelebA-HQ-to-CelebA-mapping.txt has it from 190000.jpg, as image 6",
    ]


@pytest.mark.parametrize("name", ["hair_colour", "lipstick", "background"])
def test_masks_decide_colours(tmp_path: Path, name: str) -> None:
    found = task(write(tmp_path), name)
    sample = found.sample("test", 0, SIDE)
    assert sample.source is not None and sample.target is not None
    assert found.decides and found.verify(sample, sample.target).success
    assert found.verify(sample, sample.source).reason.startswith("not done")
    everywhere = np.ascontiguousarray(
        np.broadcast_to(np.median(sample.target[sample.edit_mask], axis=0), sample.source.shape)
    )
    assert not found.verify(sample, everywhere.astype(np.uint8)).success


@pytest.mark.parametrize("name", ["remove_glasses", "remove_hat"])
def test_what_is_taken_off_must_be_replaced_and_nothing_else(tmp_path: Path, name: str) -> None:
    found = task(write(tmp_path), name)
    sample = found.sample("test", 0, SIDE)
    assert sample.source is not None and sample.edit_mask is not None and sample.target is None
    assert found.verify(sample, sample.source).reason.startswith("not done")
    replaced = sample.source.copy()
    replaced[sample.edit_mask] = (150, 160, 140)
    assert found.verify(sample, replaced).success
    assert found.verify(sample, 255 - replaced).reason.startswith("changed elsewhere")


def test_what_no_mask_decides_has_no_success(tmp_path: Path) -> None:
    write(tmp_path)
    suite = find_tasks([f"celeba-hq:{tmp_path}"])[0].suite
    assert {name for name, one in suite.tasks.items() if not one.decides} == {"smile", "put_on_hat", "put_on_glasses"}
    sample = suite.tasks["smile"].sample("test", 0, SIDE)
    assert sample.edit_mask is not None and 0 < sample.edit_mask.mean() < 0.5
    assert "smile" in sample.instruction


def test_bad_images_are_named_and_the_rest_is_there(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "CelebA-HQ-img" / "4.jpg").unlink()
    for path in (tmp_path / "CelebAMask-HQ-mask-anno" / "0").glob("00005_*.png"):
        path.unlink()
    (found,) = find_tasks([f"celeba-hq:{tmp_path}/background"])
    assert found.task.size("test") == 2
    assert [line.partition(": ")[2] for line in found.suite.problems] == [
        "CelebA-HQ-img/4.jpg is missing",
        "CelebAMask-HQ-mask-anno has no mask of it",
    ]


def test_broken_files_of_the_holdout_are_named_and_the_rest_is_run(cli: Cli, tmp_path: Path) -> None:
    root = write(tmp_path / "celeba")
    images, masks = root / "CelebA-HQ-img", root / "CelebAMask-HQ-mask-anno" / "0"
    for path in (images / "4.jpg", masks / "00005_hair.png"):
        path.write_bytes(path.read_bytes()[:-50])
    Image.new("RGB", (64, 48)).save(images / "6.jpg")
    code, _, err = cli(
        "run", "--task", f"celeba-hq:{root}/background", "--model", "oracle", "--metric", "drift", "--no-page",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 5
    assert [line for line in err.splitlines() if line.startswith("left out: ")] == [
        "left out: celeba-hq, image 4: 4.jpg: the file is cut short",
        "left out: celeba-hq, image 5: 00005_hair.png: the file is cut short",
        "left out: celeba-hq, image 6: 6.jpg: 64x48 pixels, CelebA-HQ's are square",
    ]
    assert "Traceback" not in err and (tmp_path / "run" / "scores.parquet").is_file()


def test_a_mask_that_is_torn_inside_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    path = write(tmp_path) / "CelebAMask-HQ-mask-anno" / "0" / "00005_skin.png"
    torn = bytearray(path.read_bytes())
    torn[torn.index(b"IDAT") + 12] ^= 0xFF
    path.write_bytes(torn)
    (found,) = find_tasks([f"celeba-hq:{tmp_path}/background"])
    assert list(found.suite.problems) == [
        "celeba-hq, image 5: 00005_skin.png: corrupt or truncated image (SyntaxError)"
    ]
    assert [found.task.sample("test", index, SIDE).attributes["image"] for index in range(3)] == [4, 6, 7]


def test_masks_that_cannot_fit_their_image_are_named_and_the_rest_is_run(cli: Cli, tmp_path: Path) -> None:
    root = write(tmp_path / "celeba")
    masks = root / "CelebAMask-HQ-mask-anno" / "0"
    for number, part, size in (
        (0, "hair", (128, 60)),
        (1, "skin", (64, 64)),
        (4, "hair", (128, 60)),
        (5, "skin", (64, 64)),
    ):
        path = masks / f"{number:05d}_{part}.png"
        Image.open(path).crop((0, 0, *size)).save(path)
    code, _, err = cli(
        "run", "--task", f"celeba-hq:{root}/hair_colour", "--model", "oracle", "--metric", "drift", "--no-page",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 5
    assert [line for line in err.splitlines() if line.startswith("left out: ")] == [
        "left out: celeba-hq, image 4: 00004_hair.png: 128x60 pixels, CelebA-HQ's are square",
        "left out: celeba-hq, image 5: 00005_skin.png: 64x64 pixels, and 00005_cloth.png has 128x128; "
        "they must be of one size",
    ]
    trained = task(root, "background")
    assert list(trained.unusable("train", (0, 1), SIDE)) == [0, 1]
    with pytest.raises(UsageError, match=r"image 0: 00000_hair.png: 128x60 pixels"):
        trained.sample("train", 0, SIDE)


def test_an_image_that_is_torn_inside_is_named_when_a_run_asks_for_it(tmp_path: Path) -> None:
    path = write(tmp_path) / "CelebA-HQ-img" / "5.jpg"
    torn = path.read_bytes()
    inside = torn.index(b"\xff\xda") + 20
    path.write_bytes(torn[:inside] + b"\xff\xc4\x00\x00" + torn[inside:])  # a table of no length
    (found,) = find_tasks([f"celeba-hq:{tmp_path}/background"])
    (said,) = found.task.unusable("test", range(found.task.size("test")), SIDE).values()
    assert said == "celeba-hq, image 5: 5.jpg: corrupt or truncated image (OSError)"


def test_an_image_that_exif_turns_is_named_since_its_masks_may_not_fit(tmp_path: Path) -> None:
    folder = write(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    path = folder / "CelebA-HQ-img" / "4.jpg"
    with Image.open(path) as image:
        image.save(path, exif=exif)
    said = find_tasks([f"celeba-hq:{folder}"])[0].suite.problems
    assert [line for line in said if "image 4: 4.jpg: EXIF turns it (orientation 3)" in line]


def test_a_suites_digest_is_that_of_its_files_too(tmp_path: Path) -> None:
    before = find_tasks([f"celeba-hq:{write(tmp_path)}"])[0].suite.digest()
    assert find_tasks([f"celeba-hq:{tmp_path}"])[0].suite.digest() == before
    Image.fromarray(np.zeros((128, 128), np.uint8)).save(tmp_path / "CelebAMask-HQ-mask-anno" / "0" / "00004_hair.png")
    assert find_tasks([f"celeba-hq:{tmp_path}"])[0].suite.digest() != before


def test_a_list_that_is_cut_short_and_the_images_it_lacks_are_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "CelebAMask-HQ-attribute-anno.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:8]) + "\n")
    (found,) = find_tasks([f"celeba-hq:{tmp_path}/background"])
    assert found.task.size("test") == 2
    assert list(found.suite.problems) == [
        "celeba-hq, CelebAMask-HQ-attribute-anno.txt says that it has 8 images, and has 6",
        "celeba-hq, image 6: CelebAMask-HQ-attribute-anno.txt has no line for 6",
        "celeba-hq, image 7: CelebAMask-HQ-attribute-anno.txt has no line for 7",
    ]


def test_bad_lines_cost_their_images_and_the_rest_is_run(cli: Cli, tmp_path: Path) -> None:
    root = write(tmp_path / "celeba")
    attributes, mapping = root / "CelebAMask-HQ-attribute-anno.txt", root / "CelebA-HQ-to-CelebA-mapping.txt"
    rows = attributes.read_text().splitlines()
    attributes.write_text("\n".join([*rows[:6], rows[6].rpartition(" ")[0], *rows[7:], "x.jpg 1", rows[9]]) + "\n")
    rows = mapping.read_text().splitlines()
    mapping.write_text("\n".join([*rows[:6], "5 202598", *rows[7:]]) + "\n")
    splits = [f"{name} {split}" for name, split in zip(FILES, (0, 0, 1, 1, 2, 2, 7, 2), strict=True)]
    (root / "list_eval_partition.txt").write_text("\n".join([*splits[:3], *splits[4:]]) + "\n")
    code, _, err = cli(
        "run", "--task", f"celeba-hq:{root}/background", "--model", "oracle", "--metric", "drift", "--no-page",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 5
    assert [line for line in err.splitlines() if line.startswith("left out: ")] == [
        "left out: celeba-hq, CelebAMask-HQ-attribute-anno.txt line 11: expected <n>.jpg and 9 values of -1 or 1",
        "left out: celeba-hq, CelebAMask-HQ-attribute-anno.txt line 12: image 7 is there twice, the first line counts",
        "left out: celeba-hq, image 3: list_eval_partition.txt has no line for 182637.jpg",
        "left out: celeba-hq, image 4: CelebAMask-HQ-attribute-anno.txt line 7: "
        "expected <n>.jpg and 9 values of -1 or 1",
        "left out: celeba-hq, image 5: CelebA-HQ-to-CelebA-mapping.txt line 7: expected idx, orig_idx and orig_file",
        "left out: celeba-hq, image 6: list_eval_partition.txt line 6: expected a file name and 0, 1 or 2",
    ]
    (asked,) = load_run(tmp_path / "run").manifest.spec.tasks
    assert asked.indices == ((0, 1),)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("identity_CelebA.txt", "", "has no line that can be used; the first problem: it is empty"),
        ("CelebAMask-HQ-attribute-anno.txt", "2\nBald Smiling\n0.jpg -1\n", "line 3: expected <n>.jpg and 2 values"),
        (
            "CelebA-HQ-to-CelebA-mapping.txt",
            "idx orig_idx orig_file\n0 1\n",
            "line 2: expected idx, orig_idx and orig_file",
        ),
        ("list_eval_partition.txt", "000500.jpg 7\n", "line 1: expected a file name and 0, 1 or 2"),
    ],
)
def test_an_annotation_file_without_a_usable_line_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        find_tasks([f"celeba-hq:{tmp_path}"])


def test_copies_and_byte_order_marks_change_nothing(tmp_path: Path) -> None:
    (found,) = find_tasks([f"celeba-hq:{write(tmp_path)}/background"])
    digest = found.suite.digest()
    for name in ("CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-to-CelebA-mapping.txt"):
        (tmp_path / name).write_text((tmp_path / name).read_text(), encoding="utf-8-sig")
    (tmp_path / "CelebA-HQ-img" / "4.copy.jpg").write_bytes(b"")
    (tmp_path / "CelebAMask-HQ-mask-anno" / "0" / "4_hat.png").write_bytes(b"")
    (found,) = find_tasks([f"celeba-hq:{tmp_path}/background"])
    assert not found.suite.problems and found.suite.digest() == digest
    (tmp_path / "list_eval_partition.txt").mkdir()
    with pytest.raises(UsageError, match=r"list_eval_partition\.txt cannot be read: Is a directory"):
        find_tasks([f"celeba-hq:{tmp_path}/background"])


def test_a_folder_without_the_layout_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no CelebA-HQ-img"):
        find_tasks([f"celeba-hq:{tmp_path}"])


def test_a_mask_of_other_values_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "CelebAMask-HQ-mask-anno" / "0" / "00004_hair.png"
    Image.fromarray(np.full((128, 128), 7, np.uint8)).save(path)
    with pytest.raises(UsageError, match=r"image 4: 00004_hair.png: values 7; expected 0 and 1, or 0 and 255"):
        task(tmp_path, "background").sample("test", 0, SIDE)


def test_masks_of_other_values_or_of_nothing_are_named_and_the_rest_is_run(cli: Cli, tmp_path: Path) -> None:
    root = write(tmp_path / "celeba")
    masks = root / "CelebAMask-HQ-mask-anno" / "0"
    Image.fromarray(np.full((128, 128), 7, np.uint8)).save(masks / "00004_hair.png")
    Image.fromarray(np.zeros((128, 128), np.uint8)).save(masks / "00007_hat.png")
    code, _, err = cli(
        "run", "--task", f"celeba-hq:{root}/decided", "--model", "no-op", "--metric", "success", "--no-page",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 5
    assert [line for line in err.splitlines() if line.startswith("left out: ")] == [
        "left out: celeba-hq, image 4: 00004_hair.png: values 7; expected 0 and 1, or 0 and 255",
        "left out: celeba-hq, image 7: the mask of hat is empty at 64 pixels",
    ]
    manifest = load_run(tmp_path / "run").manifest
    asked = {task.task: task.indices for task in manifest.spec.tasks}
    assert manifest.status == "complete"
    assert asked["background"] == ((1, 4),) and asked["remove_hat"] == ((0, 1),)
    assert asked["remove_glasses"] == ((0, 2),)  # which needs neither of the two


def test_a_task_of_which_no_sample_can_be_used_leaves_the_others(tmp_path: Path) -> None:
    root = write(tmp_path / "celeba")
    for number in (5, 7):
        Image.new("L", (128, 128), 7).save(root / "CelebAMask-HQ-mask-anno" / "0" / f"{number:05d}_hat.png")
    both = find_tasks([f"celeba-hq:{root}/remove_hat", f"celeba-hq:{root}/remove_glasses"])
    _, tasks = make_tasks(both, "test", 9)
    found, kept, problems = without_unusable(both, tasks, "test", SIDE)
    assert [item.task.name for item in found] == [task.task for task in kept] == ["remove_glasses"]
    assert len(problems) == 2
    with pytest.raises(UsageError, match=r"no sample can be used; the first problem: .*00005_hat.png: values 7"):
        without_unusable(both[:1], tasks[:1], "test", SIDE)


def test_a_run_leaves_out_tasks_without_samples_in_the_split_and_says_so(cli: Cli, tmp_path: Path) -> None:
    root = write(tmp_path / "celeba")
    code, out, err = cli(
        "run", "--task", f"celeba-hq:{root}", "--model", "no-op", "--model", "oracle", "--metric", "drift", "--no-page",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 5  # the oracle has no answer for what is taken off
    assert "no samples in split test, left out: celeba-hq/put_on_glasses" in err
    undecided = next(line for line in out.splitlines() if "oracle" in line and "celeba-hq/smile" in line)
    assert "0.0%" not in undecided
