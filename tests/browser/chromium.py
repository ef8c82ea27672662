"""Headless Chromium over its DevTools protocol: as much as the page's tests need, with nothing to install but Chromium.

async with Chromium() as browser:
    page = await browser.open("http://127.0.0.1:10242/")
    await page.type("#name", "alice")
    await page.click("button")
    await page.wait("document.querySelector('#log').innerText.includes('hello')")
"""

from __future__ import annotations

import asyncio
import base64
import json
import pathlib
import shutil
import sys
import tempfile
from typing import Any, Self

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

from redrabbit.client import OP_TEXT, WebSocketWire, encode_websocket  # noqa: E402

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]


def executable() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


class PageError(AssertionError):
    """A script of the page failed, or what it was to show did not come."""


class Chromium:
    """One browser with a profile of its own, gone afterwards."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(
            prefix="rr-chromium-", ignore_cleanup_errors=True
        )
        self._process: asyncio.subprocess.Process | None = None
        self._wire: WebSocketWire | None = None
        self._reader: asyncio.Task[None] | None = None
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def __aenter__(self) -> Self:
        program = executable()
        assert program, "no chromium"
        self._process = await asyncio.create_subprocess_exec(
            program,
            *FLAGS,
            f"--user-data-dir={self._profile.name}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        address = await asyncio.wait_for(self._address(), 60)
        host, _, path = address.removeprefix("ws://").partition("/")
        name, _, port = host.rpartition(":")
        streams = await asyncio.open_connection(name, int(port))
        self._wire = WebSocketWire(*streams, "little", 64 << 20)
        await self._wire.handshake(host, "/" + path, ())
        self._reader = asyncio.create_task(self._read())
        return self

    async def _address(self) -> str:
        assert self._process and self._process.stderr
        async for line in self._process.stderr:
            if b"DevTools listening on " in line:
                self._drain = asyncio.create_task(self._process.stderr.read())
                return line.decode().split("listening on ")[1].strip()
        raise PageError("chromium ended before it listened")

    async def __aexit__(self, *exception: object) -> None:
        assert self._process
        if self._reader:
            self._reader.cancel()
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._wire:
            await self._wire.close()
        self._profile.cleanup()

    async def _read(self) -> None:
        assert self._wire
        while True:
            event = json.loads((await self._wire.read()).body)
            if "id" in event:
                future = self._answers.pop(event["id"], None)
                if future and not future.done():
                    future.set_result(event)
            elif page := self._pages.get(event.get("sessionId", "")):
                page._event(event["method"], event["params"])

    async def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        assert self._wire
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            request["sessionId"] = session
        future = asyncio.get_running_loop().create_future()
        self._answers[self._number] = future
        # The DevTools protocol is JSON in plain text frames, without our first line.
        frame = encode_websocket(OP_TEXT, json.dumps(request).encode(), b"\0\0\0\0")
        self._wire._writer.write(frame)
        answer: dict[str, Any] = await asyncio.wait_for(future, 60)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    async def open(
        self, url: str, width: int = 1280, height: int = 800, phone: bool = False
    ) -> Page:
        """A page in a context of its own: no storage shared with the others."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"])
        self._pages[page.session] = page
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.size(width, height, phone)
        await page.go(url)
        return page


class Page:
    """One tab. ``problems`` collects uncaught exceptions, console errors and failed loads."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self.browser = browser
        self.session = session
        self.problems: list[str] = []
        self.dialogs: list[str] = []
        self._loaded = asyncio.Event()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self.browser.call(method, self.session, **params)

    def _event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.problems.append(
                str([arg.get("value", arg.get("description")) for arg in params["args"]])
            )
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])
            asyncio.ensure_future(self.call("Page.handleJavaScriptDialog", accept=True))

    async def size(self, width: int, height: int, phone: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    async def dark(self, dark: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def go(self, url: str) -> None:
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), 60)

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression (a promise is awaited)."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    async def wait(self, expression: str, seconds: float = 40) -> Any:
        """Waits until the expression is true; the error shows what the page says instead."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            value = await self.run(
                f"(() => {{ try {{ const value = {expression};"
                " return value instanceof Node ? true : value; } catch { return null; } })()"
            )
            if value:
                return value
            if loop.time() > end:
                text = await self.run("document.body.innerText")
                raise PageError(f"not within {seconds} s: {expression}\n{text}\n{self.problems}")
            await asyncio.sleep(0.02)

    async def click(self, selector: str) -> None:
        """A real click in the middle of the element, once it is there, visible and enabled."""
        place = await self.wait(
            f"""(() => {{
                const node = document.querySelector({json.dumps(selector)});
                if (!node || node.disabled || !node.checkVisibility()) return null;
                node.scrollIntoView({{ block: "nearest" }});
                const box = node.getBoundingClientRect();
                const x = box.x + box.width / 2, y = box.y + box.height / 2;
                const hit = document.elementFromPoint(x, y);
                return hit && (node.contains(hit) || hit.contains(node)) ? [x, y] : null;
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    async def type(self, selector: str, text: str) -> None:
        await self.click(selector)
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, control: bool = False) -> None:
        codes = {"Enter": 13, "Tab": 9}
        code = codes.get(key) or ord(key.upper())
        common: dict[str, Any] = {
            "key": key,
            "windowsVirtualKeyCode": code,
            "modifiers": 2 if control else 0,
        }
        text = {"text": "\r"} if key == "Enter" and not control else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def screenshot(self, file: pathlib.Path) -> None:
        shot = await self.call("Page.captureScreenshot", format="png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(shot["data"]))
