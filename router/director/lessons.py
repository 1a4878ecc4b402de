"""What finished requests teach: lengths, latencies, sizes of tokens, prompts that servers keep."""

from __future__ import annotations

import math
from typing import NamedTuple

from router.contract import UNTIMED, BackendReport, Observer
from router.core.accounting import AgreedSizes, Run, answer_size, told_times
from router.core.board import Board
from router.core.claims import fits_payload
from router.core.columns import Snapshot
from router.core.learning import most_output_tokens, prediction_of, teach_latency
from router.core.lengths import LengthModel
from router.core.prefix_index import PrefixIndex
from router.core.prefixes import CHUNK_BYTES
from router.core.reports import prompt_size
from router.core.seat import Seat
from router.core.token_sizes import LEAST_ENDPOINTS, TokenSizes
from router.core.tokens import PromptBytesModel, TokenBytesModel
from router.model import CachedKind, Fleet, Prefix, Receipt, Request, TokensKind

# What counts as seen: an estimate would teach a model what the model itself was used for.
_SEEN = (TokensKind.REPORTED, TokensKind.COUNTED)
# What was cached as predicted, but for so much of it, says how quick the rest was read.
_CACHED_AS_EXPECTED = 0.1


class Lesson(NamedTuple):
    """What a finished request teaches and tells. ``batch_at_start``: the seat's load when the
    request went upstream; ``fleet``: the one it was decided on;
    ``decided_s``: its first decision took; ``added_s``: from its arrival to its going upstream;
    ``sent``: its prompt, where servers of its model keep prompts; ``told``: what was reported of
    it, believed or not; ``trace_id``: "" where nobody keeps its trace. ``is_last``: whether its
    caller got this answer, rather than that of a better variant."""

    receipt: Receipt
    seat: Seat
    batch_at_start: float
    run: Run
    fleet: Fleet
    decided_s: float
    added_s: float
    sent: SentPrompt | None = None
    told: BackendReport | None = None
    trace_id: str = ""
    is_last: bool = True


class SizesSeen(NamedTuple):
    """Sizes of tokens in bytes of answers, pieces of streams and bytes of prompts."""

    answer: TokenSizes
    stream: TokenSizes
    prompt: TokenSizes

    def agreed(self, model: str) -> AgreedSizes:
        """What endpoints agree on."""
        return AgreedSizes(
            self.answer.agreed(model), self.stream.agreed(model), self.prompt.agreed(model)
        )

    def observe(
        self, request: Request, model: str, endpoint: str, run: Run, told: BackendReport
    ) -> None:
        """What ``endpoint`` stated of one request that ``model`` served, whether it was believed or
        not."""
        answer = run.answer
        tokens = told.output_tokens
        tokens = answer.output_tokens if tokens != tokens else tokens
        if answer.output_bytes > 0.0:
            self.answer.observe(model, endpoint, answer.output_bytes, tokens)
        else:
            self.stream.observe(model, endpoint, float(run.messages), tokens)
        prompt = told.input_tokens
        prompt = answer.input_tokens if prompt != prompt else prompt
        self.prompt.observe(model, endpoint, prompt_size(request), prompt)


class SentPrompt(NamedTuple):
    """A prompt that went to candidate ``row`` of those in ``prefixes``, which ought to have had
    ``cached_tokens`` of it. ``ours``: the share of this gateway in what ran there."""

    prefixes: PrefixIndex
    row: int
    cached_tokens: float
    prefix: Prefix
    ours: float

    def read(self) -> None:
        """The server began to answer, so it has all of it."""
        self.prefixes.read(self.row, self.prefix, self.ours)

    def answered(self, receipt: Receipt) -> None:
        """Learn from what the answer says of it, if anything."""
        # Of a prompt that cannot be as long as was said, more was expected than there is.
        can_be = self.prefix.block_tokens <= CHUNK_BYTES
        if receipt.cached_kind is CachedKind.REPORTED and can_be:
            exact = not math.isnan(receipt.request.input_tokens)
            self.prefixes.report(self.row, self.cached_tokens, receipt.cached_tokens, exact)


