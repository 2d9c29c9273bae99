"""Draws the status page and a probe's page for docs/: the real application in a real Chromium, over made-up probes
(tests/web/fleet.py), since a day of regressions can't be waited for."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image

from tests.web.browser import Browser, LiveSite, open_browser
from tests.web.fleet import Fleet

PICTURES: Final = Path(__file__).parents[2] / "docs" / "pictures"
DRAWN: Final = {
    "status-page": ("/", 1280, "light", 1000),
    "status-page-probe": ("/probes/asr-streaming", 1280, "dark", 1250),
}
"""By name: path, width, colour scheme, and the most height that is shown."""
_COLOURS = 96


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="triton-canary-") as folder, open_browser() as browser:
        site = LiveSite(Fleet(), Path(folder))
        try:
            for name, (path, width, scheme, height) in DRAWN.items():
                browser.open(site.address + path, width, scheme)
                save(browser, PICTURES / f"{name}.png", width, height)
        finally:
            site.stop()


def save(browser: Browser, path: Path, width: int, most_height: int) -> None:
    """The page from its top, as a PNG of few colours."""
    height = min(most_height, browser.js("return document.documentElement.scrollHeight"))
    browser.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    picture = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
