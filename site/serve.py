"""`python site/serve.py PORT ADDRESS`: Streamlit's server, with the records read while it starts.

The reading is shared by all pages of this process (site/source.py), so that the first visitor doesn't wait for ten
thousand files.
"""

import sys
import threading
from contextlib import suppress
from pathlib import Path

from streamlit.web import cli

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Read ahead, and serve until Ctrl-C."""
    port, address = sys.argv[1:3]
    sys.path.insert(0, str(HERE))
    threading.Thread(target=read_ahead, daemon=True).start()
    sys.argv = ["streamlit", "run", str(HERE / "app.py"), "--server.port", port, "--server.address", address]
    cli.main()


def read_ahead() -> None:
    """Fill the shelf; a wrong source is said on the page, not here."""
    import source

    with suppress(Exception):
        source.current()


if __name__ == "__main__":
    main()
