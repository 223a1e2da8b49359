"""What a judge is asked, and how its answers are read.

The structure is VIEScore's (arXiv 2312.14867) and ImgEdit's (arXiv 2505.20275); the wording is our own. A prompt's hash is
part of the metric's id, so that figures asked for in different words, or read by other rules, are never taken for one
another.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from qk_bench.errors import folded

Shown = Literal["source", "output"]

_FORM: Final = (
    'Answer with one JSON object and nothing else: {{"score": [{slots}], "reason": "at most two sentences"}}. '
    "Each score is a whole number from {low} to {high}."
)
_READING: Final = 2
"""Version of the rules that answers are read by; raise it with every change that may find another score in an answer."""
_THOUGHT: Final = re.compile(r"<think>.*?(?:</think>|\Z)|\A(?:(?!<think>).)*?</think>", re.DOTALL)


class AnswerError(ValueError):
    """Why an answer is not one that was asked for, as one line."""


@dataclass(frozen=True)
class Question:
    """One question: which pictures it shows, what it asks, and how many scores it wants."""

    name: str
    shows: tuple[Shown, ...]
    text: str  # {instruction} is filled in
    scores: int
    low: int
    high: int

    def prompt(self, instruction: str) -> str:
        """The question about one edit."""
        slots = ", ".join(f"score{k}" for k in range(1, self.scores + 1))
        form = _FORM.format(slots=slots, low=self.low, high=self.high)
        return f"{self.text.replace('{instruction}', json.dumps(instruction, ensure_ascii=False))}\n\n{form}"

    def read(self, answer: str) -> list[int]:
        """The scores of an answer.

        Raises:
            AnswerError: There is no such JSON object, or not the scores asked for, or there are several that differ, such as
                a draft and a final one. Nothing is guessed.
        """
        fit: list[list[int]] = []
        wrong: list[AnswerError] = []
        for found in _objects(answer):
            try:
                fit.append(self._scores(found["score"]))
            except AnswerError as error:
                wrong.append(error)
        if not fit:
            raise wrong[0]
        for scores in fit:
            if scores != fit[0]:
                raise AnswerError(f"{self.name}: two different answers, {fit[0]} and {scores}")
        return fit[0]

    def _scores(self, given: object) -> list[int]:
        """The scores that an object gives, if they are those asked for."""
        scores = [given] if isinstance(given, int) else given
        if not isinstance(scores, list) or len(scores) != self.scores:
            raise AnswerError(f"{self.name}: expected a list of {self.scores} scores, got {folded(str(scores))[:60]}")
        for score in scores:
            if type(score) is not int and not (isinstance(score, float) and score.is_integer()):
                raise AnswerError(f"{self.name}: score {folded(str(score))[:40]} is not a whole number")
            if not self.low <= score <= self.high:
                raise AnswerError(f"{self.name}: score {score:g} is not from {self.low} to {self.high}")
        return [int(score) for score in scores]


@dataclass(frozen=True)
class Rubric:
    """Questions, and the figures that their scores are summed up in: one value for each of `figures`."""

    name: str
    questions: tuple[Question, ...]
    figures: tuple[str, ...]  # the first is the overall one
    high: float
    low: float
    sum_up: Callable[[Sequence[Sequence[int]]], tuple[float, ...]]

    @property
    def digest(self) -> str:
        """The first 8 hex digits of a sha256 of everything that is asked, and of the version of how answers are read."""
        asked = [question.prompt("{instruction}") for question in self.questions]
        return hashlib.sha256(json.dumps([_READING, *asked]).encode()).hexdigest()[:8]


def _objects(answer: str) -> list[dict[str, object]]:
    """The JSON objects with a score in an answer, also where they stand in a fence of code or behind an introduction.

    What a model thinks before it answers is no answer. Some endpoints send a thought without its opening tag.

    Raises:
        AnswerError: There is none.
    """
    decoder = json.JSONDecoder()
    found: dict[int, dict[str, object]] = {}  # by where they start
    outside = answer  # a reason may speak of tags
    start = answer.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, stop = decoder.raw_decode(answer, start)
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(value, dict) and "score" in value:
                found[start] = value
                end = stop  # what stands inside it is part of it
                outside = outside[:start] + " " * (stop - start) + outside[stop:]
        start = answer.find("{", end)
    thoughts = [match.span() for match in _THOUGHT.finditer(outside)]
    said = [value for place, value in found.items() if not any(first <= place < last for first, last in thoughts)]
    if not said:
        raise AnswerError(f"no JSON object with a score in: {folded(answer)[:80] or 'an empty answer'}")
    return said


def _viescore(scores: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Overall = √(SC · PQ), each the least of its scores, as VIEScore and GEdit-Bench have it."""
    consistency, quality = (float(min(part)) for part in scores)
    return math.sqrt(consistency * quality), consistency, quality


def _imgedit(scores: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Overall = the mean of the three, as ImgEdit's step1_get_avgscore.py has it."""
    (three,) = scores
    return (sum(three) / 3, *(float(score) for score in three))


VIESCORE: Final = Rubric(
    "viescore",
    (
        Question(
            "consistency",
            ("source", "output"),
            "You compare a picture with an edited version of it. The first picture is the original, the second is what an "
            "editing program made of it. The program was told: {instruction}\n\n"
            "Give two scores. score1 says how fully the second picture carries out what was told: 0 if nothing of it was "
            "done, 10 if all of it was done exactly. score2 says how well everything that was not spoken of is kept: 0 if "
            "the second picture could be of something else altogether, 10 if no more was changed than the edit needs.",
            2,
            0,
            10,
        ),
        Question(
            "quality",
            ("output",),
            "You look at a picture that a program made, on its own; what it was meant to show does not matter.\n\n"
            "Give two scores. score1 says how natural it looks, in light, shadow, perspective and proportion: 0 if nothing "
            "fits together, 10 if it could be a photograph or a finished drawing. score2 says how free it is of faults such "
            "as smears, seams, broken shapes, or doubled or missing parts: 0 if they are everywhere, 10 if there are none.",
            2,
            0,
            10,
        ),
    ),
    ("overall", "consistency", "quality"),
    10,
    0,
    _viescore,
)
IMGEDIT: Final = Rubric(
    "imgedit",
    (
        Question(
            "edit",
            ("source", "output"),
            "You grade how well a picture was edited. The first picture is the original, the second is the edited one. What "
            "was asked for: {instruction}\n\n"
            "Give three scores. score1: does the second picture do what was asked, in the right place and to the right "
            "extent? score2: does the edit blend in, without seams or faults? score3: is everything else kept, and are "
            "light, scale and physics still right? For each, 1 is a failure and 5 is flawless. A picture in which nothing "
            "was done gets 1 for score1, and then no more than 1 for the others.",
            3,
            1,
            5,
        ),
    ),
    ("overall", "compliance", "seamlessness", "fidelity"),
    5,
    1,
    _imgedit,
)
