"""From a plan to a pull request: commits in a clone of our own, the push, the forge, the body.

Publishing runs no code of the target, no hook and no command of its configuration. Only
``git push`` gets the token, in its environment.
"""
