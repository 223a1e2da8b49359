"""The judge as a metric: k answers to each question, their mean, and how much they differ.

Model, prompt hash, temperature and number of repeats are in the columns' ids, and so in the manifest and in the spec's
hash. What cannot be read is `judge_error` and has no value: never a zero, never a guess.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import ClassVar

from qk_bench.errors import one_line
from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.inputs import source
from qk_bench.metrics.judging.endpoint import PREFIX, Endpoint, JudgeError, configured
from qk_bench.metrics.judging.rubrics import IMGEDIT, VIESCORE, AnswerError, Rubric
from qk_bench.records import MetricColumn


class Judge(SampleMetric):
    """VIEScore's figures from an OpenAI-compatible judge: overall √(SC · PQ), SC and PQ from 0 to 10, and the noise."""

    needs = frozenset(("source",))
    kinds = frozenset(("edit",))
    default = False
    rubric: ClassVar[Rubric] = VIESCORE

    @cached_property
    def _endpoint(self) -> Endpoint | None:
        return configured()

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """A column for each figure, and the standard deviation of the overall figure between repeats."""
        asked = self._endpoint
        how = f"{self.rubric.name},prompt={self.rubric.digest}"
        if asked is not None:
            how += f",model={asked.model},temperature={asked.temperature:g},k={asked.repeats}"
        return (
            *(
                MetricColumn(
                    id=f"judge-{figure}[{how}]",
                    direction="higher",
                    low=self.rubric.low,
                    high=self.rubric.high,
                    description=f"mean of a judge's answers, {self.rubric.name}; our wording",
                )
                for figure in self.rubric.figures
            ),
            MetricColumn(
                id=f"judge-noise[{how}]",
                direction="lower",
                low=0,
                description="test-retest noise: standard deviation of the overall figure between repeats on one picture",
            ),
        )

    def availability(self) -> tuple[bool, str]:
        """Needs an endpoint."""
        if self._endpoint is None:
            return False, f"set {PREFIX}URL and {PREFIX}MODEL to an OpenAI-compatible judge (see docs/judge.md)"
        return True, ""

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """The figures of each item; questions are asked side by side, and each answer counts for its item alone."""
        asked = self._endpoint
        width = len(self.rubric.figures) + 1
        if asked is None:
            return [(Value(None, self.availability()[1]),) * width for _ in items]
        with ThreadPoolExecutor(asked.parallel) as pool:
            jobs = [[pool.submit(self._once, asked, item, k) for k in range(asked.repeats)] for item in items]
            return [self._values([job.result() for job in repeats], width) for repeats in jobs]

    def _once(self, asked: Endpoint, item: Scored, repeat: int) -> tuple[float, ...] | str:
        """The figures of one round of questions, or why there are none."""
        pictures = {"source": source(item), "output": item.image}
        scores = []
        try:
            for question in self.rubric.questions:
                answer = asked.ask(
                    question.prompt(item.sample.instruction), [pictures[name] for name in question.shows], repeat
                )
                scores.append(question.read(answer))
        except (JudgeError, AnswerError) as error:
            return str(error)
        except Exception as error:  # one question must not take the others down
            return one_line(error)
        return self.rubric.sum_up(scores)

    @staticmethod
    def _values(rounds: Sequence[tuple[float, ...] | str], width: int) -> tuple[Value, ...]:
        wrong = [found for found in rounds if isinstance(found, str)]
        if wrong:
            reason = f"{len(rounds) - len(wrong)} of {len(rounds)} answers can be used: {wrong[0]}"
            return (Value(None, reason, "judge_error"),) * width
        figures = [found for found in rounds if not isinstance(found, str)]
        means = [Value(statistics.fmean(column)) for column in zip(*figures, strict=True)]
        if len(figures) < 2:
            return (*means, Value(None, "one answer only: ask twice or more to see how they differ"))
        return (*means, Value(statistics.stdev(found[0] for found in figures)))


class JudgeImgEdit(Judge):
    """ImgEdit's three scores from 1 to 5 and their mean, from an OpenAI-compatible judge, and the noise."""

    rubric = IMGEDIT
