"""A headless Chromium that opens files, with no way to any network."""

import os
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[2]
DESKTOP, PHONE = (1280, 900), (375, 812)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def artefacts():
    """Return the folder where screenshots are kept."""
    folder = Path(os.environ.get("QUIRE_ARTEFACTS") or ROOT / "artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Browser:
    """Opens one page at a time."""

    def __init__(self):
        binary = next(filter(None, map(shutil.which, _BROWSERS)), None)
        driver = shutil.which("chromedriver")
        if not binary or not driver:
            pytest.fail("chromium and chromedriver are needed: apt-get install chromium chromium-driver", pytrace=False)
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in _FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        # An alert is noted instead of shown, before any script of the page runs.
        self._tell("Page.addScriptToEvaluateOnNewDocument", source="window.alert = text => { window.alerted = text; };")

    def _tell(self, command, **words):
        return self.driver.execute_cdp_cmd(command, words)

    def open(self, path, size=DESKTOP, *, dark=False, scripts=True):
        """Open a file; with scripts, wait until its figures are drawn."""
        self.driver.get_log("browser")
        phone = size == PHONE
        metrics = {"deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self._tell("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], **metrics)
        self._tell("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._tell("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self._tell("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.driver.get(Path(path).as_uri())
        self.size = size
        if scripts:
            drawn = "return [...document.querySelectorAll('.plot')].every(p => p.querySelector('svg.main-svg'))"
            WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(drawn))

    def resize(self, width, height):
        """Give the window another size while the page is open."""
        self._tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def ask(self, expression, *words):
        """Return the value of a JavaScript expression."""
        return self.driver.execute_script(f"return {expression}", *words)

    def text(self):
        """Return all text that is shown."""
        return self.ask("document.body.innerText")

    def complaints(self):
        """Return the console's warnings and errors since the page was opened."""
        return [entry for entry in self.driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]

    def screenshot(self, name):
        """Keep a picture of the whole page, from top to bottom."""
        height = self.ask("document.documentElement.scrollHeight")
        phone = self.size == PHONE
        metrics = {"deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self._tell("Emulation.setDeviceMetricsOverride", width=self.size[0], height=height, **metrics)
        self.driver.save_screenshot(str(artefacts() / name))

    def close(self):
        """End the browser."""
        self.driver.quit()
