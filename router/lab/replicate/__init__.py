"""Published studies re-run: what they print beside what comes out here (docs/evidence.md)."""

from router.lab.replicate.report import render, replication_json
from router.lab.replicate.run import STUDIES, Rerun, replicate

__all__ = ["STUDIES", "Rerun", "render", "replicate", "replication_json"]
