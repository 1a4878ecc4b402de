"""The slow, obvious twin of `router.core.prefixes`: one ordered dictionary a cache."""

from collections import OrderedDict


class SlowCache:
    """Blocks in the order of their use, the oldest first; at most ``most`` of them."""

    def __init__(self, most):
        self.most = most
        self.blocks = OrderedDict()

    def matched(self, chain):
        """How many blocks of the chain are there, from its beginning on."""
        count = 0
        for block in chain:
            if block not in self.blocks:
                break
            count += 1
        return count

    def keep(self, chain, share=1.0):
        """The chain was used, its end first."""
        room = int(self.most * share)
        chain = chain[:room]
        for block in reversed(chain):
            self.blocks.pop(block, None)
        while len(self.blocks) + len(chain) > room:
            self.blocks.popitem(last=False)
        for block in reversed(chain):
            self.blocks[block] = True

    def clear(self):
        """Nothing is there any more."""
        self.blocks.clear()
