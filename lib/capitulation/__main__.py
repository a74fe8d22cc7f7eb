"""The program, `python -m capitulation COMMAND`: where a report need not be made again, it says so at once."""

import gc
import io
import sys

from capitulation.errors import InputError
from capitulation.report import unchanged


def main() -> int:
    """As `cli.main`; the exit code."""
    gc.set_threshold(200_000)  # most of what is made here stays: to look for garbage all the time takes a tenth of it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.flags.optimize:
        why = "Python's -O drops the asserts by which notebooks check themselves: unset PYTHONOPTIMIZE"
        print(f"error: {why}", file=sys.stderr)
        return InputError.exit_code
    if folder := unchanged.same_report():
        print(unchanged.NOTHING_CHANGED.format(folder.name), file=sys.stderr)
        unchanged.tell(folder)
        return 0
    from capitulation.cli import main  # with pandas and all else

    try:
        return main()
    finally:
        gc.freeze()  # what is left goes away with the process, and need not be looked through first


if __name__ == "__main__":
    sys.exit(main())
