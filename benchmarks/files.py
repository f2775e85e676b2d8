"""Write files so that a crash leaves the old content or the new one, never a part."""

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see its old or its new content, even after a crash: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # `tempfile` would ignore the user's umask.
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
