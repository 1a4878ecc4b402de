"""The Protocols behind which every vendor, store and clock stands. Imports nothing outward."""

from router.contract.backend import (
    Backend,
    Probe,
    UnaryReply,
    Upstream,
    UpstreamStream,
)
from router.contract.carbon import (
    CarbonSource,
    Forecaster,
    ForecastSource,
)
from router.contract.discovery import (
    EndpointFinder,
    FindingsListener,
)
from router.contract.judging import (
    AnswerJudge,
    JudgedAnswer,
    Verdict,
)
from router.contract.metadata import (
    Metadata,
)
from router.contract.reports import (
    UNTIMED,
    AnswerSize,
    BackendReport,
    LoadListener,
    LoadSource,
    ModelCatalogue,
    ReportReader,
    StatedLoad,
    StatedModel,
    StatedTimes,
)
from router.contract.state import (
    Places,
    SequencePins,
    StateStore,
)
from router.contract.telling import (
    Ledger,
    Observer,
    RequestTrace,
    Tracer,
)
from router.contract.time import (
    Clock,
    Rng,
)

__all__ = [
    "UNTIMED",
    "AnswerJudge",
    "AnswerSize",
    "Backend",
    "BackendReport",
    "CarbonSource",
    "Clock",
    "EndpointFinder",
    "FindingsListener",
    "ForecastSource",
    "Forecaster",
    "JudgedAnswer",
    "Ledger",
    "LoadListener",
    "LoadSource",
    "Metadata",
    "ModelCatalogue",
    "Observer",
    "Places",
    "Probe",
    "ReportReader",
    "RequestTrace",
    "Rng",
    "SequencePins",
    "StateStore",
    "StatedLoad",
    "StatedModel",
    "StatedTimes",
    "Tracer",
    "UnaryReply",
    "Upstream",
    "UpstreamStream",
    "Verdict",
]
