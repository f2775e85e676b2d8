"""Build and train each model: one architecture per file, with torch and numpy only.

To add a model, add a file that declares `MODELS`. `load_models` imports every such module of this package.
"""

import importlib
import pkgutil
from functools import cache

from zoo.spec import ModelSpec

HELPERS = {"spec", "recipe", "optimizers", "schedules", "plain", "anatomy", "explicit"}  # modules that declare no model


@cache
def load_models() -> dict[str, ModelSpec]:
    """Return all declared models by name, in the order of files and declarations.

    Raises ValueError if two models have the same name.
    """
    models: dict[str, ModelSpec] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in HELPERS):
        for spec in importlib.import_module(f"zoo.{module}").MODELS:
            if spec.name in models:
                raise ValueError(f"zoo/{module}.py: the name '{spec.name}' is taken by another file")
            models[spec.name] = spec
    return models
