"""Makes the pictures of rq-dashboard in `docs/pictures/` again, from a Swamp at work: `make pictures`.

Needs Chromium (on Debian: apt-get install chromium).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tests.contracts.conftest import performing
from tests.contracts.picture import Picture, paint
from tests.contracts.tools import Dashboard, install

PLACE = Path(__file__).parents[2] / "docs" / "pictures"


def pages(picture: Picture) -> dict[str, str]:
    """Name of the file to the path of the page."""
    return {
        "queues": "/0/view/queues",
        "workers": "/0/view/workers",
        "failed": "/0/view/jobs/done/failed/8/asc/1",
        "job": f"/0/view/job/{picture.jobs()['started busy'][0]}",
    }


def main() -> int:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        print("Chromium is missing. On Debian: apt-get install chromium", file=sys.stderr)
        return 1
    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="swamp-pictures-") as directory, performing(Path(directory)) as stage:
        picture = paint(stage)
        with closing(Dashboard(install("rq-3.0"), picture.url)) as dashboard:
            for name, path in pages(picture).items():
                take(browser, Path(directory), f"http://127.0.0.1:{dashboard.port}{path}", PLACE / f"{name}.png")
    return 0


def take(browser: str, directory: Path, url: str, file: Path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    window = ["--window-size=1240,560", "--virtual-time-budget=6000", f"--user-data-dir={directory / 'profile'}"]
    subprocess.run(
        [browser, *options, *window, f"--screenshot={file}", url], check=True, capture_output=True, timeout=60
    )
    print(file)


if __name__ == "__main__":
    sys.exit(main())
