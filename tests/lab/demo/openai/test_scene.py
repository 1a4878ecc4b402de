from router.lab.demo.openai.scene import greenest


def test_the_greenest_is_one_that_lives_and_whose_grid_is_known() -> None:
    known = {"california": 100.0, "texas": 300.0}
    assert greenest(known, {"california": None, "texas": None}) == "california"
    assert greenest(known, {"new-york": None, "texas": None}) == "texas"
    assert greenest({}, {"texas": None}) == "texas"
