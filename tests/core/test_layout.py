import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.layout import ANYWHERE, Layout
from router.errors import UnknownModelError
from tests.factories import endpoint, fleet, region, served, token_profile


def names(candidates):
    return [one.name for one in candidates.endpoints]


def test_candidates_are_sorted_by_region_then_name_whatever_the_order_of_the_file():
    layout = Layout(
        fleet(endpoint("z", "east"), endpoint("b", "west"), endpoint("a", "west"),
              endpoint("y", "east"))
    )  # fmt: skip
    found = layout.find("llama", "")
    assert names(found) == ["y", "z", "a", "b"]
    assert found.regions == ("east", "west")
    assert found.starts.tolist() == [0, 2, 4]


def test_a_model_has_only_the_endpoints_and_regions_that_serve_it():
    layout = Layout(
        fleet(
            endpoint("a", "east", served(name="llama")),
            endpoint("b", "west", served(name="llama"), served(name="image")),
        )
    )
    assert names(layout.find("llama", "")) == ["a", "b"]
    assert names(layout.find("image", "")) == ["b"]
    assert layout.find("image", "").regions == ("west",)


def test_versions():
    old, new = token_profile("old"), token_profile("new")
    layout = Layout(
        fleet(
            endpoint("any", "east", served()),
            endpoint("both", "east", served(old, version="1"), served(new, version="2")),
            endpoint("one", "east", served(old, version="1")),
        )
    )
    assert names(layout.find("llama", "1")) == ["any", "both", "one"]
    assert [s.version for s in layout.find("llama", "1").served] == ["", "1", "1"]
    assert names(layout.find("llama", "2")) == ["any", "both"]
    # Without a version each one that an endpoint has is a candidate.
    assert names(layout.find("llama", "")) == ["any", "both", "both", "one"]
    # An endpoint that names no version is taken to have every one.
    assert names(layout.find("llama", "3")) == ["any"]


def test_a_version_that_nobody_has():
    layout = Layout(fleet(endpoint("one", "east", served(version="1"))))
    with pytest.raises(UnknownModelError, match="version '3'"):
        layout.find("llama", "3")


def test_an_unknown_model_is_told_what_there_is():
    layout = Layout(fleet(endpoint("a", "west", served(name="image"), served(name="llama"))))
    with pytest.raises(UnknownModelError, match=r"no endpoint serves model 'gpt'.*image, llama"):
        layout.find("gpt", "")


@given(
    st.dictionaries(
        st.sampled_from(["r1", "r2", "r3"]),
        st.frozensets(st.sampled_from(["eu", "us", "de", "ca"])),
        min_size=1,
    ),
    st.frozensets(st.sampled_from(["eu", "us", "de", "ca", "mars"])),
)
def test_bits_mean_the_same_as_sets(lies_in, allowed):
    layout = Layout(
        fleet(
            *[endpoint(f"in-{name}", name) for name in lies_in],
            regions=[region(name, residency) for name, residency in lies_in.items()],
        )
    )
    found = layout.find("llama", "")
    mask = layout.residency_mask(allowed)
    for one, label in zip(found.endpoints, found.labels.tolist(), strict=True):
        passes = bool(label & mask)
        assert passes == (not allowed or bool(lies_in[one.region] & allowed))


def test_sixty_two_lists_of_jurisdictions_keep_apart():
    regions = [region(f"r{number:02d}", [f"j{number:02d}"]) for number in range(62)]
    layout = Layout(
        fleet(*[endpoint(f"e{one.name}", one.name) for one in regions], regions=regions)
    )
    labels = layout.find("llama", "").labels.tolist()
    for number in range(62):
        mask = layout.residency_mask(frozenset([f"j{number:02d}"]))
        assert [bool(label & mask) for label in labels] == [n == number for n in range(62)]
    unknown = layout.residency_mask(frozenset(["nowhere"]))
    assert not any(label & unknown for label in labels)
    assert all(label & ANYWHERE for label in labels)


def test_regions_that_share_a_list_share_a_bit_so_jurisdictions_may_be_many():
    many = [f"j{number}" for number in range(200)]
    layout = Layout(fleet(endpoint("a", "west"), regions=[region("west", many)]))
    (label,) = layout.find("llama", "").labels.tolist()
    assert all(label & layout.residency_mask(frozenset([name])) for name in many)


def test_what_a_server_states_narrows_its_context_and_fills_in_one_that_is_left_out():
    the_fleet = fleet(
        endpoint("bounded", "east", served(context_tokens=4096.0)),
        endpoint("free", "west", served()),
        endpoint("silent", "west", served(context_tokens=512.0)),
    )
    stated = {("bounded", "llama"): 8192.0, ("free", "llama"): 2048.0, ("gone", "llama"): 1.0}

    def contexts(layout):
        return [one.context_tokens for one in layout.find("llama", "").served]

    assert contexts(Layout(the_fleet, stated)) == [4096.0, 2048.0, 512.0]
    assert Layout(the_fleet, stated).contexts["llama"] == 4096.0
    narrower = Layout(the_fleet, {("bounded", "llama"): 1024.0})
    assert contexts(narrower) == [1024.0, float("inf"), 512.0]
    assert contexts(Layout(the_fleet)) == [4096.0, float("inf"), 512.0]
    # Rows stay where they are: one board serves every layout of a fleet.
    assert names(narrower.find("llama", "")) == names(Layout(the_fleet).find("llama", ""))
