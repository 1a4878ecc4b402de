"""What servers of OpenAI's API say of the models that they serve: their names, and how long a
context they have.

The list of models names the length where the server is vLLM, SGLang (``max_model_len``) or
llama.cpp (``meta.n_ctx``, of one slot). Others tell it elsewhere: older builds of llama.cpp in
``/props``, TGI in ``/info``, Ollama in ``/api/show`` (what the model can) and ``/api/ps`` (what it
was loaded with).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from router.contract import StatedModel

# The owner that a list of models names, by engine; of Ollama's, its namespace of models.
_OWNERS: Final = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llamacpp",
    "library": "ollama",
    "carbon-router": "carbon-router",
}
# They answer "not found" for a model that they do not list; llama.cpp and TGI serve their one
# whatever the name.
_STRICT: Final = frozenset(("vllm", "sglang", "trtllm", "ollama", "carbon-router"))
# Whose length is of the one model that they serve.
_SINGLE: Final = frozenset(("llamacpp", "tgi"))
_LATEST: Final = ":latest"
# What is less, or more, is no context that anybody serves.
LEAST_CONTEXT_TOKENS: Final = 16.0
MOST_CONTEXT_TOKENS: Final = 1e8


class _Card(msgspec.Struct):
    id: str
    owned_by: msgspec.Raw = msgspec.Raw()
    parent: msgspec.Raw = msgspec.Raw()
    aliases: msgspec.Raw = msgspec.Raw()
    max_model_len: msgspec.Raw = msgspec.Raw()
    meta: msgspec.Raw = msgspec.Raw()


class _Cards(msgspec.Struct):
    data: list[_Card] = []


_CARDS: Final = msgspec.json.Decoder(_Cards)


class ModelList(NamedTuple):
    """A server's list of models. ``engine``: whose list it is, "" where that is not to be told.
    ``contexts``: tokens by name, of those that say it. ``single``: the only one's name, "" where
    there are several, or none.
    """

    names: frozenset[str] = frozenset()
    engine: str = ""
    contexts: Mapping[str, float] = {}
    single: str = ""

    def has(self, model: str) -> bool:
        """Whether it names the model; Ollama takes a name without a tag for its latest."""
        return model in self.names or (self.engine == "ollama" and model + _LATEST in self.names)

    def lacks(self, model: str, engine: str) -> bool:
        """Whether a server of this list does not serve the model. ``engine``: as configured, ""
        where it is not."""
        strict = engine in _STRICT or self.engine in _STRICT
        return bool(self.names) and strict and not self.has(model)

    def context_tokens(self, model: str) -> float:
        """NaN where it is not told."""
        if model in self.contexts:
            return self.contexts[model]
        if self.single and self.engine in _SINGLE:
            return self.contexts.get(self.single, math.nan)
        return math.nan


def read_models(body: bytes) -> ModelList:
    """The answer to ``GET /v1/models``; one without names where it is no list of models."""
    try:
        cards = _CARDS.decode(body).data
    except (ValueError, RecursionError):
        return ModelList()
    owners = {_text(card.owned_by) for card in cards}
    engine = next((_OWNERS[owner] for owner in sorted(owners) if owner in _OWNERS), "")
    contexts: dict[str, float] = {}
    names: set[str] = set()
    for card in cards:
        called = {card.id, *_texts(card.aliases)}
        names |= called
        contexts |= dict.fromkeys(called, _context_of(card))
    for card in cards:
        # An adapter has the context of what it adapts.
        if math.isnan(contexts[card.id]):
            contexts[card.id] = contexts.get(_text(card.parent), math.nan)
    single = cards[0].id if len(cards) == 1 else ""
    known = {name: tokens for name, tokens in contexts.items() if tokens == tokens}
    return ModelList(frozenset(names), engine, known, single)


class Asking(Protocol):
    """Asks one server for a page."""

    async def __call__(self, method: str, payload: bytes = b"") -> bytes:
        """``method``: such as ``GET /props``; b"" where there is no such page. Raises UpstreamError
        leaves."""
        ...


async def read_elsewhere(
    ask: Asking, engine: str, listed: ModelList, models: Sequence[str]
) -> dict[str, float]:
    """Tokens by name of those of ``models`` that the list does not say them of, from the other
    pages of an engine that tells them there. Raises UpstreamError leaves."""
    silent = [name for name in models if math.isnan(listed.context_tokens(name))]
    if not silent:
        return {}
    if engine == "llamacpp" and listed.single:
        return dict.fromkeys(silent, _props_context(await ask("GET /props")))
    if engine == "tgi":
        return dict.fromkeys(silent, _info_context(await ask("GET /info")))
    if engine != "ollama":
        return {}
    loaded = _loaded_contexts(await ask("GET /api/ps"))
    found = {}
    for name in filter(listed.has, silent):
        about = await ask("POST /api/show", msgspec.json.encode({"model": name}))
        lengths = (_show_context(about), loaded.get(name, math.nan))
        found[name] = min((one for one in lengths if one == one), default=math.nan)
    return found


def stated(
    models: Iterable[str], listed: ModelList, elsewhere: Mapping[str, float]
) -> dict[str, StatedModel]:
    """What a server says of each of ``models``. ``elsewhere``: tokens by name, told on other pages
    than the list."""
    found = {}
    for model in models:
        lengths = (listed.context_tokens(model), elsewhere.get(model, math.nan))
        known = [tokens for tokens in lengths if tokens == tokens]
        named = listed.has(model) if listed.names else None
        found[model] = StatedModel(named, min(known, default=math.nan))
    return found


def _props_context(body: bytes) -> float:
    """Tokens of one slot, of llama.cpp's ``/props``; NaN where they are not told."""
    settings = _object(body).get("default_generation_settings")
    return context_tokens(settings.get("n_ctx")) if isinstance(settings, dict) else math.nan


