from router.telemetry.tenants import kept_tenant


def test_a_tenant_is_kept_as_the_operator_says() -> None:
    assert kept_tenant("acme", "plain") == "acme"
    assert kept_tenant("acme", "omit") == ""
    assert kept_tenant("acme", "hash") == "73b51ea7e3e53219"
    assert kept_tenant("", "hash") == ""
