"""One span for a request and one for each of its attempts, and how they reach a collector.

What a request says of itself is plain Python; `export` alone knows OpenTelemetry's SDK, which is
loaded where spans are sent somewhere.
"""
