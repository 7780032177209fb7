"""Real data and checkpoints beside the checkout; none of it is committed, tests that need it skip without it."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"no real data beside the checkout ({SHARED.name}/ is absent)"
)
