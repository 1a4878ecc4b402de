"""Lists of models as engines write them, and as nobody should."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.backends.openai.catalogue import (
    LEAST_CONTEXT_TOKENS,
    MOST_CONTEXT_TOKENS,
    context_tokens,
    read_elsewhere,
    read_models,
    stated,
)

# Each as its engine writes it, shortened.
VLLM = {
    "object": "list",
    "data": [
        {"id": "llama", "object": "model", "created": 1, "owned_by": "vllm", "root": "/m",
         "parent": None, "max_model_len": 4096, "permission": []},
        {"id": "adapted", "object": "model", "owned_by": "vllm", "root": "/lora",
         "parent": "llama", "max_model_len": None},
    ],
}  # fmt: skip
LLAMACPP = {
    "models": [{"name": "smollm2", "type": "model"}],
    "object": "list",
    "data": [
        {"id": "smollm2", "aliases": ["smollm2", "small"], "owned_by": "llamacpp",
         "meta": {"n_ctx": 1024, "n_ctx_train": 8192}},
    ],
}  # fmt: skip
OLD_LLAMACPP = {"data": [{"id": "x.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 8192}}]}
TGI = {"object": "list", "data": [{"id": "org/model", "owned_by": "org/model"}]}
OLLAMA = {
    "object": "list",
    "data": [
        {"id": "llama3:latest", "object": "model", "owned_by": "library"},
        {"id": "qwen:0.5b", "object": "model", "owned_by": "library"},
    ],
}


def listed(page):
    return read_models(json.dumps(page).encode())


class Pages:
    """What a server answers, by method and path; the rest it does not have."""

    def __init__(self, **pages):
        self._pages = pages
        self.asked = []

    async def __call__(self, method, payload=b""):
        self.asked.append((method, payload))
        path = method.partition(" ")[2].rpartition("/")[2]
        page = self._pages.get(path)
        if callable(page):
            page = page(json.loads(payload)["model"])
        return b"" if page is None else json.dumps(page).encode()


def test_vllm_says_the_length_and_an_adapter_has_that_of_what_it_adapts():
    found = stated(["llama", "adapted", "other"], listed(VLLM), {})
    assert found["llama"] == (True, 4096.0)
    assert found["adapted"] == (True, 4096.0)
    assert found["other"][0] is False and math.isnan(found["other"][1])


def test_llamacpp_says_that_of_a_slot_whatever_name_it_is_asked_by():
    found = stated(["smollm2", "small", "anything"], listed(LLAMACPP), {})
    assert found["smollm2"] == found["small"] == (True, 1024.0)
    # It serves its one by any name.
    assert found["anything"] == (False, 1024.0)


@pytest.mark.parametrize(
    ("page", "model", "engine", "lacks"),
    [
        (VLLM, "other", "", True),
        (VLLM, "llama", "vllm", False),
        (LLAMACPP, "other", "", False),
        (TGI, "other", "", False),
        (TGI, "other", "sglang", True),
        (OLLAMA, "llama3", "", False),
        (OLLAMA, "qwen", "", True),
        ({"data": []}, "llama", "vllm", False),
    ],
)
def test_whether_a_server_lacks_a_model_is_told_by_engines_that_refuse_what_they_do_not_list(
    page, model, engine, lacks
):
    assert listed(page).lacks(model, engine) is lacks


async def test_what_the_list_does_not_say_is_on_the_engines_other_pages():
    page = {"default_generation_settings": {"n_ctx": 1024, "params": {}}, "total_slots": 2}
    found = await read_elsewhere(Pages(props=page), "llamacpp", listed(OLD_LLAMACPP), ["smol"])
    assert found == {"smol": 1024.0}
    page = {"model_id": "org/model", "max_input_tokens": 4095, "max_total_tokens": 8192}
    found = await read_elsewhere(Pages(info=page), "tgi", listed(TGI), ["any"])
    assert found == {"any": 8192.0}


async def test_ollama_has_what_the_model_can_what_it_is_set_to_and_what_is_loaded():
    def show(model):
        trained = {"general.architecture": "llama", "llama.context_length": 131072}
        set_to = 'stop "<|end|>"\nnum_ctx                        8192' if model == "llama3" else ""
        return {"model_info": trained, "parameters": set_to}

    loaded = {"models": [{"name": "qwen:0.5b", "context_length": 2048, "size": 1}]}
    pages = Pages(show=show, ps=loaded)
    models = ["llama3", "qwen:0.5b", "nobody"]
    found = await read_elsewhere(pages, "ollama", listed(OLLAMA), models)
    assert found == {"llama3": 8192.0, "qwen:0.5b": 2048.0}
    assert ("POST /api/show", b'{"model":"llama3"}') in pages.asked


async def test_nothing_more_is_asked_where_the_list_says_it_or_the_engine_has_no_other_page():
    pages = Pages()
    assert await read_elsewhere(pages, "llamacpp", listed(LLAMACPP), ["smollm2"]) == {}
    assert await read_elsewhere(pages, "trtllm", listed(TGI), ["any"]) == {}
    assert await read_elsewhere(pages, "", listed(TGI), ["any"]) == {}
    # A router of several models has no settings of its own.
    two = {"data": [{"id": "a", "owned_by": "llamacpp"}, {"id": "b", "owned_by": "llamacpp"}]}
    assert await read_elsewhere(pages, "llamacpp", listed(two), ["a"]) == {}
    assert not pages.asked


async def test_pages_that_are_not_there_or_no_objects_say_nothing():
    for page in (None, [], "x", {"max_total_tokens": True}, {"default_generation_settings": []}):
        for engine, have in (("tgi", TGI), ("llamacpp", OLD_LLAMACPP)):
            pages = Pages(info=page, props=page)
            (tokens,) = (await read_elsewhere(pages, engine, listed(have), ["any"])).values()
            assert math.isnan(tokens)
    for page in (None, {"models": [1, {"name": 2}]}, {"model_info": {"a.context_length": "9"}}):
        pages = Pages(ps=page, show=page)
        found = await read_elsewhere(pages, "ollama", listed(OLLAMA), ["llama3"])
        assert math.isnan(found["llama3"])


def test_of_two_lengths_the_shorter_holds():
    assert stated(["llama"], listed(VLLM), {"llama": 2048.0})["llama"].context_tokens == 2048.0


@pytest.mark.parametrize("value", [0, -1, 15, 1e9, math.inf, math.nan, True, "4096", None, [4096]])
def test_what_is_no_length_is_not_told(value):
    assert math.isnan(context_tokens(value))


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["data", "id", "owned_by", "max_model_len", "meta", "n_ctx", "parent",
                         "aliases", "x"]), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_a_server_answers_its_lengths_lie_within_bounds(body):
    found = read_models(body)
    for said in stated(["llama"], found, {}).values():
        tokens = said.context_tokens
        assert math.isnan(tokens) or LEAST_CONTEXT_TOKENS <= tokens <= MOST_CONTEXT_TOKENS
    assert all(isinstance(name, str) for name in found.names)
    assert all(tokens == tokens for tokens in found.contexts.values())
