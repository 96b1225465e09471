import sys

import pytest

from common.errors import SettingError
from common.process import use_uvloop


def test_a_missing_uvloop_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert not use_uvloop("auto")
    assert not use_uvloop("asyncio")
    with pytest.raises(SettingError) as caught:
        use_uvloop("uvloop")
    assert str(caught.value) == (
        "--event-loop: uvloop is not installed; install it with pip install uvloop,"
        " or write --event-loop auto"
    )
