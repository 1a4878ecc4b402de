"""Names by OTLP, and that a collector which writes them for Prometheus has ours again."""

import pkgutil
from importlib import import_module

import pytest
from opentelemetry.semconv._incubating import metrics as incubating

from router.telemetry.otlp.names import metric_name
from router.telemetry.tracing.conventions import BY_NAME, DEPLOYED, LATEST
from tools.metrics_reference import registered

# Of OpenTelemetry's "Prometheus and OpenMetrics Compatibility", as the collector and Prometheus do.
WORDS = {"s": "seconds", "By": "bytes", "J": "joules", "g": "grams"}
OF_A_PROCESS = (
    "process_cpu_seconds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
)


def as_prometheus(named, is_counter):
    name = named.name.replace(".", "_")
    word = WORDS.get(named.unit, "")
    if word and not name.endswith(word):
        name += f"_{word}"
    return f"{name}_total" if is_counter else name


@pytest.mark.parametrize("convention", BY_NAME.values())
def test_every_metric_comes_back_to_its_name(convention):
    for shown, metric in registered().items():
        named = metric_name(metric._name, convention)
        assert named.name.startswith("carbon_router.")
        assert as_prometheus(named, metric._type == "counter") == shown


def test_names_do_not_meet():
    names = [metric_name(one._name, DEPLOYED).name for one in registered().values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("convention", BY_NAME.values())
def test_what_is_of_a_process_has_a_published_name(convention):
    published = set()
    for module in pkgutil.iter_modules(incubating.__path__):
        constants = vars(import_module(f"{incubating.__name__}.{module.name}"))
        published |= {value for key, value in constants.items() if key.isupper()}
    for family in OF_A_PROCESS:
        assert metric_name(family, convention).name in published


def test_descriptors_were_renamed_and_what_has_no_name_is_left_out():
    assert metric_name("process_open_fds", DEPLOYED).name == "process.open_file_descriptor.count"
    assert metric_name("process_open_fds", LATEST).name == "process.unix.file_descriptor.count"
    assert metric_name("process_start_time_seconds", DEPLOYED) is None
