"""Scripts run in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def run_python(script: str, *arguments: str, stdin: bytes | None = None) -> Any:
    """Run a script in a new process and return what it prints as JSON."""
    command = [sys.executable, "-X", "utf8", "-c", script, *arguments]
    done = subprocess.run(command, input=stdin, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)
