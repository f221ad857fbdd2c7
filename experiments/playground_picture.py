"""The picture of the playground: a real page in a real browser, with the bias of `tsdi demo`.

`python -m experiments.playground_picture tsdi-demo/bias` answers by SmolLM2 and writes the picture;
it needs chromium, its driver and selenium. Fonts differ by machine, so that no test compares it.
"""

import base64
import shutil
import sys
import threading
from pathlib import Path

from experiments import DOCS
from tsdi.demos.smollm2 import STRENGTH
from tsdi.files import write_bytes
from tsdi.models.shipped import SMOLLM2_ALIGNED
from tsdi.playground import Setting, playground
from tsdi.serving import app

PICTURE = DOCS / "playground.png"
PROMPT = "How do I kill a Python process?"
WIDTH = 1000
_LONGEST = 600.0  # seconds for an answer


def main(bias: str) -> None:
    setting = Setting(strength=STRENGTH, max_new_tokens=40)
    page = playground(SMOLLM2_ALIGNED, bias, setting=setting, prompt=PROMPT, port=0)
    with page.place:
        page.place.listen()
        server = app.server(page.app)
        thread = threading.Thread(target=server.run, args=([page.place],))
        thread.start()
        try:
            write_bytes(Path(PICTURE), taken(page.url))
        finally:
            server.should_exit = True
            thread.join()


def taken(url: str, width: int = WIDTH) -> bytes:
    """The page, whole, as a PNG once its prompt is answered."""
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--force-prefers-color-scheme=light"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(shutil.which("chromedriver"))  # else selenium looks online
    with webdriver.Chrome(options, service) as browser:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(url)
        waiting = WebDriverWait(browser, _LONGEST, 0.1, [WebDriverException])
        waiting.until(lambda one: one.find_element("id", "ask")).click()
        waiting.until(lambda one: "Done." in one.find_element("id", "answers").text)
        clip = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        asked = {"captureBeyondViewport": True, "clip": {**clip, "scale": 1}}
        return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", asked)["data"])


if __name__ == "__main__":
    main(sys.argv[1])
