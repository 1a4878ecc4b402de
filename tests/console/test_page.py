"""The page is one file that runs nothing but what it was shipped with."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser

from router.console.page import built, page, recorded_page


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_it_is_whole_and_asks_nobody_else():
    body = page().body.decode()
    tags = Tags()
    tags.feed(body)
    for tag, attributes in tags.found:
        assert tag not in ("img", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "style", "action") and not name.startswith("on"), (
                tag,
                name,
            )
            if name == "href":
                assert value.startswith(("#", "data:")), value
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", body)


def test_what_runs_is_what_the_policy_names():
    text = page().body.decode()
    policy = page().headers["Content-Security-Policy"]
    for tag in ("script", "style"):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and policy.startswith("default-src 'none'")
    assert "require-trusted-types-for 'script'" in policy


def test_nothing_is_made_of_text_but_text():
    """No way from a string to markup or code is in the page at all."""
    text = page().body.decode()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "DOMParser",
        "srcdoc",
        "setHTML",
    ):
        assert word not in text, word


def test_it_is_small_and_the_same_each_time():
    one = page()
    assert gzip.decompress(one.compressed) == one.body
    assert len(one.compressed) < 60_000
    markup = "<head><!--style--></head><!--script-->"
    again, other = built(markup, "a{}", "1"), built(markup, "a{}", "2")
    assert built(markup, "a{}", "1") == again and again.etag != other.etag


def test_a_recording_is_one_file_that_asks_nobody():
    name = "</script><script>globalThis.hit=1</script>"
    text = recorded_page({"events": [(0.0, "fleet", {"policy": name})], "decisions": {}}).decode()
    tags = Tags()
    tags.feed(text)
    assert [dict(one).get("id") for tag, one in tags.found if tag == "script"] == [
        "recorded",
        None,
    ]
    assert name not in text and not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'") and "connect-src" not in policy
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    (packed,) = re.findall('id="recorded">([^<]*)<', text)
    told = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert told["events"] == [[0.0, "fleet", {"policy": name}]]
    # The page that is served has none.
    assert b"recorded-->" not in page().body and b'id="recorded"' not in page().body
