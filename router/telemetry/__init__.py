"""How the gateway shows what it does: Prometheus metrics, the admin port, structured logs."""
