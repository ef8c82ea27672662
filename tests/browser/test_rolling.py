"""A page of the four-process world while the nodes of its scenes are drained and replaced: it stays connected, and all it says is
heard once, in order."""

from __future__ import annotations

import asyncio
import pathlib
import re
import shutil
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from chromium import Chromium, executable  # noqa: E402
from harness import ROOT, Case, Server, free_port, run  # noqa: E402

GRAPH = "cluster/four.yaml"
# The page's own form says a line every 20 ms; what its log gets, and whether it is online, is written down.
TALK = """
    globalThis.heard = [], globalThis.notices = [], globalThis.states = [], globalThis.said = 0;
    new MutationObserver((records) => {
        for (const record of records)
            for (const node of record.addedNodes)
                if (node.matches(".line")) heard.push(node.querySelector(".text").textContent);
                else notices.push(node.textContent);
    }).observe(document.querySelector("#log"), { childList: true });
    new MutationObserver(() => states.push(document.querySelector("#state").dataset.state))
        .observe(document.querySelector("#state"), { attributes: true });
    globalThis.talk = setInterval(() => {
        const line = document.querySelector("#line");
        line.value = `line ${said}`;
        document.querySelector("#composer").requestSubmit();
        if (!line.value) said++;
    }, 20);
"""


@unittest.skipUnless(executable(), "no chromium")
class RollingRestart(Case):
    def launch(self) -> dict[str, Server]:
        shutil.copytree(ROOT / "conf" / "cluster", self.folder / "cluster")
        shutil.copytree(ROOT / "conf" / "chat" / "www", self.folder / "chat" / "www")
        graph, ports = self.folder / GRAPH, {"10242": str(free_port())}
        self.port = int(ports["10242"])
        text = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda m: ports.setdefault(m[0], str(free_port())), graph.read_text(encoding="utf-8"))
        graph.write_text(text, encoding="utf-8")
        servers = {node: self.begin(GRAPH, "--node", node) for node in ("rooms", "lobby", "front", "center")}  # the master is stopped last
        for server in servers.values():
            server.ready()
        return servers

    async def replace(self, servers: dict[str, Server], node: str) -> None:
        done = await asyncio.to_thread(run, "drain", node, GRAPH, cwd=self.folder)
        self.assertEqual(done.status, 0, done)
        self.assertEqual(await asyncio.to_thread(servers[node].stop), 0, servers[node].output)
        servers[node] = self.begin(GRAPH, "--node", node)
        await asyncio.to_thread(servers[node].ready)

    async def test_a_page_stays(self) -> None:
        servers = self.launch()
        async with Chromium() as browser:
            page = await browser.open(f"http://127.0.0.1:{self.port}/")
            await page.type("#name", "Alice")
            await page.press("Enter")
            await page.wait("document.querySelector('#state').innerText === 'online as Alice'")
            await page.run(TALK)
            for node, there in (("lobby", "room@1"), ("rooms", "scene@0")):
                await page.wait("heard.length > said / 2")
                await self.replace(servers, node)
                await page.wait(f"notices.some((text) => text.includes('You are in {there}.'))")
            await page.wait("said > 50")  # a fast machine replaces both nodes in less than a second
            await page.run("clearInterval(talk)")
            await page.wait("heard.length >= said")
            said, heard = await page.run("said"), await page.run("heard")
            self.assertEqual(heard, [f"line {number}" for number in range(said)])
            self.assertEqual(set(await page.run("states")) - {"online"}, set())
            self.assertEqual(await page.run("document.querySelector('#state').innerText"), "online as Alice")
            self.assertEqual(page.problems, [])


if __name__ == "__main__":
    unittest.main()