class Lessons:
    """Of finished requests, kept until they are learned from: in a row that runs with warm caches.

    ``digest_every``: how many are learned from in one go. ``token_bytes``, ``prompt_bytes``: bytes
    of a token in answers, and in prompts whose text is known; ``sizes``: the same as several
    endpoints say, so that none of them can move it.
    """

    def __init__(self, observer: Observer, lengths: LengthModel) -> None:
        self.digest_every = 1
        self.token_bytes = TokenBytesModel()
        self.prompt_bytes = PromptBytesModel()
        self.sizes = SizesSeen(TokenSizes(), TokenSizes(), TokenSizes())
        self._observer = observer
        self._lengths = lengths
        self._kept: list[Lesson] = []

    def note(self, lesson: Lesson) -> bool:
        """Keep it; whether there are as many as are learned from in one go."""
        self._kept.append(lesson)
        return len(self._kept) >= self.digest_every

    def digest(self, snapshot: Snapshot, board: Board) -> None:
        """Learn from, and tell the observer of, every request finished since the last time."""
        kept, self._kept = self._kept, []
        for lesson in kept:
            self._learn(lesson, snapshot, board)
            if lesson.is_last:
                self._observer.decided(lesson.decided_s, lesson.trace_id)
                self._observer.finished(lesson.receipt, lesson.added_s, lesson.trace_id)

    def _learn(self, lesson: Lesson, snapshot: Snapshot, board: Board) -> None:
        receipt, run = lesson.receipt, lesson.run
        request, decision = receipt.request, receipt.decision
        tokens = receipt.output_tokens if receipt.tokens_kind in _SEEN else math.nan
        _learn_template(receipt, board)
        self._learn_latency(lesson, snapshot, tokens)
        if lesson.told is not None:
            self.sizes.observe(request, decision.served.name, lesson.seat.name, run, lesson.told)
        if lesson.sent is not None:
            lesson.sent.answered(receipt)
        self.token_bytes.observe(decision.served.name, run.answer.output_bytes, tokens)
        prompt_tokens = receipt.input_tokens
        if _is_new(self.sizes.prompt, receipt, snapshot):
            prompt_tokens = math.nan
        template = board.templates.of_model(request.model)
        self.prompt_bytes.observe(
            request.model, request.tenant, float(request.prompt_bytes), prompt_tokens - template
        )
        if prompt_tokens != prompt_tokens:
            prompt_tokens = request.input_tokens
        most = most_output_tokens(request, decision, run)
        self._lengths.observe(request.model, request.tenant, prompt_tokens, tokens, most)

    def _learn_latency(self, lesson: Lesson, snapshot: Snapshot, tokens: float) -> None:
        receipt = lesson.receipt
        decision, read_share = receipt.decision, _read_share(receipt)
        by_size = self._tokens_by_size(lesson, snapshot)
        # Behind an emulated server there is no prompt: it takes the caller's word.
        can_be = decision.endpoint.emulated or fits_payload(receipt.request)
        prediction = prediction_of(
            decision,
            lesson.run.crowd,
            lesson.batch_at_start,
            can_be and read_share == read_share,
            read_share,
        )
        # What all agree on is no guess of this gateway's: it teaches as a count does.
        seen = tokens if tokens == tokens or by_size == 0.0 else by_size
        stated = UNTIMED if lesson.told is None else told_times(lesson.run, lesson.told)[0]
        teach_latency(lesson.seat, prediction, lesson.run, seen, by_size, stated.decoding_ms)
        run = lesson.run
        lesson.seat.margins.learn(decision, run.ttft_ms, run.e2e_ms, tokens)

    def _tokens_by_size(self, lesson: Lesson, snapshot: Snapshot) -> float:
        """Tokens of an answer by what its model's endpoints agree on; NaN where they do not; 0 of
        one of several endpoints that has not said enough to be compared with the others."""
        receipt, run = lesson.receipt, lesson.run
        size, of_token = answer_size(run, self.sizes.agreed(receipt.decision.served.name))
        if of_token is not None:
            return of_token.tokens(size)
        seen = self.sizes.answer if run.answer.output_bytes > 0.0 else self.sizes.stream
        return 0.0 if _is_new(seen, receipt, snapshot) else math.nan


def _is_new(sizes: TokenSizes, receipt: Receipt, snapshot: Snapshot) -> bool:
    """Whether its endpoint, one of several of the model, has said too little to be compared."""
    decision = receipt.decision
    model = decision.served.name
    columns = snapshot.columns.get((model, receipt.request.version))
    if columns is None or len(columns.candidates.endpoints) < LEAST_ENDPOINTS:
        return False
    return sizes.is_new(model, decision.endpoint.name)


def _learn_template(receipt: Receipt, board: Board) -> None:
    """What a server had cached of a prompt that it was not known to have any of."""
    decision = receipt.decision
    served = decision.served
    place = (decision.endpoint.name, served.name, served.version)
    known = decision.cached_tokens <= board.templates.tokens(*place)
    if receipt.cached_kind is CachedKind.REPORTED and known:
        board.templates.observe(*place, receipt.cached_tokens)


def _read_share(receipt: Receipt) -> float:
    """Of the tokens of its prompt that the prediction of its latency took to be read, those that
    were; NaN where that is not known.

    Where nobody says, only one of which nothing ought to be cached is known to be read whole.
    """
    expected = receipt.decision.cached_tokens
    if receipt.cached_kind is not CachedKind.REPORTED:
        return 1.0 if expected == 0.0 else math.nan
    if abs(receipt.cached_tokens - expected) <= _CACHED_AS_EXPECTED * expected:
        return 1.0
    tokens = receipt.input_tokens
    if not tokens > 0.0:
        return math.nan
    return max(tokens - receipt.cached_tokens, 1.0) / max(tokens - expected, 1.0)
