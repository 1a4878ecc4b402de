"""What holds for every test: none fails for the time that it took."""

from hypothesis import settings

# In force beside what Hypothesis itself sets where CI is.
settings.register_profile("patient", parent=settings.default, deadline=None)
settings.load_profile("patient")
