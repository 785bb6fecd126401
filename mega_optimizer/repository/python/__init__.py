"""What one Python file says: imports, calls, functions, classes, routes. Nothing is executed."""

from mega_optimizer.repository.python.facts import (
    Argument,
    Assignment,
    Call,
    Class,
    Function,
    Import,
    Parameter,
    PythonFacts,
    Route,
    Store,
    Value,
)
from mega_optimizer.repository.python.read import python_facts
from mega_optimizer.repository.python.roles import is_migration, is_test

__all__ = [
    "Argument",
    "Assignment",
    "Call",
    "Class",
    "Function",
    "Import",
    "Parameter",
    "PythonFacts",
    "Route",
    "Store",
    "Value",
    "is_migration",
    "is_test",
    "python_facts",
]
