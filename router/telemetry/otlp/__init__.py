"""What leaves by OTLP beside traces: the metrics of ``/metrics`` and the lines of the log.

`told`, `names` and `counts` are plain Python; `metrics` and `logs` know OpenTelemetry's SDK, and
are imported where something is sent.
"""
