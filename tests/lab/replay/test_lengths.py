import math
import random
from statistics import fmean, quantiles

import pytest

from router.lab.replay.lengths import LogNormal
from router.model import LengthPrior


def test_draws_have_the_priors_mean_and_p95():
    rng = random.Random(7)
    lengths = LogNormal.of(LengthPrior(180.0, 200.0, 480.0))
    draws = [lengths.draw(rng) for _ in range(40_000)]
    assert fmean(draws) == pytest.approx(200.0, rel=0.03)
    assert quantiles(draws, n=20)[-1] == pytest.approx(480.0, rel=0.03)


def test_a_constant_prior_draws_a_constant():
    lengths = LogNormal.of(LengthPrior(1.0, 30.0, 30.0))
    assert {lengths.draw(random.Random(i)) for i in range(50)} == {30}


def test_a_p95_that_no_log_normal_has_gives_the_widest_one():
    lengths = LogNormal.of(LengthPrior(1.0, 10.0, 1000.0))
    assert lengths.sigma == pytest.approx(1.6449, abs=1e-3)


class Edge:
    def __init__(self, u):
        self.u = u

    def random(self):
        return self.u


def test_draws_stay_in_bounds_at_the_edges_of_the_rng():
    lengths = LogNormal.of(LengthPrior(180.0, 200.0, 480.0))
    assert lengths.draw(Edge(0.0)) >= 1
    assert lengths.draw(Edge(math.nextafter(1.0, 0.0)), at_most=64) == 64
