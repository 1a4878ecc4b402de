"""carbon-router: inference requests go to the lowest-carbon endpoint that meets their budget."""

__version__ = "0.1.0"
