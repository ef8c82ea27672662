"""The chat demo as people use it: two pages and a TCP client talk, one edits the server meanwhile.

Screenshots go to build/screenshots (or $RR_SCREENSHOTS), to be looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import re
import shutil
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from chromium import Chromium, Page, executable  # noqa: E402
from harness import ROOT, Case, Server, free_port  # noqa: E402

SHOTS = pathlib.Path(os.environ.get("RR_SCREENSHOTS") or ROOT / "build" / "screenshots")
CODE = "document.querySelector('.CodeMirror').CodeMirror"
LOG = "document.querySelector('#log').innerText"
VERDICT = "document.querySelector('#verdict')"


@unittest.skipUnless(executable(), "no chromium")
class ChatPage(Case):
    def launch(self) -> tuple[Server, int, str]:
        shutil.copytree(ROOT / "conf" / "chat", self.folder / "chat")
        port = free_port()
        graph = self.folder / "chat" / "chat.yaml"
        text = graph.read_text(encoding="utf-8").replace("127.0.0.1:10242", f"127.0.0.1:{port}")
        graph.write_text(text, encoding="utf-8")
        server = self.start(str(graph))
        found = re.search(r"http://127\.0\.0\.1:\d+/#token=(\S+)", server.output)
        assert found, server.output
        return server, port, found[0]

    async def join(self, page: Page, name: str) -> None:
        await page.type("#name", name)
        await page.press("Enter")
        await page.wait(f"document.querySelector('#state').innerText === 'online as {name}'")

    async def say(self, page: Page, text: str) -> None:
        await page.type("#line", text)
        await page.press("Enter")
        await page.wait("document.querySelector('#line').value === ''")

    async def rewrite(self, page: Page, line: int, text: str) -> None:
        """Types over a line of the script."""
        await page.run(
            f"{CODE}.focus(), {CODE}.setSelection({{line: {line}, ch: 0}}, {{line: {line}, ch: 99}})"
        )
        await page.call("Input.insertText", text=text)
        await page.wait(f"{CODE}.getValue().includes({json.dumps(text)})")
        await page.wait("!document.querySelector('#dirty').hidden")

    async def people(self, page: Page, *names: str) -> None:
        want = list(names)
        await page.wait(
            "JSON.stringify([...document.querySelectorAll('.person')].map((n) => n.lastChild.data))"
            f" === JSON.stringify({want!r})"
        )

    async def test_talk_edit_break_and_go_on(self) -> None:
        server, port, address = self.launch()
        async with Chromium() as browser:
            alice = await browser.open(address, 1360, 820)
            await alice.wait(f"{CODE}.getValue().includes('def decorate')")
            await self.join(alice, "Alice")
            phone = await browser.open(f"http://127.0.0.1:{port}/", 390, 780, phone=True)
            await self.join(phone, "Bob")
            tcp = await self.client(port, "Tom")
            await self.people(alice, "Alice", "Bob", "Tom")

            # Everyone hears everyone.
            await self.say(alice, "Hello from the desk")
            await phone.wait(f"{LOG}.includes('Hello from the desk')")
            await self.expect(tcp, re.compile("Hello from the desk"), cmd=1)
            await self.say(phone, "Hello from the phone <b>not bold</b>")
            await alice.wait(f"{LOG}.includes('Hello from the phone <b>not bold</b>')")
            await tcp.send(1, ["Hello from a raw socket"])
            for page in (alice, phone):
                await page.wait(f"{LOG}.includes('Hello from a raw socket')")
            await alice.screenshot(SHOTS / "chat.png")
            await phone.screenshot(SHOTS / "phone.png")
            wide = await phone.run("document.documentElement.scrollWidth - innerWidth")
            self.assertLessEqual(wide, 0, "the page is wider than the phone")

            # A new version, typed into the editor, serves without a reconnect.
            line = await alice.run(f"{CODE}.getValue().split('\\n').indexOf('    return text')")
            self.assertGreater(line, 0)
            await self.rewrite(alice, line, "    return text.upper() + '!'")
            await alice.click("#save")
            await alice.wait(f"{VERDICT}.dataset.kind === 'good'")
            self.assertIn(
                "text.upper()", (self.folder / "chat" / "main.py").read_text(encoding="utf-8")
            )
            await self.say(phone, "still the old code")
            await alice.wait(f"{LOG}.includes('still the old code')")
            await alice.click("#reload")
            await alice.wait(f"{VERDICT}.innerText.includes('Version 2 serves')")
            await self.say(phone, "and the new one")
            await alice.wait(f"{LOG}.includes('AND THE NEW ONE!')")
            await self.expect(tcp, re.compile("AND THE NEW ONE!"), cmd=1)
            await alice.screenshot(SHOTS / "reloaded.png")

            # A broken one is shown where it breaks, and the old one goes on serving.
            await self.rewrite(alice, line, "    return txet.upper(")
            await alice.press("s", control=True)
            await alice.wait(f"{VERDICT}.dataset.kind === 'good'")
            await alice.click("#reload")
            await alice.wait(f"{VERDICT}.dataset.kind === 'bad'")
            text = await alice.run(f"{VERDICT}.innerText")
            self.assertIn("SyntaxError", text)
            self.assertIn("version 2 goes on serving", text)
            await alice.wait(
                "document.querySelector('.wrong-note').innerText.includes('SyntaxError')"
            )
            self.assertEqual(
                await alice.run("document.querySelector('#jump').innerText"), f"line {line + 1}"
            )
            await alice.screenshot(SHOTS / "broken.png")
            await self.say(alice, "we still talk")
            for page in (alice, phone):
                await page.wait(f"{LOG}.includes('WE STILL TALK!')")
            await self.expect(tcp, re.compile("WE STILL TALK!"), cmd=1)

            # An error at run time of the new module's body: the innermost line of the script is marked.
            await self.rewrite(alice, line, "    return text\n\n\nundefined_name\n")
            await alice.click("#reload")
            await alice.wait(
                "document.querySelector('.wrong-note').innerText.includes('NameError')"
            )
            await alice.run(
                f"{CODE}.setSelection({{line: {line + 1}, ch: 0}}, {{line: {line + 3}, ch: 99}}), "
                f"{CODE}.replaceSelection('')"
            )
            await alice.click("#reload")
            await alice.wait(f"{VERDICT}.innerText.includes('Version 3 serves')")
            await self.say(phone, "all well again")
            await alice.wait(f"{LOG}.includes('all well again')")

            await tcp.close()
            await self.people(phone, "Alice", "Bob")
            await alice.dark(True)
            await alice.screenshot(SHOTS / "dark.png")
            for page in (alice, phone):
                self.assertEqual(page.problems, [])
        self.assertNotIn("Traceback", server.output)

    async def test_narrow_editor(self) -> None:
        _, port, address = self.launch()
        async with Chromium() as browser:
            page = await browser.open(address, 390, 780, phone=True)
            await self.join(page, "Carol")
            await page.click("[data-show=code]")
            await page.wait(f"{CODE}.getWrapperElement().offsetWidth === innerWidth")
            await page.screenshot(SHOTS / "phone-code.png")
            other = await self.client(port, "Tom")
            await other.send(1, ["are you there?"])
            await page.wait("document.querySelector('#unread').checkVisibility()")
            await page.click("[data-show=chat]")
            await page.wait(f"{LOG}.includes('are you there?')")
            self.assertLessEqual(
                await page.run("document.documentElement.scrollWidth - innerWidth"), 0
            )
            self.assertEqual(page.problems, [])

    async def test_refused_replaced_and_without_a_token(self) -> None:
        _, port, address = self.launch()
        async with Chromium() as browser:
            page = await browser.open(f"http://127.0.0.1:{port}/")
            self.assertFalse(await page.run("document.querySelector('#code').checkVisibility()"))
            await page.run("document.querySelector('#name').removeAttribute('maxlength')")
            await page.type("#name", "x" * 30)
            await page.press("Enter")
            await page.wait("document.querySelector('#refused').innerText.includes('1 to 24')")
            await page.run("document.querySelector('#name').value = ''")
            await self.join(page, "Dora")
            await self.client(port, "Dora")
            await page.wait("document.querySelector('#refused').innerText.includes('Dora came in again elsewhere')")
            await page.click("#join button")
            await page.wait("document.querySelector('#state').innerText === 'online as Dora'")
            await page.click("#leave")
            await page.wait("document.querySelector('#state').innerText === 'not connected'")
            wrong = await browser.open(address + "x")
            await wrong.wait(f"{VERDICT}.innerText.includes('does not know this token')")

    async def test_comes_back_after_a_restart(self) -> None:
        server, port, address = self.launch()
        async with Chromium() as browser:
            page = await browser.open(address)
            await self.join(page, "Alice")
            self.assertEqual(await asyncio.to_thread(server.stop), 0)
            await page.wait("document.querySelector('#state').innerText.includes('next try in')")
            self.start(str(self.folder / "chat" / "chat.yaml"))
            await page.wait("document.querySelector('#state').innerText === 'online as Alice'", 30)
            await self.say(page, "back again")
            await page.wait(f"{LOG}.includes('back again')")
            await page.click("#reload")  # with the earlier start's token
            await page.wait(f"{VERDICT}.innerText.includes('does not know this token')")


@unittest.skipUnless(executable(), "no chromium")
class Script(Case):
    """redrabbit.js itself."""

    async def test_bodies_frames_and_events(self) -> None:
        script = """
