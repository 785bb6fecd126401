"""The entry point. ``--version`` and a hook without a hit answer before anything heavy loads."""

from __future__ import annotations

import gc
import sys

INTERRUPTED = 130
# Syntax trees and facts hold no cycles; looking for some among them again and again takes a third
# of a run. A process of the command line ends before what is left to be collected matters.
OBJECTS_BETWEEN_COLLECTIONS = 200_000


def main() -> None:
    """Run the command line and exit with its status."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, 100, 100)
    try:
        _main()
    except KeyboardInterrupt:  # before the command line was there to receive it
        sys.stderr.write("mega-optimize: interrupted\n")
        sys.exit(INTERRUPTED)


def _main() -> None:
    if sys.argv[1:] in (["--version"], ["-V"]):
        from mega_optimizer import __version__

        print(f"mega-optimize {__version__}")
        return
    if sys.argv[1:2] == ["hook"]:
        from mega_optimizer.cli.prefilter import nothing_to_look_at

        if nothing_to_look_at(sys.argv[2:]):
            return
    from mega_optimizer.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    # ``python -m`` looks for modules in the current folder first, and that may be the target.
    # What this cannot help is a target with a ``mega_optimizer`` of its own: use the command.
    if not sys.flags.safe_path:
        del sys.path[0]
    main()
