"""The console's endpoints, a module each. A new one is a module here and its line in `CONSOLE_ENDPOINTS`."""

from __future__ import annotations

from adclick.serving.console.api import compare, form, models, place, runs, session, traffic
from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint

CONSOLE_ENDPOINTS: tuple[ApiEndpoint, ...] = (
    session.SESSION,
    session.SIGN_IN,
    session.SIGN_OUT,
    form.ENDPOINT,
    compare.ENDPOINT,
    models.ENDPOINT,
    place.ENDPOINT,
    runs.RUNS,
    runs.REPORT,
    traffic.DAY,
    traffic.LIVE,
)