def _info_context(body: bytes) -> float:
    """Tokens of a request and its answer, of TGI's ``/info``; NaN where they are not told."""
    return context_tokens(_object(body).get("max_total_tokens"))


def _show_context(body: bytes) -> float:
    """Tokens that a model takes, of Ollama's ``/api/show``; NaN where they are not told."""
    about = _object(body)
    lengths = []
    trained = about.get("model_info")
    if isinstance(trained, dict):
        lengths += [value for key, value in trained.items() if key.endswith(".context_length")]
    chosen = about.get("parameters")
    for line in chosen.splitlines() if isinstance(chosen, str) else ():
        name, _, value = line.strip().partition(" ")
        if name == "num_ctx" and value.strip().isdigit() and len(value.strip()) < 10:
            lengths.append(int(value))
    known = [tokens for tokens in map(context_tokens, lengths) if tokens == tokens]
    return min(known, default=math.nan)


def _loaded_contexts(body: bytes) -> dict[str, float]:
    """Tokens by name of the models that Ollama has loaded, of its ``/api/ps``."""
    loaded = _object(body).get("models")
    found: dict[str, float] = {}
    for model in loaded if isinstance(loaded, list) else ():
        tokens = (
            context_tokens(model.get("context_length")) if isinstance(model, dict) else math.nan
        )
        if tokens == tokens and isinstance(name := model.get("name"), str):
            found[name] = tokens
            found[name.removesuffix(_LATEST)] = tokens
    return found


def context_tokens(value: object) -> float:
    """``value`` where it is the length of a context; NaN of what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    within = LEAST_CONTEXT_TOKENS <= value <= MOST_CONTEXT_TOKENS
    return float(math.floor(value)) if within else math.nan


def _context_of(card: _Card) -> float:
    tokens = context_tokens(_value(card.max_model_len))
    if tokens == tokens:
        return tokens
    meta = _value(card.meta)
    # Not ``n_ctx_train``: a slot may have less of it, and mostly has.
    return context_tokens(meta.get("n_ctx")) if isinstance(meta, dict) else math.nan


def _value(raw: msgspec.Raw) -> Any:
    """None for what is not there, or no JSON."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None


def _text(raw: msgspec.Raw) -> str:
    value = _value(raw)
    return value if isinstance(value, str) else ""


def _texts(raw: msgspec.Raw) -> list[str]:
    value = _value(raw)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
