"""Where a search's simulations run: in this process, in several, or on a Ray cluster.

All give the same figures: a run depends on its span and its policy alone. The scenario travels
once.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any

from router import __version__
from router.errors import CarbonRouterError, ConfigError
from router.extras import need
from router.lab.sim.engine.run import Progress, simulate
from router.lab.sim.tune.figures import Figures, figures
from router.lab.sim.tune.search import Evaluation, Evaluator
from router.lab.sim.tune.train_test import Spans

_RETRIES = 3


def measure(
    spans: Spans, evaluation: Evaluation, progress: Progress | None = None
) -> dict[str, float]:
    """The figures of one evaluation."""
    return figures(simulate(getattr(spans, evaluation.span), evaluation.policy, progress=progress))


class Here:
    """One after the other in this process; an Evaluator and a context manager."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, evaluations: Sequence[Evaluation]) -> Iterator[tuple[int, Figures]]:
        for place, evaluation in enumerate(evaluations):
            yield place, measure(self._spans, evaluation)


class _Stopped(CarbonRouterError):
    """A run was called off."""


# In a child process: its spans and the event that calls runs off, set once when it starts.
_here: list[tuple[Spans, Any]] = []


def _start(spans: Spans, stop: Any) -> None:
    # A terminal interrupts children too; the parent decides what becomes of their runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _here.append((spans, stop))


def _measure_here(evaluation: Evaluation) -> dict[str, float]:
    spans, stop = _here[0]

    def look(_: float) -> None:
        if stop.is_set():
            raise _Stopped("called off")

    return measure(spans, evaluation, look)


class Processes:
    """Up to ``jobs`` at a time, each in a process; an Evaluator and a context manager."""

    def __init__(self, spans: Spans, jobs: int) -> None:
        # Forking a process that holds threads (a progress bar's, numpy's) may hang its child.
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._pool = ProcessPoolExecutor(jobs, context, _start, (spans, self._stop))

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def run(self, evaluations: Sequence[Evaluation]) -> Iterator[tuple[int, Figures]]:
        places = {
            self._pool.submit(_measure_here, evaluation): at
            for at, evaluation in enumerate(evaluations)
        }
        try:
            for future in as_completed(places):
                yield places[future], future.result()
        except BrokenProcessPool as error:
            text = "a process of the search ended early (out of memory?); try fewer --jobs"
            raise CarbonRouterError(text) from error
        finally:
            self._call_off(list(places))

    def _call_off(self, futures: Sequence[Future[dict[str, float]]]) -> None:
        running = [future for future in futures if not (future.cancel() or future.done())]
        if running:
            self._stop.set()
            wait(running)
            self._stop.clear()


class OnRay:
    """One Ray task a run, on the cluster at RAY_ADDRESS, else on a local one of ``jobs`` cores.

    A task whose worker is lost runs again. Nodes need the same version of this package, and a
    workload file too large for memory at the same path. An Evaluator and a context manager; raises
    ConfigError without ray, CarbonRouterError when a run or the cluster fails.
    """

    def __init__(self, spans: Spans, jobs: int, environment: Mapping[str, str]) -> None:
        with need("ray", "--engine ray", file="tune", key="--engine"):
            self._ray: Any = importlib.import_module("ray")
        ray = self._ray
        options: dict[str, Any] = {"num_cpus": jobs, "include_dashboard": False}
        if environment.get("RAY_ADDRESS"):
            options = {"address": environment["RAY_ADDRESS"]}
        with self._explained():
            ray.init(log_to_driver=False, logging_level="error", **options)
            # As bytes: arrays that Ray itself unpacks are read-only, and the engine's are not.
            self._spans = ray.put(pickle.dumps(spans))
        self._measure = ray.remote(num_cpus=1, max_retries=_RETRIES)(_measure_there)

    def __enter__(self) -> OnRay:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def run(self, evaluations: Sequence[Evaluation]) -> Iterator[tuple[int, Figures]]:
        ray = self._ray
        places = {
            # Inside a list the reference itself travels, so that a worker fetches it only once.
            self._measure.remote([self._spans], evaluation, __version__): at
            for at, evaluation in enumerate(evaluations)
        }
        pending = list(places)
        try:
            while pending:
                (done, *_), pending = ray.wait(pending)
                with self._explained():
                    values = ray.get(done)
                yield places[done], values
        finally:
            for one in pending:
                ray.cancel(one, force=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            cause = getattr(error, "cause", None) or error
            raise CarbonRouterError(f"ray: {str(cause).strip() or type(cause).__name__}") from error


# In a Ray worker: the spans that it fetched last, by their reference.
_fetched: dict[str, Spans] = {}


def _measure_there(spans: Sequence[Any], evaluation: Evaluation, version: str) -> dict[str, float]:
    if version != __version__:
        text = f"a worker has carbon-router {__version__}, the driver {version}; install one"
        raise CarbonRouterError(text)
    (reference,) = spans
    key = reference.hex()
    if key not in _fetched:
        _fetched.clear()
        _fetched[key] = pickle.loads(importlib.import_module("ray").get(reference))
    return measure(_fetched[key], evaluation)


def engine(
    name: str, spans: Spans, jobs: int, environment: Mapping[str, str] = os.environ
) -> AbstractContextManager[Evaluator]:
    """``local`` or ``ray``. Raises ConfigError for another name."""
    if name == "ray":
        return OnRay(spans, jobs, environment)
    if name != "local":
        raise ConfigError("tune", [("--engine", f"{name!r} is neither local nor ray")])
    return Here(spans) if jobs == 1 else Processes(spans, jobs)
