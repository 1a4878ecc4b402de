import heapq

import numpy as np

from router.lab.sim.engine.replica import pop, push


def test_the_heaps_keep_order():
    rng = np.random.default_rng(3)
    keys, slots, model, size = np.full(64, np.inf), np.zeros(64, np.int64), [], 0
    for turn in range(5000):
        if size < 40 and (size == 0 or rng.random() < 0.55):
            key = float(rng.integers(0, 50))
            push(keys, slots, 8, size, key, turn)
            heapq.heappush(model, key)
            size += 1
        else:
            assert keys[8] == heapq.heappop(model)
            pop(keys, slots, 8, size)
            size -= 1
            assert np.isinf(keys[8 + size : 52]).all()
