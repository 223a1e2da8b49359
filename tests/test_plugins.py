"""Plug-ins are found by entry point or file, and a broken one is one clear line that hides no other."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest
from harness import PAINTER, SQUARES

from qk_bench import plugins
from qk_bench.errors import UsageError
from qk_bench.plugins import find_tasks, load_metric, load_model, load_suite


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the squares as two suites beside one that is broken."""
    group = plugins.GROUPS["task"]
    path = Path(SQUARES.partition(":")[0])
    monkeypatch.syspath_prepend(path.parent)
    entries = {
        name: [importlib.metadata.EntryPoint(name, value, group)]
        for name, value in {
            "squares": "squares:SUITE",
            "again": "squares:SUITE",
            "broken": "no_such_module:SUITE",
        }.items()
    }
    monkeypatch.setattr(plugins, "_entries", lambda kind: entries if kind == "task" else {})


def test_model_by_name_with_argument_and_by_file(tmp_path: Path) -> None:
    assert load_model("no-op").card.name == "no-op"
    assert load_model(PAINTER, {"batch_size": 3}).card.batch_size == 3
    (tmp_path / "a.png").write_bytes(b"")
    assert load_model(f"precomputed:{tmp_path}").card.name == f"precomputed:{tmp_path.name}"


def test_file_is_loaded_without_touching_sys_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("json.py").write_text("raise SystemExit('a file in the current folder was imported')\n")
    Path("mine.py").write_text(
        "import json\nfrom qk_baselines.controls import NoOp\nclass Mine(NoOp):\n    '''Mine.'''\n"
    )
    before = list(sys.path)
    assert load_model("mine.py:Mine").card.name == "no-op"
    assert sys.path == before


CARD = (
    "from qk_baselines.controls import NoOp\nfrom qk_bench.records import ModelCard\n"
    "class Mine(NoOp):\n    def __init__(self):\n        self.card = ModelCard({})\n"
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("class Mine(:\n", r"SyntaxError: .* \(line 1\)"),
        ("x = 1\n\nimport no_such_thing\n", r"ModuleNotFoundError: .* \(line 3\)"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("print('hello')\nMine = 3\n", "is not a subclass of qk_bench.interfaces.Model"),
        ("Mime = 3\n", "has no 'Mine'; did you mean Mime?"),
        (
            "from qk_bench.interfaces import Model\nclass Mine(Model):\n    def generate(self, requests): return []\n",
            "does not set `card`",
        ),
        (
            "from qk_bench.interfaces import Model\nclass Mine(Model):\n    pass\n",
            "TypeError: Can't instantiate abstract",
        ),
        (
            "from qk_baselines.controls import NoOp\nclass Mine(NoOp):\n    def __init__(self):\n        1 / 0\n",
            "ZeroDivisionError",
        ),
        (
            CARD.format("name='a', version='1', arguments={'scale': float('inf')}"),
            "finite numbers and whole characters",
        ),
        (CARD.format("name='a', version='1', description='\\ud800'"), "finite numbers and whole characters"),
        (CARD.format("name='a\\x1b[31m', version='1'"), "name String should match pattern"),
        (CARD.format("name=' ', version='1'"), "name String should match pattern"),
        (CARD.format("name='a', version='1', batch_size=10**12"), "batch_size Input should be less than or equal"),
    ],
)
def test_broken_model_file_is_one_clear_line(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(UsageError, match=said) as error:
        load_model(f"{path}:Mine")
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert capsys.readouterr().out == ""


def test_metric_without_finite_bounds_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from qk_bench.interfaces import SampleMetric\nfrom qk_bench.records import MetricColumn\n"
        "class Mine(SampleMetric):\n    compute = None\n    columns = property(lambda self: "
        "(MetricColumn(id='mine', direction='higher', high=float('inf')),))\n"
    )
    with pytest.raises(UsageError, match=r"mine.py:Mine cannot be loaded: .*high Input should be a finite number"):
        load_metric(f"{path}:Mine")


def test_unknown_names_list_the_near_ones() -> None:
    with pytest.raises(UsageError, match="there is no model 'orcale'; did you mean oracle"):
        load_model("orcale")
    with pytest.raises(UsageError, match="there is no metric 'sucess'; did you mean success"):
        load_metric("sucess")
    with pytest.raises(UsageError, match=r"there is no model 'xyz'; there are: api, .*no-op, noise, oracle"):
        load_model("xyz")
    with pytest.raises(UsageError, match=r"there is no file nowhere.py"):
        load_model("nowhere.py:Model")
    with pytest.raises(UsageError, match=r"name what to take from the file: nowhere.py:NAME"):
        load_model("nowhere.py")
    with pytest.raises(UsageError, match="TypeError"):
        load_model("no-op", {"strength": 3})


