"""Rewards of text; one file each, imported with the package."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):  # each registers its rewards
    import_module(f"{__name__}.{_module.name}")
