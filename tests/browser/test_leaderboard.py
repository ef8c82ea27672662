"""The leaderboard's page: a new account, a wrong password, dice, the top ten, and the table of somebody else who looks on."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from chromium import Chromium, Page, executable  # noqa: E402
from harness import ROOT, Case, free_port  # noqa: E402

SHOTS = pathlib.Path(os.environ.get("RR_SCREENSHOTS") or ROOT / "build" / "screenshots")
BEST = "Number(document.querySelector('#best').innerText)"


@unittest.skipUnless(executable(), "no chromium")
class LeaderboardPage(Case):
    def launch(self) -> str:
        shutil.copytree(ROOT / "conf" / "leaderboard", self.folder / "game")
        port = free_port()
        graph = self.folder / "game" / "leaderboard.yaml"
        text = graph.read_text(encoding="utf-8").replace("127.0.0.1:10242", f"127.0.0.1:{port}")
        graph.write_text(text, encoding="utf-8")
        self.start(str(graph))
        return f"http://127.0.0.1:{port}/"

    async def enter(self, page: Page, button: str, name: str, password: str) -> None:
        for field, text in (("#name", name), ("#password", password)):
            await page.run(f"document.querySelector('{field}').value = ''")
            await page.type(field, text)
        await page.click(button)

    async def test_accounts_dice_and_the_table(self) -> None:
        url = self.launch()
        async with Chromium() as browser:
            alice, bob = await browser.open(url), await browser.open(url)
            await self.enter(alice, "#register", "Alice", "correct horse")
            await alice.wait("document.querySelector('#who').innerText === 'alice'")
            await self.enter(bob, "#door [type=submit]", "alice", "wrong password")
            await bob.wait("document.querySelector('#error').innerText === 'Name or password is wrong.'")
            self.assertFalse(await bob.run("document.querySelector('#door').hidden"))
            await self.enter(bob, "#register", "Bob", "battery staple")
            await bob.wait("document.querySelector('#who').innerText === 'bob'")
            await alice.click("#roll")
            best = await alice.wait(BEST)
            self.assertIn(best, range(5, 31))
            row = "document.querySelector('#top').innerText.replace(/\\s+/g, ' ').trim()"
            await bob.wait(f"{row} === '1. alice {best}'")
            third = await browser.open(url)
            await self.enter(third, "#door [type=submit]", "alice", "correct horse")
            await alice.wait("document.querySelector('#error').innerText === 'You have logged in somewhere else.'")
            await third.wait(f"{BEST} === {best}")
            alice = third
            SHOTS.mkdir(parents=True, exist_ok=True)
            await alice.screenshot(SHOTS / "leaderboard.png")
            self.assertEqual(await alice.run("document.querySelector('tr.me').innerText.includes('alice')"), True)


if __name__ == "__main__":
    unittest.main()
