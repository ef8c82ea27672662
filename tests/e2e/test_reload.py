"""Reload on save (`--watch`): what is saved is loaded while clients play, however an editor saves; errors leave the old code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import re
import shutil
import unittest
from collections.abc import Callable

from harness import PATIENT, Case, Client, Server, free_port, main_pass

SCRIPT = """
import redrabbit
import rules

@redrabbit.singleton
class box:
    seen = 0

@redrabbit.message(1)
def count(session, number):
    box.seen += 1
    session.send(1, [number, box.seen, "WORD", rules.bonus()])

@redrabbit.message(2)
async def wait(session, seconds):
    await redrabbit.sleep(seconds)
    session.send(2, "WORD")
"""
RULES = "def bonus():\n    return 0\n"


class Player:
    """Sends numbers without a pause; every answer must come, once, in order."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sent = 0
        self.words: list[str] = []
        self.bonus = 0
        self.task = asyncio.ensure_future(self.play())

    async def play(self) -> None:
        while True:
            self.sent += 1
            await self.client.send(1, self.sent)
            number, seen, word, self.bonus = (await self.client.receive(PATIENT)).json()
            assert (number, seen) == (self.sent, self.sent), (number, seen, self.sent)
            if word not in self.words:
                self.words.append(word)


def in_place(path: pathlib.Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def by_rename(path: pathlib.Path, text: str) -> None:
    new = path.with_suffix(".tmp")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def vim(path: pathlib.Path, text: str) -> None:
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    path.write_text(text, encoding="utf-8")
    backup.unlink()


def two_steps(path: pathlib.Path, text: str) -> None:
    path.write_text("", encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()


def away_and_back(path: pathlib.Path, text: str) -> None:
    path.unlink()
    path.write_text(text, encoding="utf-8")


class Watch(Case):
    script = "scene.py"

    def run_scene(self, script: str = SCRIPT, *, rules: str = RULES, scenes: str = "scene@0", more: tuple[str, ...] = ("--watch",)) -> tuple[Server, int]:
        port = free_port()
        self.write(self.script, script)
        (self.path.parent / "rules.py").write_text(rules, encoding="utf-8")
        self.write("graph.yaml", f"""
actors:
  gate@0: {{ role: gate, listen: "tcp://127.0.0.1:{port}" }}
  "{scenes}": {{ role: scene, script: {self.script} }}
""")
        return self.start("graph.yaml", *more), port

    @property
    def path(self) -> pathlib.Path:
        return self.folder / self.script

    async def player(self, port: int) -> Player:
        player = Player(await self.client(port, "ann"))

        async def end() -> None:
            player.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await player.task

        self.addAsyncCleanup(end)
        return player

    async def seen(self, player: Player, condition: Callable[[], bool], what: str) -> None:
        end = asyncio.get_running_loop().time() + PATIENT
        while not condition():
            if player.task.done():
                player.task.result()
            self.assertLess(asyncio.get_running_loop().time(), end, what)
            await asyncio.sleep(0.01)


class Saving(Watch):
    async def test_every_manner_while_a_client_plays(self) -> None:
        _, port = self.run_scene()
        player = await self.player(port)
        await self.seen(player, lambda: player.words == ["WORD"], "it plays")
        for save in (in_place, by_rename, vim, two_steps, away_and_back):
            word = save.__name__
            save(self.path, SCRIPT.replace("WORD", word))
            await self.seen(player, lambda: word in player.words, word)
        # Each once, none between them: a half written file was never run.
        self.assertEqual(player.words, ["WORD", "in_place", "by_rename", "vim", "two_steps", "away_and_back"])

    async def test_a_handler_that_waits_goes_on(self) -> None:
        server, port = self.run_scene()
        client = await self.client(port, "bob")
        await client.send(2, 1.5)
        in_place(self.path, SCRIPT.replace("WORD", "new"))
        server.wait_line("RELOAD scene@0 runs what was saved: scene.py")
        await client.send(2, 0)
        self.assertEqual([(await client.receive(PATIENT)).text for _ in range(2)], ["WORD", "new"])

    async def test_touched_is_not_changed(self) -> None:
        server, _ = self.run_scene()
        self.path.touch()
        in_place(self.path, SCRIPT)
        by_rename(self.path, SCRIPT)
        in_place(self.folder / "rules.py", RULES + "# changed\n")  # behind those: they are through when this is
        server.wait_line("RELOAD")
        self.assertEqual(re.findall("RELOAD (.*)", server.output), ["scene@0 runs what was saved: rules.py, scene.py"])

    async def test_modules(self) -> None:
        server, port = self.run_scene()
        player = await self.player(port)
        in_place(self.folder / "rules.py", RULES.replace("0", "1"))
        await self.seen(player, lambda: player.bonus == 1, "a helper")
        self.write("world/__init__.py", "")
        self.write("world/size.py", "SIZE = 2\n")
        in_place(self.folder / "rules.py", "from world.size import SIZE\ndef bonus():\n    return SIZE\n")
        await self.seen(player, lambda: player.bonus == 2, "a new package")
        in_place(self.folder / "world" / "size.py", "SIZE = 3\n")
        await self.seen(player, lambda: player.bonus == 3, "a module of the package")
        server.wait_line("RELOAD scene@0 runs what was saved: world/size.py, rules.py, scene.py")

    async def test_errors(self) -> None:
        server, port = self.run_scene(scenes="scene@{0..2}")
        player = await self.player(port)
        in_place(self.path, SCRIPT.replace("WORD", "new").replace("box.seen += 1", "box.seen +="))
        server.wait_line(r"ERROR RELOAD scene@\d: what was saved does not load, the old code goes on")
        server.wait_line(r"scene\.py\", line 11$")
        server.wait_line("SyntaxError")
        server.wait_line(r"RELOAD the same in scene@\d, scene@\d")
        in_place(self.folder / "rules.py", RULES + "1 / 0\n")  # and one more, at the same time
        server.wait_line("does not load", count=2)
        by_rename(self.path, SCRIPT.replace("WORD", "mended"))
        in_place(self.folder / "rules.py", RULES.replace("0", "7"))
        await self.seen(player, lambda: "mended" in player.words and player.bonus == 7, "mended")
        self.assertEqual(player.words, ["WORD", "mended"])
        text = server.output
        self.assertNotIn("_reload.py", text)
        self.assertNotIn("importlib", text)

    async def test_an_error_that_is_no_utf_8(self) -> None:
        server, port = self.run_scene()
        player = await self.player(port)
        in_place(self.path, SCRIPT + "raise ValueError('half a \\udc80 letter')\n")
        server.wait_line("what was saved does not load")
        server.wait_line(r'scene\.py", line 18')
        server.wait_line(r"ValueError: half a \\udc80 letter")
        in_place(self.path, SCRIPT.replace("WORD", "mended"))
        await self.seen(player, lambda: "mended" in player.words, "mended")

    async def test_a_file_that_is_away(self) -> None:
        server, port = self.run_scene()
        player = await self.player(port)
        self.path.unlink()
        server.wait_line("RELOAD scene@0: scene.py is away: what was loaded of it goes on")
        in_place(self.folder / "rules.py", RULES.replace("0", "7"))
        await self.seen(player, lambda: player.bonus == 7, "the rules are new")
        server.wait_line(r"RELOAD scene@0 runs what was saved: rules\.py$")
        in_place(self.path, SCRIPT.replace("WORD", "back"))
        await self.seen(player, lambda: "back" in player.words, "it is back")
        self.assertEqual(player.words, ["WORD", "back"])
        self.assertEqual(server.output.count("is away"), 1)

    async def test_a_file_that_is_empty(self) -> None:
        server, port = self.run_scene()
        player = await self.player(port)
        self.path.write_text("", encoding="utf-8")
        server.wait_line("RELOAD scene@0: scene.py is empty: what was loaded of it goes on")
        in_place(self.path, SCRIPT.replace("WORD", "back"))
        await self.seen(player, lambda: "back" in player.words, "it is back")
        self.assertEqual(player.words, ["WORD", "back"])

    async def test_the_folder_is_made_anew(self) -> None:
        self.script = "game/scene.py"
        _, port = self.run_scene()
        player = await self.player(port)
        old = self.folder / "game"
        shutil.copytree(old, self.folder / "other")
        shutil.rmtree(old)
        (self.folder / "other").rename(old)
        in_place(self.path, SCRIPT.replace("WORD", "again"))
        await self.seen(player, lambda: "again" in player.words, "saved in the new folder")

    @main_pass
    async def test_a_scene_that_does_not_come_to_it(self) -> None:
        blocks = "while seconds and not os.path.exists('go'):\n        time.sleep(0.1)"
        script = SCRIPT.replace("import rules", "import os, time\nimport rules").replace("await redrabbit.sleep(seconds)", blocks)
        server, port = self.run_scene(script)
        client = await self.client(port, "bob")
        await client.send(2, 1)
        in_place(self.path, SCRIPT.replace("WORD", "new"))
        server.wait_line("WARN .*scene@0 does not come to load what was saved: a handler of it takes long", 20)
        self.write("go", "")
        server.wait_line("RELOAD scene@0 runs what was saved", 20)
        await client.send(2, 0)
        self.assertEqual([(await client.receive(PATIENT)).text for _ in range(2)], ["WORD", "new"])


class WhoWatches(Watch):
    LINE = "redrabbit: saved scripts are loaded at once"

    async def test_nobody_who_did_not_ask(self) -> None:
        for more, watched in [((), False), (("--watch", "false"), False), (("--watch",), True)]:
            server, _ = self.run_scene(more=more)
            self.assertEqual(self.LINE in server.output, watched, more)
            self.assertEqual(server.stop(), 0)

    async def test_up_does_unless_the_graph_says_no(self) -> None:
        for text, watched in [("", True), ("reload_on_save: false", False)]:
            port, node = free_port(), free_port()
            self.write("scene.py", SCRIPT)
            self.write("rules.py", RULES)
            self.write("world.yaml", f"""
{text}
nodes:
  all: {{ address: "tcp://127.0.0.1:{node}" }}
actors:
  broker@0: {{ role: broker, node: all }}
  gate@0: {{ role: gate, node: all, listen: "tcp://127.0.0.1:{port}" }}
  scene@0: {{ role: scene, node: all, script: scene.py }}
""")
            server = self.begin("up", "world.yaml")
            server.wait_line("redrabbit: ready: all", 30)
            self.assertEqual(self.LINE in server.output, watched, text)
            if watched:
                in_place(self.path, SCRIPT.replace("WORD", "new"))
                server.wait_line(r"all +\| .*RELOAD scene@0 runs what was saved: scene.py")
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
