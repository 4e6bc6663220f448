"""An endpoint over a base model and its adapters that speaks OpenAI's protocol; it needs the extra ``serve``."""

from labkit.extras import unusable

try:
    import fastapi  # noqa: F401
    import uvicorn  # noqa: F401
    from prometheus_client import CollectorRegistry  # noqa: F401
except ImportError as problem:
    raise unusable((problem.name or "fastapi").partition(".")[0].replace("_", "-"), problem) from problem

from labkit.serving.server import running, serve
from labkit.serving.settings import Serving

__all__ = ["Serving", "running", "serve"]