import ffext
@ffext.session_call(1, 'raw')
def echo(session_id, body):
    ffext.send_msg_session(session_id, 1, body)
@ffext.session_call(2, 'raw')
def binary(session_id, body):
    ffext.send_msg_session(session_id, 2, b'\\xff\\0')
@ffext.session_call(3)
def close(session_id, msg):
    ffext.close_session(session_id)
"""
        self.write("www/index.html", "<!DOCTYPE html><script src='/redrabbit.js'></script>")
        _, port = self.scene(script, gate="www: www")
        async with Chromium() as browser:
            page = await browser.open(f"http://127.0.0.1:{port}/")
            result = await page.run(
                """new Promise((resolve) => {
                const rabbit = new RedRabbit(), got = [];
                rabbit.on("online", () => {
                    rabbit.send(1, "täxt");
                    rabbit.send(1, ["json", 1]);
                    rabbit.send(1, new Uint8Array([1, 2, 255]));
                    rabbit.send(2);
                    rabbit.send(3, []);
                });
                rabbit.on(1, (m) => got.push(typeof m.body === "string" ? m.text : [...m.bytes]));
                rabbit.on("message", (m) => got.push([m.cmd, ...m.bytes]));
                rabbit.on("offline", (detail) => resolve([got, detail.code, detail.final, rabbit.send(1, "x")]));
                rabbit.login("me");
            })"""
            )
            self.assertEqual(
                result, [["täxt", '["json",1]', [1, 2, 255], [2, 255, 0]], 4003, True, False]
            )
            module = await page.run(
                "import('/redrabbit.js').then(() => typeof globalThis.RedRabbit)"
            )
            self.assertEqual(module, "function")


if __name__ == "__main__":
    unittest.main()