def test_task_by_every_kind_of_name() -> None:
    def names(ref: str) -> list[str]:
        return [found.task.name for found in find_tasks([ref])]

    assert names(SQUARES) == ["recolour", "remove"]
    assert names(f"{SQUARES}/remove") == ["remove"]
    assert names(f"{SQUARES}/edit-squares") == ["recolour", "remove"]
    assert [found.task.name for found in find_tasks([f"{SQUARES}/remove", SQUARES])] == ["remove", "recolour"]
    with pytest.raises(UsageError, match="no task or group 'removal'; did you mean remove"):
        names(f"{SQUARES}/removal")
    with pytest.raises(UsageError, match="SUITE/TASK"):
        names(f"{SQUARES}:remove")


@pytest.mark.usefixtures("registered")
def test_bare_name_in_several_suites_must_be_told_apart() -> None:
    with pytest.raises(UsageError, match=r"in several suites .name one: again/recolour or squares/recolour"):
        find_tasks(["recolour"])
    assert [found.suite_ref for found in find_tasks(["squares/recolour"])] == ["squares"]
    with pytest.raises(UsageError, match="two suites are called squares"):
        find_tasks(["squares/recolour", "again/remove"])


@pytest.mark.usefixtures("registered")
def test_broken_suite_hides_no_other_and_is_named_when_a_name_is_not_found() -> None:
    assert len(find_tasks(["squares"])) == 2
    with pytest.raises(
        UsageError, match=r"did you mean recolour\?; not searched, because broken: suite broken .*no_such_module"
    ):
        find_tasks(["recolor"])
    with pytest.raises(UsageError, match="ModuleNotFoundError"):
        load_suite("broken")


def test_task_that_does_not_belong_to_its_suite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "suite.py"
    text = Path(SQUARES.partition(":")[0]).read_text()
    path.write_text(text.replace('"remove": Squares("remove"', '"remove": Squares("removal"'))
    with pytest.raises(UsageError, match="task 'remove' must be a Task whose name is 'remove'"):
        load_suite(f"{path}:SUITE")


FOLDER_SUITE = '''
from pathlib import Path
from qk_bench.errors import UsageError
from squares import SquaresSuite

class Reads(SquaresSuite):
    """Squares of a folder.

    More of it.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        if not Path(folder).is_dir():
            raise UsageError(f"there is no folder {folder}")
        if (Path(folder) / "torn.txt").exists():
            raise UsageError(f"{folder}/torn.txt is cut short", "download it again")
'''


@pytest.fixture
def folder_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Registers a suite that reads a folder; gives an empty folder."""
    (tmp_path / "reads_folder.py").write_text(FOLDER_SUITE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(Path(SQUARES.partition(":")[0]).parent)
    monkeypatch.delitem(sys.modules, "reads_folder", raising=False)
    group = plugins.GROUPS["task"]
    entries = {
        "reads": [importlib.metadata.EntryPoint("reads", "reads_folder:Reads", group)],
        "squares": [importlib.metadata.EntryPoint("squares", "squares:SUITE", group)],
    }
    monkeypatch.setattr(plugins, "_entries", lambda kind: entries if kind == "task" else {})
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_suite_of_a_folder_is_named_with_it(folder_suite: Path) -> None:
    every = find_tasks([f"reads:{folder_suite}"])
    assert [found.suite_ref for found in every] == [f"reads:{folder_suite}"] * len(every)
    one = find_tasks([f"reads:{folder_suite}/recolour"])
    assert [found.task.name for found in one] == ["recolour"]
    assert one[0].suite_ref == f"reads:{folder_suite}"
    assert plugins.folder_suites() == ["reads"]
    assert plugins.suite_description("reads") == "Squares of a folder."


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("reads", r"suite reads reads a folder \(name it as reads:FOLDER\)"),
        ("reads:", "name it as reads:FOLDER"),
        ("reads:nowhere", "there is no folder nowhere"),
        ("squares:x", "suite squares takes no folder"),
    ],
)
def test_folder_that_is_missing_or_too_much_is_one_line(folder_suite: Path, ref: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_tasks([ref])


def test_what_is_wrong_inside_a_folder_is_said_where_a_task_of_it_is_named(folder_suite: Path) -> None:
    (folder_suite / "torn.txt").touch()
    with pytest.raises(
        UsageError, match=r"as task 'recolour' of folder .*/data/torn.txt is cut short \(download it again\)"
    ):
        find_tasks([f"reads:{folder_suite}/recolour"])
    inner = folder_suite / "inner"
    inner.mkdir()
    (inner / "torn.txt").touch()
    with pytest.raises(UsageError, match=r"^[^ ]*/data/inner/torn.txt is cut short"):
        find_tasks([f"reads:{inner}"])


def test_suite_of_a_folder_does_not_break_the_search_for_a_bare_task(folder_suite: Path) -> None:
    assert [found.suite_ref for found in find_tasks(["recolour"])] == ["squares"]
    with pytest.raises(UsageError, match=r"there is no task, suite or group 'recolor'; did you mean recolour\?"):
        find_tasks(["recolor"])
