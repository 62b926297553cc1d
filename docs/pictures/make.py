"""Make the pictures of the README and of these pages from a run of yours.

    python docs/pictures/make.py --run runs/GN --other runs/BN --video clip.mp4

It needs Chromium (`chromium` on the PATH). `--width 420` takes the pages as a telephone shows them, `--out` elsewhere.
"""

import argparse
import base64
import importlib.util
import io
import tempfile
import threading
from pathlib import Path
from typing import Any

from PIL import Image

from vidgn.inference.explain import run_explain
from vidgn.inference.model import open_model
from vidgn.inference.serve import make_server
from vidgn.report.curves import overview
from vidgn.report.read_run import read_run
from vidgn.report.theme import as_png
from vidgn.report.write import run_report

HERE = Path(__file__).parent
COLOURS = 256  # of a palette: small files


def main() -> None:
    """Make curves.png, explain.png, report.png and serve.png."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--run", required=True, help="run folder with a checkpoint")
    words.add_argument("--other", action="append", default=[], help="more runs for the report")
    words.add_argument("--video", required=True, help="a video of the run's data set")
    words.add_argument("--width", type=int, default=1280, help="of the pages, in pixels")
    words.add_argument("--out", default=str(HERE), help="folder of the pictures")
    given = words.parse_args()
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    save(out / "curves.png", as_png(overview(read_run(given.run))))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run_explain(given.video, ckpt=given.run, target=str(place), out=io.StringIO())
        save(out / "explain.png", (place / f"{Path(given.video).stem}.png").read_bytes())
        run_report([*given.other, given.run], target=str(place / "report"), out=io.StringIO())
        save(out / "report.png", report_page(place / "report" / "index.html", given.width, place))
        save(out / "serve.png", serve_page(given.run, given.video, given.width, place))


def report_page(page: Path, width: int, folder: Path) -> bytes:
    """Return the beginning of a report: its tables and curves."""
    browser = load_browser(folder / "report-profile")
    browser.open(page.absolute().as_uri())
    size(browser, width)
    height = browser.value("document.querySelectorAll('section')[1].getBoundingClientRect().bottom")
    return shoot(browser, width, int(height) + 16)


def serve_page(run: str, video: str, width: int, folder: Path) -> bytes:
    """Return the page of `vidgn serve` with the answer for a video."""
    server = make_server(open_model(run), host="127.0.0.1", port=0, limit=100_000_000)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = load_browser(folder / "serve-profile")
    browser.open(f"http://127.0.0.1:{server.server_address[1]}/")
    size(browser, width)
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    field = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", files=[str(Path(video).absolute())], nodeId=field)
    browser.until("document.getElementById('strip').naturalWidth && document.getElementById('film').readyState >= 2")
    browser.until("document.getElementById('player').readyState >= 2")
    picture = shoot(browser, width, int(browser.value("document.documentElement.scrollHeight")))
    server.shutdown()
    server.server_close()
    return picture


def size(browser: Any, width: int) -> None:
    """Give the page a width, as high as it is."""
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)


def shoot(browser: Any, width: int, height: int) -> bytes:
    """Return a PNG of the page and close the browser."""
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
    browser.close()
    return base64.b64decode(shot)


def load_browser(folder: Path) -> Any:
    """Start Chromium as the tests drive it."""
    file = HERE.parents[1] / "tests" / "inference" / "test_serve.py"
    spec = importlib.util.spec_from_file_location("test_serve", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Browser("chromium", folder)


def save(file: Path, png: bytes) -> None:
    """Write a PNG with a small palette."""
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            file, optimize=True
        )
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
