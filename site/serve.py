"""Start Streamlit's server and read the records meanwhile: `python site/serve.py PORT ADDRESS`.

All pages of this process share the reading (site/source.py). So the first visitor does not wait until ten thousand files are
read.
"""

import sys
import threading
from contextlib import suppress
from pathlib import Path

from streamlit.web import cli

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Start to read the records, and serve until Ctrl-C."""
    port, address = sys.argv[1:3]
    sys.path.insert(0, str(HERE))
    threading.Thread(target=read_ahead, daemon=True).start()
    sys.argv = ["streamlit", "run", str(HERE / "app.py"), "--server.port", port, "--server.address", address]
    cli.main()


def read_ahead() -> None:
    """Fill the cache. Errors in a source are ignored here, because the page shows them."""
    import source

    with suppress(Exception):
        source.current()


if __name__ == "__main__":
    main()
