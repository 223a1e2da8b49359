"""Opens a run directory for work: refuses what does not fit the spec, sets aside what is damaged, keeps the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qk_bench.errors import DamagedRunError, UsageError
from qk_bench.inspection import Inspection, inspect, set_aside
from qk_bench.interfaces import Task
from qk_bench.manifest import Manifest, RunSpec
from qk_bench.run.plan import SampleReader, Segment, card_digest, noise_seed, outcome_key
from qk_bench.run.spec import differences
from qk_bench.run.tables import Journal, has_judge_errors
from qk_bench.store import JOURNAL, OUTCOMES, RunDirectory


@dataclass(frozen=True)
class Admission:
    """What an earlier session left."""

    manifest: Manifest | None
    found: Inspection
    journal: Journal


def admit(
    run: RunDirectory,
    spec: RunSpec,
    segments: Sequence[Segment],
    tasks: Mapping[tuple[str, str], Task],
    code: Mapping[str, object],
    note: Callable[[str], None],
) -> Admission:
    """Look at what is there and make it fit to go on with.

    A torn last line is what an interruption may leave of the request in flight: it is dropped, and work goes on. Any
    other damage is set aside and reported, so that nothing is replaced behind the user's back; the next call goes on.
    A complete run in which a judge failed is partial again, so that it is asked for those scores, and for no others.
    What other code, or another version of a suite's verifier, has scored is scored again, so that all scores are of one
    code.

    Args:
        run: The folder.
        spec: What is to be run there.
        segments: Its plan.
        tasks: Its tasks by (suite, task).
        code: Versions of libraries and the git revision, of this session.
        note: Told what the user should know.

    Raises:
        UsageError: The folder holds a run of another spec.
        DamagedRunError: Something was damaged; what is whole was kept. Or the suite has changed since.
    """
    manifest = run.read_manifest()
    judged_otherwise = manifest is not None and manifest.spec_digest != spec.digest()
    if manifest is not None and manifest.spec.unjudged().digest() != spec.unjudged().digest():
        changes = "; ".join(differences(manifest.spec, spec))
        raise UsageError(f"{run.path} holds a run of another spec: {changes}", "name another --out, or use --fresh")
    found = inspect(run, segments, manifest)
    _check_samples(run, spec, segments, tasks, found, every=manifest is None)
    problems = list(found.problems)
    if found.torn is not None and manifest is not None and manifest.status == "complete":
        problems.append(f"{OUTCOMES}: its last line is torn")
    if found.edited:
        raise DamagedRunError(
            f"{run.path / OUTCOMES} was edited after the run wrote it", "restore it, or start over with --fresh"
        )
    if problems:
        set_aside(run, found)
        if manifest is not None:
            run.write_manifest(manifest.model_copy(update={"status": "partial", "files": {}}))
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DamagedRunError(
            f"{run.path} is damaged: {'; '.join(problems[:3])}{more}; what is whole is kept",
            "run the same command again to redo the rest",
        )
    if found.torn is not None:
        set_aside(run, found)
        run.close_files()
        run.open_files()
        note(f"{run.path / OUTCOMES}: dropped a torn last line, which an interruption left")
    unjudged = manifest is not None and manifest.status == "complete" and has_judge_errors(run)
    if unjudged:
        note(f"{run.path}: asks again for the scores that a judge failed to give")
    if manifest is not None and (manifest.status != "complete" or judged_otherwise or unjudged):
        before = {**manifest.versions, **manifest.git, **_verifiers(manifest.spec)}
        code = {**code, **_verifiers(spec)}
        names = [name for name in {**before, **code} if before.get(name) != code.get(name)]
        manifest = manifest.model_copy(update={"status": "partial"})
        if names:
            run.close_files()
            run.remove(JOURNAL)
            run.open_files()
            changes = ", ".join(f"{name} {before.get(name)} → {code.get(name)}" for name in names)
            note(f"since the last session: {changes}; its outcomes are kept, and scored again")
    journal = Journal(run, segments, found.offsets)
    journal.load(run.outcomes)
    return Admission(manifest, found, journal)


def _verifiers(spec: RunSpec) -> dict[str, str]:
    return {f"verifier of {suite.name}": suite.verifier or "not recorded" for suite in spec.suites}


def _check_samples(
    run: RunDirectory,
    spec: RunSpec,
    segments: Sequence[Segment],
    tasks: Mapping[tuple[str, str], Task],
    found: Inspection,
    *,
    every: bool,
) -> None:
    """Check that samples still are what outcomes were made from.

    The first and the last outcome of each segment show that a suite has changed without saying so (scoring checks each
    of the others). Where there is no manifest to vouch for the outcomes, every one is checked.
    """
    for segment in segments:
        offsets = found.offsets[segment.number]
        there = [position for position, offset in enumerate(offsets) if offset >= 0]
        card = card_digest(segment.model.card)
        reader = SampleReader(tasks[segment.task.suite, segment.task.task], spec.split, spec.resolution)
        for position in there if every else sorted({*there[:1], *there[-1:]}):
            index, seed = segment.at(position)
            sample, content = reader.read(index)
            outcome = run.read_outcome(offsets[position])
            if outcome.key == outcome_key(card, content, noise_seed(sample.suite, sample.id, seed)):
                continue
            if not every:
                raise DamagedRunError(
                    f"{run.path}: sample {outcome.sample_id} is not the one its outcome was made from; "
                    f"suite {outcome.suite} has changed",
                    "start over with --fresh",
                )
            found.problems.append(f"{OUTCOMES}: {outcome.sample_id} of {outcome.model} is of another run")
            found.dropped.add(offsets[position])
