"""How each model is built and trained: one architecture a file, torch and numpy only.

Adding a model is adding a file: every module of this package that declares `MODELS` is found here.
"""

import importlib
import pkgutil
from functools import cache

from zoo.spec import ModelSpec

HELPERS = {"spec", "recipe", "optimizers", "schedules", "plain", "anatomy", "explicit"}  # modules that declare no model


@cache
def load_models() -> dict[str, ModelSpec]:
    """Every declared model by name, in the order of files and declarations; raises ValueError for a doubled name."""
    models: dict[str, ModelSpec] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in HELPERS):
        for spec in importlib.import_module(f"zoo.{module}").MODELS:
            if spec.name in models:
                raise ValueError(f"zoo/{module}.py: the name '{spec.name}' is taken by another file")
            models[spec.name] = spec
    return models
