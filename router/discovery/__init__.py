"""Places where endpoints are found that come and go: each a `router.contract.EndpointFinder`."""
